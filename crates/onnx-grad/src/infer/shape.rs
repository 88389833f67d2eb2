//! Operators that ask for shapes, change them, or make values from them.

use crate::infer::{Call, broadcast, check};
use crate::{Attribute, ElementType, Result, TensorData, ValueType};

/// The extents from axis `start` up to, but not including, `end`; both are clamped.
pub(super) fn shape(call: &Call) -> Result<ValueType> {
    call.takes_at_most(1)?;
    let rank = call.input(0)?.rank() as i64;
    let clamp = |axis: i64| (if axis < 0 { axis.saturating_add(rank) } else { axis }).clamp(0, rank);
    let (start, end) = (clamp(call.int("start", 0)?), clamp(call.int("end", rank)?));
    Ok(ValueType::new(ElementType::I64, [(end - start).max(0) as usize]))
}

pub(super) fn size(call: &Call) -> Result<ValueType> {
    call.takes_at_most(1)?;
    call.input(0)?;
    Ok(ValueType::new(ElementType::I64, []))
}

/// An extent of 0 copies that of the input (unless `allowzero`), one -1 is what remains.
pub(super) fn reshape(call: &Call) -> Result<ValueType> {
    call.takes_at_most(2)?;
    let ty = call.input(0)?;
    let wanted = call.constant_ints(1, "shape")?;
    let zero_is_zero = call.flag("allowzero", false)?;
    let does_not_fit = || call.error(format!("cannot give its input {ty} the shape {wanted:?}"));

    let mut shape = Vec::with_capacity(wanted.len());
    let mut free = None;
    for (axis, &extent) in wanted.iter().enumerate() {
        shape.push(match extent {
            0 if !zero_is_zero => *ty.shape.get(axis).ok_or_else(does_not_fit)?,
            -1 if free.is_none() => {
                free = Some(axis);
                1
            }
            _ => call.extent(extent).map_err(|_| does_not_fit())?,
        });
    }
    let known = shape.iter().try_fold(1usize, |len, &extent| len.checked_mul(extent)).ok_or_else(does_not_fit)?;
    if let Some(axis) = free {
        if known == 0 || ty.len() % known != 0 {
            return Err(does_not_fit());
        }
        shape[axis] = ty.len() / known;
    } else if known != ty.len() {
        return Err(does_not_fit());
    }
    Ok(ValueType::new(ty.element, shape))
}

/// A matrix: the axes before `axis`, and the others.
pub(super) fn flatten(call: &Call) -> Result<ValueType> {
    call.takes_at_most(1)?;
    let ty = call.input(0)?;
    // Unlike other axes this one may be the rank itself.
    let axis = match call.int("axis", 1)? {
        axis if axis == ty.rank() as i64 => ty.rank(),
        axis => call.axis(axis, ty.rank())?,
    };
    let (rows, columns) = ty.shape.split_at(axis);
    Ok(ValueType::new(ty.element, [rows.iter().product::<usize>(), columns.iter().product()]))
}

/// Without `axes` all axes of one element go.
pub(super) fn squeeze(call: &Call) -> Result<ValueType> {
    call.takes_at_most(2)?;
    let ty = call.input(0)?;
    let gone = match call.optional_constant_ints(1, "axes")? {
        Some(axes) => call.axes(&axes, ty.rank())?,
        None => (0..ty.rank()).filter(|&axis| ty.shape[axis] == 1).collect(),
    };
    for &axis in &gone {
        check!(call, ty.shape[axis] == 1, "removes axis {axis} of its input {ty}, which has not one element");
    }
    let kept = (0..ty.rank()).filter(|axis| !gone.contains(axis)).map(|axis| ty.shape[axis]);
    Ok(ValueType::new(ty.element, kept.collect::<Vec<_>>()))
}

