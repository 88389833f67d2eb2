//! Reductions and running sums.

use super::Operands;
use super::element::{Element, with_number, with_type};
use super::number::Number;
use super::strided::Strided;
use crate::infer::reduced_axes;
use crate::{Result, TensorData};

/// Sums, products, extremes and means. Floats accumulate in float64.
pub(super) fn reduce(operands: &Operands) -> Result<TensorData> {
    let tensor = operands.input(0)?;
    let axes = reduced_axes(operands.call.graph, operands.call.node)?;
    let mut kept = tensor.shape().to_vec();
    axes.iter().for_each(|&axis| kept[axis] = 1);
    let targets = Strided::broadcast(&kept, tensor.shape());
    let len: usize = kept.iter().product();
    let op = operands.call.node.op.as_str();
    Ok(match tensor.data() {
        TensorData::F32(values) => {
            let values: Vec<f64> = values.iter().map(|&value| f64::from(value)).collect();
            TensorData::F32(accumulate(op, &values, &targets, len).into_iter().map(|value| value as f32).collect())
        }
        TensorData::F64(values) => TensorData::F64(accumulate(op, values, &targets, len)),
        TensorData::I64(values) => TensorData::I64(accumulate(op, values, &targets, len)),
        TensorData::I32(values) => TensorData::I32(accumulate(op, values, &targets, len)),
        TensorData::Bool(_) => return Err(operands.call.error("reduces truth values")),
    })
}

fn accumulate<T: Number>(op: &str, values: &[T], targets: &Strided, len: usize) -> Vec<T> {
    let initial = if op == "ReduceProd" { T::ONE } else { T::ZERO };
    let mut totals = vec![initial; len];
    let mut counts = vec![0usize; len];
    for (&value, target) in values.iter().zip(targets.indices()) {
        let total = totals[target];
        totals[target] = match op {
            "ReduceProd" => total.mul(value),
            "ReduceMax" | "ReduceMin" if counts[target] == 0 => value,
            "ReduceMax" => Number::max(total, value),
            "ReduceMin" => Number::min(total, value),
            _ => total.add(value),
        };
        counts[target] += 1;
    }
    if op == "ReduceMean" {
        let mean = |(total, &count): (T, &usize)| total.div(T::from_count(count)).unwrap_or(total);
        totals = totals.into_iter().zip(&counts).map(mean).collect();
    }
    totals
}

/// CumSum, forwards or in reverse, each sum with its own element or without.
pub(super) fn cumulative_sum(operands: &Operands) -> Result<TensorData> {
    let tensor = operands.input(0)?;
    let shape = tensor.shape();
    let given = operands.call.constant_ints(1, "axis")?.first().copied().unwrap_or(0);
    let axis = operands.call.axis(given, shape.len())?;
    let (exclusive, reverse) = (operands.call.flag("exclusive", false)?, operands.call.flag("reverse", false)?);
    let extent = shape[axis];
    let inner: usize = shape[axis + 1..].iter().product();
    with_number!(tensor.element(), T => {
        let mut sums = T::of(tensor.data()).unwrap_or_default().to_vec();
        for line in sums.chunks_exact_mut((extent * inner).max(1)) {
            for column in 0..inner {
                let mut total = T::ZERO;
                for step in 0..extent {
                    let at = if reverse { extent - 1 - step } else { step } * inner + column;
                    let next = total.add(line[at]);
                    line[at] = if exclusive { total } else { next };
                    total = next;
                }
            }
        }
        Ok(T::into_data(sums))
    }, Err(operands.call.error("adds truth values")))
}
