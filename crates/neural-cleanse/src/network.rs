use std::collections::HashSet;
use std::sync::Arc;

use onnx_grad::{ElementType, Graph, ImportOptions, Model, Tensor, TensorData, ValueType, simplify};

use crate::error::{Error, Result};
use crate::interface::{Interface, InterfaceOptions, PROBE_BATCH, import_options};
use crate::preprocessing::{Layout, Preprocessing};
use crate::scores::{Scores, trailing_activation, without_trailing_activation};
use crate::trainable::{Layers, trainable_initializers};

/// A model as a function from raw images to logits, for any batch size, to be built into graphs.
pub struct Network {
    model: Model,
    preprocessing: Preprocessing,
    interface: Interface,
    /// How many scores the model gives for an image: one for each class, or one for both of two.
    width: usize,
    scores: Scores,
    fixed_batch: Option<usize>,
}

/// A weight of a model that a graph takes as an input.
#[derive(Debug, Clone)]
pub struct TrainableWeight {
    /// The initializer of the model.
    pub name: String,
    /// The input of the graph.
    pub input: String,
    /// What the model has for it, in float32 whatever it is stored as.
    pub tensor: Arc<Tensor>,
}

/// What goes into a linear layer.
pub(crate) struct LayerInput {
    /// The value that has it.
    pub name: String,
    /// The axis of its channels; all others but the first are positions.
    pub axis: usize,
}

impl Network {
    /// Reads off the model what it takes and what it gives, as far as `options` do not say it.
    ///
    /// # Errors
    /// If it is not a classifier of images, which has an input for images and an output with one score for each class, or
    /// if several inputs or outputs could be those; the message names them.
    pub fn new(model: Model, preprocessing: Preprocessing, options: &InterfaceOptions) -> Result<Self> {
        let interface = Interface::new(&model, options)?;
        preprocessing.affine(interface.image.image_shape[0])?;
        let graph = import(&interface.model, PROBE_BATCH, Some(&interface.scores))?;
        let batch = graph.shape(&interface.image.name)?[0];
        let ty = graph.value_type(&interface.scores)?;
        let width = ty.len() / batch.max(1);
        let fits = ty.shape.first() == Some(&batch) && width > 0 && (width == 1 || ty.shape[1..].contains(&width));
        if !fits || width * batch != ty.len() || !ty.element.is_float() {
            return Err(Error::Classifier(format!(
                "output `{}` is {ty} for {batch} image(s): a classifier gives one score for each of two or more classes",
                interface.scores
            )));
        }
        let scores = trailing_activation(&graph).map_or(Scores::Logits, |(_, scores)| scores);
        if width == 1 && scores == Scores::Softmax {
            return Err(Error::Classifier(format!(
                "output `{}` is a Softmax over one class, which is always 1: a classifier tells two or more classes apart",
                interface.scores
            )));
        }
        let fixed_batch = (batch != PROBE_BATCH).then_some(batch);
        Ok(Network { model, preprocessing, interface, width, scores, fixed_batch })
    }

    /// The model as it was read.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The model without what images and scores do not need.
    pub(crate) fn narrowed(&self) -> &Model {
        &self.interface.model
    }

    /// The name of the input that takes the images.
    pub fn input(&self) -> &str {
        &self.interface.image.name
    }

    /// The name of the value that has the scores.
    pub fn output(&self) -> &str {
        &self.interface.scores
    }

    /// Further inputs that the scores depend on, with the value that each element is taken to have.
    pub fn constant_inputs(&self) -> &[(String, f64)] {
        &self.interface.constants
    }

    /// The shape of an image, `[C, H, W]`.
    pub fn image_shape(&self) -> [usize; 3] {
        self.interface.image.image_shape
    }

    /// The number of classes. One score for each image is that of the second of two classes.
    pub fn classes(&self) -> usize {
        self.width.max(2)
    }

    /// The order of the axes of an image in the model.
    pub fn layout(&self) -> Layout {
        self.interface.image.layout
    }

    /// A weight of the model with a value that is not a finite number, and that value.
    pub(crate) fn weight_that_is_not_finite(&self) -> Option<(String, f32)> {
        let options = ImportOptions { fold_weights: false, ..import_options(PROBE_BATCH) };
        let graph = Graph::import(self.narrowed(), &options).ok()?;
        graph.initializers().iter().find_map(|(name, tensor)| match tensor.data() {
            TensorData::F32(values) => Some((name.clone(), *values.iter().find(|value| !value.is_finite())?)),
            _ => None,
        })
    }

    /// What happens to pixel values before the model sees them.
    pub fn preprocessing(&self) -> &Preprocessing {
        &self.preprocessing
    }

