//! Older and newer operators in terms of those of opset [`OPSET`](crate::OPSET).
//!
//! ONNX changes an operator by giving it a new version; the operator's page in the specification lists
//! them. Whatever has the same meaning in all supported versions passes through unchanged.

mod activation;
mod attribute_inputs;
mod normalization;
mod quantization;
mod resize;
mod rewrite;
mod softmax;

use crate::proto::DataType;
use crate::{Attribute, Error, Graph, Node, Result, tensor_proto};
pub(crate) use quantization::{OUTPUT_TYPE, STRAIGHT_THROUGH};
pub(crate) use rewrite::Rewrite;

/// What `node`, of opset `version`, is at opset [`OPSET`](crate::OPSET): one node or several in order, the
/// last of which has its outputs. Constants that they need are added to `graph`.
pub(crate) fn upgrade(graph: &mut Graph, mut node: Node, version: i64) -> Result<Vec<Node>> {
    match node.op.as_str() {
        "BatchNormalization" => normalization::batch(graph, node, version),
        "Dropout" => normalization::dropout(graph, node, version),
        "GroupNormalization" => normalization::group(graph, node, version),
        "RMSNormalization" => normalization::root_mean_square(graph, node),
        "Gelu" => activation::gelu(graph, node),
        "Swish" => activation::swish(graph, node),
        "QuantizeLinear" => quantization::quantize(graph, node),
        "DequantizeLinear" => quantization::dequantize(graph, node),
        "Softmax" | "LogSoftmax" if version < 13 => softmax::over_trailing_axes(graph, node),
        _ => {
            match node.op.as_str() {
                "Cast" => cast(&mut node),
                "Resize" | "Upsample" => resize::resize(graph, &mut node, version)?,
                "AveragePool" => average_pool(&mut node)?,
                "Scatter" => node.op = "ScatterElements".to_owned(),
                _ => attribute_inputs::upgrade(graph, &mut node, version)?,
            }
            Ok(vec![node])
        }
    }
}

/// Casts go to the type that stands for the one which was asked for. How to saturate and round matters only
/// for types that are not supported.
fn cast(node: &mut Node) {
    node.attributes.remove("saturate");
    node.attributes.remove("round_mode");
    if let Some(&Attribute::Int(to)) = node.attributes.get("to")
        && let Some(element) = i32::try_from(to).ok().and_then(|code| tensor_proto::element_type(code).ok())
    {
        let to: DataType = tensor_proto::data_type(element);
        node.attributes.set("to", to as i64);
    }
}

/// Only since opset 19 may the window be dilated.
fn average_pool(node: &mut Node) -> Result<()> {
    match node.attributes.remove("dilations") {
        Some(Attribute::Ints(dilations)) if dilations.iter().any(|&dilation| dilation != 1) => {
            Err(Error::node(node, format!("has `dilations` = {dilations:?}, which is not supported")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
