//! Model files of other formats, recognised by their first bytes and never opened.

const FROM_PYTORCH: &str = "Export the network to ONNX, where you trust the file:\n
    import torch
    model = torch.load(\"model.pt\", weights_only=False).eval()
    torch.onnx.export(model, (torch.zeros(1, 3, 32, 32),), \"model.onnx\", input_names=[\"input\"])\n
with the shape of your own inputs (a state_dict goes into the network's class with load_state_dict first)";

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
        [b'P', b'K', 3, 4, ..] => Some(if has_entry(bytes, b"data.pkl") || has_entry(bytes, b"constants.pkl") {
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
        [_, _, _, _, b'T', b'F', b'L', b'3', ..] => {
            Some(("a TensorFlow Lite file", "Export the network to ONNX from the framework in which it was trained"))
        }
        [_, _, _, _, _, 0, 0, 0, b'{', b'"', ..] => Some((
            "a safetensors file, which holds weights but not the network they belong to",
            "Load it in its framework and export the network to ONNX",
        )),
        _ => None,
    }
}

/// Whether the beginning of a zip archive has an entry whose name ends with `name`.
fn has_entry(bytes: &[u8], name: &[u8]) -> bool {
    let beginning = &bytes[..bytes.len().min(4096)];
    beginning.windows(name.len()).any(|window| window == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_formats_are_named() {
        let cases: [(&[u8], &str); 5] = [
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
}
