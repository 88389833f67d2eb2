//! Real models that other people trained, where they are at hand.

use std::collections::BTreeMap;
use std::path::PathBuf;

use onnx_grad::{Graph, ImportOptions, Model};

/// The ONNX files in the folder of third-party models; empty where there is none.
fn zoo() -> Vec<PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/zoo");
    let Ok(entries) = std::fs::read_dir(folder) else {
        println!("skipped: there are no third-party models in {folder}");
        return Vec::new();
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "onnx")).collect()
}

#[test]
fn models_come_back_byte_for_byte() {
    for path in zoo() {
        let bytes = std::fs::read(&path).unwrap();
        assert!(Model::from_bytes(&bytes).unwrap().to_bytes() == bytes, "{} changed", path.display());
    }
}

#[test]
fn models_are_imported_and_exported() {
    for path in zoo() {
        let options = ImportOptions { batch: 4, input_shapes: BTreeMap::new(), fold_weights: true };
        let graph = Graph::import(&Model::read(&path).unwrap(), &options).unwrap();
        assert_eq!(graph.shape(&graph.inputs()[0]).unwrap()[0], 4, "{}", path.display());
        assert_eq!(graph.shape(&graph.outputs()[0]).unwrap(), [4, 10], "{}", path.display());
        let exported = graph.to_model_bytes("model").unwrap();
        let again = Graph::import(&Model::from_bytes(&exported).unwrap(), &options).unwrap();
        assert_eq!(again.initializers(), graph.initializers());
        assert!(again.to_model_bytes("model").unwrap() == exported, "{} changed", path.display());
    }
}
