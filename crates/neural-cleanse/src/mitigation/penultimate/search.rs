use onnx_grad::{Graph, ImportOptions, Node};

use super::Penultimate;
use crate::error::{Error, Result};
use crate::interface::{PROBE_BATCH, import_options};
use crate::network::Network;

/// Operators that the scores may pass through after the last linear layer. None of them mixes neurons.
const AFTER: [&str; 18] = [
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "Clip",
    "Dropout",
    "Flatten",
    "GlobalAveragePool",
    "Identity",
    "LeakyRelu",
    "LogSoftmax",
    "ReduceMean",
    "Relu",
    "Reshape",
    "Sigmoid",
    "Softmax",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
];

/// Operators that leave each feature where it is, between the channels' being flattened and the linear layer.
const ELEMENTWISE: [&str; 9] = ["Cast", "Clip", "Dropout", "Identity", "LeakyRelu", "Relu", "Sigmoid", "Tanh", "Elu"];

/// The penultimate layer of `network`.
pub(super) fn find(network: &Network) -> Result<Penultimate> {
    let options = ImportOptions { fold_weights: false, ..import_options(PROBE_BATCH) };
    let mut graph = Graph::import(network.narrowed(), &options)?;
    graph.set_outputs(&[network.output()])?;
    let graph = graph.without_dead_nodes();

    let linear = last_linear_layer(&graph, network.output())?;
    let features = &linear.inputs[0];
    let shape = graph.shape(features)?;
    let spatial = linear.op == "Conv";
    let batch = graph.inputs().first().and_then(|input| graph.shape(input).ok()?.first());
    if shape.first() != batch || shape.len() < if spatial { 3 } else { 2 } {
        return Err(unfit(
            linear,
            &format!("reads `{features}` of shape {shape:?}, which is not one row for one image"),
        ));
    }
    let extents = if spatial { [1, shape[1], shape[2..].iter().product()] } else { dense_extents(&graph, features)? };
    let weights = own_weights(&graph, linear)?;
    network.model().initializer(&weights.name)?;
    Ok(Penultimate {
        features: features.clone(),
        weights: weights.name,
        weights_axis: weights.axis,
        weights_per_neuron: if spatial { 1 } else { extents[2] },
        extents,
    })
}

/// The last linear layer before `scores`: the first one on the way back.
fn last_linear_layer<'a>(graph: &'a Graph, scores: &'a str) -> Result<&'a Node> {
    let mut value = scores;
    loop {
        let node = producer(graph, value).ok_or_else(|| {
            Error::Classifier(format!("there is no linear layer before output `{scores}`: it is made from `{value}`"))
        })?;
        let is_constant = |i: usize| node.input(i).is_some_and(|name| is_constant(graph, name));
        value = match node.op.as_str() {
            "Gemm" | "MatMul" | "Conv" if is_constant(1) && !is_constant(0) => return Ok(node),
            "Add" | "Mul" if is_constant(0) => &node.inputs[1],
            "Add" | "Sub" | "Mul" | "Div" if is_constant(1) => &node.inputs[0],
            op if AFTER.contains(&op) => &node.inputs[0],
            _ => return Err(unfit(node, "is not a linear layer, and no such layer comes after it")),
        };
    }
}

/// How the features of one image, which go into a Gemm or MatMul, split into positions, neurons and positions.
fn dense_extents(graph: &Graph, features: &str) -> Result<[usize; 3]> {
    let shape = graph.shape(features)?;
    let inputs = shape.last().copied().unwrap_or(1);
    if shape.len() > 2 {
        return Ok([shape[1..shape.len() - 1].iter().product(), inputs, 1]);
    }
    let mut value = features;
    while let Some(node) = producer(graph, value) {
        match node.op.as_str() {
            "Flatten" | "Reshape" | "Squeeze" => value = &node.inputs[0],
            op if ELEMENTWISE.contains(&op) => value = &node.inputs[0],
            // As converters from TensorFlow flatten: channels last, while everything before is channels first.
            "Transpose" if node.ints("perm") == Some(&[0, 2, 3, 1]) && value != features => {
                let channels = graph.shape(value)?[3];
                return Ok(if channels > 0 && inputs % channels == 0 {
                    [inputs / channels, channels, 1]
                } else {
                    [1, inputs, 1]
                });
            }
            _ => break,
        }
    }
    Ok(match graph.shape(value)? {
        [_, channels, height, width] if channels * height * width == inputs => [1, *channels, height * width],
        _ => [1, inputs, 1],
    })
}

/// An initializer of the model and the axis of it along which the features are.
struct Weights {
    name: String,
    axis: usize,
}

/// The initializer that the weights of `linear` are, which nothing else may read.
fn own_weights(graph: &Graph, linear: &Node) -> Result<Weights> {
    if linear.int("transA", 0) != 0 || linear.int("group", 1) != 1 {
        return Err(unfit(linear, "takes its features transposed or in groups, which is not supported"));
    }
    let mut value = linear.inputs[1].as_str();
    let rank = graph.shape(value)?.len();
    let mut axis = match linear.op.as_str() {
        "Conv" => 1,
        "Gemm" => usize::from(linear.int("transB", 0) != 0),
        _ => rank.saturating_sub(2),
    };
    loop {
        let readers = graph.nodes().iter().flat_map(|node| &node.inputs).filter(|input| *input == value).count();
        if readers > 1 {
            return Err(unfit(linear, &format!("shares its weights `{value}` with another node")));
        }
        if graph.initializer(value).is_some() {
            return Ok(Weights { name: value.to_owned(), axis });
        }
        let node = producer(graph, value).ok_or_else(|| unfit(linear, "has no constant weights"))?;
        match (node.op.as_str(), node.ints("perm")) {
            ("Identity" | "Cast", _) => {}
            ("Transpose", None) => axis = rank.saturating_sub(1 + axis),
            ("Transpose", Some(perm)) => {
                axis = perm.get(axis).and_then(|&axis| usize::try_from(axis).ok()).unwrap_or(axis);
            }
            (op, _) => return Err(unfit(linear, &format!("has weights that are computed, by {op}"))),
        }
        value = &node.inputs[0];
    }
}

/// Whether `value` is made of an initializer by nodes with one operand.
fn is_constant<'a>(graph: &'a Graph, mut value: &'a str) -> bool {
    loop {
        if graph.initializer(value).is_some() {
            return true;
        }
        let Some(node) = producer(graph, value) else { return false };
        if !matches!(node.op.as_str(), "Cast" | "Identity" | "Reshape" | "Squeeze" | "Transpose" | "Unsqueeze") {
            return false;
        }
        value = &node.inputs[0];
    }
}

fn producer<'a>(graph: &'a Graph, value: &str) -> Option<&'a Node> {
    graph.nodes().iter().rev().find(|node| node.outputs.iter().any(|output| output == value))
}

fn unfit(node: &Node, problem: &str) -> Error {
    Error::Classifier(format!("the last linear layer is not found: node `{}` ({}) {problem}", node.label(), node.op))
}
