//! Any bytes as a model: imported, simplified, differentiated, written, and what was written read again.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use onnx_grad::{Graph, ImportOptions, Model, Result, differentiate, simplify};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(written) = gradient(bytes) {
        let model = Model::from_bytes(&written).expect("a model of our own");
        let options = ImportOptions { batch: 2, input_shapes: BTreeMap::new(), fold_weights: true };
        Graph::import(&model, &options).expect("a graph of our own");
    }
});

/// The model with the gradients of its floating-point outputs.
fn gradient(bytes: &[u8]) -> Result<Vec<u8>> {
    let model = Model::from_bytes(bytes)?;
    let options = ImportOptions { batch: 2, input_shapes: BTreeMap::new(), fold_weights: true };
    let graph = simplify(Graph::import(&model, &options)?)?;
    let is_float = |name: &&str| graph.element(name).is_ok_and(|element| element.is_float());
    let outputs: Vec<&str> = graph.outputs().iter().map(String::as_str).filter(is_float).collect();
    let inputs: Vec<&str> = graph.inputs().iter().map(String::as_str).filter(is_float).collect();
    differentiate(&graph, &outputs, &inputs)?.graph.to_model_bytes("gradient")
}
