//! A model with what belongs to it: preprocessing, range of pixel values, names of the classes, engine.

use std::sync::{Arc, Mutex, PoisonError};

use ndarray::{Array, Array2, Array4, ArrayView, ArrayView3, ArrayView4, Axis, CowArray, RemoveAxis, s};
use onnx_grad::{ElementType, Graph, Model, Tensor, ValueType, differentiate};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::engine::{Engine, Precision, Session};
use crate::error::{Error, Result};
use crate::interface::InterfaceOptions;
use crate::logits::one_hot;
pub use crate::logits::{classes_of, share_right};
use crate::network::Network;
use crate::preprocessing::Preprocessing;
use crate::scores::Scores;

/// How a [`Classifier`] is made from a model.
#[derive(Debug, Clone, Default)]
pub struct ClassifierOptions {
    /// What the model wants done to raw pixel values.
    pub preprocessing: Preprocessing,
    /// What goes into the model and comes out of it.
    pub interface: InterfaceOptions,
    /// The smallest and largest raw pixel value; `None` is 0..255.
    pub value_range: Option<(f32, f32)>,
    /// One name for each class; `None` names them by their numbers.
    pub class_names: Option<Vec<String>>,
    /// About how many bytes the graphs that run side by side may take; `None` is no bound.
    pub max_memory: Option<u64>,
}

/// A classifier of images: a model with its preprocessing, its range of pixel values, the names of
/// its classes, and the engine that runs it.
///
/// Images are `[N, C, H, W]` of raw pixel values throughout. What comes out are *logits*, also
/// where the model itself ends in a Softmax.
///
/// ```
/// # use std::sync::Arc;
/// use neural_cleanse::classifier::classes_of;
/// use neural_cleanse::{Classifier, ClassifierOptions, Model, Preprocessing, engine::Rten};
///
/// # fn main() -> neural_cleanse::Result<()> {
/// # let path = "../../fixtures/fmnist_clean.onnx";
/// let preprocessing = Preprocessing { scale: 1.0 / 255.0, mean: vec![0.2860], std: vec![0.3530] };
/// let options = ClassifierOptions { preprocessing, ..ClassifierOptions::default() };
/// let classifier = Classifier::new(Model::read(path)?, options, Arc::new(Rten), 2)?;
/// assert_eq!((classifier.image_shape(), classifier.classes()), ([1, 28, 28], 10));
/// let logits = classifier.predict(ndarray::Array4::zeros((3, 1, 28, 28)).view())?;
/// assert_eq!(classes_of(&logits).len(), 3);
/// # Ok(())
/// # }
/// ```
pub struct Classifier {
    network: Network,
    interface: InterfaceOptions,
    value_range: (f32, f32),
    class_names: Vec<String>,
    engine: Arc<dyn Engine>,
    search_engine: Arc<dyn Engine>,
    precision: Precision,
    threads: usize,
    max_memory: Option<u64>,
    predictor: Mutex<Option<Predictor>>,
}

/// How many images [`Classifier::predict`] and the gradients send through the model at a time.
pub(crate) const BATCH: usize = 32;

/// How many images of noise tell probabilities from logits.
const NOISE_IMAGES: usize = 8;

impl Classifier {
    /// A classifier from a model that was read.
    ///
    /// # Errors
    /// If the model is not a classifier of images, has an operator that is not supported, or does not
    /// go with the options.
    pub fn new(model: Model, options: ClassifierOptions, engine: Arc<dyn Engine>, threads: usize) -> Result<Self> {
        let network = Network::new(model, options.preprocessing, &options.interface)?;
        let class_names = (0..network.classes()).map(|class| class.to_string()).collect();
        let value_range = options.value_range.unwrap_or((0.0, 255.0));
        if !(value_range.0.is_finite() && value_range.1.is_finite() && value_range.0 < value_range.1) {
            return Err(Error::Config(format!("{value_range:?} is not a range of pixel values")));
        }
        let mut classifier = Classifier {
            network,
            interface: options.interface,
            value_range,
            class_names,
            search_engine: engine.clone(),
            engine,
            precision: Precision::F32,
            threads,
            max_memory: options.max_memory,
            predictor: Mutex::new(None),
        };
        if classifier.network.scores() == Scores::Logits && classifier.gives_probabilities()? {
            classifier.network.scores_are_probabilities();
            classifier.predictor = Mutex::new(None);
        }
        match options.class_names {
            Some(names) => classifier.with_class_names(names),
            None => Ok(classifier),
        }
    }

