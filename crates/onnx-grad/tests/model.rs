//! Reading, changing and writing the files of users.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use onnx_grad::{Error, Graph, ImportOptions, Model, Tensor, TensorData};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn import(model: &Model) -> Result<Graph, Error> {
    Graph::import(model, &ImportOptions { batch: 2, input_shapes: BTreeMap::new(), fold_weights: true })
}

#[test]
fn every_field_of_the_messages_comes_back() {
    let bytes = fs::read(data("every_field.onnx")).unwrap();
    assert!(Model::from_bytes(&bytes).unwrap().to_bytes() == bytes);
}

#[test]
fn a_model_says_what_it_declares() {
    let model = Model::read(data("opset_7.onnx")).unwrap();
    let declared = |values: Vec<onnx_grad::ValueSummary>| values.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(declared(model.inputs()), ["images: float32[batch, 2, 6, 6]"]);
    assert_eq!(declared(model.outputs()), ["logits: float32[batch, 5]"]);
    assert_eq!((model.ir_version(), model.opsets()), (3, vec![("", 7)]));
    assert_eq!(model.operators()["Unsqueeze"], 3);
}

#[test]
fn initializers_change_in_their_own_type_and_the_rest_stays() {
    for (name, tolerance) in [("opset_13.onnx", 0.0), ("float16.onnx", 1e-3), ("external_data.onnx", 0.0)] {
        let original = Model::read(data(name)).unwrap();
        let mut model = original.clone();
        let weights: Vec<String> =
            model.initializers().into_iter().filter(|(_, shape)| shape.len() == 4).map(|(n, _)| n.to_owned()).collect();
        let before = model.initializer(&weights[0]).unwrap();
        let doubled: Vec<f64> = before.to_f64().iter().map(|value| 2.1 * value).collect();
        let doubled = Tensor::floats(before.element(), before.shape(), &doubled);
        model.set_initializer(&weights[0], &doubled).unwrap();
        let after = model.initializer(&weights[0]).unwrap();
        for (after, doubled) in after.to_f64().iter().zip(doubled.to_f64()) {
            assert!((after - doubled).abs() <= tolerance * doubled.abs(), "{name}: {after} for {doubled}");
        }
        // Back with the old elements the file is the same, unless they came from another one.
        model.set_initializer(&weights[0], &before).unwrap();
        assert_eq!(model.to_bytes() == original.to_bytes(), name != "external_data.onnx", "{name}");
    }
}

#[test]
fn initializers_change_only_by_one_that_fits() {
    let mut model = Model::read(data("opset_13.onnx")).unwrap();
    let name = model.initializers()[0].0.to_owned();
    let shape = model.initializers()[0].1.to_vec();
    let small = Tensor::new([1], TensorData::F32(vec![1.0]));
    let expected = format!("value `{name}`: has the shape {shape:?} and cannot be replaced by one of shape [1]");
    assert_eq!(model.set_initializer(&name, &small).unwrap_err().to_string(), expected);
    let absent = model.set_initializer("absent", &small).unwrap_err().to_string();
    assert_eq!(absent, "value `absent`: is not an initializer of the model");
}

#[test]
fn a_model_moves_with_the_data_it_has_in_other_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("moved.onnx");
    let model = Model::read(data("external_data.onnx")).unwrap();
    model.write(&path).unwrap();
    let moved = Model::read(&path).unwrap();
    let (graph, moved_graph) = (import(&model).unwrap(), import(&moved).unwrap());
    assert_eq!(graph.initializers(), moved_graph.initializers());
    // Written again where it is now, it stays as it is, and nothing else is left behind.
    moved.write(&path).unwrap();
    assert!(Model::read(&path).unwrap() == moved);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// The error of importing `external_data.onnx` with its data at `location`, as long as the true name.
fn with_location(folder: &Path, location: &str) -> String {
    let original = fs::read(data("external_data.onnx")).unwrap();
    let (old, new) = (b"external_data.data", location.as_bytes());
    assert_eq!(old.len(), new.len());
    let mut bytes = original.clone();
    let positions: Vec<usize> = (0..bytes.len() - old.len()).filter(|&i| bytes[i..].starts_with(old)).collect();
    positions.into_iter().for_each(|i| bytes[i..i + new.len()].copy_from_slice(new));
    let path = folder.join("model.onnx");
    fs::write(&path, bytes).unwrap();
    import(&Model::read(&path).unwrap()).unwrap_err().to_string()
}

#[test]
fn data_outside_of_the_folder_is_not_read() {
    let outside = tempfile::tempdir().unwrap();
    fs::copy(data("external_data.data"), outside.path().join("secret")).unwrap();
    let folder = outside.path().join("model");
    fs::create_dir_all(folder.join("a/folder")).unwrap();
    fs::write(folder.join("too_short_for.data"), [0; 8]).unwrap();
    let cases = [
        ("a/../../a/./secret", "is outside the model's folder"),
        ("/etc/hostname/////", "is outside the model's folder"),
        ("../..//secret/////", "is outside the model's folder"),
        ("a/folder//////////", "is not a regular file"),
        ("too_short_for.data", "beyond the end of that file"),
        ("is_not_there_.data", "cannot be read"),
        #[cfg(unix)]
        ("symbolic_link.data", "is outside the model's folder"),
    ];
    #[cfg(unix)]
    std::os::unix::fs::symlink("../secret", folder.join("symbolic_link.data")).unwrap();
    for (location, expected) in cases {
        let error = with_location(&folder, location);
        assert!(error.contains(expected), "{location}: {error}");
    }
}

#[test]
fn data_in_other_files_needs_a_folder() {
    let bytes = fs::read(data("external_data.onnx")).unwrap();
    let error = import(&Model::from_bytes(&bytes).unwrap()).unwrap_err().to_string();
    assert!(error.contains("cannot be found from a model that is not itself read from a file"), "{error}");
}

#[test]
fn files_that_are_no_models_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let error = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        Model::read(&path).unwrap_err().to_string()
    };
    assert!(error(b"").ends_with("model.onnx` is not a usable ONNX model: it is empty"));
    assert!(error(b"PK\x03\x04 archive/data.pkl").contains("torch.onnx.export"));
    assert!(error(b"not a model").contains("cannot be decoded"));
    assert!(Model::read(folder.path()).unwrap_err().to_string().ends_with("is not a file"));
    let absent = Model::read(folder.path().join("absent")).unwrap_err().to_string();
    assert!(absent.contains("cannot be read"), "{absent}");
}
