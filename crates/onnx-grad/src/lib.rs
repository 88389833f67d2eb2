//! Reverse-mode differentiation of ONNX graphs.
//!
//! A model is read, checked and brought to one opset with static shapes
//! ([`Graph`]), simplified, differentiated and written as an ordinary ONNX model
//! again, which any ONNX engine runs.

mod attribute;
mod backward;
mod batch;
mod check;
mod cut;
mod error;
mod export;
mod extend;
mod external;
mod fold;
mod foreign;
mod functions;
mod graph;
mod import;
mod infer;
mod memory;
mod model;
mod narrow;
mod node_proto;
mod opset;
mod order;
mod proto;
mod simplify;
mod summary;
mod tensor;
mod tensor_proto;
mod vjp;
mod window;

pub use attribute::{Attribute, Attributes};
pub use backward::{Gradients, differentiate};
pub use error::{Error, Result};
pub use graph::{Graph, Node, OPSET};
pub use import::ImportOptions;
pub use model::Model;
pub use simplify::simplify;
pub use summary::{Extent, ValueSummary};
pub use tensor::{ElementType, Tensor, TensorData, ValueType};