    /// The same classifier with other names for its classes.
    ///
    /// # Errors
    /// If there is not one name for each class.
    pub fn with_class_names(mut self, names: Vec<String>) -> Result<Self> {
        if names.len() != self.classes() {
            let message = format!("{} class names for a model of {} classes", names.len(), self.classes());
            return Err(Error::Config(message));
        }
        self.class_names = names;
        Ok(self)
    }

    /// The same classifier, whose triggers are searched for in `precision`. Predictions and all that is measured stay in
    /// float32.
    ///
    /// # Errors
    /// If the engine does not compute in that precision.
    pub fn with_search_precision(mut self, precision: Precision) -> Result<Self> {
        self.search_engine = self.engine.with_precision(precision)?;
        self.precision = precision;
        Ok(self)
    }

    /// The same classifier with another `model`, such as a repaired one: preprocessing, range of pixel values, names of
    /// the classes, engine and threads stay.
    ///
    /// # Errors
    /// As [`Classifier::new`] has them.
    pub fn with_model(&self, model: Model) -> Result<Self> {
        let options = ClassifierOptions {
            preprocessing: self.network.preprocessing().clone(),
            interface: self.interface.clone(),
            value_range: Some(self.value_range),
            class_names: Some(self.class_names.clone()),
            max_memory: self.max_memory,
        };
        Classifier::new(model, options, self.engine.clone(), self.threads)?.with_search_precision(self.precision)
    }

