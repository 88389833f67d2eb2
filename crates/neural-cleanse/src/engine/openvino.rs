use std::ffi::{CStr, c_int};
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};

use libloading::Library;
use ndarray::{ArrayD, ArrayView, ArrayViewD, ArrayViewMut};
use onnx_grad::{Extent, Model, ValueSummary};
use openvino::{
    CompiledModel, Core, DeviceType, ElementType, InferRequest, InferenceError, PropertyKey, RwPropertyKey, Tensor,
};
use openvino_sys::ov_version_t;

use super::library::{Candidate, OPENVINO, candidates};
use super::signature::{Input, Signature};
use super::{Engine, EngineError, Precision, Provider, Session};

const NAME: &str = "openvino";

/// [OpenVINO](https://docs.openvino.ai), loaded from its shared library; on the CPU.
#[derive(Clone)]
pub struct OpenVino {
    library: PathBuf,
    version: String,
    core: Arc<Mutex<Core>>,
    precision: Precision,
}

/// A process can load one OpenVINO, which stays until it ends.
static LOADED: Mutex<Option<OpenVino>> = Mutex::new(None);

impl OpenVino {
    /// Loads the `library` given (`libopenvino_c`), else the one that the environment variable OPENVINO_LIBRARY names,
    /// else that of an installed Python package `openvino`: of the active virtual environment, of a `python3` in PATH,
    /// or of the system.
    ///
    /// # Errors
    ///
    /// [`EngineError::LibraryNotFound`] with the directories searched; [`EngineError::Library`] if a library was found
    /// and cannot be used: it is not OpenVINO's C library, or this process has already loaded another.
    pub fn load(library: Option<&Path>) -> Result<Self, EngineError> {
        OPENVINO.first_usable(candidates(&OPENVINO, library)?, load)
    }

    /// The shared library in use.
    pub fn library(&self) -> &Path {
        &self.library
    }
}

impl Engine for OpenVino {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> String {
        self.version.clone()
    }

    fn with_precision(&self, precision: Precision) -> Result<Arc<dyn Engine>, EngineError> {
        if precision == Precision::Bf16 && !self.has_bf16() {
            let reason = "this processor has no instructions for bfloat16";
            return Err(EngineError::Precision { engine: NAME, precision, reason });
        }
        Ok(Arc::new(OpenVino { precision, ..self.clone() }))
    }

    fn with_provider(&self, provider: Provider) -> Result<Arc<dyn Engine>, EngineError> {
        match provider {
            Provider::Cpu => Ok(Arc::new(self.clone())),
            _ => Err(EngineError::Provider { engine: NAME, provider }),
        }
    }

    fn compile(&self, model: &[u8], threads: usize) -> Result<Box<dyn Session>, EngineError> {
        let refused = |reason: String| EngineError::Compile { engine: NAME, reason };
        let interface = Model::from_bytes(model).map_err(|error| refused(error.to_string()))?;
        let mut compiled = self.compiled(model, threads.max(1)).map_err(|error| refused(error.to_string()))?;
        let session = OpenVinoSession::new(&mut compiled, &interface).map_err(|error| refused(error.to_string()))?;
        let session =
            session.ok_or_else(|| refused("an input or output is not a float tensor of fixed shape".into()))?;
        Ok(Box::new(session))
    }
}

impl OpenVino {
    fn has_bf16(&self) -> bool {
        let core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        let capabilities = core.get_property(&DeviceType::CPU, &PropertyKey::DeviceCapabilities);
        capabilities.is_ok_and(|capabilities| capabilities.split_whitespace().any(|name| name == "BF16"))
    }

    fn compiled(&self, model: &[u8], threads: usize) -> Result<CompiledModel, InferenceError> {
        // Properties are the core's and not a call's, so that they are set under the lock.
        let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        let threads = threads.to_string();
        let properties = [
            (RwPropertyKey::InferenceNumThreads, threads.as_str()),
            (RwPropertyKey::NumStreams, "1"),
            (RwPropertyKey::HintPerformanceMode, "LATENCY"),
            // Sessions run side by side, and each would be pinned to the first processor.
            (RwPropertyKey::HintEnableCpuPinning, "NO"),
            // Where the processor has bfloat16, that is the default.
            (RwPropertyKey::HintInferencePrecision, self.precision.name()),
        ];
        core.set_properties(&DeviceType::CPU, properties)?;
        let model = core.read_model_from_buffer(model, None)?;
        core.compile_model(&model, DeviceType::CPU)
    }
}

fn load(candidate: &Candidate) -> Result<OpenVino, EngineError> {
    let unusable = |reason: String| candidate.unusable(&OPENVINO, reason);
    let path = candidate.path.canonicalize().map_err(|error| unusable(error.to_string()))?;
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(engine) = loaded.as_ref() {
        if engine.library == path {
            return Ok(engine.clone());
        }
        return Err(unusable(format!("this process has already loaded {}", engine.library.display())));
    }
    let version = probe(&path).map_err(unusable)?;
    openvino_sys::library::load_from(path.clone()).map_err(unusable)?;
    let core = Core::new().map_err(|error| unusable(error.to_string()))?;
    let engine = OpenVino { version, library: path, core: Arc::new(Mutex::new(core)), precision: Precision::F32 };
    *loaded = Some(engine.clone());
    Ok(engine)
}

/// The first version, year and release, that the bindings can use.
const OLDEST: (u32, u32) = (2025, 1);

