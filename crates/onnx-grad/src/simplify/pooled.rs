use std::collections::HashMap;

use super::{uses, with_nodes};
use crate::window::Window;
use crate::{Graph, Node, Result};

/// Exchanges Relu and a MaxPool after it, which nothing else reads: the same numbers, since Relu is monotone, but of fewer
/// elements, and of fewer still for the derivative.
pub(super) fn pool_before_relu(mut graph: Graph) -> Result<Graph> {
    let uses = uses(&graph);
    let mut relus: HashMap<&str, usize> = HashMap::new();
    let mut pairs = HashMap::new();
    for (at, node) in graph.nodes().iter().enumerate() {
        if node.op == "Relu" && uses.get(node.outputs[0].as_str()) == Some(&1) {
            relus.insert(&node.outputs[0], at);
        }
        let relu = node.inputs.first().and_then(|input| relus.get(input.as_str()));
        if let Some(&relu) = relu.filter(|_| node.op == "MaxPool" && node.outputs.len() == 1)
            && sees_input_everywhere(&Window::of(&graph, node)?)
        {
            pairs.insert(at, relu);
        }
    }
    if pairs.is_empty() {
        return Ok(graph);
    }
    let nodes = graph.nodes().to_vec();
    let mut exchanged = Vec::with_capacity(nodes.len());
    for (at, node) in nodes.iter().enumerate() {
        if let Some(&relu) = pairs.get(&at) {
            let pooled = graph.fresh_name(&node.outputs[0]);
            let (inputs, output) = (nodes[relu].inputs.clone(), pooled.clone());
            exchanged.push(Node { inputs, outputs: vec![output], ..node.clone() });
            exchanged.push(Node { inputs: vec![pooled], outputs: node.outputs.clone(), ..nodes[relu].clone() });
        } else if !pairs.values().any(|&relu| relu == at) {
            exchanged.push(node.clone());
        }
    }
    with_nodes(graph, exchanged)
}

/// Whether no window lies in the padding as a whole: its maximum would be -∞.
fn sees_input_everywhere(window: &Window) -> bool {
    (0..window.rank()).all(|i| {
        let last = (window.output[i] - 1) * window.strides[i];
        window.dilations[i] == 1
            && window.pads_begin[i] < window.kernel[i]
            && last < window.pads_begin[i] + window.input[i]
    })
}
