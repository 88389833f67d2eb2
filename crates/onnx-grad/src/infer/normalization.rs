//! Softmax and the normalizations, as they are at inference.

use crate::infer::{Call, broadcast, check};
use crate::{Result, ValueType};

/// Softmax and LogSoftmax over one axis.
pub(super) fn softmax(call: &Call) -> Result<ValueType> {
    call.takes_at_most(1)?;
    let ty = call.float_input(0)?;
    call.axis(call.int("axis", -1)?, ty.rank())?;
    Ok(ty.clone())
}

/// Input `[N, C, ...]`; scale, bias, mean and variance `[C]`.
pub(super) fn batch(call: &Call) -> Result<ValueType> {
    call.takes_at_most(5)?;
    call.check_floats(&["epsilon", "momentum"])?;
    check!(call, !call.flag("training_mode", false)?, "is in training mode; export the model for inference");
    let ty = call.float_input(0)?;
    check!(call, ty.rank() >= 2, "needs an input of two axes or more, not {ty}");
    per_channel(call, ty, &[1, 2, 3, 4])?;
    Ok(ty.clone())
}

/// Input `[N, C, ...]`; scale and bias `[C]`.
pub(super) fn instance(call: &Call) -> Result<ValueType> {
    call.takes_at_most(3)?;
    call.check_floats(&["epsilon"])?;
    let ty = call.float_input(0)?;
    check!(call, ty.rank() >= 3, "needs an input of three axes or more, not {ty}");
    per_channel(call, ty, &[1, 2])?;
    Ok(ty.clone())
}

fn per_channel(call: &Call, ty: &ValueType, inputs: &[usize]) -> Result<()> {
    for &i in inputs {
        let parameter = call.input_like(i, ty)?;
        let channels = ty.shape[1];
        check!(call, parameter.shape == [channels], "has an input {i} of type {parameter} for {channels} channels");
    }
    Ok(())
}

/// The normalized value, then mean and inverse standard deviation with the normalized axes of
/// one element.
pub(super) fn layer(call: &Call) -> Result<Vec<ValueType>> {
    call.takes_at_most(3)?;
    call.check_floats(&["epsilon"])?;
    let ty = call.float_input(0)?;
    let stash_type = call.int("stash_type", 1)?;
    check!(call, stash_type == 1, "has `stash_type` = {stash_type}; only 1 (float32) is supported");
    let axis = call.axis(call.int("axis", -1)?, ty.rank())?;
    for i in [1, 2] {
        if i == 1 || call.optional(i)?.is_some() {
            let parameter = call.input_like(i, ty)?;
            let fits = broadcast(&parameter.shape, &ty.shape).is_some_and(|shape| shape == ty.shape);
            check!(call, fits, "has an input {i} of type {parameter} that does not broadcast to {ty}");
        }
    }
    let mut statistics = ty.clone();
    statistics.shape[axis..].fill(1);
    Ok(vec![ty.clone(), statistics.clone(), statistics])
}

/// LRN: normalization over neighbouring channels of `[N, C, ...]`.
pub(super) fn local_response(call: &Call) -> Result<ValueType> {
    call.takes_at_most(1)?;
    call.check_floats(&["alpha", "beta", "bias"])?;
    let ty = call.float_input(0)?;
    check!(call, ty.rank() >= 3, "needs an input of three axes or more, not {ty}");
    let size = call.optional_int("size")?.ok_or_else(|| call.error("lacks the attribute `size`"))?;
    check!(call, (1..=1 << 30).contains(&size), "has `size` = {size}");
    Ok(ty.clone())
}
