//! Quantised models in the QDQ form: pairs of `QuantizeLinear` and `DequantizeLinear` around operators on floats.
//!
//! Quantised values stay whole numbers of a floating-point type, so that forward nothing changes. Backward, rounding counts as
//! the identity (the straight-through estimator of Bengio et al., 2013, <https://arxiv.org/abs/1308.3432>), and what the
//! type's range cuts off has no gradient.

use super::Rewrite;
use crate::proto::DataType;
use crate::{ElementType, Error, Graph, Node, Result, Tensor, tensor_proto};

/// The attribute of a `Round` whose derivative is taken to be 1. It is no part of ONNX and is not written.
pub(crate) const STRAIGHT_THROUGH: &str = "straight_through";

/// Of `QuantizeLinear`: the type that it quantises to, by its number. Before opset 21 only the zero point says it.
pub(crate) const OUTPUT_TYPE: &str = "output_dtype";

/// clip(round(x / scale) + zero_point).
pub(super) fn quantize(graph: &mut Graph, node: Node) -> Result<Vec<Node>> {
    let code = i32::try_from(node.int(OUTPUT_TYPE, 0)).unwrap_or_default();
    let (low, high) = match DataType::try_from(code).unwrap_or_default() {
        DataType::Undefined | DataType::Uint8 => (0.0, 255.0),
        DataType::Int8 => (-128.0, 127.0),
        DataType::Uint16 => (0.0, 65535.0),
        DataType::Int16 => (-32768.0, 32767.0),
        _ => {
            let problem = format!("quantises to {}, which is not supported", tensor_proto::type_name(code));
            return Err(Error::node(&node, problem));
        }
    };
    let mut rewrite = Rewrite::new(graph, node);
    let (x, element, shape) = rewrite.input(0)?;
    let (scale, zero_point) = parameters(&mut rewrite, element, &shape)?;
    let (low, high) = (rewrite.constant(Tensor::scalar(element, low)), rewrite.constant(Tensor::scalar(element, high)));
    let scaled = rewrite.apply("Div", &[&x, &scale], ());
    let mut rounded = rewrite.apply("Round", &[&scaled], [(STRAIGHT_THROUGH, 1)]);
    if let Some(zero_point) = zero_point {
        rounded = rewrite.apply("Add", &[&rounded, &zero_point], ());
    }
    Ok(rewrite.finish("Clip", &[&rounded, &low, &high], ()))
}

/// (x − zero_point) · scale.
pub(super) fn dequantize(graph: &mut Graph, node: Node) -> Result<Vec<Node>> {
    let mut rewrite = Rewrite::new(graph, node);
    let (x, _, shape) = rewrite.input(0)?;
    let (_, element, _) = rewrite.input(1)?;
    let (scale, zero_point) = parameters(&mut rewrite, element, &shape)?;
    let mut value = cast(&mut rewrite, &x, element);
    if let Some(zero_point) = zero_point {
        value = rewrite.apply("Sub", &[&value, &zero_point], ());
    }
    Ok(rewrite.finish("Mul", &[&value, &scale], ()))
}

/// Scale and zero point as `element`, in a shape that broadcasts to `shape`.
fn parameters(rewrite: &mut Rewrite, element: ElementType, shape: &[usize]) -> Result<(String, Option<String>)> {
    let node = rewrite.original();
    if node.int("block_size", 0) != 0 {
        return Err(Error::node(node, "is quantised in blocks, which is not supported"));
    }
    let (axis, rank) = (node.int("axis", 1), shape.len() as i64);
    let axis = if axis < 0 { axis.saturating_add(rank) } else { axis };
    let has_zero_point = node.input(2).is_some();
    let scale = parameter(rewrite, 1, element, shape, axis)?;
    let zero_point = if has_zero_point { Some(parameter(rewrite, 2, element, shape, axis)?) } else { None };
    Ok((scale, zero_point))
}

fn parameter(rewrite: &mut Rewrite, i: usize, element: ElementType, shape: &[usize], axis: i64) -> Result<String> {
    let (name, _, own) = rewrite.input(i)?;
    let value = cast(rewrite, &name, element);
    let broadcast: Vec<i64> = match own[..] {
        [] | [1] => return Ok(value),
        [extent] if usize::try_from(axis).is_ok_and(|axis| shape.get(axis) == Some(&extent)) => {
            (0..shape.len() as i64).map(|other| if other == axis { extent as i64 } else { 1 }).collect()
        }
        _ => {
            let problem = format!("has a scale or zero point of shape {own:?} for axis {axis} of {shape:?}");
            return Err(Error::node(rewrite.original(), problem));
        }
    };
    let target = rewrite.constant(Tensor::ints(&broadcast));
    Ok(rewrite.apply("Reshape", &[&value, &target], ()))
}

fn cast(rewrite: &mut Rewrite, value: &str, element: ElementType) -> String {
    rewrite.apply("Cast", &[value], [("to", tensor_proto::data_type(element) as i64)])
}
