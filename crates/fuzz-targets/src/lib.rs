//! What fuzzing does with bytes. The fuzzer calls these functions with what it makes up, the tests with what it has found and
//! with mutations of that. Each panics where the library breaks its word, and returns nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use neural_cleanse::ModelCard;
use neural_cleanse::data::{Columns, Samples, Wanted, image_shape, load};
use onnx_grad::{Graph, ImportOptions, Model, Result, differentiate, simplify};

/// Bytes as a model: read, described, and written again.
///
/// # Panics
/// If what was written is another model, or none.
pub fn model(bytes: &[u8]) {
    let Ok(model) = Model::from_bytes(bytes) else { return };
    let _ = (model.inputs(), model.outputs(), model.operators(), model.metadata(), model.producer());
    let again = Model::from_bytes(&model.to_bytes()).expect("what was read and written");
    // Not `==` on the models, which a NaN among the attributes would fail.
    assert_eq!(again.to_bytes(), model.to_bytes());
}

/// Bytes as a model: imported, simplified, differentiated, written, and what was written imported again.
///
/// # Panics
/// If what was written cannot be imported.
pub fn gradient(bytes: &[u8]) {
    if let Ok(written) = with_gradients(bytes) {
        let model = Model::from_bytes(&written).expect("a model of our own");
        Graph::import(&model, &two_samples()).expect("a graph of our own");
    }
}

fn two_samples() -> ImportOptions {
    ImportOptions { batch: 2, input_shapes: BTreeMap::new(), fold_weights: true }
}

/// The model with the gradients of its floating-point outputs.
fn with_gradients(bytes: &[u8]) -> Result<Vec<u8>> {
    let graph = simplify(Graph::import(&Model::from_bytes(bytes)?, &two_samples())?)?;
    let is_float = |name: &&str| graph.element(name).is_ok_and(|element| element.is_float());
    let outputs: Vec<&str> = graph.outputs().iter().map(String::as_str).filter(is_float).collect();
    let inputs: Vec<&str> = graph.inputs().iter().map(String::as_str).filter(is_float).collect();
    differentiate(&graph, &outputs, &inputs)?.graph.to_model_bytes("gradient")
}

/// Bytes as samples: `.npz`, `.npy`, IDX (also gzipped) or Parquet. The first byte, which the file does not have, tells images
/// (even) from labels (odd).
///
/// # Panics
/// If samples that were read are not as they were wanted.
pub fn samples(bytes: &[u8]) {
    let Some((role, bytes)) = bytes.split_first() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("file");
    fs::write(&file, bytes).expect("room for it");
    if role % 2 == 1 {
        let images = folder.path().join("images");
        fs::write(&images, THREE_IMAGES).expect("room for it");
        let _ = load(&images, Some(&file), &SMALL());
    } else {
        read(&file);
    }
}

/// Three images of 4x4 pixels, as IDX.
const THREE_IMAGES: [u8; 64] = {
    let mut idx = [7; 64];
    let header = [0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 4];
    let mut i = 0;
    while i < header.len() {
        idx[i] = header[i];
        i += 1;
    }
    idx
};

const SMALL: fn() -> Wanted = || Wanted::new(1, 4, 4);

/// Bytes as the one image of a folder: PNG, JPEG, GIF, BMP, WebP or PNM.
///
/// # Panics
/// If an image that was read is not as it was wanted.
pub fn image(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::create_dir(folder.path().join("class")).expect("room for it");
    fs::write(folder.path().join("class/image.png"), bytes).expect("room for it");
    read(folder.path());
}

fn read(path: &Path) {
    let Ok(Samples { images, labels, .. }) = load(path, None, &SMALL()) else { return };
    assert_eq!(images.shape()[1..], [1, 4, 4]);
    assert!(labels.is_none_or(|labels| labels.len() == images.shape()[0]));
    let _ = image_shape(path, &Columns::default());
}

/// Bytes as what lies beside a model: by the first byte, which the file does not have, `preprocessor_config.json` (even) or
/// `config.json` (odd).
pub fn card(bytes: &[u8]) {
    let Some((role, bytes)) = bytes.split_first() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let name = if role % 2 == 1 { "config.json" } else { "preprocessor_config.json" };
    fs::write(folder.path().join(name), bytes).expect("room for it");
    let _ = ModelCard::read(folder.path());
}
