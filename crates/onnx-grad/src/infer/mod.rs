//! Types and static shapes of what each operator puts out, one file per family of operators.
//!
//! The model is taken to be hostile: whatever the specification forbids is an error, sizes are
//! bounded by [`ValueType::is_bounded`], and no arithmetic on what a model says can overflow.

mod call;
mod conv;
mod elementwise;
mod gather;
mod layout;
mod matrix;
mod normalization;
mod pool;
mod reduce;
mod resize;
mod shape;
mod slice;

pub(crate) use call::{Call, check};
pub(crate) use elementwise::broadcast;
pub(crate) use matrix::Equation;
pub(crate) use reduce::reduced_axes;
pub(crate) use resize::resize_scales;
pub(crate) use slice::{AxisSlice, axis_slices, pad_amounts, split_sizes};

use crate::{Graph, Node, Result, ValueType};

/// The types of the outputs of `node`, in order, given the types (and, for shape-like inputs,
/// the constant values) of its inputs in `graph`.
///
/// An error says in what way the node is malformed, or not supported.
pub(crate) fn infer(graph: &Graph, node: &Node) -> Result<Vec<ValueType>> {
    let call = &Call { graph, node };
    let types = outputs(call)?;
    for ty in &types {
        check!(call, ty.is_bounded(), "has an output that is too large, {ty}");
    }
    let named = node.outputs.len();
    check!(call, named <= types.len(), "has {named} outputs where there are {} at most", types.len());
    Ok(types)
}

fn outputs(call: &Call) -> Result<Vec<ValueType>> {
    let one = |ty: Result<ValueType>| ty.map(|ty| vec![ty]);
    match call.node.op.as_str() {
        "Relu" | "Abs" | "Sign" | "Neg" => one(elementwise::numeric(call)),
        "LeakyRelu" | "Clip" | "Sigmoid" | "Tanh" | "Elu" | "Selu" | "Celu" | "HardSigmoid" | "HardSwish"
        | "Softplus" | "Softsign" | "Mish" | "ThresholdedRelu" | "Exp" | "Log" | "Sqrt" | "Reciprocal" | "Floor"
        | "Ceil" | "Round" | "Erf" | "Sin" | "Cos" => one(elementwise::unary(call)),
        "PRelu" => one(elementwise::prelu(call)),
        "Identity" => one(elementwise::identity(call)),
        "Add" | "Sub" | "Mul" | "Div" => one(elementwise::arithmetic(call)),
        "Mod" => one(elementwise::modulo(call)),
        "Pow" => one(elementwise::pow(call)),
        "Max" | "Min" | "Sum" | "Mean" => one(elementwise::variadic(call)),
        "Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" => one(elementwise::comparison(call)),
        "And" | "Or" | "Xor" => one(elementwise::logical(call)),
        "Not" => one(elementwise::not(call)),
        "IsNaN" | "IsInf" => one(elementwise::is_special(call)),
        "Where" => one(elementwise::select(call)),
        "Cast" => one(elementwise::cast(call)),
        "CastLike" => one(elementwise::cast_like(call)),
        "Dropout" => elementwise::dropout(call),

        "Conv" => one(conv::conv(call)),
        "ConvTranspose" => one(conv::conv_transpose(call)),
        "MaxPool" => pool::max_pool(call),
        "AveragePool" => one(pool::average_pool(call)),
        "GlobalAveragePool" | "GlobalMaxPool" => one(pool::global_pool(call)),
        "Gemm" => one(matrix::gemm(call)),
        "MatMul" => one(matrix::matmul(call)),
        "Einsum" => one(matrix::einsum(call)),

        "Softmax" | "LogSoftmax" => one(normalization::softmax(call)),
        "BatchNormalization" => one(normalization::batch(call)),
        "InstanceNormalization" => one(normalization::instance(call)),
        "LayerNormalization" => normalization::layer(call),
        "LRN" => one(normalization::local_response(call)),

        "ReduceMean" | "ReduceSum" | "ReduceMax" | "ReduceMin" | "ReduceProd" | "ReduceL1" | "ReduceL2"
        | "ReduceSumSquare" | "ReduceLogSum" | "ReduceLogSumExp" => one(reduce::reduce(call)),
        "ArgMax" | "ArgMin" => one(reduce::arg(call)),
        "CumSum" => one(reduce::cumulative_sum(call)),

        "Shape" => one(shape::shape(call)),
        "Size" => one(shape::size(call)),
        "Reshape" => one(shape::reshape(call)),
        "Flatten" => one(shape::flatten(call)),
        "Squeeze" => one(shape::squeeze(call)),
        "Unsqueeze" => one(shape::unsqueeze(call)),
        "Expand" => one(shape::expand(call)),
        "Tile" => one(shape::tile(call)),
        "ConstantOfShape" => one(shape::constant_of_shape(call)),
        "Range" => one(shape::range(call)),
        "Transpose" => one(layout::transpose(call)),
        "Concat" => one(layout::concat(call)),
        "DepthToSpace" => one(layout::depth_to_space(call)),
        "SpaceToDepth" => one(layout::space_to_depth(call)),
        "Trilu" => one(layout::triangle(call)),
        "Slice" => one(slice::slice(call)),
        "Split" => slice::split(call),
        "Pad" => one(slice::pad(call)),
        "Resize" => one(resize::resize(call)),
        "Gather" => one(gather::gather(call)),
        "GatherElements" => one(gather::gather_elements(call)),
        "GatherND" => one(gather::gather_nd(call)),
        "ScatterElements" => one(gather::scatter_elements(call)),
        "ScatterND" => one(gather::scatter_nd(call)),
        "OneHot" => one(gather::one_hot(call)),

        _ => Err(call.error("is not an operator that this program knows")),
    }
}

#[cfg(test)]
mod tests;
