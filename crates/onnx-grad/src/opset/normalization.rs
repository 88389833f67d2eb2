//! Normalizations, and Dropout, as they are at inference.

use std::collections::HashSet;

use super::Rewrite;
use crate::{Attribute, Attributes, Error, Graph, Node, Result, Tensor, TensorData};

const TRAINING: &str = "is in training mode; export the model in evaluation mode, after model.eval() in PyTorch";

/// Before opset 14, outputs for the batch's statistics meant training; before opset 9 every
/// element could have statistics of its own.
///
/// What does not depend on the model's inputs may be normalized by its own statistics: some models standardise their weights so.
pub(super) fn batch(graph: &mut Graph, mut node: Node, version: i64) -> Result<Vec<Node>> {
    if version < 9 && node.attributes.remove("spatial") == Some(Attribute::Int(0)) {
        return Err(Error::node(&node, "normalizes every element by itself (`spatial` = 0), which is not supported"));
    }
    let trains = node.int("training_mode", 0) != 0;
    match node.input(0) {
        Some(data) if trains && node.outputs.len() == 1 && !depends_on_inputs(graph, data) => {
            by_own_statistics(graph, node)
        }
        _ if trains || node.outputs.len() > 1 => Err(Error::node(&node, TRAINING)),
        _ => Ok(vec![node]),
    }
}

/// Whether the value called `name` is computed from an input of the graph.
fn depends_on_inputs(graph: &Graph, name: &str) -> bool {
    let mut reached = HashSet::from([name]);
    for node in graph.nodes().iter().rev() {
        if node.outputs.iter().any(|output| reached.contains(output.as_str())) {
            reached.extend(node.inputs.iter().map(String::as_str));
        }
    }
    graph.inputs().iter().any(|input| reached.contains(input.as_str()))
}

/// (x - mean(x)) / √(variance(x) + epsilon) · scale + bias for each channel.
fn by_own_statistics(graph: &mut Graph, node: Node) -> Result<Vec<Node>> {
    let epsilon = f64::from(node.float("epsilon", 1e-5));
    let no_channels = Error::node(&node, "has an input without channels");
    let mut rewrite = Rewrite::new(graph, node);
    let ((x, element, shape), (scale, ..), (bias, ..)) = (rewrite.input(0)?, rewrite.input(1)?, rewrite.input(2)?);
    let [_, channels, rest @ ..] = &shape[..] else { return Err(no_channels) };
    let axes: Vec<i64> = (0..shape.len() as i64).filter(|&axis| axis != 1).collect();
    let axes = rewrite.constant(Tensor::ints(&axes));
    let per_channel = rewrite.constant(Tensor::ints(&[&[*channels as i64][..], &vec![1; rest.len()]].concat()));
    let epsilon = rewrite.constant(Tensor::scalar(element, epsilon));
    let mean = rewrite.apply("ReduceMean", &[&x, &axes], ());
    let centred = rewrite.apply("Sub", &[&x, &mean], ());
    let square = rewrite.apply("Mul", &[&centred, &centred], ());
    let variance = rewrite.apply("ReduceMean", &[&square, &axes], ());
    let shifted = rewrite.apply("Add", &[&variance, &epsilon], ());
    let root = rewrite.apply("Sqrt", &[&shifted], ());
    let normal = rewrite.apply("Div", &[&centred, &root], ());
    let scale = rewrite.apply("Reshape", &[&scale, &per_channel], ());
    let bias = rewrite.apply("Reshape", &[&bias, &per_channel], ());
    let scaled = rewrite.apply("Mul", &[&normal, &scale], ());
    Ok(rewrite.finish("Add", &[&scaled, &bias], ()))
}

/// Dropout does nothing at inference.
pub(super) fn dropout(graph: &mut Graph, node: Node, version: i64) -> Result<Vec<Node>> {
    let training = node.input(2).filter(|_| version >= 12).map(|mode| graph.initializer(mode).map(|mode| mode.data()));
    match training {
        None => {}
        Some(Some(TensorData::Bool(values))) if values[..] == [false] => {}
        Some(_) => return Err(Error::node(&node, TRAINING)),
    }
    if node.outputs.len() > 1 {
        return Err(Error::node(&node, "has a mask that is used, which only makes sense in training"));
    }
    let rewrite = Rewrite::new(graph, node);
    let (data, ..) = rewrite.input(0)?;
    Ok(rewrite.finish("Identity", &[&data], ()))
}

