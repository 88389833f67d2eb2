use std::collections::HashMap;

use super::affine::Affine;
use super::{uses, with_nodes};
use crate::{Attribute, Graph, Node, Result, Tensor};

/// Folds what scales and shifts the channels of a Conv, ConvTranspose, Gemm or MatMul with
/// constant weights into these: BatchNormalization, and Add, Sub, Mul and Div by constants,
/// as long as nothing else reads the value between.
pub(super) fn fold_into_linear(mut graph: Graph) -> Result<Graph> {
    let uses = uses(&graph);
    let mut nodes: Vec<(Node, Option<Affine>)> = Vec::with_capacity(graph.nodes().len());
    // Where in `nodes` a value comes out of an operator that still can take something in.
    let mut open: HashMap<&str, usize> = HashMap::new();
    for node in graph.nodes() {
        let [output] = &node.outputs[..] else {
            nodes.push((node.clone(), None));
            continue;
        };
        let taken_in = (node.inputs.iter())
            .filter(|input| uses.get(input.as_str()) == Some(&1))
            .find_map(|input| open.get(input.as_str()).map(|&at| (input, at)));
        if let Some((input, at)) = taken_in {
            let (linear, before) = &mut nodes[at];
            let axis = channel_axis(&linear.op, graph.shape(input)?.len());
            if let Some((_, affine)) = Affine::of(&graph, node, axis)?.filter(|(changed, _)| changed == input) {
                let channels = affine.scale.len();
                let after = before.clone().unwrap_or_else(|| Affine::identity(channels)).then(&affine);
                if after.is_finite() && fits(&graph, linear, &after)? {
                    *before = Some(after);
                    linear.outputs[0].clone_from(output);
                    open.insert(output, at);
                    continue;
                }
            }
        }
        if has_constant_weights(&graph, node)? {
            open.insert(output, nodes.len());
        }
        nodes.push((node.clone(), None));
    }

    let mut folded = Vec::with_capacity(nodes.len());
    for (node, affine) in nodes {
        folded.push(match affine {
            Some(affine) => with_affine(&mut graph, node, &affine)?,
            None => node,
        });
    }
    with_nodes(graph, folded)
}

/// The axis of the output that the rows or columns of the weights become.
fn channel_axis(op: &str, rank: usize) -> usize {
    if matches!(op, "Conv" | "ConvTranspose") { 1 } else { rank.saturating_sub(1) }
}

fn has_constant_weights(graph: &Graph, node: &Node) -> Result<bool> {
    let is_constant = |i| node.input(i).is_some_and(|name| graph.initializer(name).is_some());
    Ok(match node.op.as_str() {
        "Conv" | "ConvTranspose" => is_constant(1) && (node.input(2).is_none() || is_constant(2)),
        "Gemm" => {
            let bias_per_column = match node.input(2) {
                Some(bias) => graph.shape(bias)?.iter().rev().skip(1).all(|&extent| extent == 1),
                None => true,
            };
            is_constant(1) && (node.input(2).is_none() || is_constant(2)) && bias_per_column
        }
        "MatMul" => is_constant(1) && graph.shape(&node.inputs[1])?.len() == 2,
        _ => false,
    })
}

/// A MatMul has nowhere to put a shift, unless its operands are matrices, as those of Gemm.
fn fits(graph: &Graph, node: &Node, affine: &Affine) -> Result<bool> {
    let no_shift = affine.shift.iter().all(|&shift| shift == 0.0);
    Ok(node.op != "MatMul" || no_shift || graph.shape(&node.inputs[0])?.len() == 2)
}

/// `node` with other weights and bias, so that `affine` is applied to its output.
fn with_affine(graph: &mut Graph, mut node: Node, affine: &Affine) -> Result<Node> {
    let Some(weights) = node.input(1).and_then(|name| graph.initializer(name)).cloned() else {
        return Err(crate::Error::node(&node, "has no constant weights"));
    };
    let values: Vec<f64> = (weights.to_f64().iter().enumerate())
        .map(|(i, weight)| weight * affine.scale[output_channel(&node, weights.shape(), i)])
        .collect();
    node.inputs[1] = graph.constant(Tensor::floats(weights.element(), weights.shape(), &values));

    let has_shift = affine.shift.iter().any(|&shift| shift != 0.0);
    if node.op == "MatMul" && has_shift {
        node.op = "Gemm".to_owned();
    }
    if node.input(2).is_some() || has_shift {
        let beta = if node.op == "Gemm" { f64::from(node.float("beta", 1.0)) } else { 1.0 };
        let bias = node.input(2).and_then(|name| graph.initializer(name)).map(|bias| bias.to_f64());
        let bias = bias.unwrap_or_else(|| vec![0.0]);
        let channels = affine.scale.len();
        let values: Vec<f64> = (0..channels)
            .map(|channel| bias[channel % bias.len()] * beta * affine.scale[channel] + affine.shift[channel])
            .collect();
        node.inputs.resize(3, String::new());
        node.inputs[2] = graph.constant(Tensor::floats(weights.element(), [channels], &values));
        if node.attributes.get("beta").is_some() {
            node.attributes.set("beta", Attribute::Float(1.0));
        }
    }
    Ok(node)
}

/// The channel of the output to which element `i` of weights of `shape` contributes.
fn output_channel(node: &Node, shape: &[usize], i: usize) -> usize {
    let inner = |axis: usize| shape[axis + 1..].iter().product::<usize>();
    let coordinate = |axis: usize| i / inner(axis) % shape[axis];
    match node.op.as_str() {
        "ConvTranspose" => {
            let channels_per_group = shape[0] / node.int("group", 1).max(1) as usize;
            coordinate(0) / channels_per_group.max(1) * shape[1] + coordinate(1)
        }
        "Gemm" if node.int("transB", 0) == 0 => coordinate(1),
        "MatMul" => coordinate(1),
        _ => coordinate(0),
    }
}
