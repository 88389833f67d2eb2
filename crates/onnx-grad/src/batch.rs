//! Models that were exported for a fixed number of samples.

use std::collections::HashSet;

use crate::import::ImportOptions;
use crate::proto::GraphProto;
use crate::{Graph, Node, Result, Tensor};

/// The number of samples that a model was exported for, and the one it is to have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct FixedBatch {
    pub(crate) from: usize,
    pub(crate) to: usize,
}

/// The change of the number of samples that `options` ask for, if the model fixes it in all of its inputs
/// to another one.
pub(crate) fn fixed_batch(graph: &GraphProto, options: &ImportOptions) -> Option<FixedBatch> {
    let constants: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name()).collect();
    let is_open = |name: &str| !constants.contains(name) && !options.input_shapes.contains_key(name);
    let mut fixed = None;
    for input in graph.input.iter().filter(|input| is_open(input.name())) {
        let shape = input.r#type.as_ref()?.tensor_type.as_ref()?.shape.as_ref()?;
        let from = shape
            .dim
            .first()?
            .dim_value
            .and_then(|extent| usize::try_from(extent).ok())
            .filter(|&extent| extent > 0)?;
        if fixed.is_some_and(|other| other != from) {
            return None;
        }
        fixed = Some(from);
    }
    fixed.filter(|&from| from != options.batch).map(|from| FixedBatch { from, to: options.batch })
}

/// Whether each output of `resized` is that of `as_exported` with another number of samples.
pub(crate) fn outputs_grew(as_exported: &Graph, resized: &Graph, fixed: FixedBatch) -> bool {
    as_exported.outputs().iter().all(|output| match (as_exported.shape(output), resized.shape(output)) {
        (Ok([from, rest @ ..]), Ok([to, resized @ ..])) => *from == fixed.from && *to == fixed.to && rest == resized,
        _ => false,
    })
}

/// Mends what a fixed number of samples leaves in a graph: `Reshape` to a constant shape that begins with
/// it, and `Concat` with a constant that was expanded to it, as vision transformers do with their class token.
pub(crate) fn adapt(graph: &mut Graph, node: &mut Node, fixed: FixedBatch) -> Result<()> {
    match node.op.as_str() {
        "Reshape" => adapt_reshape(graph, node, fixed),
        "Concat" if node.int("axis", 0) > 0 => adapt_concat(graph, node, fixed),
        _ => Ok(()),
    }
}

fn adapt_reshape(graph: &mut Graph, node: &mut Node, fixed: FixedBatch) -> Result<()> {
    let (Some(data), Some(target)) = (node.input(0), node.input(1)) else { return Ok(()) };
    let Some(mut target) = graph.initializer(target).and_then(|tensor| tensor.to_i64()) else { return Ok(()) };
    let shape = graph.shape(data)?;
    let fills =
        || target.iter().all(|&dim| dim > 0) && element_product(&target) == shape.iter().product::<usize>() as i128;
    let samples_first = shape.first() == Some(&fixed.to) && graph.initializer(data).is_none();
    if !samples_first || target.first() != Some(&(fixed.from as i64)) || fills() {
        return Ok(());
    }
    target[0] = fixed.to as i64;
    node.inputs[1] = graph.constant(Tensor::ints(&target));
    Ok(())
}

fn element_product(dims: &[i64]) -> i128 {
    dims.iter().fold(1i128, |product, &dim| product.saturating_mul(i128::from(dim)))
}

fn adapt_concat(graph: &mut Graph, node: &mut Node, fixed: FixedBatch) -> Result<()> {
    let starts_with =
        |graph: &Graph, input: &String, extent| graph.shape(input).is_ok_and(|shape| shape.first() == Some(&extent));
    if fixed.from != 1 || !node.inputs.iter().any(|input| starts_with(graph, input, fixed.to)) {
        return Ok(());
    }
    for input in &mut node.inputs {
        let Some(constant) = graph.initializer(input).filter(|tensor| tensor.shape().first() == Some(&1)).cloned()
        else {
            continue;
        };
        let mut target: Vec<i64> = constant.shape().iter().map(|&dim| dim as i64).collect();
        target[0] = fixed.to as i64;
        let target = graph.constant(Tensor::ints(&target));
        *input = graph.apply("Expand", &[input.as_str(), target.as_str()], ())?;
    }
    Ok(())
}
