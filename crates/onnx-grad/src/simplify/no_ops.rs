use std::collections::{HashMap, HashSet};

use super::{uses, with_nodes};
use crate::infer::{axis_slices, pad_amounts, reduced_axes};
use crate::window::Window;
use crate::{Graph, Node, Result};

/// Removes nodes that put out what goes in: Identity, Dropout, a Cast to the same type, a
/// Reshape to the same shape and the like.
///
/// Where such a node defines an output of the graph, the name passes to the node before it; if
/// that is not possible, the value being an input or another output, the node stays.
pub(super) fn remove_no_ops(graph: Graph) -> Result<Graph> {
    let uses = uses(&graph);
    let is_output = |name: &str| graph.outputs().iter().any(|output| output == name);
    let computed: HashSet<&str> = graph.nodes().iter().flat_map(|node| &node.outputs).map(String::as_str).collect();

    // The value that another is equal to, and the names that values take over from outputs.
    let mut sources: HashMap<&str, &str> = HashMap::new();
    let mut renamed: HashMap<&str, &str> = HashMap::new();
    let mut kept = Vec::with_capacity(graph.nodes().len());
    for node in graph.nodes() {
        let source = match (&node.outputs[..], node.input(0)) {
            ([output, others @ ..], Some(input))
                if !others.iter().any(|other| uses.contains_key(other.as_str())) && passes_on(&graph, node)? =>
            {
                Some((output.as_str(), sources.get(input).copied().unwrap_or(input)))
            }
            _ => None,
        };
        match source {
            Some((output, source)) if !is_output(output) => {
                sources.insert(output, source);
            }
            Some((output, source))
                if computed.contains(source) && !is_output(source) && !renamed.contains_key(source) =>
            {
                renamed.insert(source, output);
                sources.insert(output, source);
            }
            _ => kept.push(node),
        }
    }

    let current = |name: &String| {
        let source = sources.get(name.as_str()).copied().unwrap_or(name);
        renamed.get(source).copied().unwrap_or(source).to_owned()
    };
    let nodes = kept.into_iter().map(|node| Node {
        inputs: node.inputs.iter().map(current).collect(),
        outputs: node.outputs.iter().map(current).collect(),
        ..node.clone()
    });
    let nodes = nodes.collect();
    with_nodes(graph, nodes)
}

/// Whether the first output of `node` always equals its first input.
fn passes_on(graph: &Graph, node: &Node) -> Result<bool> {
    let (Some(input), Some(output)) = (node.input(0), node.outputs.first().filter(|output| !output.is_empty())) else {
        return Ok(false);
    };
    let ty = graph.value_type(input)?;
    if ty != graph.value_type(output)? {
        return Ok(false);
    }
    Ok(match node.op.as_str() {
        "Identity" | "Dropout" | "Cast" | "CastLike" => true,
        "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Expand" | "Tile" => true,
        "GlobalAveragePool" | "GlobalMaxPool" => true,
        "Split" => node.outputs.len() == 1,
        "Concat" | "Sum" | "Mean" | "Max" | "Min" => node.inputs.len() == 1,
        "Clip" => node.input(1).is_none() && node.input(2).is_none(),
        "Transpose" => {
            let in_order = |perm: &[i64]| perm.iter().enumerate().all(|(axis, &from)| axis as i64 == from);
            node.ints("perm").map_or(ty.rank() <= 1, in_order)
        }
        "Slice" => axis_slices(graph, node)?.iter().all(|slice| slice.step > 0 || slice.count <= 1),
        "Pad" => pad_amounts(graph, node)?.iter().all(|&amounts| amounts == (0, 0)),
        "ReduceSum" | "ReduceMean" | "ReduceMax" | "ReduceMin" | "ReduceProd" => {
            reduced_axes(graph, node)?.iter().all(|&axis| ty.shape[axis] == 1)
        }
        "MaxPool" | "AveragePool" => {
            let window = Window::of(graph, node)?;
            window.kernel.iter().chain(&window.strides).all(|&extent| extent == 1)
        }
        "Add" | "Sub" => second_is(graph, node, 0.0),
        "Mul" | "Div" | "Pow" => second_is(graph, node, 1.0),
        _ => false,
    })
}

/// Whether the second input is a constant with `value` everywhere.
fn second_is(graph: &Graph, node: &Node, value: f64) -> bool {
    let constant = node.input(1).and_then(|name| graph.initializer(name));
    constant.is_some_and(|tensor| tensor.to_f64().iter().all(|&element| element == value))
}
