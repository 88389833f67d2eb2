//! Convolution and its transpose.

use crate::infer::{Call, check};
use crate::window::{Window, spatial};
use crate::{Result, ValueType};

/// Input `[N, C, ...]`, weights `[M, C / group, ...]`, bias `[M]`.
pub(super) fn conv(call: &Call) -> Result<ValueType> {
    let (input, weights) = operands(call)?;
    let (channels, filters) = (input.shape[1], weights.shape[0]);
    let group = group(call)?;
    check!(
        call,
        weights.shape[1].checked_mul(group) == Some(channels),
        "has weights {weights} in {group} groups for {channels} channels"
    );
    check!(call, filters % group == 0, "has {filters} filters, which {group} groups do not divide");
    output(call, input, filters)
}

/// Input `[N, C, ...]`, weights `[C, M / group, ...]`, bias `[M]`.
pub(super) fn conv_transpose(call: &Call) -> Result<ValueType> {
    let (input, weights) = operands(call)?;
    let channels = input.shape[1];
    let group = group(call)?;
    check!(call, weights.shape[0] == channels, "has weights {weights} for {channels} channels");
    check!(call, channels % group == 0, "has {channels} channels, which {group} groups do not divide");
    let filters = weights.shape[1].checked_mul(group);
    output(call, input, filters.ok_or_else(|| call.error("has too many filters"))?)
}

fn operands<'a>(call: &Call<'a>) -> Result<(&'a ValueType, &'a ValueType)> {
    call.takes_at_most(3)?;
    let input = call.float_input(0)?;
    let weights = call.input_like(1, input)?;
    spatial(call, 0)?;
    spatial(call, 1)?;
    Ok((input, weights))
}

fn group(call: &Call) -> Result<usize> {
    let group = call.int("group", 1)?;
    check!(call, group > 0, "has `group` = {group}");
    call.extent(group)
}

fn output(call: &Call, input: &ValueType, filters: usize) -> Result<ValueType> {
    if call.optional(2)?.is_some() {
        let bias = call.input_like(2, input)?;
        check!(call, bias.shape == [filters], "has a bias {bias} for {filters} filters");
    }
    let window = Window::of(call.graph, call.node)?;
    Ok(ValueType::new(input.element, [&[input.shape[0], filters], window.output.as_slice()].concat()))
}
