//! Reading and writing at places that other values name.

use crate::infer::{Call, check};
use crate::{Result, ValueType};

/// The indices take the place of the axis.
pub(super) fn gather(call: &Call) -> Result<ValueType> {
    call.takes_at_most(2)?;
    let ty = call.input(0)?;
    let indices = call.integer_input(1)?;
    let axis = call.axis(call.int("axis", 0)?, ty.rank())?;
    Ok(ValueType::new(ty.element, [&ty.shape[..axis], &indices.shape, &ty.shape[axis + 1..]].concat()))
}

pub(super) fn gather_elements(call: &Call) -> Result<ValueType> {
    call.takes_at_most(2)?;
    let ty = call.input(0)?;
    let indices = call.integer_input(1)?;
    check_elements(call, ty, indices)?;
    Ok(ValueType::new(ty.element, indices.shape.clone()))
}

/// Indices of shape `[batch..., places..., k]` name the first `k` axes after the batch.
pub(super) fn gather_nd(call: &Call) -> Result<ValueType> {
    call.takes_at_most(2)?;
    let ty = call.input(0)?;
    let indices = call.integer_input(1)?;
    let batch = call.extent(call.int("batch_dims", 0)?)?;
    let Some((&depth, places)) = indices.shape.split_last() else {
        return Err(call.error("has scalar indices"));
    };
    let fits = batch <= places.len() && batch < ty.rank() && ty.shape[..batch] == places[..batch];
    check!(call, fits, "has `batch_dims` = {batch} for {ty} and indices {indices}");
    check!(call, depth > 0 && batch + depth <= ty.rank(), "has indices {indices} into {ty}");
    Ok(ValueType::new(ty.element, [places, &ty.shape[batch + depth..]].concat()))
}

pub(super) fn scatter_elements(call: &Call) -> Result<ValueType> {
    call.takes_at_most(3)?;
    let ty = call.input(0)?;
    let indices = call.integer_input(1)?;
    check_elements(call, ty, indices)?;
    let updates = call.input_like(2, ty)?;
    check!(call, updates.shape == indices.shape, "has updates {updates} at indices {indices}");
    call.choice("reduction", &["none", "add", "mul", "max", "min"])?;
    Ok(ty.clone())
}

pub(super) fn scatter_nd(call: &Call) -> Result<ValueType> {
    call.takes_at_most(3)?;
    let ty = call.input(0)?;
    let indices = call.integer_input(1)?;
    let updates = call.input_like(2, ty)?;
    let Some((&depth, places)) = indices.shape.split_last() else {
        return Err(call.error("has scalar indices"));
    };
    check!(call, depth <= ty.rank(), "has indices {indices} into {ty}");
    let wanted = [places, &ty.shape[depth..]].concat();
    check!(call, updates.shape == wanted, "has updates {updates} instead of {wanted:?}");
    call.choice("reduction", &["none", "add", "mul", "max", "min"])?;
    Ok(ty.clone())
}

/// `depth` new elements per index, on a new axis.
pub(super) fn one_hot(call: &Call) -> Result<ValueType> {
    call.takes_at_most(3)?;
    let indices = call.integer_input(0)?;
    let depth = match call.optional_constant(1, "depth")?.map(|depth| depth.to_i64()) {
        Some(Some(depth)) if depth.len() == 1 => call.extent(depth[0])?,
        _ => return Err(call.error("needs a `depth` that is one integer")),
    };
    check!(call, depth > 0, "has a `depth` of 0");
    let values = call.input(2)?;
    check!(call, values.shape == [2], "has `values` {values} instead of an off and an on value");
    let axis = call.axis(call.int("axis", -1)?, indices.rank() + 1)?;
    let mut shape = indices.shape.clone();
    shape.insert(axis, depth);
    Ok(ValueType::new(values.element, shape))
}

/// The indices of GatherElements and ScatterElements stay within the other axes of the data.
fn check_elements(call: &Call, ty: &ValueType, indices: &ValueType) -> Result<()> {
    let axis = call.axis(call.int("axis", 0)?, ty.rank())?;
    let within = |a: usize| a == axis || indices.shape[a] <= ty.shape[a];
    let fits = indices.rank() == ty.rank() && (0..ty.rank()).all(within);
    check!(call, fits, "has indices {indices} into {ty}");
    Ok(())
}
