//! Operators that take parts of a value, or put something around it.

use crate::infer::{Call, check};
use crate::{Graph, Node, Result, ValueType};

/// What Slice takes of one axis: the elements `start + i * step` for `i` in `0..count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AxisSlice {
    pub(crate) start: i64,
    pub(crate) step: i64,
    pub(crate) count: usize,
}

/// What a Slice of `graph` takes of each axis of its input.
pub(crate) fn axis_slices(graph: &Graph, node: &Node) -> Result<Vec<AxisSlice>> {
    let call = &Call { graph, node };
    let ty = call.input(0)?;
    let starts = call.constant_ints(1, "starts")?;
    let ends = call.constant_ints(2, "ends")?;
    let axes = match call.optional_constant_ints(3, "axes")? {
        Some(axes) => call.axes(&axes, ty.rank())?,
        None => (0..starts.len()).collect(),
    };
    let steps = call.optional_constant_ints(4, "steps")?.unwrap_or_else(|| vec![1; starts.len()]);
    let lengths = [ends.len(), axes.len(), steps.len()];
    check!(call, lengths == [starts.len(); 3], "has lists `starts`, `ends`, `axes` and `steps` of unequal length");
    check!(call, starts.len() <= ty.rank(), "slices {} axes of its input {ty}", starts.len());

    let mut slices: Vec<AxisSlice> =
        ty.shape.iter().map(|&extent| AxisSlice { start: 0, step: 1, count: extent }).collect();
    for (i, &axis) in axes.iter().enumerate() {
        check!(call, steps[i] != 0, "has a step of 0");
        slices[axis] = axis_slice(ty.shape[axis] as i64, starts[i], ends[i], steps[i]);
    }
    Ok(slices)
}

fn axis_slice(extent: i64, start: i64, end: i64, step: i64) -> AxisSlice {
    let from_the_front = |index: i64| if index < 0 { index.saturating_add(extent) } else { index };
    // Going backwards, "before the first element" is a place to stop at.
    let (lowest, highest) = if step > 0 { (0, extent) } else { (-1, extent - 1) };
    let start = from_the_front(start).clamp(lowest.max(0), highest.max(0));
    let end = from_the_front(end).clamp(lowest, highest.max(lowest));
    // A step beyond the axis is as good as any other that takes one element.
    let step = step.clamp(-(extent.max(1)), extent.max(1));
    let distance = if step > 0 { end - start } else { start - end };
    let count = if extent == 0 || distance <= 0 { 0 } else { (distance - 1) / step.abs() + 1 };
    AxisSlice { start, step, count: count as usize }
}

pub(super) fn slice(call: &Call) -> Result<ValueType> {
    call.takes_at_most(5)?;
    let slices = axis_slices(call.graph, call.node)?;
    Ok(ValueType::new(call.input(0)?.element, slices.iter().map(|slice| slice.count).collect::<Vec<_>>()))
}

/// The axis that a Split of `graph` divides, and the extent of each part.
pub(crate) fn split_sizes(graph: &Graph, node: &Node) -> Result<(usize, Vec<usize>)> {
    let call = &Call { graph, node };
    let ty = call.input(0)?;
    let axis = call.axis(call.int("axis", 0)?, ty.rank())?;
    let extent = ty.shape[axis];
    let parts = node.outputs.len();
    let number = call.optional_int("num_outputs")?;
    let sizes = match call.optional_constant_ints(1, "split")? {
        Some(sizes) => {
            check!(call, number.is_none(), "has both `split` and `num_outputs`");
            sizes.iter().map(|&size| call.extent(size)).collect::<Result<Vec<_>>>()?
        }
        None => {
            let Some(number) = number else { return Err(call.error("lacks `split` or `num_outputs`")) };
            check!(call, parts > 0 && number == parts as i64, "has {parts} outputs and `num_outputs` = {number}");
            // The last part is smaller where the division leaves a remainder.
            let size = extent.div_ceil(parts);
            check!(call, size * (parts - 1) <= extent, "cannot split {extent} elements into {parts} parts");
            let mut sizes = vec![size; parts];
            sizes[parts - 1] = extent - size * (parts - 1);
            sizes
        }
    };
    check!(call, sizes.len() == parts, "has {parts} outputs for {} parts", sizes.len());
    let total = sizes.iter().fold(0usize, |total, &size| total.saturating_add(size));
    check!(call, total == extent, "splits {extent} elements into parts of {sizes:?}");
    Ok((axis, sizes))
}

pub(super) fn split(call: &Call) -> Result<Vec<ValueType>> {
    call.takes_at_most(2)?;
    let ty = call.input(0)?;
    let (axis, sizes) = split_sizes(call.graph, call.node)?;
    let part = |size| {
        let mut part = ty.clone();
        part.shape[axis] = size;
        part
    };
    Ok(sizes.into_iter().map(part).collect())
}

/// How many elements a Pad of `graph` puts before and after each axis of its input; negative
/// numbers remove elements.
pub(crate) fn pad_amounts(graph: &Graph, node: &Node) -> Result<Vec<(i64, i64)>> {
    let call = &Call { graph, node };
    let ty = call.input(0)?;
    let pads = call.constant_ints(1, "pads")?;
    let axes = match call.optional_constant_ints(3, "axes")? {
        Some(axes) => call.axes(&axes, ty.rank())?,
        None => (0..ty.rank()).collect(),
    };
    check!(call, pads.len() == 2 * axes.len(), "has `pads` = {pads:?} for {} axes", axes.len());
    let limit = ValueType::MAX_LEN as i64;
    let fine = pads.iter().all(|pad| (-limit..=limit).contains(pad));
    check!(call, fine, "has `pads` = {pads:?}, beyond {limit}");
    let mut amounts = vec![(0, 0); ty.rank()];
    for (i, &axis) in axes.iter().enumerate() {
        amounts[axis] = (pads[i], pads[axes.len() + i]);
    }
    Ok(amounts)
}

pub(super) fn pad(call: &Call) -> Result<ValueType> {
    call.takes_at_most(4)?;
    let ty = call.input(0)?;
    let mode = call.choice("mode", &["constant", "reflect", "edge"])?;
    if call.optional(2)?.is_some() {
        let value = call.input_like(2, ty)?;
        check!(call, value.len() == 1, "pads with {value} instead of a scalar");
    }
    let mut padded = ty.clone();
    for (axis, (before, after)) in pad_amounts(call.graph, call.node)?.into_iter().enumerate() {
        let extent = ty.shape[axis] as i64;
        let left = extent + before.min(0) + after.min(0);
        check!(call, left >= 0, "removes more than the {extent} elements of axis {axis}");
        let most = before.max(after);
        match mode {
            "reflect" => check!(call, most < left.max(1), "reflects {most} of {left} elements of axis {axis}"),
            "edge" => check!(call, most <= 0 || left > 0, "repeats the edge of axis {axis}, which has no elements"),
            _ => {}
        }
        padded.shape[axis] = call.extent(left + before.max(0) + after.max(0))?;
    }
    Ok(padded)
}
