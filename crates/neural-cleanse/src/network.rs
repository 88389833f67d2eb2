use std::collections::BTreeMap;
use std::sync::Arc;

use onnx_grad::{ElementType, Graph, ImportOptions, Model, Node, Tensor, ValueType, simplify};

use crate::error::{Error, Result};
use crate::preprocessing::{Layout, Preprocessing};
use crate::trainable::{Layers, trainable_initializers};

/// The batch for which a model is imported to see what it takes and gives; one, and the axis could not be told from
/// others of extent 1.
pub(crate) const PROBE_BATCH: usize = 2;

/// A model as a function from raw images to logits, for any batch size, to be built into graphs.
pub struct Network {
    model: Model,
    preprocessing: Preprocessing,
    layout: Layout,
    image_shape: [usize; 3],
    scores: String,
    classes: usize,
    ends_in_softmax: bool,
    abstain: Option<String>,
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

impl Network {
    /// Reads off the model what it takes and what it gives.
    ///
    /// # Errors
    /// If it is not a classifier of images: one input of four axes, one floating-point output of one score a class.
    /// Outputs of other types, such as the predicted label, are ignored.
    pub fn new(model: Model, preprocessing: Preprocessing, layout: Option<Layout>) -> Result<Self> {
        let mut graph = import(&model, PROBE_BATCH, None)?;
        let [input] = graph.inputs() else {
            return Err(Error::Classifier(format!(
                "the model has {} inputs ({}): a classifier of images has one",
                graph.inputs().len(),
                graph.inputs().join(", ")
            )));
        };
        let (layout, image_shape) = read_input(input, graph.shape(input)?, layout)?;
        let batch = graph.shape(input)?[0];
        preprocessing.affine(image_shape[0])?;
        let output = scores_output(&graph)?.to_owned();
        let scores = graph.value_type(&output)?;
        let classes = scores.len() / batch.max(1);
        let fits = scores.shape.first() == Some(&batch) && scores.shape[1..].contains(&classes);
        if !fits || classes < 2 || classes * batch != scores.len() {
            return Err(Error::Classifier(format!(
                "output `{output}` is {scores} for {batch} image(s): a classifier gives one score for each of two or more classes"
            )));
        }
        let abstain = abstain_output(&graph)?;
        graph.set_outputs(&[&output])?;
        let ends_in_softmax = trailing_softmax(&graph).is_some();
        let fixed_batch = (batch != PROBE_BATCH).then_some(batch);
        Ok(Network {
            model,
            preprocessing,
            layout,
            image_shape,
            scores: output,
            classes,
            ends_in_softmax,
            abstain,
            fixed_batch,
        })
    }

    /// The model as it was read.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The shape of an image, `[C, H, W]`.
    pub fn image_shape(&self) -> [usize; 3] {
        self.image_shape
    }

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The order of the axes of the model's own input.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// What happens to pixel values before the model sees them.
    pub fn preprocessing(&self) -> &Preprocessing {
        &self.preprocessing
    }

    /// Whether the model gives probabilities, by a Softmax that is left off here.
    pub fn ends_in_softmax(&self) -> bool {
        self.ends_in_softmax
    }

    /// The name of the output by which a filter in the model says, for each image, whether to abstain.
    pub fn abstain(&self) -> Option<&str> {
        self.abstain.as_deref()
    }

    /// The number of images that go through the model at a time where `wanted` are asked for: that many, unless
    /// the model was exported for a fixed number and works with no other.
    pub fn batch(&self, wanted: usize) -> usize {
        self.fixed_batch.unwrap_or(wanted)
    }

    /// Adds the input `images`, `[batch, C, H, W]` of raw pixel values, to `graph`.
    pub fn add_images(&self, graph: &mut Graph, batch: usize) -> Result<String> {
        let [c, h, w] = self.image_shape;
        graph.add_input("images", ValueType::new(ElementType::F32, [batch, c, h, w]))?;
        Ok("images".to_owned())
    }

