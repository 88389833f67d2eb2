//! Damaged and hostile models are errors: nothing panics, and no size is believed before it is checked.

use std::collections::BTreeMap;
use std::path::Path;

use onnx_grad::{Graph, ImportOptions, Model, Result, differentiate, simplify};

fn read(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)).unwrap()
}

/// Everything that can be done with the bytes of a model.
fn import(bytes: &[u8]) -> Result<Graph> {
    let model = Model::from_bytes(bytes)?;
    let _ = (model.inputs(), model.outputs(), model.operators(), model.metadata(), model.producer());
    let options = ImportOptions { batch: 2, input_shapes: BTreeMap::new(), fold_weights: true };
    let graph = Graph::import(&model, &options)?;
    graph.to_model_bytes("model")?;
    if let Ok(gradient) = gradient(graph.clone()) {
        let written = gradient.to_model_bytes("gradient")?;
        Graph::import(&Model::from_bytes(&written)?, &options).expect("what was written can be read");
    }
    Ok(graph)
}

/// The graph with the gradients of its floating-point outputs.
fn gradient(graph: Graph) -> Result<Graph> {
    let graph = simplify(graph)?;
    let floats = |names: &[String]| -> Vec<String> {
        let is_float = |name: &&String| graph.element(name).is_ok_and(|element| element.is_float());
        names.iter().filter(is_float).cloned().collect()
    };
    let (outputs, inputs) = (floats(graph.outputs()), floats(graph.inputs()));
    let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    Ok(differentiate(&graph, &outputs, &inputs)?.graph)
}

const MODELS: [&str; 5] =
    ["opset_7.onnx", "opset_10.onnx", "opset_21.onnx", "constant_condition.onnx", "every_field.onnx"];

#[test]
fn a_model_that_ends_early_is_refused() {
    for name in MODELS {
        let bytes = read(name);
        // What follows the graph may be missing: the model is then another one, and a good one.
        let refused = (0..50).filter(|i| import(&bytes[..bytes.len() * i / 50]).is_err()).count();
        assert!(refused >= 40, "{name}: only {refused} of 50 were refused");
    }
}

#[test]
fn flipped_bits_do_not_panic() {
    for name in MODELS {
        let mut bytes = read(name);
        let mut state = 1u64;
        for _ in 0..3000 {
            // Knuth's linear congruential generator: the same flips every time.
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let (position, bit) = ((state >> 33) as usize % bytes.len(), 1u8 << (state >> 60 & 7));
            bytes[position] ^= bit;
            let _ = import(&bytes);
            bytes[position] ^= bit;
        }
    }
}

#[test]
fn garbage_is_refused() {
    let mut state = 1u64;
    for len in 0..2000 {
        let garbage: Vec<u8> = (0..len % 97)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 56) as u8
            })
            .collect();
        assert!(import(&garbage).is_err());
    }
}

/// `content` as the length-delimited field number `field` of a message.
fn field(field: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![field << 3 | 2];
    let mut len = content.len();
    while len >= 128 {
        bytes.push(len as u8 | 128);
        len >>= 7;
    }
    bytes.push(len as u8);
    bytes.extend_from_slice(content);
    bytes
}

#[test]
fn deep_nesting_is_refused() {
    let mut graph = Vec::new();
    for _ in 0..5000 {
        let attribute = field(6, &graph);
        let node = field(5, &attribute);
        graph = field(1, &node);
    }
    let error = Model::from_bytes(&field(7, &graph)).unwrap_err().to_string();
    assert!(error.contains("recursion limit"), "{error}");
}
