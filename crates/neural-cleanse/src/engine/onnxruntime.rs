use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use libloading::Library;
use ndarray::{ArrayD, ArrayViewD, CowArray, IxDyn};
use ort::environment::Environment;
use ort::ep::{self, ExecutionProviderDispatch};
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{OutputSelector, RunOptions, SessionInputValue};
use ort::sys::{ORT_API_VERSION, OrtApiBase};
use ort::value::{Outlet, TensorRef};

use super::library::{Candidate, ONNX_RUNTIME, candidates};
use super::signature::{Input, Signature};
use super::{Engine, EngineError, Precision, Provider, Session};

const NAME: &str = "onnxruntime";

/// [ONNX Runtime](https://onnxruntime.ai), loaded from its shared library.
#[derive(Debug, Clone)]
pub struct OnnxRuntime {
    library: PathBuf,
    version: String,
    environment: Environment,
    provider: Provider,
}

/// A process can load one ONNX Runtime and make one environment of it; they stay until it ends.
static LOADED: Mutex<Option<OnnxRuntime>> = Mutex::new(None);

impl OnnxRuntime {
    /// Loads the `library` given, else the one that the environment variable ORT_DYLIB_PATH names, else that
    /// of an installed Python package `onnxruntime`: of the active virtual
    /// environment, of a `python3` in PATH, or of the system.
    ///
    /// # Errors
    ///
    /// [`EngineError::LibraryNotFound`] with the directories searched;
    /// [`EngineError::Library`] if a library was found and cannot be used: it is none of
    /// ONNX Runtime, it is older than 1.17, or this process has already loaded another.
    pub fn load(library: Option<&Path>) -> Result<Self, EngineError> {
        ONNX_RUNTIME.first_usable(candidates(&ONNX_RUNTIME, library)?, load)
    }

    /// The shared library in use.
    pub fn library(&self) -> &Path {
        &self.library
    }
}

impl Engine for OnnxRuntime {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> String {
        match self.provider {
            Provider::Cpu => self.version.clone(),
            provider => format!("{} on {provider}", self.version),
        }
    }

    fn with_precision(&self, precision: Precision) -> Result<Arc<dyn Engine>, EngineError> {
        match precision {
            Precision::F32 => Ok(Arc::new(self.clone())),
            Precision::Bf16 => Err(EngineError::Precision { engine: NAME, precision, reason: "only openvino can" }),
        }
    }

    fn provider(&self) -> Provider {
        self.provider
    }

    fn with_provider(&self, provider: Provider) -> Result<Arc<dyn Engine>, EngineError> {
        Ok(Arc::new(OnnxRuntime { provider, ..self.clone() }))
    }

    fn compile(&self, model: &[u8], threads: usize) -> Result<Box<dyn Session>, EngineError> {
        let session = build_session(self, model, threads.max(1))
            .map_err(|error| EngineError::Compile { engine: NAME, reason: error.to_string() })?;
        let signature = Signature {
            inputs: session.inputs().iter().map(declared_input).collect(),
            outputs: session.outputs().iter().map(|output| output.name().to_owned()).collect(),
        };
        Ok(Box::new(OnnxRuntimeSession { session, signature }))
    }
}

fn load(candidate: &Candidate) -> Result<OnnxRuntime, EngineError> {
    let unusable = |reason: String| candidate.unusable(&ONNX_RUNTIME, reason);
    let path = candidate.path.canonicalize().map_err(|error| unusable(error.to_string()))?;
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(engine) = loaded.as_ref() {
        if engine.library == path {
            return Ok(engine.clone());
        }
        return Err(unusable(format!("this process has already loaded {}", engine.library.display())));
    }
    let version = probe(&path).map_err(unusable)?;
    let environment = ort::init_from(&path)
        .map_err(|error| unusable(error.to_string()))?
        .with_name("neural-cleanse")
        .with_telemetry(false)
        .build()
        .map_err(|error| unusable(error.to_string()))?;
    let engine = OnnxRuntime { version, library: path, environment, provider: Provider::Cpu };
    *loaded = Some(engine.clone());
    Ok(engine)
}

