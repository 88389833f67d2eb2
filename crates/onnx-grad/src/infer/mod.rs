//! Types and static shapes of what each operator puts out, one file per family of operators.

use crate::{Error, Graph, Node, Result, ValueType};

/// The types of the outputs of `node`, in order, given the types (and, for shape-like inputs,
/// the constant values) of its inputs in `graph`.
pub(crate) fn infer(graph: &Graph, node: &Node) -> Result<Vec<ValueType>> {
    let _ = graph;
    Err(Error::node(node, "is not an operator that this program knows"))
}