/// The version of the library, if it is a C library of OpenVINO that the bindings can use: they take any library, for ever, and
/// panic when a function is missing.
fn probe(library: &Path) -> Result<String, String> {
    // SAFETY: the library is one that the user named or installed to be run here, and the two functions are called as every
    // version of OpenVINO's C API declares them.
    let build = unsafe {
        let library = Library::new(library).map_err(|error| error.to_string())?;
        library.get::<unsafe extern "C" fn()>(b"ov_core_read_model_from_memory_buffer").map_err(|e| e.to_string())?;
        let tell = library.get::<unsafe extern "C" fn(*mut ov_version_t) -> c_int>(b"ov_get_openvino_version");
        let free = library.get::<unsafe extern "C" fn(*mut ov_version_t)>(b"ov_version_free");
        let (tell, free) = (tell.map_err(|e| e.to_string())?, free.map_err(|e| e.to_string())?);
        let mut told = ov_version_t { buildNumber: ptr::null(), description: ptr::null() };
        if tell(&mut told) != 0 || told.buildNumber.is_null() {
            return Err("it does not tell its version".to_owned());
        }
        let build = CStr::from_ptr(told.buildNumber).to_string_lossy().into_owned();
        free(&mut told);
        build
    };
    let version = version(&build);
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(year), Some(release)) if (year, release) >= OLDEST => Ok(version),
        _ => Err(format!("its version is {version}, and {}.{} or newer is needed", OLDEST.0, OLDEST.1)),
    }
}

/// `2026.4.1` of `2026.4.1-22180-4f5b0c0f0c1-releases/2026/4`.
fn version(build: &str) -> String {
    build.split('-').next().unwrap_or_default().to_owned()
}

/// A request with its tensors, which are allocated once, in the order of the signature.
struct OpenVinoSession {
    request: InferRequest,
    inputs: Vec<Tensor>,
    outputs: Vec<(Tensor, Vec<usize>)>,
    signature: Signature,
}

impl OpenVinoSession {
    /// Names are those in the ONNX model: OpenVINO may give a value several and tells any one of them.
    ///
    /// `None` where the model takes or gives anything but float32 tensors of fixed shape.
    fn new(compiled: &mut CompiledModel, model: &Model) -> Result<Option<Self>, InferenceError> {
        let request = compiled.create_infer_request()?;
        let mut signature = Signature { inputs: Vec::new(), outputs: Vec::new() };
        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        for ValueSummary { name, shape, .. } in model.inputs() {
            let (Some(tensor), Some(shape)) = (float_tensor(&request, &name)?, fixed(shape)) else { return Ok(None) };
            inputs.push(tensor);
            signature.inputs.push(Input { name, shape: shape.into_iter().map(Some).collect() });
        }
        for ValueSummary { name, shape, .. } in model.outputs() {
            let (Some(tensor), Some(shape)) = (float_tensor(&request, &name)?, fixed(shape)) else { return Ok(None) };
            outputs.push((tensor, shape));
            signature.outputs.push(name);
        }
        Ok(Some(OpenVinoSession { request, inputs, outputs, signature }))
    }
}

fn float_tensor(request: &InferRequest, name: &str) -> Result<Option<Tensor>, InferenceError> {
    let tensor = request.get_tensor(name)?;
    Ok((tensor.get_element_type()? == ElementType::F32).then_some(tensor))
}

fn fixed(shape: Option<Vec<Extent>>) -> Option<Vec<usize>> {
    let extent = |extent| if let Extent::Fixed(size) = extent { Some(size) } else { None };
    shape?.into_iter().map(extent).collect()
}

impl Session for OpenVinoSession {
    fn run(
        &mut self,
        inputs: &[(&str, ArrayViewD<'_, f32>)],
        outputs: &[&str],
    ) -> Result<Vec<ArrayD<f32>>, EngineError> {
        self.signature.check(inputs, outputs)?;
        for (name, array) in inputs {
            let place = self.signature.inputs.iter().position(|input| input.name == *name);
            let tensor = place.and_then(|place| self.inputs.get_mut(place));
            write(array, tensor.ok_or_else(|| failed("an input is missing"))?)?;
        }
        self.request.infer().map_err(failed)?;
        let read_output = |name: &&str| {
            let place = self.signature.outputs.iter().position(|output| output == name);
            read(place.and_then(|place| self.outputs.get(place)).ok_or_else(|| failed("an output is missing"))?)
        };
        outputs.iter().map(read_output).collect()
    }
}

fn write(array: &ArrayViewD<'_, f32>, tensor: &mut Tensor) -> Result<(), EngineError> {
    let elements = tensor.get_data_mut::<f32>().map_err(failed)?;
    ArrayViewMut::from_shape(array.raw_dim(), elements).map_err(failed)?.assign(array);
    Ok(())
}

fn read((tensor, shape): &(Tensor, Vec<usize>)) -> Result<ArrayD<f32>, EngineError> {
    let elements = tensor.get_data::<f32>().map_err(failed)?;
    Ok(ArrayView::from_shape(shape.as_slice(), elements).map_err(failed)?.to_owned())
}

fn failed(reason: impl ToString) -> EngineError {
    EngineError::Run { engine: NAME, reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_what_precedes_the_build() {
        assert_eq!(version("2026.4.1-22180-4f5b0c0f0c1-releases/2026/4"), "2026.4.1");
        assert_eq!(version("2024.0.0"), "2024.0.0");
    }
}
