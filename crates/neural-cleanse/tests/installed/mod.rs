//! The engines that there are on this machine.

use std::sync::Arc;

use neural_cleanse::engine::{Engine, OnnxRuntime, OpenVino, Rten};

/// All engines; one whose library is not installed is left out, and said to be.
pub fn engines() -> Vec<Arc<dyn Engine>> {
    let mut engines: Vec<Arc<dyn Engine>> = vec![Arc::new(Rten)];
    match OnnxRuntime::load(None) {
        Ok(engine) => engines.push(Arc::new(engine)),
        Err(error) => eprintln!("skipped: onnxruntime: {error}"),
    }
    match OpenVino::load(None) {
        Ok(engine) => engines.push(Arc::new(engine)),
        Err(error) => eprintln!("skipped: openvino: {error}"),
    }
    engines
}