    /// What the model gives for each class.
    pub fn scores(&self) -> Scores {
        self.scores
    }

    /// Takes the logarithm of the scores from now on.
    pub(crate) fn scores_are_probabilities(&mut self) {
        self.scores = Scores::Probabilities;
    }

    /// Whether the model rounds its activations (the QDQ form of quantisation). Gradients pass through as if it did not.
    pub fn is_quantised(&self) -> bool {
        self.interface.model.operators().contains_key("QuantizeLinear")
    }

    /// The name of the output by which a filter in the model says, for each image, whether to abstain.
    pub fn abstain(&self) -> Option<&str> {
        self.interface.abstain.as_deref()
    }

    /// The number of images that go through the model at a time where `wanted` are asked for: that many, unless
    /// the model was exported for a fixed number and works with no other.
    pub fn batch(&self, wanted: usize) -> usize {
        self.fixed_batch.unwrap_or(wanted)
    }

    /// Adds the input `images`, `[batch, C, H, W]` of raw pixel values, to `graph`.
    pub fn add_images(&self, graph: &mut Graph, batch: usize) -> Result<String> {
        let [c, h, w] = self.image_shape();
        graph.add_input("images", ValueType::new(ElementType::F32, [batch, c, h, w]))?;
        Ok("images".to_owned())
    }

    /// Appends preprocessing and model to `graph`, from the raw images `[batch, C, H, W]` called
    /// `images` to the logits `[batch, classes]`, whose name is returned. The batch is one that [`batch`](Self::batch)
    /// allows.
    pub fn append(&self, graph: &mut Graph, images: &str) -> Result<String> {
        let batch = graph.shape(images)?[0];
        let model = without_trailing_activation(import(self.narrowed(), batch, Some(self.output()))?)?;
        let scores = self.splice(graph, images, &model, &[])?.swap_remove(0);
        self.logits(graph, &scores, batch)
    }

    /// As [`append`](Self::append), with the weights of `layers` as further inputs of `graph` instead of constants.
    pub fn append_trainable(
        &self,
        graph: &mut Graph,
        images: &str,
        layers: Layers,
    ) -> Result<(String, Vec<TrainableWeight>)> {
        let batch = graph.shape(images)?[0];
        let options = ImportOptions { fold_weights: false, ..import_options(batch) };
        let mut model = Graph::import(self.narrowed(), &options)?;
        model.set_outputs(&[self.output()])?;
        let mut weights = Vec::new();
        for name in trainable_initializers(&model, layers) {
            // A constant that the import has computed is none of the model's.
            if self.model.initializer(&name).is_ok() {
                let tensor = model.initializer_to_input(&name)?;
                let input = graph.fresh_name(&name);
                graph.add_input(&input, tensor.value_type())?;
                weights.push(TrainableWeight { name, input, tensor });
            }
        }
        // The weights being inputs by now, this leaves them alone.
        let model = without_trailing_activation(simplify(model)?)?;
        let scores = self.splice(graph, images, &model, &weights)?.swap_remove(0);
        Ok((self.logits(graph, &scores, batch)?, weights))
    }

    /// Appends preprocessing and what of the model is needed for its value called `value`, from the raw images
    /// `[batch, C, H, W]` called `images` to that value, whose name in `graph` is returned.
    pub fn append_value(&self, graph: &mut Graph, images: &str, value: &str) -> Result<String> {
        let batch = graph.shape(images)?[0];
        Ok(self.splice(graph, images, &import(self.narrowed(), batch, Some(value))?, &[])?.swap_remove(0))
    }

    /// As [`append`](Self::append), with what goes into the linear layers (Gemm, MatMul and Conv with constant weights) on the way, in the order in which they are
    /// computed: each value once, those left out that are not one row for one image, or the images themselves.
    pub(crate) fn append_layers(&self, graph: &mut Graph, images: &str) -> Result<(Vec<LayerInput>, String)> {
        let batch = graph.shape(images)?[0];
        let mut model = without_trailing_activation(import(self.narrowed(), batch, Some(self.output()))?)?;
        let mut layers = Vec::new();
        let mut known: HashSet<String> = model.inputs().iter().cloned().collect();
        for node in model.nodes() {
            let is_constant = |i: usize| node.input(i).is_some_and(|name| model.initializer(name).is_some());
            let is_linear = matches!(node.op.as_str(), "Gemm" | "MatMul" | "Conv") && is_constant(1) && !is_constant(0);
            let Some(name) = node.input(0).filter(|_| is_linear) else { continue };
            let shape = model.shape(name)?;
            if shape.len() >= 2 && shape[0] == batch && known.insert(name.to_owned()) {
                let axis = if node.op == "Conv" { 1 } else { shape.len() - 1 };
                layers.push(LayerInput { name: name.to_owned(), axis });
            }
        }
        let scores = model.outputs()[0].clone();
        let names = layers.iter().map(|layer: &LayerInput| layer.name.as_str());
        let outputs: Vec<&str> = std::iter::once(scores.as_str()).chain(names).collect();
        model.set_outputs(&outputs)?;
        let mut outputs = self.splice(graph, images, &model, &[])?.into_iter();
        let scores = outputs.next().unwrap_or_default();
        let layers = layers.into_iter().zip(outputs).map(|(layer, name)| LayerInput { name, ..layer }).collect();
        Ok((layers, self.logits(graph, &scores, batch)?))
    }