    /// Appends preprocessing and model to `graph`, from the raw images `[batch, C, H, W]` called
    /// `images` to the logits `[batch, classes]`, whose name is returned. The batch is one that [`batch`](Self::batch)
    /// allows.
    pub fn append(&self, graph: &mut Graph, images: &str) -> Result<String> {
        let batch = graph.shape(images)?[0];
        let model = without_trailing_softmax(import(&self.model, batch, Some(&self.scores))?)?;
        let scores = self.splice(graph, images, &model, &[])?;
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
        let mut model = Graph::import(&self.model, &options)?;
        model.set_outputs(&[&self.scores])?;
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
        let model = without_trailing_softmax(simplify(model)?)?;
        let scores = self.splice(graph, images, &model, &weights)?;
        Ok((self.logits(graph, &scores, batch)?, weights))
    }

    /// Appends preprocessing and what of the model is needed for its value called `value`, from the raw images
    /// `[batch, C, H, W]` called `images` to that value, whose name in `graph` is returned.
    pub fn append_value(&self, graph: &mut Graph, images: &str, value: &str) -> Result<String> {
        let batch = graph.shape(images)?[0];
        self.splice(graph, images, &import(&self.model, batch, Some(value))?, &[])
    }

    /// Appends what of the model follows its value called `value`, which is called `here` in `graph`, to the
    /// logits `[batch, classes]`, whose name is returned.
    pub fn append_after(&self, graph: &mut Graph, here: &str, value: &str) -> Result<String> {
        let batch = graph.shape(here)?.first().copied().unwrap_or(1);
        let mut whole = Graph::import(&self.model, &import_options(batch))?;
        whole.set_outputs(&[&self.scores])?;
        let rest = without_trailing_softmax(simplify(whole.after(value)?)?)?;
        let outputs = graph.splice(&rest, &[(value, here)])?;
        self.logits(graph, &outputs[0], batch)
    }

    /// The shape of the model's value called `value` for `batch` images.
    pub fn shape_of(&self, value: &str, batch: usize) -> Result<Vec<usize>> {
        Ok(Graph::import(&self.model, &import_options(batch))?.shape(value)?.to_vec())
    }

    fn splice(&self, graph: &mut Graph, images: &str, model: &Graph, weights: &[TrainableWeight]) -> Result<String> {
        let channels = self.image_shape[0];
        let (factor, offset) = self.preprocessing.affine(channels)?;
        let mut constant =
            |values: &[f64]| graph.constant(Tensor::floats(ElementType::F32, [1, channels, 1, 1], values));
        let (factor, offset) = (constant(&factor), constant(&offset));
        let scaled = graph.apply("Mul", &[images, &factor], ())?;
        let mut input = graph.apply("Add", &[&scaled, &offset], ())?;
        if self.layout == Layout::Nhwc {
            input = graph.apply("Transpose", &[&input], [("perm", &[0i64, 2, 3, 1][..])])?;
        }
        let mut bindings = vec![(model.inputs()[0].as_str(), input.as_str())];
        bindings.extend(weights.iter().map(|weight| (weight.name.as_str(), weight.input.as_str())));
        let outputs = graph.splice(model, &bindings)?;
        Ok(outputs[0].clone())
    }

