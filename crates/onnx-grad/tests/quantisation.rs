//! Pairs of QuantizeLinear and DequantizeLinear: exact forward, straight through backward.

use std::collections::BTreeMap;

use onnx_grad::{
    Attributes, ElementType, Extent, Graph, ImportOptions, Model, Node, Tensor, ValueType, differentiate, simplify,
};
use rten_tensor::prelude::*;

const SCALES: [f64; 3] = [0.5, 1.0, 0.25];

/// `x` `[2, 3]`, quantised by column and dequantised again.
fn model(attributes: Attributes) -> Model {
    let mut graph = Graph::new();
    graph.add_input("x", ValueType::new(ElementType::F32, [2, 3])).unwrap();
    let same = graph.apply("Identity", &["x"], ()).unwrap();
    graph.add_output(&same).unwrap();
    let mut model = Model::from_bytes(&graph.to_model_bytes("model").unwrap()).unwrap();
    let scale = Tensor::floats(ElementType::F32, [3], &SCALES);
    model.append(&Node::new("Constant", &[], "scale", [("value", scale)])).unwrap();
    model.append(&Node::new("QuantizeLinear", &["x", "scale"], "q", attributes)).unwrap();
    model.append(&Node::new("DequantizeLinear", &["q", "scale"], "y", [("axis", 1)])).unwrap();
    model.add_output("y", ElementType::F32, &[Extent::Fixed(2), Extent::Fixed(3)]).unwrap();
    model.with_outputs(&["y"]).unwrap()
}

fn import(model: &Model) -> onnx_grad::Result<Graph> {
    Graph::import(model, &ImportOptions { batch: 2, input_shapes: BTreeMap::new(), fold_weights: true })
}

#[test]
fn values_are_rounded_and_cut_off_and_gradients_pass_what_is_in_range() {
    const INT8: i64 = 3;
    let graph =
        simplify(import(&model(Attributes::new().with("axis", 1).with("output_dtype", INT8))).unwrap()).unwrap();
    let gradients = differentiate(&graph, &["y"], &["x"]).unwrap();
    let bytes = gradients.graph.to_model_bytes("quantisation").unwrap();
    let engine = rten::ModelOptions::with_all_ops().load(bytes).unwrap();
    // Half-way cases go to the even number: 0.75 / 0.5 = 1.5 to 2, 2.5 to 2.
    let x = rten_tensor::Tensor::from_data(&[2, 3], vec![0.75f32, 2.5, -0.3, 100.0, -200.0, 31.75]);
    let names = ["y", &gradients.names[0]].map(|name| engine.node_id(name).unwrap());
    let mut values = engine.run(vec![(engine.node_id("x").unwrap(), x.into())], &names, None).unwrap().into_iter();
    let mut next = || values.next().unwrap().into_tensor::<f32>().unwrap().to_vec();
    assert_eq!(next(), [1.0, 2.0, -0.25, 63.5, -128.0, 31.75]);
    assert_eq!(next(), [1.0, 1.0, 1.0, 0.0, 0.0, 1.0]);
}

#[test]
fn other_types_and_blocks_are_refused_by_name() {
    const FLOAT8: i64 = 17;
    for (name, value, words) in [("output_dtype", FLOAT8, "quantises to"), ("block_size", 2, "quantised in blocks")] {
        let error = import(&model(Attributes::new().with("axis", 1).with(name, value))).unwrap_err().to_string();
        assert!(error.contains("(QuantizeLinear)") && error.contains(words), "{error}");
    }
    let error = import(&model(Attributes::new().with("axis", 0))).unwrap_err().to_string();
    assert!(error.contains("scale or zero point of shape [3] for axis 0 of [2, 3]"), "{error}");
}