/// The version of the library, if it is an ONNX Runtime with the API that the bindings use; they panic where it is not.
fn probe(library: &Path) -> Result<String, String> {
    // SAFETY: the library is one that the user named or installed to be run here, and the three functions are called as every
    // version of ONNX Runtime's C API declares them.
    unsafe {
        let library = Library::new(library).map_err(|error| error.to_string())?;
        let base = library.get::<unsafe extern "C" fn() -> *const OrtApiBase>(b"OrtGetApiBase");
        let base = base.map_err(|error| error.to_string())?().as_ref().ok_or("its OrtGetApiBase returns nothing")?;
        let version = (base.GetVersionString)();
        if version.is_null() {
            return Err("it does not tell its version".to_owned());
        }
        let version = CStr::from_ptr(version).to_string_lossy().into_owned();
        if (base.GetApi)(ORT_API_VERSION).is_null() {
            return Err(format!("its version is {version}, and 1.{ORT_API_VERSION} or newer is needed"));
        }
        Ok(version)
    }
}

fn build_session(engine: &OnnxRuntime, model: &[u8], threads: usize) -> ort::Result<ort::session::Session> {
    ort::session::Session::builder(&engine.environment)?
        .with_execution_providers(execution_provider(engine.provider).as_slice())?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(threads)?
        // Sessions run side by side: a thread that spins takes the core of another session.
        .with_intra_op_spinning(false)?
        .with_deterministic_compute(true)?
        .commit_from_memory(model)
}

/// What ONNX Runtime is asked for; where it has no such provider it says so, and does not fall back on the processor.
fn execution_provider(provider: Provider) -> Option<ExecutionProviderDispatch> {
    let dispatch = match provider {
        Provider::Cpu => return None,
        Provider::Cuda => ep::CUDA::default().build(),
        Provider::TensorRt => ep::TensorRT::default().build(),
        Provider::CoreMl => ep::CoreML::default().build(),
        Provider::DirectMl => ep::DirectML::default().build(),
    };
    Some(dispatch.error_on_failure())
}

fn declared_input(input: &Outlet) -> Input {
    let shape = input.dtype().tensor_shape().map(|shape| shape.to_vec()).unwrap_or_default();
    Input { name: input.name().to_owned(), shape: shape.iter().map(|size| usize::try_from(*size).ok()).collect() }
}

struct OnnxRuntimeSession {
    session: ort::session::Session,
    signature: Signature,
}

impl Session for OnnxRuntimeSession {
    fn run(
        &mut self,
        inputs: &[(&str, ArrayViewD<'_, f32>)],
        outputs: &[&str],
    ) -> Result<Vec<ArrayD<f32>>, EngineError> {
        self.signature.check(inputs, outputs)?;
        run(&mut self.session, inputs, outputs)
            .map_err(|error| EngineError::Run { engine: NAME, reason: error.to_string() })
    }
}

fn run(
    session: &mut ort::session::Session,
    inputs: &[(&str, ArrayViewD<'_, f32>)],
    outputs: &[&str],
) -> ort::Result<Vec<ArrayD<f32>>> {
    let contiguous: Vec<CowArray<'_, f32, IxDyn>> =
        inputs.iter().map(|(_, array)| array.as_standard_layout()).collect();
    let values = inputs
        .iter()
        .zip(&contiguous)
        .map(|((name, _), array)| Ok((*name, TensorRef::from_array_view(array.view())?.into())))
        .collect::<ort::Result<Vec<(&str, SessionInputValue<'_>)>>>()?;
    let selector = outputs.iter().fold(OutputSelector::no_default(), |selector, name| selector.with(*name));
    let options = RunOptions::new()?.with_outputs(selector);
    let results = session.run_with_options(values, &options)?;
    results.values().map(|value| Ok(value.try_extract_array::<f32>()?.to_owned())).collect()
}