/// `axes` count in the output.
pub(super) fn unsqueeze(call: &Call) -> Result<ValueType> {
    call.takes_at_most(2)?;
    let ty = call.input(0)?;
    let axes = call.constant_ints(1, "axes")?;
    let rank = ty.rank() + axes.len();
    check!(call, rank <= ValueType::MAX_RANK, "makes a value of {rank} axes");
    let new = call.axes(&axes, rank)?;
    let mut old = ty.shape.iter().copied();
    let shape: Vec<usize> =
        (0..rank).filter_map(|axis| if new.contains(&axis) { Some(1) } else { old.next() }).collect();
    Ok(ValueType::new(ty.element, shape))
}

pub(super) fn expand(call: &Call) -> Result<ValueType> {
    call.takes_at_most(2)?;
    let ty = call.input(0)?;
    let wanted = extents(call, &call.constant_ints(1, "shape")?)?;
    match broadcast(&ty.shape, &wanted) {
        Some(shape) => Ok(ValueType::new(ty.element, shape)),
        None => Err(call.error(format!("cannot broadcast its input {ty} with {wanted:?}"))),
    }
}

pub(super) fn tile(call: &Call) -> Result<ValueType> {
    call.takes_at_most(2)?;
    let ty = call.input(0)?;
    let repeats = extents(call, &call.constant_ints(1, "repeats")?)?;
    check!(call, repeats.len() == ty.rank(), "has `repeats` = {repeats:?} for its input {ty}");
    // Neither factor exceeds `MAX_LEN`, so the product does not overflow.
    let shape: Vec<usize> = ty.shape.iter().zip(&repeats).map(|(extent, repeat)| extent * repeat).collect();
    Ok(ValueType::new(ty.element, shape))
}

pub(super) fn constant_of_shape(call: &Call) -> Result<ValueType> {
    call.takes_at_most(1)?;
    let element = match call.node.attributes.get("value") {
        None => ElementType::F32,
        Some(Attribute::Tensor(value)) if value.data().len() == 1 => value.element(),
        Some(_) => return Err(call.error("has a `value` that is not a tensor of one element")),
    };
    Ok(ValueType::new(element, extents(call, &call.constant_ints(0, "shape")?)?))
}

/// `start`, `start + delta`, ... below `limit`.
pub(super) fn range(call: &Call) -> Result<ValueType> {
    call.takes_at_most(3)?;
    let element = call.input(0)?.element;
    let mut bounds = Vec::with_capacity(3);
    for (i, what) in ["start", "limit", "delta"].into_iter().enumerate() {
        call.input_like(i, call.input(0)?)?;
        match call.optional_constant(i, what)? {
            Some(bound) if bound.data().len() == 1 => bounds.push(bound),
            _ => return Err(call.error(format!("has a `{what}` that is not a scalar"))),
        }
    }
    let count = match (bounds[0].data(), bounds[1].data(), bounds[2].data()) {
        (TensorData::Bool(_), ..) => return Err(call.error("needs numbers, not truth values")),
        (TensorData::F32(_) | TensorData::F64(_), ..) => {
            let [start, limit, delta] = [0, 1, 2].map(|i: usize| bounds[i].to_f64()[0]);
            let count = ((limit - start) / delta).ceil();
            check!(call, count.is_finite(), "counts from {start} to {limit} by {delta}");
            count.max(0.0)
        }
        _ => {
            let [start, limit, delta] = [0, 1, 2].map(|i: usize| bounds[i].to_i64().map_or(0, |v| i128::from(v[0])));
            check!(call, delta != 0, "has a `delta` of 0");
            let rounded_up = (limit - start + delta - delta.signum()) / delta;
            rounded_up.max(0) as f64
        }
    };
    check!(call, count <= ValueType::MAX_LEN as f64, "makes {count} elements");
    Ok(ValueType::new(element, [count as usize]))
}

fn extents(call: &Call, values: &[i64]) -> Result<Vec<usize>> {
    values.iter().map(|&value| call.extent(value)).collect()
}
