use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use ndarray::{ArrayD, ArrayViewD, CowArray, IxDyn};
use rten::{Dimension, Model, ModelOptions, NodeId, RunOptions, ThreadPool, Value, ValueOrView};
use rten_tensor::{Layout, Tensor, TensorView};

use super::framing::is_whole_message;
use super::signature::{Input, Signature};
use super::{Engine, EngineError, Precision, Provider, STACK, Session};

const NAME: &str = "rten";

/// The embedded engine: [rten](https://github.com/robertknight/rten), pure Rust, on the CPU.
///
/// It is memory-safe on hostile models, which may still use up memory and time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rten;

impl Engine for Rten {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> String {
        VERSION.to_owned()
    }

    fn with_precision(&self, precision: Precision) -> Result<Arc<dyn Engine>, EngineError> {
        match precision {
            Precision::F32 => Ok(Arc::new(*self)),
            Precision::Bf16 => Err(EngineError::Precision { engine: NAME, precision, reason: "only openvino can" }),
        }
    }

    fn with_provider(&self, provider: Provider) -> Result<Arc<dyn Engine>, EngineError> {
        match provider {
            Provider::Cpu => Ok(Arc::new(*self)),
            _ => Err(EngineError::Provider { engine: NAME, provider }),
        }
    }

    fn compile(&self, model: &[u8], threads: usize) -> Result<Box<dyn Session>, EngineError> {
        let refused = |reason: String| EngineError::Compile { engine: NAME, reason };
        if !is_whole_message(model) {
            return Err(refused("the bytes are not an ONNX model".to_owned()));
        }
        let load = || ModelOptions::with_all_ops().prepack_weights(true).load(model.to_vec());
        let model = outside_rayon(load)
            .map_err(|panic| refused(panic_message(panic.as_ref())))?
            .map_err(|error| refused(error.to_string()))?;
        let pool = Arc::new(ThreadPool::with_num_threads(threads.max(1)));
        Ok(Box::new(RtenSession {
            signature: signature(&model),
            model,
            options: RunOptions::default().with_thread_pool(Some(pool)),
        }))
    }
}

/// rten does not tell its version; a test compares this with the manifest.
const VERSION: &str = "0.27";

struct RtenSession {
    model: Model,
    signature: Signature,
    options: RunOptions,
}

impl Session for RtenSession {
    fn run(
        &mut self,
        inputs: &[(&str, ArrayViewD<'_, f32>)],
        outputs: &[&str],
    ) -> Result<Vec<ArrayD<f32>>, EngineError> {
        self.signature.check(inputs, outputs)?;
        let contiguous: Vec<CowArray<'_, f32, IxDyn>> =
            inputs.iter().map(|(_, array)| array.as_standard_layout()).collect();
        let values = inputs
            .iter()
            .zip(&contiguous)
            .map(|((name, _), array)| Ok((self.node(name)?, view(array)?)))
            .collect::<Result<Vec<_>, EngineError>>()?;
        let output_nodes = outputs.iter().map(|name| self.node(name)).collect::<Result<Vec<_>, _>>()?;
        let run = || self.model.run(values, &output_nodes, Some(self.options.clone()));
        let results = outside_rayon(run)
            .map_err(|panic| failed(panic_message(panic.as_ref())))?
            .map_err(|error| failed(error.to_string()))?;
        outputs.iter().zip(results).map(|(name, value)| into_array(name, value)).collect()
    }
}

impl RtenSession {
    fn node(&self, name: &str) -> Result<NodeId, EngineError> {
        self.model.node_id(name).map_err(|error| failed(error.to_string()))
    }
}

fn signature(model: &Model) -> Signature {
    let name = |id: &NodeId| model.node_info(*id).and_then(|node| node.name().map(str::to_owned)).unwrap_or_default();
    let shape = |id: &NodeId| model.node_info(*id).and_then(|node| node.shape()).unwrap_or_default();
    let input = |id: &NodeId| Input { name: name(id), shape: shape(id).iter().map(fixed_size).collect() };
    Signature {
        inputs: model.input_ids().iter().map(input).collect(),
        outputs: model.output_ids().iter().map(name).collect(),
    }
}

fn fixed_size(dimension: &Dimension) -> Option<usize> {
    match dimension {
        Dimension::Fixed(size) => Some(*size),
        Dimension::Symbolic(_) => None,
    }
}

/// Runs `work` where waiting for one of rten's thread pools only waits, and catches panics.
///
/// A rayon worker that waits for another pool meanwhile starts further jobs of its own
/// pool, here another inversion on top of this one; a plain thread does not.
fn outside_rayon<R: Send>(work: impl FnOnce() -> R + Send) -> thread::Result<R> {
    if rayon::current_thread_index().is_none() {
        return catch_unwind(AssertUnwindSafe(work));
    }
    thread::scope(|scope| match thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work) {
        Ok(handle) => handle.join(),
        Err(error) => Err(Box::new(format!("no thread: {error}")) as Box<dyn Any + Send>),
    })
}

fn view<'a>(array: &'a CowArray<'_, f32, IxDyn>) -> Result<ValueOrView<'a>, EngineError> {
    let data = array.as_slice().ok_or_else(|| failed("an input is not contiguous".to_owned()))?;
    let tensor = TensorView::try_from_data(array.shape(), data).map_err(|error| failed(error.to_string()))?;
    Ok(tensor.into())
}

fn into_array(name: &str, value: Value) -> Result<ArrayD<f32>, EngineError> {
    let tensor: Tensor<f32> =
        value.into_tensor().ok_or_else(|| failed(format!("output `{name}` is not a float tensor")))?;
    let shape = tensor.shape().to_vec();
    ArrayD::from_shape_vec(shape, tensor.into_data()).map_err(|error| failed(error.to_string()))
}

fn failed(reason: String) -> EngineError {
    EngineError::Run { engine: NAME, reason }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let words = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("it stopped with a panic: {}", words.unwrap_or("no message"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_the_one_in_the_manifest() {
        let manifest = include_str!("../../Cargo.toml");
        assert!(manifest.contains(&format!("rten = {{ version = \"{VERSION}\"")));
    }
}
