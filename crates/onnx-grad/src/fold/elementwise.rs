//! Elementwise arithmetic, comparison, choice and conversion, with broadcasting.

use super::Operands;
use super::element::{Element, with_number, with_type};
use super::number::Number;
use super::strided::Strided;
use crate::{ElementType, Result, Tensor, TensorData};

/// The function of floating-point type `$T` that the operator `$op` names, or else `$otherwise`.
macro_rules! float_function {
    ($T:ident, $op:expr, $otherwise:expr) => {{
        let function: fn($T) -> $T = match $op {
            "Sqrt" => $T::sqrt,
            "Reciprocal" => $T::recip,
            "Exp" => $T::exp,
            "Log" => $T::ln,
            "Floor" => $T::floor,
            "Ceil" => $T::ceil,
            "Round" => $T::round_ties_even,
            "Sin" => $T::sin,
            "Cos" => $T::cos,
            _ => $otherwise,
        };
        function
    }};
}

/// Functions of one number.
pub(super) fn unary(operands: &Operands) -> Result<TensorData> {
    let op = operands.call.node.op.as_str();
    let data = operands.input(0)?.data();
    let refused = || operands.call.error("is not a function of such elements");
    match (data, op) {
        (_, "Neg" | "Abs" | "Sign" | "Relu") => with_number!(data.element(), T => {
            let values = T::of(data).unwrap_or_default();
            Ok(T::into_data(values.iter().map(|&value| signed(op, value)).collect()))
        }, Err(refused())),
        (TensorData::F32(values), _) => {
            let f = float_function!(f32, op, return Err(refused()));
            Ok(TensorData::F32(values.iter().map(|&value| f(value)).collect()))
        }
        (TensorData::F64(values), _) => {
            let f = float_function!(f64, op, return Err(refused()));
            Ok(TensorData::F64(values.iter().map(|&value| f(value)).collect()))
        }
        _ => Err(refused()),
    }
}

fn signed<T: Number>(op: &str, value: T) -> T {
    let negative = value.mul(T::ZERO.sub(T::ONE));
    match op {
        "Neg" => negative,
        "Abs" if value < T::ZERO => negative,
        "Sign" if value < T::ZERO => T::ZERO.sub(T::ONE),
        "Sign" if value > T::ZERO => T::ONE,
        "Sign" => T::ZERO,
        "Relu" => value.max(T::ZERO),
        _ => value,
    }
}

/// Add, Sub, Mul, Div, Mod and Pow of two values; Max, Min and Sum of any number.
pub(super) fn arithmetic(operands: &Operands) -> Result<TensorData> {
    let element = operands.input(0)?.element();
    let floored = operands.call.int("fmod", 0)? == 0;
    let op = operands.call.node.op.as_str();
    with_number!(element, T => {
        let mut values: Vec<T> = broadcast(operands, 0)?;
        for i in 1..operands.call.node.inputs.len() {
            if op == "Pow" {
                let exponents = Strided::broadcast(operands.input(i)?.shape(), operands.shape());
                let exponent = operands.input(i)?.to_f64();
                values.iter_mut().zip(exponents.indices()).for_each(|(value, at)| *value = Number::pow(*value, exponent[at]));
                continue;
            }
            for (value, other) in values.iter_mut().zip(broadcast::<T>(operands, i)?) {
                let result = match op {
                    "Add" | "Sum" => Some(value.add(other)),
                    "Sub" => Some(value.sub(other)),
                    "Mul" => Some(value.mul(other)),
                    "Div" => value.div(other),
                    "Max" => Some(Number::max(*value, other)),
                    "Min" => Some(Number::min(*value, other)),
                    "Mod" if floored => value.modulo(other),
                    _ => value.remainder(other),
                };
                *value = result.ok_or_else(|| operands.call.error("divides an integer by zero"))?;
            }
        }
        Ok(T::into_data(values))
    }, Err(operands.call.error("calculates with truth values")))
}