    /// Whether the scores of images of noise are probabilities, none of them negative and their sum 1.
    fn gives_probabilities(&self) -> Result<bool> {
        let [channels, height, width] = self.image_shape();
        let (low, high) = self.value_range;
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let noise =
            Array4::from_shape_simple_fn((NOISE_IMAGES, channels, height, width), || rng.random_range(low..=high));
        let scores = self.run(noise.view())?;
        Ok(scores.outer_iter().all(|row| row.iter().all(|&score| score >= -1e-6) && (row.sum() - 1.0).abs() < 1e-3))
    }

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.network.classes()
    }

    /// One name for each class.
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }

    /// The shape of an image, `[C, H, W]`.
    pub fn image_shape(&self) -> [usize; 3] {
        self.network.image_shape()
    }

    /// The smallest and the largest raw pixel value.
    pub fn value_range(&self) -> (f32, f32) {
        self.value_range
    }

    /// The model with its preprocessing, as a graph to build on.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The engine that runs the model.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    /// The engine that runs the search for triggers.
    pub fn search_engine(&self) -> &Arc<dyn Engine> {
        &self.search_engine
    }

    /// What triggers are searched for in.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The number of threads that the classifier may use.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// The logits `[N, classes]` of `images` `[N, C, H, W]`.
    ///
    /// # Errors
    /// If the images are not of the model's size, the engine fails, or a logit is not finite.
    pub fn predict(&self, images: ArrayView4<'_, f32>) -> Result<Array2<f32>> {
        let logits = self.run(images)?;
        match logits.outer_iter().position(|row| row.iter().any(|logit| !logit.is_finite())) {
            Some(image) => Err(self.not_finite(images.index_axis(Axis(0), image), image)),
            None => Ok(logits),
        }
    }

    /// What is said of a model whose scores for the image number `position` are not finite.
    fn not_finite(&self, image: ArrayView3<'_, f32>, position: usize) -> Error {
        let cause = if image.iter().any(|pixel| !pixel.is_finite()) {
            "; the image itself has pixels that are not".to_owned()
        } else {
            match self.network.weight_that_is_not_finite() {
                Some((name, value)) => format!("; its weight `{name}` has the value {value}"),
                None => String::new(),
            }
        };
        Error::Classifier(format!("the model's scores for sample {position} are not finite numbers{cause}"))
    }

    fn run(&self, images: ArrayView4<'_, f32>) -> Result<Array2<f32>> {
        let mut predictor = self.predictor.lock().unwrap_or_else(PoisonError::into_inner);
        let predictor = match &mut *predictor {
            Some(predictor) => predictor,
            none => none.insert(self.predictor(self.threads)?),
        };
        predictor.predict(images)
    }

    /// A compiled forward pass of its own, for use in a thread of its own.
    pub fn predictor(&self, threads: usize) -> Result<Predictor> {
        let (graph, images, logits) = self.forward()?;
        Predictor::compile(&*self.engine, graph, &images, &logits, threads)
    }

    /// The whole function from images to logits, weights and preprocessing included, as an ONNX model.
    pub(crate) fn forward_model(&self) -> Result<Vec<u8>> {
        let (mut graph, _, logits) = self.forward()?;
        graph.set_outputs(&[&logits])?;
        Ok(graph.to_model_bytes("predict")?)
    }

    /// The graph of a forward pass, with the names of its images and its logits.
    fn forward(&self) -> Result<(Graph, String, String)> {
        let mut graph = Graph::new();
        let images = self.network.add_images(&mut graph, self.network.batch(BATCH))?;
        let logits = self.network.append(&mut graph, &images)?;
        self.memory_for(&graph)?;
        Ok((graph, images, logits))
    }

    /// About how many bytes `graph` takes when it runs.
    ///
    /// # Errors
    /// If these are more than the classifier may use.
    pub(crate) fn memory_for(&self, graph: &Graph) -> Result<u64> {
        let needed = graph.memory()?;
        match self.max_memory {
            Some(limit) if needed > limit => Err(Error::Classifier(format!(
                "to run it would take about {} of memory, and no more than {} may be used (--max-memory); smaller \
                 minibatches (--batch-size) take less",
                mebibytes(needed),
                mebibytes(limit)
            ))),
            _ => Ok(needed),
        }
    }

    /// How many graphs that take `memory` bytes each may run side by side, at least one.
    pub(crate) fn room_for(&self, memory: u64) -> usize {
        let room = self.max_memory.map_or(u64::MAX, |limit| limit / memory.max(1));
        usize::try_from(room.max(1)).unwrap_or(usize::MAX)
    }

    /// Whether the filter in the model, if there is one, abstains from each of `images` `[N, C, H, W]`; `None` where
    /// the model has none.
    pub fn embedded_abstain(&self, images: ArrayView4<'_, f32>) -> Result<Option<Vec<bool>>> {
        let Some(output) = self.network.abstain() else {
            return Ok(None);
        };
        let batch = self.network.batch(BATCH);
        let mut graph = Graph::new();
        let input = self.network.add_images(&mut graph, batch)?;
        let abstain = self.network.append_value(&mut graph, &input, output)?;
        let number = graph.apply("Cast", &[&abstain], [("to", 1)])?;
        let column = graph.constant(Tensor::ints(&[batch as i64, 1]));
        let column = graph.apply("Reshape", &[&number, &column], ())?;
        let mut predictor = Predictor::compile(&*self.engine, graph, &input, &column, self.threads)?;
        Ok(Some(predictor.predict(images)?.iter().map(|&abstain| abstain > 0.5).collect()))
    }

    /// The gradient, with respect to raw pixel values, of each image's cross-entropy towards its
    /// label; `[N, C, H, W]`.
    pub fn loss_gradient(&self, images: ArrayView4<'_, f32>, labels: &[usize]) -> Result<Array4<f32>> {
        self.check_labels(labels, images.len_of(Axis(0)))?;
        let weights = one_hot(labels, self.classes()).mapv(|hot| -hot);
        self.gradient(images, &weights, Some("LogSoftmax"))
    }

    /// The gradient, with respect to raw pixel values, of the logit of `class` for each image;
    /// `[N, C, H, W]`.
    pub fn class_gradient(&self, images: ArrayView4<'_, f32>, class: usize) -> Result<Array4<f32>> {
        let labels = vec![class; images.len_of(Axis(0))];
        self.check_labels(&labels, labels.len())?;
        self.gradient(images, &one_hot(&labels, self.classes()), None)
    }

    /// The share of `images` that are classified as `labels` say, in 0..=1.
    pub fn accuracy(&self, images: ArrayView4<'_, f32>, labels: &[usize]) -> Result<f64> {
        self.check_labels(labels, images.len_of(Axis(0)))?;
        Ok(share_right(&classes_of(&self.predict(images)?), labels))
    }

    /// The gradient of Σ weights · activation(logits), which is that of each image by itself.
    fn gradient(
        &self,
        images: ArrayView4<'_, f32>,
        weights: &Array2<f32>,
        activation: Option<&str>,
    ) -> Result<Array4<f32>> {
        let batch = self.network.batch(BATCH);
        let mut graph = Graph::new();
        let input = self.network.add_images(&mut graph, batch)?;
        graph.add_input("weights", ValueType::new(ElementType::F32, [batch, self.classes()]))?;
        let mut scores = self.network.append(&mut graph, &input)?;
        if let Some(op) = activation {
            scores = graph.apply(op, &[&scores], [("axis", 1)])?;
        }
        let weighted = graph.apply("Mul", &[&scores, "weights"], ())?;
        graph.add_output(&weighted)?;
        let gradients = differentiate(&graph, &[&weighted], &[&input])?;
        self.memory_for(&gradients.graph)?;
        let mut session = self.engine.compile(&gradients.graph.to_model_bytes("gradient")?, self.threads)?;
        let mut result = Array4::zeros(images.raw_dim());
        for start in (0..images.len_of(Axis(0))).step_by(batch) {
            let count = batch.min(images.len_of(Axis(0)) - start);
            let rows = s![start..start + count, .., .., ..];
            let mut batch_weights = Array2::zeros((batch, self.classes()));
            batch_weights.slice_mut(s![..count, ..]).assign(&weights.slice(s![start..start + count, ..]));
            let images = padded(images.slice(rows), batch);
            let inputs = [(&*input, images.view().into_dyn()), ("weights", batch_weights.view().into_dyn())];
            let outputs = session.run(&inputs, &[&gradients.names[0]])?;
            let gradient =
                outputs.into_iter().next().ok_or_else(|| Error::Classifier("no gradient came back".into()))?;
            result.slice_mut(rows).assign(&gradient.slice_axis(Axis(0), (0..count).into()));
        }
        Ok(result)
    }

    /// Checks that there is one label for each image and that it is one of the classes.
    pub(crate) fn check_labels(&self, labels: &[usize], images: usize) -> Result<()> {
        if labels.len() != images {
            return Err(Error::Classifier(format!("{} labels for {images} images", labels.len())));
        }
        match labels.iter().find(|&&label| label >= self.classes()) {
            Some(label) => Err(Error::Classifier(format!(
                "label {label} is not one of the model's {} classes: the samples are not of this model's kind",
                self.classes()
            ))),
            None => Ok(()),
        }
    }
}

