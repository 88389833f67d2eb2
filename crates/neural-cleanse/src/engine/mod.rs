//! Engines run ONNX graphs; they know nothing of Neural Cleanse.
//!
//! An [`Engine`] compiles the bytes of an ONNX model to a [`Session`], which runs
//! named `f32` tensors. The graphs have static shapes and float inputs and outputs;
//! an engine checks names and shapes before it runs anything.

mod error;
mod framing;
mod library;
mod onnxruntime;
mod openvino;
mod precision;
mod provider;
mod rten;
mod select;
mod signature;

use std::sync::Arc;

use ndarray::{ArrayD, ArrayViewD};

pub use error::EngineError;
pub use library::search_first;
pub use onnxruntime::OnnxRuntime;
pub use openvino::OpenVino;
pub use precision::Precision;
pub use provider::Provider;
pub use rten::Rten;
pub use select::{EngineChoice, Selected, select};

/// The stack, in bytes, that a thread needs in which an engine runs: some follow a graph's nodes by recursion.
pub(crate) const STACK: usize = 16 << 20;

/// Compiles ONNX models.
pub trait Engine: Send + Sync {
    /// The name under which the engine is chosen: `rten`, `onnxruntime`, `openvino`.
    fn name(&self) -> &'static str;

    /// The engine's own version, e.g. `1.32.0`.
    fn version(&self) -> String;

    /// Where it computes.
    fn provider(&self) -> Provider {
        Provider::Cpu
    }

    /// The same engine computing in `precision`.
    ///
    /// # Errors
    ///
    /// [`EngineError::Precision`] if the engine or the machine has nothing but [`Precision::F32`].
    fn with_precision(&self, precision: Precision) -> Result<Arc<dyn Engine>, EngineError>;

    /// The same engine computing on `provider`.
    ///
    /// # Errors
    ///
    /// [`EngineError::Provider`] if the engine has nothing but [`Provider::Cpu`]. Whether this machine has the provider shows
    /// when the first model is compiled.
    fn with_provider(&self, provider: Provider) -> Result<Arc<dyn Engine>, EngineError>;

    /// Compiles a serialised ONNX model with static shapes.
    ///
    /// `threads` is the number of threads that one run of this session may use; 0
    /// counts as 1. Results do not depend on it.
    ///
    /// # Errors
    ///
    /// [`EngineError::Compile`] if the bytes are no ONNX model or use what the engine lacks.
    fn compile(&self, model: &[u8], threads: usize) -> Result<Box<dyn Session>, EngineError>;
}

/// A compiled model. Sessions are independent: several may run side by side in different threads.
pub trait Session: Send {
    /// Runs the graph on every one of its inputs, in any order, and returns the
    /// `outputs` in the order asked for. Outputs that are not asked for may not be computed.
    ///
    /// # Errors
    ///
    /// An input or output that is unknown, missing, named twice or of the wrong shape
    /// is an error that names it; [`EngineError::Run`] carries the engine's own words.
    fn run(
        &mut self,
        inputs: &[(&str, ArrayViewD<'_, f32>)],
        outputs: &[&str],
    ) -> Result<Vec<ArrayD<f32>>, EngineError>;
}