/// At most the upper bound, whatever the lower one is.
pub(super) fn clip(operands: &Operands) -> Result<TensorData> {
    let data = operands.input(0)?.data();
    with_number!(data.element(), T => {
        let bound = |i| operands.optional(i).and_then(|bound| T::of(bound.data())?.first().copied());
        let (low, high) = (bound(1), bound(2));
        let clipped = T::of(data).unwrap_or_default().iter().map(|&value| {
            let raised = low.map_or(value, |low| Number::max(value, low));
            high.map_or(raised, |high| Number::min(raised, high))
        });
        Ok(T::into_data(clipped.collect()))
    }, Err(operands.call.error("clips truth values")))
}

pub(super) fn compare(operands: &Operands) -> Result<TensorData> {
    let op = operands.call.node.op.as_str();
    with_type!(operands.input(0)?.element(), T => {
        let (a, b): (Vec<T>, Vec<T>) = (broadcast(operands, 0)?, broadcast(operands, 1)?);
        Ok(TensorData::Bool(a.into_iter().zip(b).map(|(a, b)| holds(op, a, b)).collect()))
    })
}

fn holds<T: PartialOrd>(comparison: &str, a: T, b: T) -> bool {
    match comparison {
        "Equal" => a == b,
        "Greater" => a > b,
        "GreaterOrEqual" => a >= b,
        "Less" => a < b,
        _ => a <= b,
    }
}

/// And, Or, Xor and Not.
pub(super) fn logic(operands: &Operands) -> Result<TensorData> {
    let op = operands.call.node.op.as_str();
    let mut values: Vec<bool> = broadcast(operands, 0)?;
    if op == "Not" {
        values.iter_mut().for_each(|value| *value = !*value);
    } else {
        for (value, other) in values.iter_mut().zip(broadcast::<bool>(operands, 1)?) {
            *value = match op {
                "And" => *value && other,
                "Or" => *value || other,
                _ => *value != other,
            };
        }
    }
    Ok(TensorData::Bool(values))
}

/// Where.
pub(super) fn select(operands: &Operands) -> Result<TensorData> {
    let conditions: Vec<bool> = broadcast(operands, 0)?;
    with_type!(operands.input(1)?.element(), T => {
        let (yes, no): (Vec<T>, Vec<T>) = (broadcast(operands, 1)?, broadcast(operands, 2)?);
        let chosen = conditions.into_iter().zip(yes.into_iter().zip(no));
        Ok(T::into_data(chosen.map(|(condition, (yes, no))| if condition { yes } else { no }).collect()))
    })
}

/// Cast and CastLike to the output's element type: floats are cut off towards zero and held
/// within the range of integers, whatever is not zero is true.
pub(super) fn cast(operands: &Operands) -> Result<TensorData> {
    let tensor = operands.input(0)?;
    let to = operands.outputs.first().map_or(tensor.element(), |ty| ty.element);
    Ok(match (tensor.data(), to) {
        (data, to) if data.element() == to => data.clone(),
        // By way of float64 a large integer would lose digits.
        (TensorData::I64(values), ElementType::I32) => TensorData::I32(values.iter().map(|&v| v as i32).collect()),
        (TensorData::I64(values), ElementType::F32) => TensorData::F32(values.iter().map(|&v| v as f32).collect()),
        _ => Tensor::floats(to, tensor.shape(), &tensor.to_f64()).data().clone(),
    })
}

/// The elements of input `i` broadcast to the shape of the output.
fn broadcast<T: Element>(operands: &Operands, i: usize) -> Result<Vec<T>> {
    let tensor = operands.input(i)?;
    match T::of(tensor.data()) {
        Some(values) => {
            let view = Strided::broadcast(tensor.shape(), operands.shape());
            Ok(view.indices().map(|index| values[index]).collect())
        }
        None => Err(operands.call.error(format!("has an input {i} of type {}", tensor.element()))),
    }
}
