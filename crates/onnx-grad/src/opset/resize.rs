//! Resize, and Upsample, which it replaced.

use crate::{Attribute, Error, Graph, Node, Result, Tensor, TensorData};

/// Before opset 11 there was one way to map coordinates and no region of interest.
pub(super) fn resize(graph: &mut Graph, node: &mut Node, version: i64) -> Result<()> {
    if node.op == "Upsample" || version < 11 {
        if let Some(Attribute::Floats(scales)) = node.attributes.remove("scales") {
            node.inputs.push(graph.constant(Tensor::new([scales.len()], TensorData::F32(scales))));
        }
        let [data, scales] = &node.inputs[..] else {
            return Err(Error::node(node, "needs an input and its scales"));
        };
        node.inputs = vec![data.clone(), String::new(), scales.clone()];
        node.op = "Resize".to_owned();
        if node.string("mode", "nearest") == "bilinear" {
            node.attributes.set("mode", "linear");
        }
        node.attributes.set("coordinate_transformation_mode", "asymmetric");
        node.attributes.set("nearest_mode", "floor");
    }
    // Exporters give an empty constant for what they leave out.
    for input in node.inputs.iter_mut().skip(1) {
        if graph.initializer(input).is_some_and(|tensor| tensor.data().is_empty()) {
            input.clear();
        }
    }
    while node.inputs.last().is_some_and(String::is_empty) {
        node.inputs.pop();
    }
    Ok(())
}
