//! Operators that take parts of a value or put values together.

use super::Pullback;
use crate::infer::{AxisSlice, axis_slices, pad_amounts, split_sizes};
use crate::{Attributes, Result, Tensor};

pub(super) fn concat(p: &mut Pullback) -> Result<()> {
    let g = p.cotangent()?;
    let shape = p.shape(g)?;
    let axis = p.axis(p.node().int("axis", 0), shape.len())?;
    let mut start = 0;
    for i in 0..p.node().inputs.len() {
        let end = start + p.shape(p.input(i)?)?[axis];
        if p.needs(i) {
            let (mut starts, mut ends) = (vec![0; shape.len()], shape.clone());
            (starts[axis], ends[axis]) = (start, end);
            let part = p.cropped(g, &starts, &ends)?;
            p.give(i, &part)?;
        }
        start = end;
    }
    Ok(())
}

/// Parts that nothing depends on have zeros for a cotangent.
pub(super) fn split(p: &mut Pullback) -> Result<()> {
    let x = p.input(0)?;
    let (mut shape, element) = (p.shape(x)?, p.element(x)?);
    let (axis, sizes) = split_sizes(p.graph(), p.node())?;
    let mut parts = Vec::with_capacity(sizes.len());
    for (i, size) in sizes.into_iter().enumerate() {
        shape[axis] = size;
        parts.push(match p.cotangent_of(i) {
            Some(cotangent) => cotangent.to_owned(),
            None => p.filled(element, &shape, 0.0)?,
        });
    }
    let dx = p.concatenated(&parts, axis)?;
    p.give(0, &dx)
}

pub(super) fn slice(p: &mut Pullback) -> Result<()> {
    let shape = p.shape(p.input(0)?)?;
    let slices = axis_slices(p.graph(), p.node())?;
    let dx = unsliced(p, p.cotangent()?, &slices, &shape)?;
    p.give(0, &dx)
}

/// A value of `shape` with the elements of `part` where `slices` takes them from and zeros elsewhere.
fn unsliced(p: &mut Pullback, part: &str, slices: &[AxisSlice], shape: &[usize]) -> Result<String> {
    let backwards: Vec<usize> = (0..shape.len()).filter(|&axis| slices[axis].step < 0).collect();
    let ascending = reversed(p, part, &backwards)?;
    let mut spread = ascending;
    for (axis, slice) in slices.iter().enumerate() {
        spread = interleaved(p, &spread, axis, slice.step.unsigned_abs() as usize)?;
    }
    let extents = p.shape(&spread)?;
    let lowest = |slice: &AxisSlice| {
        let last = slice.start + slice.step * (slice.count.max(1) as i64 - 1);
        if slice.count == 0 { 0 } else { slice.start.min(last).max(0) as usize }
    };
    let before: Vec<usize> = slices.iter().map(lowest).collect();
    let after: Vec<usize> = (0..shape.len()).map(|i| shape[i] - before[i] - extents[i]).collect();
    p.zero_padded(&spread, &before, &after)
}

/// `a` with the order of the elements along `axes` turned around.
fn reversed(p: &mut Pullback, a: &str, axes: &[usize]) -> Result<String> {
    if axes.is_empty() {
        return Ok(a.to_owned());
    }
    let shape = p.shape(a)?;
    let of_axes =
        |value: &dyn Fn(usize) -> i64| Tensor::ints(&axes.iter().map(|&axis| value(axis)).collect::<Vec<_>>());
    let starts = p.constant(of_axes(&|_| -1));
    let ends = p.constant(of_axes(&|axis| -(shape[axis] as i64) - 1));
    let steps = p.constant(of_axes(&|_| -1));
    let axes = p.constant(of_axes(&|axis| axis as i64));
    p.apply("Slice", &[a, &starts, &ends, &axes, &steps], ())
}

/// `a` with `step - 1` zeros between neighbours along `axis`.
fn interleaved(p: &mut Pullback, a: &str, axis: usize, step: usize) -> Result<String> {
    let shape = p.shape(a)?;
    let count = shape[axis];
    if step <= 1 || count <= 1 {
        return Ok(a.to_owned());
    }
    let mut apart = shape.clone();
    apart.insert(axis + 1, 1);
    let apart = p.reshaped(a, &apart)?;
    let mut after = vec![0; shape.len() + 1];
    after[axis + 1] = step - 1;
    let zeros = p.zero_padded(&apart, &vec![0; after.len()], &after)?;
    let mut joined = shape;
    joined[axis] = count * step;
    let joined_value = p.reshaped(&zeros, &joined)?;
    joined[axis] = (count - 1) * step + 1;
    p.cropped(&joined_value, &vec![0; joined.len()], &joined)
}

