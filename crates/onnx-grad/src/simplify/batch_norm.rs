use super::affine::Affine;
use super::with_nodes;
use crate::{Graph, Node, Result, Tensor};

/// Turns BatchNormalization with constant parameters into a Mul and an Add, which engines fuse
/// with what surrounds them and which have simple gradients.
pub(super) fn expand_batch_norm(mut graph: Graph) -> Result<Graph> {
    let mut nodes = Vec::with_capacity(graph.nodes().len());
    for node in graph.nodes().to_vec() {
        let affine = if node.op == "BatchNormalization" { Affine::of_batch_norm(&graph, &node) } else { None };
        let Some(affine) = affine else {
            nodes.push(node);
            continue;
        };
        let input = graph.value_type(&node.inputs[0])?.clone();
        // [C, 1, ...] broadcasts along the batch.
        let mut shape = vec![1; input.rank() - 1];
        shape[0] = affine.scale.len();
        let scale = graph.constant(Tensor::floats(input.element, shape.clone(), &affine.scale));
        let shift = graph.constant(Tensor::floats(input.element, shape, &affine.shift));
        let scaled = graph.fresh_name("scaled");
        let step = |op: &str, inputs: [&String; 2], output: &String| Node {
            name: node.name.clone(),
            op: op.to_owned(),
            inputs: inputs.map(String::clone).to_vec(),
            outputs: vec![output.clone()],
            attributes: ().into(),
        };
        nodes.push(step("Mul", [&node.inputs[0], &scale], &scaled));
        nodes.push(step("Add", [&scaled, &shift], &node.outputs[0]));
    }
    with_nodes(graph, nodes)
}