/// GroupNormalization: InstanceNormalization of the groups. Until opset 20 scale and bias
/// are per group, `[num_groups]`, and from opset 21 on per channel, `[C]`.
pub(super) fn group(graph: &mut Graph, node: Node, version: i64) -> Result<Vec<Node>> {
    let missing = Error::node(&node, "lacks the attribute `num_groups`");
    let uneven = Error::node(&node, "has channels that cannot be divided into its groups");
    let epsilon = node.float("epsilon", 1e-5);
    let groups = match node.attributes.get("num_groups") {
        Some(&Attribute::Int(groups)) if groups > 0 => groups as usize,
        _ => return Err(missing),
    };
    let mut rewrite = Rewrite::new(graph, node);
    let ((x, element, shape), (scale, ..), (bias, ..)) = (rewrite.input(0)?, rewrite.input(1)?, rewrite.input(2)?);
    let [samples, channels, rest @ ..] = &shape[..] else { return Err(uneven) };
    if *channels == 0 || channels % groups != 0 || shape.contains(&0) {
        return Err(uneven);
    }
    let grouped = rewrite.constant(Tensor::ints(&[*samples as i64, groups as i64, -1]));
    let whole: Vec<i64> = shape.iter().map(|&extent| extent as i64).collect();
    let whole = rewrite.constant(Tensor::ints(&whole));
    let x = rewrite.apply("Reshape", &[&x, &grouped], ());
    let epsilon = Attributes::new().with("epsilon", epsilon);
    if version < 21 {
        let normal = rewrite.apply("InstanceNormalization", &[&x, &scale, &bias], epsilon);
        return Ok(rewrite.finish("Reshape", &[&normal, &whole], ()));
    }
    let ones = rewrite.constant(Tensor::floats(element, [groups], &vec![1.0; groups]));
    let zeros = rewrite.constant(Tensor::floats(element, [groups], &vec![0.0; groups]));
    let normal = rewrite.apply("InstanceNormalization", &[&x, &ones, &zeros], epsilon);
    let normal = rewrite.apply("Reshape", &[&normal, &whole], ());
    let mut per_channel = vec![1; 1 + rest.len()];
    per_channel[0] = *channels as i64;
    let per_channel = rewrite.constant(Tensor::ints(&per_channel));
    let scale = rewrite.apply("Reshape", &[&scale, &per_channel], ());
    let bias = rewrite.apply("Reshape", &[&bias, &per_channel], ());
    let scaled = rewrite.apply("Mul", &[&normal, &scale], ());
    Ok(rewrite.finish("Add", &[&scaled, &bias], ()))
}

/// RMSNormalization: x / √(mean(x²) + epsilon) · scale, the mean over all axes from `axis` on.
pub(super) fn root_mean_square(graph: &mut Graph, node: Node) -> Result<Vec<Node>> {
    let (axis, epsilon) = (node.int("axis", -1), node.float("epsilon", 1e-5));
    let outside = Error::node(&node, format!("has `axis` = {axis}, which its input does not have"));
    let mut rewrite = Rewrite::new(graph, node);
    let ((x, element, shape), (scale, ..)) = (rewrite.input(0)?, rewrite.input(1)?);
    let rank = shape.len() as i64;
    if !(-rank..rank).contains(&axis) {
        return Err(outside);
    }
    let axes: Vec<i64> = (axis.rem_euclid(rank)..rank).collect();
    let axes = rewrite.constant(Tensor::ints(&axes));
    let epsilon = rewrite.constant(Tensor::scalar(element, f64::from(epsilon)));
    let square = rewrite.apply("Mul", &[&x, &x], ());
    let mean = rewrite.apply("ReduceMean", &[&square, &axes], ());
    let shifted = rewrite.apply("Add", &[&mean, &epsilon], ());
    let root = rewrite.apply("Sqrt", &[&shifted], ());
    let normal = rewrite.apply("Div", &[&x, &root], ());
    Ok(rewrite.finish("Mul", &[&normal, &scale], ()))
}
