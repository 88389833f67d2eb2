//! Operators that act on each element by itself, with broadcasting.

use crate::infer::{Call, check};
use crate::{ElementType, Result, ValueType};

/// The shape to which `a` and `b` broadcast, if they do.
pub(crate) fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let extent = |shape: &[usize], axis: usize| (axis + shape.len()).checked_sub(rank).map_or(1, |i| shape[i]);
    (0..rank)
        .map(|axis| match (extent(a, axis), extent(b, axis)) {
            (1, extent) | (extent, 1) => Some(extent),
            (a, b) => (a == b).then_some(a),
        })
        .collect()
}

/// Relu, Abs, Sign and Neg also take integers.
pub(super) fn numeric(call: &Call) -> Result<ValueType> {
    call.takes_at_most(1)?;
    let ty = call.input(0)?;
    check!(call, ty.element != ElementType::Bool, "needs numbers, but its input is {ty}");
    Ok(ty.clone())
}

/// Activations and functions of one floating-point value; Clip has bounds and takes integers too.
pub(super) fn unary(call: &Call) -> Result<ValueType> {
    call.check_floats(&["alpha", "beta", "gamma"])?;
    if call.node.op == "Clip" {
        return clip(call);
    }
    call.takes_at_most(1)?;
    call.float_input(0).cloned()
}

fn clip(call: &Call) -> Result<ValueType> {
    call.takes_at_most(3)?;
    let ty = call.input(0)?;
    check!(call, ty.element != ElementType::Bool, "needs numbers, but its input is {ty}");
    for (i, what) in [(1, "min"), (2, "max")] {
        if call.optional(i)?.is_some() {
            let bound = call.input_like(i, ty)?;
            check!(call, bound.len() == 1, "has a `{what}` of type {bound} instead of a scalar");
        }
    }
    Ok(ty.clone())
}

pub(super) fn identity(call: &Call) -> Result<ValueType> {
    call.takes_at_most(1)?;
    call.input(0).cloned()
}

/// The slope broadcasts to the input, never the other way round.
pub(super) fn prelu(call: &Call) -> Result<ValueType> {
    call.takes_at_most(2)?;
    let ty = call.float_input(0)?;
    let slope = call.input_like(1, ty)?;
    let fits = broadcast(&ty.shape, &slope.shape).is_some_and(|shape| shape == ty.shape);
    check!(call, fits, "has a slope {slope} that does not broadcast to its input {ty}");
    Ok(ty.clone())
}

/// Add, Sub, Mul and Div.
pub(super) fn arithmetic(call: &Call) -> Result<ValueType> {
    call.takes_at_most(2)?;
    let ty = call.input(0)?;
    check!(call, ty.element != ElementType::Bool, "needs numbers, but its input is {ty}");
    call.input_like(1, ty)?;
    Ok(ValueType::new(ty.element, broadcast_inputs(call, &[0, 1])?))
}

pub(super) fn modulo(call: &Call) -> Result<ValueType> {
    let ty = arithmetic(call)?;
    let remainder_of_floats = call.flag("fmod", false)?;
    check!(call, remainder_of_floats || ty.element.is_integer(), "needs `fmod` = 1 for {}", ty.element);
    Ok(ty)
}

/// The exponent may have another type than the base, which is that of the result.
pub(super) fn pow(call: &Call) -> Result<ValueType> {
    call.takes_at_most(2)?;
    for i in [0, 1] {
        let ty = call.input(i)?;
        check!(call, ty.element != ElementType::Bool, "needs numbers, but input {i} is {ty}");
    }
    Ok(ValueType::new(call.input(0)?.element, broadcast_inputs(call, &[0, 1])?))
}

/// Max, Min, Sum and Mean of any number of values.
pub(super) fn variadic(call: &Call) -> Result<ValueType> {
    let inputs = call.variadic()?;
    let element = inputs[0].element;
    for i in 0..inputs.len() {
        call.input_like(i, inputs[0])?;
    }
    let orders = matches!(call.node.op.as_str(), "Max" | "Min");
    check!(call, element.is_float() || orders && element.is_integer(), "cannot take {element}");
    Ok(ValueType::new(element, broadcast_inputs(call, &Vec::from_iter(0..inputs.len()))?))
}

pub(super) fn comparison(call: &Call) -> Result<ValueType> {
    call.takes_at_most(2)?;
    let ty = call.input(0)?;
    call.input_like(1, ty)?;
    let fine = call.node.op == "Equal" || ty.element != ElementType::Bool;
    check!(call, fine, "needs numbers, but its input is {ty}");
    Ok(ValueType::new(ElementType::Bool, broadcast_inputs(call, &[0, 1])?))
}

/// And, Or and Xor.
pub(super) fn logical(call: &Call) -> Result<ValueType> {
    call.takes_at_most(2)?;
    for i in [0, 1] {
        condition(call, i)?;
    }
    Ok(ValueType::new(ElementType::Bool, broadcast_inputs(call, &[0, 1])?))
}

pub(super) fn not(call: &Call) -> Result<ValueType> {
    call.takes_at_most(1)?;
    condition(call, 0).cloned()
}

/// IsNaN and IsInf.
pub(super) fn is_special(call: &Call) -> Result<ValueType> {
    call.takes_at_most(1)?;
    call.flag("detect_negative", true)?;
    call.flag("detect_positive", true)?;
    Ok(ValueType::new(ElementType::Bool, call.float_input(0)?.shape.clone()))
}

pub(super) fn select(call: &Call) -> Result<ValueType> {
    call.takes_at_most(3)?;
    condition(call, 0)?;
    let ty = call.input(1)?;
    call.input_like(2, ty)?;
    Ok(ValueType::new(ty.element, broadcast_inputs(call, &[0, 1, 2])?))
}

pub(super) fn cast(call: &Call) -> Result<ValueType> {
    call.takes_at_most(1)?;
    let to = call.optional_int("to")?.ok_or_else(|| call.error("lacks the attribute `to`"))?;
    match ElementType::from_onnx(to) {
        Some(element) => Ok(ValueType::new(element, call.input(0)?.shape.clone())),
        None => Err(call.error(format!("casts to ONNX's element type {to}, which is not supported"))),
    }
}

pub(super) fn cast_like(call: &Call) -> Result<ValueType> {
    call.takes_at_most(2)?;
    Ok(ValueType::new(call.input(1)?.element, call.input(0)?.shape.clone()))
}

/// At inference Dropout passes its input on; the mask, if asked for, is all true.
pub(super) fn dropout(call: &Call) -> Result<Vec<ValueType>> {
    call.takes_at_most(3)?;
    let ty = call.float_input(0)?;
    if let Some(training) = call.optional_constant(2, "training_mode")? {
        check!(call, training.to_f64() == [0.0], "is in training mode; export the model for inference");
    }
    Ok(vec![ty.clone(), ValueType::new(ElementType::Bool, ty.shape.clone())])
}

fn condition<'a>(call: &Call<'a>, i: usize) -> Result<&'a ValueType> {
    let ty = call.input(i)?;
    check!(call, ty.element == ElementType::Bool, "needs truth values, but input {i} is {ty}");
    Ok(ty)
}

fn broadcast_inputs(call: &Call, inputs: &[usize]) -> Result<Vec<usize>> {
    inputs.iter().try_fold(Vec::new(), |shape, &i| {
        let ty = call.input(i)?;
        broadcast(&shape, &ty.shape)
            .ok_or_else(|| call.error(format!("cannot broadcast input {i}, {ty}, with {shape:?} before it")))
    })
}
