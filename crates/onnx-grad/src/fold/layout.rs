//! Rearrangement and choice of elements, and tensors made from a few numbers.

use super::Operands;
use super::element::{Element, with_number, with_type};
use super::number::Number;
use super::strided::{Strided, take};
use crate::infer::{axis_slices, check, split_sizes};
use crate::{Attribute, Result, Tensor, TensorData};

pub(super) fn transpose(operands: &Operands) -> Result<TensorData> {
    let tensor = operands.input(0)?;
    let view = Strided::new(tensor.shape());
    let rank = tensor.shape().len();
    let perm = match operands.call.ints("perm")? {
        Some(perm) => operands.call.axes(perm, rank)?,
        None => (0..rank).rev().collect(),
    };
    let strides = perm.iter().map(|&axis| view.strides[axis]).collect();
    Ok(Strided { shape: operands.shape().to_vec(), strides, offset: 0 }.take(tensor.data()))
}

pub(super) fn expand(operands: &Operands) -> Result<TensorData> {
    let tensor = operands.input(0)?;
    Ok(Strided::broadcast(tensor.shape(), operands.shape()).take(tensor.data()))
}

/// Each axis becomes two: the repeats, which do not move, and the axis itself.
pub(super) fn tile(operands: &Operands) -> Result<TensorData> {
    let tensor = operands.input(0)?;
    let view = Strided::new(tensor.shape());
    let mut tiled = Strided { shape: Vec::new(), strides: Vec::new(), offset: 0 };
    for (axis, repeat) in operands.call.constant_ints(1, "repeats")?.into_iter().enumerate() {
        tiled.shape.extend([operands.call.extent(repeat)?, tensor.shape()[axis]]);
        tiled.strides.extend([0, view.strides[axis]]);
    }
    Ok(tiled.take(tensor.data()))
}

pub(super) fn slice(operands: &Operands) -> Result<TensorData> {
    let tensor = operands.input(0)?;
    let mut view = Strided::new(tensor.shape());
    for (axis, slice) in axis_slices(operands.call.graph, operands.call.node)?.into_iter().enumerate() {
        view.offset += slice.start * view.strides[axis];
        view.strides[axis] *= slice.step;
        view.shape[axis] = slice.count;
    }
    Ok(view.take(tensor.data()))
}

pub(super) fn split(operands: &Operands) -> Result<Vec<Tensor>> {
    let tensor = operands.input(0)?;
    let (axis, sizes) = split_sizes(operands.call.graph, operands.call.node)?;
    let mut view = Strided::new(tensor.shape());
    let mut parts = Vec::with_capacity(sizes.len());
    for size in sizes {
        view.shape[axis] = size;
        parts.push(Tensor::new(view.shape.clone(), view.take(tensor.data())));
        view.offset += size as i64 * view.strides[axis];
    }
    Ok(parts)
}

pub(super) fn concat(operands: &Operands) -> Result<TensorData> {
    let axis = operands.call.axis(operands.call.int("axis", 0)?, operands.shape().len())?;
    let outer: usize = operands.shape()[..axis].iter().product();
    let tensors = (0..operands.call.node.inputs.len()).map(|i| operands.input(i)).collect::<Result<Vec<&Tensor>>>()?;
    with_type!(operands.input(0)?.element(), T => {
        let mut joined: Vec<T> = Vec::new();
        for row in 0..outer {
            for tensor in &tensors {
                let values = T::of(tensor.data()).unwrap_or_default();
                let chunk = values.len() / outer;
                joined.extend(&values[row * chunk..(row + 1) * chunk]);
            }
        }
        Ok(T::into_data(joined))
    })
}

pub(super) fn gather(operands: &Operands) -> Result<TensorData> {
    let tensor = operands.input(0)?;
    let shape = tensor.shape();
    let axis = operands.call.axis(operands.call.int("axis", 0)?, shape.len())?;
    let extent = shape[axis] as i64;
    let mut places = Vec::new();
    for index in operands.input(1)?.to_i64().unwrap_or_default() {
        let within = (-extent..extent).contains(&index);
        check!(operands.call, within, "has index {index} into axis {axis} of {extent} elements");
        places.push(index.rem_euclid(extent) as usize);
    }
    let outer: usize = shape[..axis].iter().product();
    let inner: usize = shape[axis + 1..].iter().product();
    let rows = (0..outer).flat_map(|row| places.iter().map(move |place| (row * shape[axis] + place) * inner));
    Ok(take(tensor.data(), rows.flat_map(|start| start..start + inner)))
}

/// Trilu: zero below the `k`-th diagonal, or above it.
pub(super) fn triangle(operands: &Operands) -> Result<TensorData> {
    let tensor = operands.input(0)?;
    let upper = operands.call.flag("upper", true)?;
    let k = operands.call.optional_constant_ints(1, "k")?.and_then(|k| k.first().copied()).unwrap_or(0);
    let [.., rows, columns] = *tensor.shape() else { return Err(operands.call.error("needs matrices")) };
    let kept = |index: usize| {
        let (row, column) = ((index / columns) % rows, index % columns);
        let diagonal = column as i64 - row as i64;
        if upper { diagonal >= k } else { diagonal <= k }
    };
    with_number!(tensor.element(), T => {
        let values = T::of(tensor.data()).unwrap_or_default().iter().enumerate();
        Ok(T::into_data(values.map(|(i, &value)| if kept(i) { value } else { T::ZERO }).collect()))
    }, {
        let values = bool::of(tensor.data()).unwrap_or_default().iter().enumerate();
        Ok(TensorData::Bool(values.map(|(i, &value)| value && kept(i)).collect()))
    })
}

pub(super) fn constant_of_shape(operands: &Operands) -> Result<TensorData> {
    let zero = Tensor::scalar(crate::ElementType::F32, 0.0);
    let value = match operands.call.node.attributes.get("value") {
        Some(Attribute::Tensor(value)) => value,
        _ => &zero,
    };
    let len = operands.shape().iter().product();
    Ok(take(value.data(), std::iter::repeat_n(0, len)))
}

pub(super) fn range(operands: &Operands) -> Result<TensorData> {
    let (start, delta) = (operands.input(0)?.data(), operands.input(2)?.data());
    let len = operands.shape().iter().product();
    with_number!(start.element(), T => {
        let first = |data| T::of(data).and_then(|values| values.first().copied()).unwrap_or(T::ZERO);
        let (start, delta) = (first(start), first(delta));
        Ok(T::into_data((0..len).map(|i| start.add(T::from_count(i).mul(delta))).collect()))
    }, Err(operands.call.error("counts truth values")))
}
