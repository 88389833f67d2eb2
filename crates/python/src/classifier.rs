use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use neural_cleanse::engine::{self, EngineChoice, Precision};
use neural_cleanse::{ClassifierOptions, InterfaceOptions, Layout, Model, Preprocessing, Scores};
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArray4, PyReadonlyArray1};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use crate::arrays::{images, labels};
use crate::errors::{engine_exception, exception, parameter_error};

/// A model with its preprocessing and the engine that runs it.
#[pyclass(frozen, module = "neural_cleanse._native")]
pub struct Classifier {
    pub inner: Arc<neural_cleanse::Classifier>,
    #[pyo3(get)]
    engine_note: String,
}

/// A model, as it comes.
#[derive(FromPyObject)]
enum Source {
    #[pyo3(transparent)]
    Bytes(PyBackedBytes),
    #[pyo3(transparent)]
    Path(PathBuf),
}

impl Source {
    fn read(&self) -> neural_cleanse::Result<Model> {
        Ok(match self {
            Source::Bytes(bytes) => Model::from_bytes(bytes)?,
            Source::Path(path) => Model::read(path)?,
        })
    }
}

/// What goes into the model and comes out of it, as `InterfaceOptions` has it.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Interface {
    input: Option<String>,
    output: Option<String>,
    layout: Option<String>,
    input_shape: Option<Vec<usize>>,
    sample_shape: Option<[usize; 3]>,
    input_value: BTreeMap<String, f64>,
}

impl Interface {
    fn options(self) -> PyResult<InterfaceOptions> {
        Ok(InterfaceOptions {
            input: self.input,
            output: self.output,
            layout: self.layout.map(|name| name.parse::<Layout>()).transpose().map_err(parameter_error)?,
            input_shape: self.input_shape,
            sample_shape: self.sample_shape,
            constants: self.input_value,
        })
    }
}

impl Classifier {
    /// The same classifier with another model.
    pub fn with_model(&self, model: Model) -> PyResult<Self> {
        let inner = self.inner.with_model(model).map_err(exception)?;
        Ok(Classifier { inner: Arc::new(inner), engine_note: self.engine_note.clone() })
    }
}

#[pymethods]
impl Classifier {
    #[new]
    #[pyo3(signature = (model, *, scale, mean, std, interface, value_range, class_names, engine, engine_library, precision, threads))]
    #[allow(clippy::too_many_arguments, reason = "they are named, and Python fills them in")]
    fn new(
        py: Python<'_>,
        model: Source,
        scale: f32,
        mean: Vec<f32>,
        std: Vec<f32>,
        interface: Interface,
        value_range: (f32, f32),
        class_names: Option<Vec<String>>,
        engine: &str,
        engine_library: Option<PathBuf>,
        precision: &str,
        threads: Option<usize>,
    ) -> PyResult<Self> {
        let options = ClassifierOptions {
            preprocessing: Preprocessing { scale, mean, std },
            interface: interface.options()?,
            value_range: Some(value_range),
            class_names,
            max_memory: None,
        };
        let choice: EngineChoice = engine.parse().map_err(engine_exception)?;
        let precision: Precision = precision.parse().map_err(parameter_error)?;
        let threads = match threads {
            Some(0) => return Err(parameter_error("threads must be at least 1")),
            Some(threads) => threads,
            None => std::thread::available_parallelism().map_or(1, |n| n.get()),
        };
        let made = py.detach(|| -> neural_cleanse::Result<_> {
            let model = model.read()?;
            let selected = engine::select(choice, engine_library.as_deref())?;
            let inner = neural_cleanse::Classifier::new(model, options, selected.engine, threads)?;
            let inner = inner.with_search_precision(precision)?;
            Ok(Classifier { inner: Arc::new(inner), engine_note: selected.reason })
        });
        made.map_err(exception)
    }

    /// The same classifier with another model.
    #[pyo3(name = "with_model")]
    fn with_source(&self, py: Python<'_>, model: Source) -> PyResult<Self> {
        self.with_model(py.detach(|| model.read()).map_err(exception)?)
    }

    #[getter]
    fn image_shape(&self) -> (usize, usize, usize) {
        self.inner.image_shape().into()
    }

    #[getter]
    fn classes(&self) -> usize {
        self.inner.classes()
    }

    #[getter]
    fn class_names(&self) -> Vec<String> {
        self.inner.class_names().to_vec()
    }

    #[getter]
    fn layout(&self) -> String {
        self.inner.network().layout().to_string()
    }

    #[getter]
    fn precision(&self) -> String {
        self.inner.precision().to_string()
    }

    #[getter]
    fn value_range(&self) -> (f32, f32) {
        self.inner.value_range()
    }

    #[getter]
    fn gives_probabilities(&self) -> bool {
        self.inner.network().scores() != Scores::Logits
    }

    fn predict<'py>(&self, py: Python<'py>, x: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let x = images(x)?;
        let logits = py.detach(|| self.inner.predict(x.view())).map_err(exception)?;
        Ok(logits.into_pyarray(py))
    }

    /// Whether the filter in the model abstains; `None` where it has none.
    fn embedded_abstain<'py>(
        &self,
        py: Python<'py>,
        x: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyArray1<bool>>>> {
        let x = images(x)?;
        let abstains = py.detach(|| self.inner.embedded_abstain(x.view())).map_err(exception)?;
        Ok(abstains.map(|abstains| abstains.into_pyarray(py)))
    }

    fn loss_gradient<'py>(
        &self,
        py: Python<'py>,
        x: &Bound<'py, PyAny>,
        y: PyReadonlyArray1<'py, i64>,
    ) -> PyResult<Bound<'py, PyArray4<f32>>> {
        let (x, y) = (images(x)?, labels(&y)?);
        let gradient = py.detach(|| self.inner.loss_gradient(x.view(), &y)).map_err(exception)?;
        Ok(gradient.into_pyarray(py))
    }

    fn class_gradient<'py>(
        &self,
        py: Python<'py>,
        x: &Bound<'py, PyAny>,
        label: usize,
    ) -> PyResult<Bound<'py, PyArray4<f32>>> {
        let x = images(x)?;
        let gradient = py.detach(|| self.inner.class_gradient(x.view(), label)).map_err(exception)?;
        Ok(gradient.into_pyarray(py))
    }

    /// The model as the bytes of an ONNX file.
    fn model_bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let bytes = py.detach(|| self.inner.network().model().to_bytes());
        PyBytes::new(py, &bytes)
    }

    /// Writes the model to a file, whole or not at all.
    fn write_model(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        py.detach(|| self.inner.network().model().write(path)).map_err(|error| exception(error.into()))
    }
}
