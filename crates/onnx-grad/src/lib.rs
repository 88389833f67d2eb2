//! Reverse-mode differentiation of ONNX graphs.
//!
//! A model is read, checked and brought to one opset with static shapes
//! ([`Graph`]), simplified, differentiated and written as an ordinary ONNX model
//! again, which any ONNX engine runs.

mod attribute;
mod backward;
mod error;
mod fold;
mod graph;
mod infer;
mod simplify;
mod tensor;
mod vjp;
mod window;

pub use attribute::{Attribute, Attributes};
pub use backward::{Gradients, differentiate};
pub use error::{Error, Result};
pub use graph::{Graph, Node, OPSET};
pub use simplify::simplify;
pub use tensor::{ElementType, Tensor, TensorData, ValueType};
