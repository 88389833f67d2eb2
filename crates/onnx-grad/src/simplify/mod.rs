//! Passes that make a graph smaller, and simpler to run, without changing what it computes.

mod affine;
mod batch_norm;
mod constants;
mod linear;
mod no_ops;
mod padding;
mod pooled;
mod primitives;

use std::collections::HashMap;

use crate::{Graph, Node, Result};

/// The same function with fewer nodes: what is constant is computed, what does nothing is gone,
/// what scales and shifts channels is part of the convolution or matrix product before it, and Relu follows max-pooling.
///
/// Inputs and outputs keep names, types and order, and values that are still computed keep their
/// names. Folded weights are calculated in float64 and become new constants. Padding is spelled
/// out, because engines do not agree about all that `auto_pad` can mean, and operators that engines lack are
/// written in terms of others: LRN, Selu, Celu, Mish, ThresholdedRelu, SpaceToDepth and dilated MaxPool.
///
/// # Errors
/// If a constant cannot be computed: an index out of range, an integer divided by zero.
pub fn simplify(graph: Graph) -> Result<Graph> {
    let graph = constants::fold_constants(graph)?;
    let graph = no_ops::remove_no_ops(graph)?;
    let graph = padding::resolve_padding(graph)?;
    let graph = primitives::into_primitives(graph)?;
    let graph = linear::fold_into_linear(graph)?;
    let graph = batch_norm::expand_batch_norm(graph)?;
    let graph = pooled::pool_before_relu(graph)?;
    Ok(graph.without_dead_nodes())
}

/// `graph` with `nodes` in place of its own, which define the same outputs.
fn with_nodes(mut graph: Graph, nodes: Vec<Node>) -> Result<Graph> {
    graph.take_nodes();
    nodes.into_iter().try_for_each(|node| graph.push(node))?;
    graph.outputs().iter().try_for_each(|output| graph.value_type(output).map(drop))?;
    Ok(graph)
}

/// How often each value is read, by nodes or as an output of the graph.
fn uses(graph: &Graph) -> HashMap<&str, usize> {
    let mut uses = HashMap::new();
    let reads = graph.nodes().iter().flat_map(|node| &node.inputs).chain(graph.outputs());
    for name in reads.filter(|name| !name.is_empty()) {
        *uses.entry(name.as_str()).or_insert(0) += 1;
    }
    uses
}

#[cfg(test)]
mod tests;
