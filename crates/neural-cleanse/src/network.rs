use std::collections::BTreeMap;

use onnx_grad::{ElementType, Graph, ImportOptions, Model, Node, Tensor, ValueType, simplify};

use crate::error::{Error, Result};
use crate::preprocessing::{Layout, Preprocessing};

/// The batch for which a model is imported to see what it takes and gives; one, and the axis could not be told from
/// others of extent 1.
const PROBE_BATCH: usize = 2;

/// A model as a function from raw images to logits, for any batch size, to be built into graphs.
pub struct Network {
    model: Model,
    preprocessing: Preprocessing,
    layout: Layout,
    image_shape: [usize; 3],
    classes: usize,
    ends_in_softmax: bool,
    fixed_batch: Option<usize>,
}

impl Network {
    /// Reads off the model what it takes and what it gives.
    ///
    /// # Errors
    /// If it is not a classifier of images: one input of four axes, one output of one score a class.
    pub fn new(model: Model, preprocessing: Preprocessing, layout: Option<Layout>) -> Result<Self> {
        let graph = import(&model, PROBE_BATCH)?;
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
        let [output] = graph.outputs() else {
            return Err(Error::Classifier(format!(
                "the model has {} outputs ({}): a classifier has one",
                graph.outputs().len(),
                graph.outputs().join(", ")
            )));
        };
        let scores = graph.value_type(output)?;
        let classes = scores.len() / batch.max(1);
        let fits = scores.shape.first() == Some(&batch) && scores.shape[1..].contains(&classes);
        if !fits || classes < 2 || classes * batch != scores.len() {
            return Err(Error::Classifier(format!(
                "output `{output}` is {scores} for {batch} image(s): a classifier gives one score for each of two or more classes"
            )));
        }
        let ends_in_softmax = trailing_softmax(&graph).is_some();
        let fixed_batch = (batch != PROBE_BATCH).then_some(batch);
        Ok(Network { model, preprocessing, layout, image_shape, classes, ends_in_softmax, fixed_batch })
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
        let model = without_trailing_softmax(import(&self.model, batch)?)?;
        let outputs = graph.splice(&model, &[(&model.inputs()[0], &input)])?;
        let shape = graph.constant(Tensor::ints(&[batch as i64, self.classes as i64]));
        Ok(graph.apply("Reshape", &[&outputs[0], &shape], ())?)
    }
}

fn import(model: &Model, batch: usize) -> Result<Graph> {
    let options = ImportOptions { batch, input_shapes: BTreeMap::new(), fold_weights: true };
    Ok(simplify(Graph::import(model, &options)?)?)
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