/// Constant indices that follow one another are a slice; others add their rows up with ScatterND.
pub(super) fn gather(p: &mut Pullback) -> Result<()> {
    let (x, indices) = (p.input(0)?, p.input(1)?);
    let shape = p.shape(x)?;
    let axis = p.axis(p.node().int("axis", 0), shape.len())?;
    let extent = shape[axis] as i64;
    let known = p.constant_value(indices).and_then(|tensor| tensor.to_i64());
    let known = known.map(|list| list.into_iter().map(|i| if i < 0 { i + extent } else { i }).collect::<Vec<_>>());

    let count: usize = p.shape(indices)?.iter().product();
    let rows = [&shape[..axis], &[count], &shape[axis + 1..]].concat();
    let g = p.reshaped(p.cotangent()?, &rows)?;
    let run = known.as_ref().filter(|list| list.windows(2).all(|pair| pair[1] == pair[0] + 1));
    let dx = match run.and_then(|list| list.first()) {
        Some(&start) => {
            let mut slices: Vec<AxisSlice> =
                shape.iter().map(|&extent| AxisSlice { start: 0, step: 1, count: extent }).collect();
            slices[axis] = AxisSlice { start, step: 1, count };
            unsliced(p, &g, &slices, &shape)?
        }
        None => scattered_rows(p, &g, known, axis, &shape)?,
    };
    p.give(0, &dx)
}

/// Adds the rows of `g` along `axis` up at their indices, `known` or those of the node.
fn scattered_rows(p: &mut Pullback, g: &str, known: Option<Vec<i64>>, axis: usize, shape: &[usize]) -> Result<String> {
    let count = p.shape(g)?[axis];
    let indices = match known {
        Some(list) => p.constant(Tensor::ints(&list).reshaped([count, 1])),
        None => p.reshaped(p.input(1)?, &[count, 1])?,
    };
    let mut order: Vec<usize> = (0..shape.len()).collect();
    order.remove(axis);
    order.insert(0, axis);
    let first: Vec<usize> = order.iter().map(|&axis| shape[axis]).collect();
    let rows = p.transposed(g, &order)?;
    let zeros = p.filled(p.element(g)?, &first, 0.0)?;
    let sums = p.apply("ScatterND", &[&zeros, &indices, &rows], Attributes::new().with("reduction", "add"))?;
    let mut back: Vec<usize> = (1..shape.len()).collect();
    back.insert(axis, 0);
    p.transposed(&sums, &back)
}

pub(super) fn pad(p: &mut Pullback) -> Result<()> {
    let amounts = pad_amounts(p.graph(), p.node())?;
    let shape = p.shape(p.input(0)?)?;
    if p.node().input(2).is_some() && p.needs(2) {
        return Err(p.error("pads with a value that a gradient is wanted for"));
    }
    let g = p.cotangent()?;
    let dx = match p.node().string("mode", "constant") {
        "constant" => unpadded(p, g, &amounts, &shape)?,
        mode => {
            let mut folded = g.to_owned();
            for (axis, &amount) in amounts.iter().enumerate().filter(|(_, amount)| **amount != (0, 0)) {
                folded = folded_back(p, &folded, axis, shape[axis], amount, mode)?;
            }
            folded
        }
    };
    p.give(0, &dx)
}

/// Removes what was padded, and puts zeros where elements were removed.
fn unpadded(p: &mut Pullback, g: &str, amounts: &[(i64, i64)], shape: &[usize]) -> Result<String> {
    let extents = p.shape(g)?;
    let added = |amount: i64| amount.max(0) as usize;
    let removed = |amount: i64| (-amount).max(0) as usize;
    let starts: Vec<usize> = amounts.iter().map(|&(before, _)| added(before)).collect();
    let ends: Vec<usize> = extents.iter().zip(amounts).map(|(extent, &(_, after))| extent - added(after)).collect();
    let kept = p.cropped(g, &starts, &ends)?;
    let before: Vec<usize> = amounts.iter().map(|&(before, _)| removed(before)).collect();
    let after: Vec<usize> = amounts.iter().map(|&(_, after)| removed(after)).collect();
    let dx = p.zero_padded(&kept, &before, &after)?;
    p.reshaped(&dx, shape)
}

/// Adds the padding of one axis up at the elements that it repeats, by a matrix product with 0s and 1s.
fn folded_back(
    p: &mut Pullback,
    g: &str,
    axis: usize,
    extent: usize,
    (before, after): (i64, i64),
    mode: &str,
) -> Result<String> {
    let padded = p.shape(g)?[axis];
    // Elements are removed first; what is left is repeated.
    let first = (-before).max(0);
    let left = extent as i64 - first - (-after).max(0);
    p.room(&[padded, extent])?;
    let mut taps = vec![0.0; padded * extent];
    for i in 0..padded {
        let offset = i as i64 - before.max(0);
        let source = if mode == "reflect" { reflected(offset, left) } else { offset.clamp(0, left - 1) };
        taps[i * extent + (first + source) as usize] = 1.0;
    }
    p.mapped(g, axis, extent, &taps)
}

/// The element that is at `offset` when `count` elements are mirrored at both ends.
fn reflected(offset: i64, count: i64) -> i64 {
    let period = (2 * (count - 1)).max(1);
    let phase = offset.rem_euclid(period);
    phase.min(period - phase)
}
