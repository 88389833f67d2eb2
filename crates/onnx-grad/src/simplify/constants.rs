use crate::fold::fold;
use crate::{Graph, Result};

/// Puts constants in the place of nodes that compute them.
pub(super) fn fold_constants(mut graph: Graph) -> Result<Graph> {
    for node in graph.take_nodes() {
        match fold(&graph, &node)? {
            Some(tensors) => {
                for (output, tensor) in node.outputs.iter().zip(tensors).filter(|(output, _)| !output.is_empty()) {
                    graph.add_initializer(output, tensor)?;
                }
            }
            None => graph.push(node)?,
        }
    }
    Ok(graph)
}
