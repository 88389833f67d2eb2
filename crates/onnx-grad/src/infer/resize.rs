//! Resize by scales or to sizes.

use crate::infer::{Call, check};
use crate::{Graph, Node, Result, TensorData, ValueType};

pub(super) fn resize(call: &Call) -> Result<ValueType> {
    call.takes_at_most(4)?;
    let ty = call.float_input(0)?;
    check_attributes(call)?;
    let axes = match call.ints("axes")? {
        Some(axes) => call.axes(axes, ty.rank())?,
        None => (0..ty.rank()).collect(),
    };
    let mut resized = ty.clone();
    match (factors(call)?, sizes(call)?) {
        (Some(scales), None) => {
            check!(call, scales.len() == axes.len(), "has {} scales for {} axes", scales.len(), axes.len());
            for (&axis, &scale) in axes.iter().zip(scales) {
                check!(call, scale.is_finite() && scale > 0.0, "has a scale of {scale}");
                // In float32, as the specification's own inference computes it.
                let extent = (ty.shape[axis] as f32 * scale).floor();
                check!(call, extent <= ValueType::MAX_LEN as f32, "makes {extent} elements along axis {axis}");
                resized.shape[axis] = extent as usize;
            }
        }
        (None, Some(sizes)) => {
            check!(call, sizes.len() == axes.len(), "has {} sizes for {} axes", sizes.len(), axes.len());
            for (&axis, &size) in axes.iter().zip(&sizes) {
                resized.shape[axis] = call.extent(size)?;
            }
        }
        _ => return Err(call.error("needs either `scales` or `sizes`")),
    }
    for (axis, (&new, &old)) in resized.shape.iter().zip(&ty.shape).enumerate() {
        check!(call, (new == 0) == (old == 0), "resizes axis {axis} of {old} elements to {new}");
    }
    Ok(resized)
}

/// By what each axis of a Resize is scaled.
pub(crate) fn resize_scales(graph: &Graph, node: &Node) -> Result<Vec<f64>> {
    let call = &Call { graph, node };
    let (from, to) = (&call.input(0)?.shape, resize(call)?.shape);
    let mut scales: Vec<f64> = from.iter().zip(&to).map(|(&from, &to)| to as f64 / from.max(1) as f64).collect();
    if let Some(factors) = factors(call)? {
        let axes = match call.ints("axes")? {
            Some(axes) => call.axes(axes, from.len())?,
            None => (0..from.len()).collect(),
        };
        axes.into_iter().zip(factors).for_each(|(axis, &factor)| scales[axis] = f64::from(factor));
    }
    Ok(scales)
}

fn check_attributes(call: &Call) -> Result<()> {
    let transformations = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"];
    call.choice("mode", &["nearest", "linear", "cubic"])?;
    call.choice("coordinate_transformation_mode", &transformations)?;
    call.choice("nearest_mode", &["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])?;
    call.choice("keep_aspect_ratio_policy", &["stretch"])?;
    call.flag("antialias", false)?;
    call.flag("exclude_outside", false)?;
    call.check_floats(&["cubic_coeff_a", "extrapolation_value"])
}

/// The scales; an empty list, as older exporters write it, stands for none.
fn factors<'a>(call: &Call<'a>) -> Result<Option<&'a [f32]>> {
    match call.optional_constant(2, "scales")?.map(|scales| (scales.shape().len(), scales.data())) {
        None => Ok(None),
        Some((1, TensorData::F32(scales))) => Ok(Some(scales.as_slice()).filter(|scales| !scales.is_empty())),
        Some(_) => Err(call.error("has `scales` that are not a list of float32")),
    }
}

fn sizes(call: &Call) -> Result<Option<Vec<i64>>> {
    Ok(call.optional_constant_ints(3, "sizes")?.filter(|sizes| !sizes.is_empty()))
}
