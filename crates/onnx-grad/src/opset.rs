//! Older and newer operators in terms of those of opset [`OPSET`](crate::OPSET).

use crate::{Graph, Node, Result};

/// What `node`, of opset `version`, is at opset [`OPSET`](crate::OPSET): one node or several in order.
pub(crate) fn upgrade(graph: &mut Graph, node: Node, version: i64) -> Result<Vec<Node>> {
    let _ = (graph, version);
    Ok(vec![node])
}