    /// Appends what of the model follows its value called `value`, which is called `here` in `graph`, to the
    /// logits `[batch, classes]`, whose name is returned.
    pub fn append_after(&self, graph: &mut Graph, here: &str, value: &str) -> Result<String> {
        let batch = graph.shape(here)?.first().copied().unwrap_or(1);
        let mut whole = Graph::import(self.narrowed(), &import_options(batch))?;
        whole.set_outputs(&[self.output()])?;
        let rest = without_trailing_activation(simplify(whole.after(value)?)?)?;
        let outputs = graph.splice(&rest, &[(value, here)])?;
        self.logits(graph, &outputs[0], batch)
    }

    /// The shape of the model's value called `value` for `batch` images.
    pub fn shape_of(&self, value: &str, batch: usize) -> Result<Vec<usize>> {
        Ok(Graph::import(self.narrowed(), &import_options(batch))?.shape(value)?.to_vec())
    }

    /// Appends preprocessing and `model`, whose outputs are returned as `graph` calls them.
    fn splice(
        &self,
        graph: &mut Graph,
        images: &str,
        model: &Graph,
        weights: &[TrainableWeight],
    ) -> Result<Vec<String>> {
        let input = &self.interface.image;
        let [batch, channels] = [graph.shape(images)?[0], input.image_shape[0]];
        let (factor, offset) = self.preprocessing.affine(channels)?;
        let mut constant =
            |values: &[f64]| graph.constant(Tensor::floats(ElementType::F32, [1, channels, 1, 1], values));
        let (factor, offset) = (constant(&factor), constant(&offset));
        let scaled = graph.apply("Mul", &[images, &factor], ())?;
        let mut value = graph.apply("Add", &[&scaled, &offset], ())?;
        if input.layout == Layout::Nhwc {
            value = graph.apply("Transpose", &[&value], [("perm", &[0i64, 2, 3, 1][..])])?;
        }
        if input.extents.len() < 3 {
            let shape: Vec<i64> = std::iter::once(&batch).chain(&input.extents).map(|&extent| extent as i64).collect();
            let shape = graph.constant(Tensor::ints(&shape));
            value = graph.apply("Reshape", &[&value, &shape], ())?;
        }
        let mut bindings = vec![(model.inputs()[0].as_str(), value.as_str())];
        bindings.extend(weights.iter().map(|weight| (weight.name.as_str(), weight.input.as_str())));
        Ok(graph.splice(model, &bindings)?)
    }

    /// The logits `[batch, classes]` from what the model gives without its Softmax or Sigmoid.
    fn logits(&self, graph: &mut Graph, scores: &str, batch: usize) -> Result<String> {
        let shape = graph.constant(Tensor::ints(&[batch as i64, self.width as i64]));
        let mut logits = graph.apply("Reshape", &[scores, &shape], ())?;
        if self.scores == Scores::Probabilities {
            let least = graph.constant(Tensor::scalar(ElementType::F32, LEAST_PROBABILITY));
            let probabilities = graph.apply("Max", &[&logits, &least], ())?;
            logits = graph.apply("Log", &[&probabilities], ())?;
        }
        if self.width == 1 {
            let halves = graph.constant(Tensor::floats(ElementType::F32, [1, 2], &[-0.5, 0.5]));
            logits = graph.apply("Mul", &[&logits, &halves], ())?;
        }
        Ok(logits)
    }
}

/// Probabilities below this count as this, so that logarithms and their derivatives are finite.
const LEAST_PROBABILITY: f64 = 1e-30;

/// The simplified graph of `model`, with its own outputs or with the value called `output` as its only one.
fn import(model: &Model, batch: usize, output: Option<&str>) -> Result<Graph> {
    let mut graph = Graph::import(model, &import_options(batch))?;
    if let Some(output) = output {
        graph.set_outputs(&[output])?;
    }
    Ok(simplify(graph.without_dead_nodes())?)
}