impl std::fmt::Debug for Classifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Classifier")
            .field("image_shape", &self.image_shape())
            .field("classes", &self.classes())
            .field("engine", &self.engine.name())
            .finish_non_exhaustive()
    }
}

/// A compiled forward pass: of the whole classifier, or from and to values within it.
pub struct Predictor {
    session: Box<dyn Session>,
    input: String,
    output: String,
    batch: usize,
    sample_shape: Vec<usize>,
    width: usize,
}

impl Predictor {
    /// Compiles `graph` from its only input `[batch, ...]` to its value `output` `[batch, width]`.
    pub(crate) fn compile(
        engine: &dyn Engine,
        mut graph: Graph,
        input: &str,
        output: &str,
        threads: usize,
    ) -> Result<Self> {
        graph.set_outputs(&[output])?;
        let (taken, given) = (graph.shape(input)?, graph.shape(output)?);
        let (&[batch, ref sample_shape @ ..], &[rows, width]) = (taken, given) else {
            return Err(Error::Classifier(format!(
                "{taken:?} is made into {given:?}, which is not one row for one image"
            )));
        };
        if rows != batch {
            return Err(Error::Classifier(format!("the model makes {rows} rows of {batch} images")));
        }
        let sample_shape = sample_shape.to_vec();
        Ok(Predictor {
            session: engine.compile(&graph.to_model_bytes("predict")?, threads)?,
            input: input.to_owned(),
            output: output.to_owned(),
            batch,
            sample_shape,
            width,
        })
    }

    /// The logits `[N, classes]` of `images` `[N, C, H, W]`; of a pass to another value, that value.
    pub fn predict<D: RemoveAxis>(&mut self, images: ArrayView<'_, f32, D>) -> Result<Array2<f32>> {
        let images = images.into_dyn();
        if images.shape()[1..] != self.sample_shape {
            return Err(Error::Classifier(format!(
                "images of shape {:?} for a model that takes {:?}",
                &images.shape()[1..],
                self.sample_shape
            )));
        }
        let mut result = Array2::zeros((images.len_of(Axis(0)), self.width));
        for (batch, mut rows) in
            images.axis_chunks_iter(Axis(0), self.batch).zip(result.axis_chunks_iter_mut(Axis(0), self.batch))
        {
            let count = batch.len_of(Axis(0));
            let batch = padded(batch, self.batch);
            let outputs = self.session.run(&[(&self.input, batch.view())], &[&self.output])?;
            let output = outputs.first().ok_or_else(|| Error::Classifier("no logits came back".into()))?;
            rows.assign(&output.slice_axis(Axis(0), (0..count).into()));
        }
        Ok(result)
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

/// `images` with zeros after them, so that there are `batch`.
fn padded<D: RemoveAxis>(images: ArrayView<'_, f32, D>, batch: usize) -> CowArray<'_, f32, D> {
    let count = images.len_of(Axis(0));
    if count == batch {
        return images.into();
    }
    let mut shape = images.raw_dim();
    shape[0] = batch;
    let mut whole = Array::zeros(shape);
    whole.slice_axis_mut(Axis(0), (0..count).into()).assign(&images);
    whole.into()
}
