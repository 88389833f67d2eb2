//! Model files of other formats, recognised by their first bytes and never opened.

use std::path::Path;

const FROM_PYTORCH: &str = "Export the network to ONNX, where you trust the file:\n
    import torch
    model = torch.load(\"model.pt\", weights_only=False).eval()
    torch.onnx.export(model, (torch.zeros(1, 3, 32, 32),), \"model.onnx\", input_names=[\"input\"])\n
with the shape of your own inputs (a state_dict goes into the network's class with load_state_dict first)";

const FROM_TORCHSCRIPT: &str = "Export the network to ONNX, where you trust the file:\n
    import torch
    model = torch.jit.load(\"model.pt\").eval()
    torch.onnx.export(model, (torch.zeros(1, 3, 32, 32),), \"model.onnx\", input_names=[\"input\"], dynamo=False)\n
with the shape of your own inputs";

const FROM_EXPORTED: &str = "Export the network to ONNX, where you trust the file:\n
    import torch
    program = torch.export.load(\"model.pt2\")
    torch.onnx.export(program, (), \"model.onnx\")\n
with the name of your own file";

const FROM_SAVED_MODEL: &str = "Export the network to ONNX, where you trust the folder:\n
    pip install tensorflow tf2onnx
    python -m tf2onnx.convert --saved-model FOLDER --output model.onnx\n
with the name of your own folder";

const FROM_TFLITE: &str = "Export the network to ONNX:\n
    pip install tensorflow tf2onnx
    python -m tf2onnx.convert --tflite model.tflite --output model.onnx\n
with the name of your own file, or from the framework in which it was trained";

const FROM_KERAS: &str = "Export the network to ONNX, where you trust the file:\n
    import keras
    model = keras.saving.load_model(\"model.keras\")
    model.export(\"model.onnx\", format=\"onnx\")\n
with the name of your own file";

/// What `bytes` are instead of an ONNX model, and how to make one from it, if that can be told.
pub(crate) fn recognise(bytes: &[u8]) -> Option<String> {
    let (format, advice) = format(bytes)?;
    Some(format!("this is {format}. {advice}"))
}

fn format(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    const PICKLE: &str = "a Python pickle (PyTorch's old format), which can run any code when it is opened";
    match bytes {
        [b'P', b'K', 3, 4, ..] => Some(if has_entry(bytes, b"/constants.pkl") {
            ("a TorchScript file", FROM_TORCHSCRIPT)
        } else if has_entry(bytes, b"/archive_format") || has_entry(bytes, b"serialized_exported_program.json") {
            ("a program of torch.export", FROM_EXPORTED)
        } else if has_entry(bytes, b"data.pkl") {
            ("a PyTorch file, whose pickle can run any code when it is opened", FROM_PYTORCH)
        } else if has_entry(bytes, b"metadata.json") || has_entry(bytes, b"config.json") {
            ("a Keras file", FROM_KERAS)
        } else {
            ("a zip archive", "Give the ONNX file that is in it, or export one")
        }),
        [0x89, b'H', b'D', b'F', b'\r', b'\n', 0x1a, b'\n', ..] => {
            Some(("an HDF5 file, as Keras writes it", FROM_KERAS))
        }
        [0x80, 2..=5, ..] => Some((PICKLE, FROM_PYTORCH)),
        [_, _, _, _, b'T', b'F', b'L', b'3', ..] => Some(("a TensorFlow Lite file", FROM_TFLITE)),
        [_, _, _, _, b'O', b'R', b'T', b'M', ..] => {
            Some(("a file of ONNX Runtime's own format (.ort)", "Give the ONNX file that it was made from"))
        }
        [b'v', b'e', b'r', b's', b'i', b'o', b'n', b' ', b'h', b't', b't', b'p', ..] => {
            Some(("a pointer of Git LFS and not the file itself", "Fetch it with git lfs pull"))
        }
        [b'<', b'!' | b'?' | b'h', ..] => Some((
            "an XML or HTML file, such as OpenVINO's form of a model or the page of a download that failed",
            "Give the ONNX file itself",
        )),
        [_, _, _, _, _, 0, 0, 0, b'{', b'"', ..] => Some((
            "a safetensors file, which holds weights but not the network they belong to",
            "Load it in its framework and export the network to ONNX",
        )),
        _ => None,
    }
}

/// What the folder at `path`, or the file in it, is instead of an ONNX model, and how to make one from it.
pub(crate) fn recognise_path(path: &Path) -> Option<String> {
    const NAME: &str = "saved_model.pb";
    let is_one = path.ends_with(NAME) || path.join(NAME).is_file();
    is_one.then(|| format!("is a SavedModel of TensorFlow. {FROM_SAVED_MODEL}"))
}

/// Whether the beginning or the end of a zip archive, where its directory is, has an entry whose name ends with `name`.
fn has_entry(bytes: &[u8], name: &[u8]) -> bool {
    let beginning = &bytes[..bytes.len().min(4096)];
    let end = &bytes[bytes.len().saturating_sub(1 << 17)..];
    [beginning, end].iter().any(|part| part.windows(name.len()).any(|window| window == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_formats_are_named() {
        let cases: [(&[u8], &str); 11] = [
            (b"PK\x03\x04..............archive/data.pkl..archive/code/x.py..archive/constants.pkl", "torch.jit.load"),
            (
                b"PK\x03\x04..............m/archive_format..m/models/model.json..m/data/sample_inputs/model.pt",
                "torch.export.load",
            ),
            (b"\x1c\0\0\0TFL3\x14\0", "--tflite"),
            (b"\x18\0\0\0ORTM", ".ort"),
            (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
            (b"<?xml version=\"1.0\"?>", "OpenVINO"),
            (b"PK\x03\x04........................archive/data.pklFB", "PyTorch"),
            (b"PK\x03\x04........................metadata.json{", "Keras"),
            (b"\x89HDF\r\n\x1a\n\0\0", "HDF5"),
            (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "pickle"),
            (b"\x40\0\0\0\0\0\0\0{\"weight\":", "safetensors"),
        ];
        for (bytes, expected) in cases {
            let message = recognise(bytes).unwrap_or_default();
            assert!(message.contains(expected), "{message}");
        }
        assert_eq!(recognise(b"\x08\x07\x12\x07pytorch"), None);
        assert_eq!(recognise(b""), None);
    }

    #[test]
    fn a_saved_model_is_named_by_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(recognise_path(folder.path()), None);
        let file = folder.path().join("saved_model.pb");
        std::fs::write(&file, b"\x08\x01\x12\x90\x01").unwrap();
        for path in [folder.path(), &file] {
            assert!(recognise_path(path).unwrap().contains("--saved-model"));
        }
    }
}
