//! Reductions, and sums along an axis.

use crate::infer::{Call, check};
use crate::{ElementType, Graph, Node, Result, ValueType};

/// The axes that a Reduce operator of `graph` reduces, in increasing order.
pub(crate) fn reduced_axes(graph: &Graph, node: &Node) -> Result<Vec<usize>> {
    let call = &Call { graph, node };
    let rank = call.input(0)?.rank();
    let given = call.optional_constant_ints(1, "axes")?.unwrap_or_default();
    if given.is_empty() {
        let none = call.flag("noop_with_empty_axes", false)?;
        return Ok(if none { Vec::new() } else { (0..rank).collect() });
    }
    let mut axes = call.axes(&given, rank)?;
    axes.sort_unstable();
    Ok(axes)
}

pub(super) fn reduce(call: &Call) -> Result<ValueType> {
    call.takes_at_most(2)?;
    let ty = call.input(0)?;
    check!(call, ty.element != ElementType::Bool, "needs numbers, but its input is {ty}");
    let axes = reduced_axes(call.graph, call.node)?;
    let needs_elements = matches!(call.node.op.as_str(), "ReduceMax" | "ReduceMin" | "ReduceMean");
    let empty = axes.iter().any(|&axis| ty.shape[axis] == 0);
    check!(call, !(needs_elements && empty), "reduces an axis without elements of its input {ty}");
    Ok(ValueType::new(ty.element, without(&ty.shape, &axes, call.flag("keepdims", true)?)))
}

/// ArgMax and ArgMin.
pub(super) fn arg(call: &Call) -> Result<ValueType> {
    call.takes_at_most(1)?;
    let ty = call.input(0)?;
    check!(call, ty.element != ElementType::Bool, "needs numbers, but its input is {ty}");
    call.flag("select_last_index", false)?;
    let axis = call.axis(call.int("axis", 0)?, ty.rank())?;
    check!(call, ty.shape[axis] > 0, "has no elements along axis {axis} of its input {ty}");
    Ok(ValueType::new(ElementType::I64, without(&ty.shape, &[axis], call.flag("keepdims", true)?)))
}

pub(super) fn cumulative_sum(call: &Call) -> Result<ValueType> {
    call.takes_at_most(2)?;
    call.flag("exclusive", false)?;
    call.flag("reverse", false)?;
    let ty = call.input(0)?;
    check!(call, ty.element != ElementType::Bool, "needs numbers, but its input is {ty}");
    match call.constant_ints(1, "axis")?[..] {
        [axis] => call.axis(axis, ty.rank())?,
        _ => return Err(call.error("has an `axis` that is not one number")),
    };
    Ok(ty.clone())
}

fn without(shape: &[usize], axes: &[usize], keep: bool) -> Vec<usize> {
    (shape.iter().enumerate())
        .filter(|(axis, _)| keep || !axes.contains(axis))
        .map(|(axis, &extent)| if axes.contains(&axis) { 1 } else { extent })
        .collect()
}
