use super::with_nodes;
use crate::window::Window;
use crate::{Graph, Node, Result};

/// Replaces `auto_pad` and `output_shape` by the `pads` and `output_padding` that they stand for.
///
/// Engines refuse some combinations of `auto_pad` with dilation or `ceil_mode` and read others
/// differently.
pub(super) fn resolve_padding(graph: Graph) -> Result<Graph> {
    let resolve = |node: &Node| {
        let automatic = node.string("auto_pad", "NOTSET") != "NOTSET";
        let windowed = matches!(node.op.as_str(), "Conv" | "ConvTranspose" | "MaxPool" | "AveragePool");
        if !windowed || !(automatic || node.ints("output_shape").is_some()) {
            return Ok(node.clone());
        }
        let window = Window::of(&graph, node)?;
        let mut node = node.clone();
        node.attributes.remove("auto_pad");
        node.attributes.set("pads", signed([&window.pads_begin[..], &window.pads_end].concat()));
        if automatic {
            // The specification rounds as if it were not there.
            node.attributes.remove("ceil_mode");
        }
        if node.op == "ConvTranspose" {
            node.attributes.remove("output_shape");
            let output_padding = (0..window.rank()).map(|axis| {
                let padded = window.output[axis] + window.pads_begin[axis] + window.pads_end[axis];
                padded - (window.input[axis] - 1) * window.strides[axis] - window.span(axis)
            });
            node.attributes.set("output_padding", signed(output_padding.collect()));
        }
        Ok(node)
    };
    let nodes = graph.nodes().iter().map(resolve).collect::<Result<_>>()?;
    with_nodes(graph, nodes)
}

fn signed(extents: Vec<usize>) -> Vec<i64> {
    extents.into_iter().map(|extent| extent as i64).collect()
}
