//! Small models in every style of export compute after import and export what ONNX Runtime says they compute.
//! The script beside them, `opsets.py`, made them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use onnx_grad::{Graph, ImportOptions, Model};
use rten_tensor::AsView;

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name).with_extension("onnx")
}

fn options(batch: usize, fold_weights: bool) -> ImportOptions {
    ImportOptions { batch, input_shapes: BTreeMap::new(), fold_weights }
}

/// The numbers that a model carries under `key`.
fn numbers(model: &Model, key: &str) -> Vec<f32> {
    let (_, text) = model.metadata().into_iter().find(|&(name, _)| name == key).unwrap();
    text.split(' ').map(|number| number.parse().unwrap()).collect()
}

/// What the graph computes for the input that the model carries, repeated to fill the batch.
fn run(graph: &Graph, model: &Model) -> Vec<f32> {
    let images = numbers(model, "input");
    let shape = graph.shape("images").unwrap();
    let images: Vec<f32> = images.iter().copied().cycle().take(shape.iter().product()).collect();
    let images = rten_tensor::Tensor::from_data(shape, images);
    let engine = rten::Model::load(graph.to_model_bytes("test").unwrap()).unwrap();
    let id = |name| engine.node_id(name).unwrap();
    let [logits] = engine.run_n(vec![(id("images"), images.view().into())], [id("logits")], None).unwrap();
    let logits: rten_tensor::Tensor<f32> = logits.try_into().unwrap();
    logits.to_vec()
}

fn assert_close(name: &str, computed: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(computed.len(), expected.len(), "{name}");
    for (computed, expected) in computed.iter().zip(expected) {
        assert!((computed - expected).abs() <= tolerance * (1.0 + expected.abs()), "{name}: {computed} for {expected}");
    }
}

#[test]
fn every_opset_computes_the_same_as_before() {
    let opsets = ["opset_7", "opset_9", "opset_10", "opset_11", "opset_13", "opset_18", "opset_21"];
    for name in opsets.into_iter().chain(["constant_condition", "external_data", "not_in_order"]) {
        let model = Model::read(path(name)).unwrap();
        for fold_weights in [true, false] {
            let graph = Graph::import(&model, &options(2, fold_weights)).unwrap();
            assert_close(name, &run(&graph, &model), &numbers(&model, "expected"), 1e-5);
        }
    }
}

#[test]
fn float16_is_computed_in_float32() {
    let model = Model::read(path("float16")).unwrap();
    let graph = Graph::import(&model, &options(2, true)).unwrap();
    assert_close("float16", &run(&graph, &model), &numbers(&model, "expected"), 0.01);
}

#[test]
fn a_fixed_number_of_samples_is_replaced() {
    let model = Model::read(path("fixed_batch")).unwrap();
    let graph = Graph::import(&model, &options(3, true)).unwrap();
    assert_eq!(graph.shape("logits"), Ok(&[3, 5][..]));
    assert_close("fixed_batch", &run(&graph, &model), &numbers(&model, "expected").repeat(3), 1e-5);
}

#[test]
fn weights_keep_their_names_unless_they_are_folded() {
    let model = Model::read(path("opset_13")).unwrap();
    let graph = Graph::import(&model, &options(2, false)).unwrap();
    let weights = model.initializers().into_iter().filter(|(_, shape)| shape.len() == 4);
    for (name, shape) in weights {
        let imported = graph.initializer(name).unwrap();
        assert_eq!(imported.shape().iter().map(|&extent| extent as i64).collect::<Vec<_>>(), shape);
    }
}