    fn logits(&self, graph: &mut Graph, scores: &str, batch: usize) -> Result<String> {
        let shape = graph.constant(Tensor::ints(&[batch as i64, self.classes as i64]));
        Ok(graph.apply("Reshape", &[scores, &shape], ())?)
    }
}

fn import_options(batch: usize) -> ImportOptions {
    ImportOptions { batch, input_shapes: BTreeMap::new(), fold_weights: true }
}

/// The simplified graph of `model`, with its own outputs or with the value called `output` as its only one.
fn import(model: &Model, batch: usize, output: Option<&str>) -> Result<Graph> {
    let mut graph = Graph::import(model, &import_options(batch))?;
    if let Some(output) = output {
        graph.set_outputs(&[output])?;
    }
    Ok(simplify(graph.without_dead_nodes())?)
}

/// The output with the scores of the classes: the only one of a floating-point type.
pub(crate) fn scores_output(graph: &Graph) -> Result<&str> {
    let mut floats = Vec::new();
    for output in graph.outputs() {
        if graph.element(output)?.is_float() {
            floats.push(output.as_str());
        }
    }
    match floats[..] {
        [output] => Ok(output),
        [] => Err(Error::Classifier(format!(
            "none of the model's outputs ({}) is of a floating-point type: a classifier gives a score for each class",
            graph.outputs().join(", ")
        ))),
        _ => Err(Error::Classifier(format!(
            "the model has {} floating-point outputs ({}): a classifier has one",
            floats.len(),
            floats.join(", ")
        ))),
    }
}

/// What an embedded filter's output is called, unless the model has such a value already.
pub(crate) const ABSTAIN: &str = "abstain";

/// Whether `model` has the output of a filter.
pub(crate) fn has_abstain(model: &Model) -> Result<bool> {
    Ok(abstain_output(&Graph::import(model, &import_options(PROBE_BATCH))?)?.is_some())
}

/// The output of a filter in a model: bool `[N]`, called [`ABSTAIN`] or that with a number.
fn abstain_output(graph: &Graph) -> Result<Option<String>> {
    for output in graph.outputs() {
        let is_named = output.strip_prefix(ABSTAIN).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        let ty = graph.value_type(output)?;
        if is_named && ty.element == ElementType::Bool && ty.rank() == 1 {
            return Ok(Some(output.clone()));
        }
    }
    Ok(None)
}

fn read_input(name: &str, shape: &[usize], layout: Option<Layout>) -> Result<(Layout, [usize; 3])> {
    let &[_, a, b, c] = shape else {
        return Err(Error::Classifier(format!(
            "input `{name}` has shape {shape:?}: images are [N, C, H, W] or [N, H, W, C]"
        )));
    };
    let few = |channels: usize| (1..=4).contains(&channels);
    let layout = layout.unwrap_or(if !few(a) && few(c) { Layout::Nhwc } else { Layout::Nchw });
    Ok(match layout {
        Layout::Nchw => (layout, [a, b, c]),
        Layout::Nhwc => (layout, [c, a, b]),
    })
}

/// Operators that only rearrange the scores after a Softmax.
const REARRANGING: [&str; 5] = ["Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze"];

/// The position of the Softmax that the graph's output comes from, but for rearrangement.
fn trailing_softmax(graph: &Graph) -> Option<usize> {
    let mut value = graph.outputs().first()?;
    loop {
        let position = graph.nodes().iter().rposition(|node| node.outputs.contains(value))?;
        let node: &Node = &graph.nodes()[position];
        if node.op == "Softmax" {
            return Some(position);
        }
        if !REARRANGING.contains(&node.op.as_str()) {
            return None;
        }
        value = node.inputs.first()?;
    }
}

fn without_trailing_softmax(graph: Graph) -> Result<Graph> {
    let Some(position) = trailing_softmax(&graph) else {
        return Ok(graph);
    };
    let mut rebuilt = Graph::new();
    for input in graph.inputs() {
        rebuilt.add_input(input, graph.value_type(input)?.clone())?;
    }
    for (name, tensor) in graph.initializers() {
        rebuilt.add_initializer(name, tensor.clone())?;
    }
    for (i, node) in graph.nodes().iter().enumerate() {
        let mut node = node.clone();
        if i == position {
            node.op = "Identity".to_owned();
            node.attributes = ().into();
        }
        rebuilt.push(node)?;
    }
    let outputs: Vec<&str> = graph.outputs().iter().map(String::as_str).collect();
    rebuilt.set_outputs(&outputs)?;
    Ok(simplify(rebuilt)?)
}
