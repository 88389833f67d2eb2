//! Softmax as it was before opset 13.

use super::Rewrite;
use crate::{Error, Graph, Node, Result, Tensor};

/// Softmax over all axes from `axis` (1 by default) on, as if they were one.
pub(super) fn over_trailing_axes(graph: &mut Graph, mut node: Node) -> Result<Vec<Node>> {
    let axis = node.int("axis", 1);
    let op = node.op.clone();
    let missing = || Error::node(&node, "lacks its input");
    let shape = graph.shape(node.input(0).ok_or_else(missing)?)?.to_vec();
    let from = usize::try_from(if axis < 0 { axis.saturating_add(shape.len() as i64) } else { axis });
    let from = from.ok().filter(|&from| from < shape.len());
    let from = from.ok_or_else(|| Error::node(&node, format!("has `axis` = {axis} for {} axes", shape.len())))?;

    let long: Vec<usize> = (from..shape.len()).filter(|&axis| shape[axis] != 1).collect();
    if let [] | [_] = long[..] {
        node.attributes.set("axis", long.first().map_or(from, |&axis| axis) as i64);
        return Ok(vec![node]);
    }
    let mut rewrite = Rewrite::new(graph, node);
    let (data, ..) = rewrite.input(0)?;
    let flat = rewrite.apply("Flatten", &[&data], [("axis", from as i64)]);
    let probabilities = rewrite.apply(&op, &[&flat], [("axis", 1)]);
    let shape: Vec<i64> = shape.iter().map(|&extent| extent as i64).collect();
    let shape = rewrite.constant(Tensor::ints(&shape));
    Ok(rewrite.finish("Reshape", &[&probabilities, &shape], ()))
}
