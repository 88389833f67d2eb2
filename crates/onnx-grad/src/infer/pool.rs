//! Pooling over the spatial axes.

use crate::infer::{Call, check};
use crate::window::{Window, spatial};
use crate::{ElementType, Result, ValueType};

/// Maxima, then their indices.
pub(super) fn max_pool(call: &Call) -> Result<Vec<ValueType>> {
    let ty = pooled(call)?;
    call.flag("storage_order", false)?;
    let indices = ValueType::new(ElementType::I64, ty.shape.clone());
    Ok(vec![ty, indices])
}

pub(super) fn average_pool(call: &Call) -> Result<ValueType> {
    call.flag("count_include_pad", false)?;
    let dilated = call.ints("dilations")?.is_some_and(|dilations| dilations.iter().any(|&d| d != 1));
    check!(call, !dilated, "has `dilations`, which the supported opset does not have for it");
    pooled(call)
}

/// GlobalAveragePool and GlobalMaxPool: every spatial axis becomes one element.
pub(super) fn global_pool(call: &Call) -> Result<ValueType> {
    call.takes_at_most(1)?;
    let mut ty = call.float_input(0)?.clone();
    let axes = spatial(call, 0)?.len();
    ty.shape.truncate(2);
    ty.shape.resize(2 + axes, 1);
    Ok(ty)
}

fn pooled(call: &Call) -> Result<ValueType> {
    call.takes_at_most(1)?;
    let ty = call.float_input(0)?;
    let window = Window::of(call.graph, call.node)?;
    Ok(ValueType::new(ty.element, [&ty.shape[..2], &window.output].concat()))
}
