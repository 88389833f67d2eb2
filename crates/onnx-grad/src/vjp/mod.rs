//! The vector-Jacobian product of each operator, one file per family of operators.
//!
//! A rule turns the cotangents of a node's outputs (the gradient of the objective with respect
//! to them) into those of its inputs by appending nodes to the graph. Where the operator has a
//! kink or a tie the rule takes the derivative which the frameworks take: 0 for `Relu` at 0, the
//! first of several equal maxima for pooling.

mod activation;
mod arithmetic;
mod conv;
mod conv_block;
mod einsum;
mod layout;
mod matrix;
mod max_pool;
mod normalization;
mod pool;
mod pullback;
mod reduce;
mod resize;
mod scatter;
mod select;
mod softmax;
mod sub_pixel;

pub(crate) use pullback::{Pullback, filled};

use crate::Result;

/// Emits the vector-Jacobian product of one node.
pub(crate) type Vjp = fn(&mut Pullback) -> Result<()>;

/// The rule for the operator `op`, if there is one.
pub(crate) fn of(op: &str) -> Option<Vjp> {
    Some(match op {
        "Abs" => arithmetic::abs,
        "Add" => arithmetic::add,
        "Cos" => arithmetic::cos,
        "Div" => arithmetic::div,
        "Erf" => arithmetic::erf,
        "Exp" => arithmetic::exp,
        "Log" => arithmetic::log,
        "Max" | "Min" => arithmetic::extremum,
        "Mean" => arithmetic::mean,
        "Mul" => arithmetic::mul,
        "Neg" => arithmetic::neg,
        "Pow" => arithmetic::pow,
        "Reciprocal" => arithmetic::reciprocal,
        "Ceil" | "Floor" | "Sign" => arithmetic::step,
        "Round" => arithmetic::round,
        "Sin" => arithmetic::sin,
        "Sqrt" => arithmetic::sqrt,
        "Sub" => arithmetic::sub,
        "Sum" => arithmetic::sum,
        "Where" => arithmetic::choose,

        "Celu" => activation::celu,
        "Clip" => activation::clip,
        "Elu" => activation::elu,
        "HardSigmoid" => activation::hard_sigmoid,
        "HardSwish" => activation::hard_swish,
        "LeakyRelu" => activation::leaky_relu,
        "Mish" => activation::mish,
        "PRelu" => activation::prelu,
        "Relu" => activation::relu,
        "Selu" => activation::selu,
        "Sigmoid" => activation::sigmoid,
        "Softplus" => activation::softplus,
        "Softsign" => activation::softsign,
        "Tanh" => activation::tanh,
        "ThresholdedRelu" => activation::thresholded_relu,

        "LogSoftmax" => softmax::log_softmax,
        "Softmax" => softmax::softmax,

        "Conv" => conv::conv,
        "ConvTranspose" => conv::conv_transpose,

        "Einsum" => einsum::einsum,
        "Gemm" => matrix::gemm,
        "MatMul" => matrix::mat_mul,

        "AveragePool" => pool::average,
        "GlobalAveragePool" => pool::global_average,
        "GlobalMaxPool" => max_pool::global,
        "MaxPool" => max_pool::max_pool,

        "Resize" => resize::resize,

        "CumSum" => reduce::cumulative_sum,
        "ReduceL1" => reduce::l1,
        "ReduceL2" => reduce::l2,
        "ReduceLogSum" => reduce::log_sum,
        "ReduceLogSumExp" => reduce::log_sum_exp,
        "ReduceMax" | "ReduceMin" => reduce::extremum,
        "ReduceMean" => reduce::mean,
        "ReduceProd" => reduce::product,
        "ReduceSum" => reduce::sum,
        "ReduceSumSquare" => reduce::sum_square,

        "BatchNormalization" => normalization::batch,
        "InstanceNormalization" => normalization::instance,
        "LRN" => normalization::local_response,
        "LayerNormalization" => normalization::layer,

        "Cast" | "CastLike" => layout::cast,
        "DepthToSpace" => layout::depth_to_space,
        "Dropout" => layout::dropout,
        "Expand" => layout::expand,
        "Flatten" | "Reshape" | "Squeeze" | "Unsqueeze" => layout::reshape,
        "Identity" => layout::identity,
        "SpaceToDepth" => layout::space_to_depth,
        "Tile" => layout::tile,
        "Transpose" => layout::transpose,
        "Trilu" => layout::triangle,

        "Concat" => select::concat,
        "Gather" => select::gather,
        "GatherElements" => scatter::gather_elements,
        "GatherND" => scatter::gather_nd,
        "Pad" => select::pad,
        "ScatterElements" => scatter::scatter_elements,
        "ScatterND" => scatter::scatter_nd,
        "Slice" => select::slice,
        "Split" => select::split,
        _ => return None,
    })
}
