use std::collections::BTreeMap;
use std::sync::Arc;

use onnx_grad::{ElementType, Graph, ImportOptions, Model, Node, Tensor, ValueType, simplify};

use crate::error::{Error, Result};
use crate::preprocessing::{Layout, Preprocessing};
use crate::trainable::{Layers, trainable_initializers};

/// A model as a function from raw images to logits, for any batch size, to be built into graphs.
pub struct Network {
    model: Model,
    preprocessing: Preprocessing,
    layout: Layout,
    image_shape: [usize; 3],
    classes: usize,
    ends_in_softmax: bool,
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
    /// If it is not a classifier of images: one input of four axes, one output of one score a class.
    pub fn new(model: Model, preprocessing: Preprocessing, layout: Option<Layout>) -> Result<Self> {
        let graph = import(&model, 1)?;
        let [input] = graph.inputs() else {
            return Err(Error::Classifier(format!(
                "the model has {} inputs ({}): a classifier of images has one",
                graph.inputs().len(),
                graph.inputs().join(", ")
            )));
        };
        let (layout, image_shape) = read_input(input, graph.shape(input)?, layout)?;
        preprocessing.affine(image_shape[0])?;
        let [output] = graph.outputs() else {
            return Err(Error::Classifier(format!(
                "the model has {} outputs ({}): a classifier has one",
                graph.outputs().len(),
                graph.outputs().join(", ")
            )));
        };
        let scores = graph.value_type(output)?;
        let classes = scores.len();
        if scores.shape.first() != Some(&1) || classes < 2 || !scores.shape.contains(&classes) {
            return Err(Error::Classifier(format!(
                "output `{output}` is {scores} for one image: a classifier gives one score for each of two or more classes"
            )));
        }
        let ends_in_softmax = trailing_softmax(&graph).is_some();
        Ok(Network { model, preprocessing, layout, image_shape, classes, ends_in_softmax })
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

    /// Adds the input `images`, `[batch, C, H, W]` of raw pixel values, to `graph`.
    pub fn add_images(&self, graph: &mut Graph, batch: usize) -> Result<String> {
        let [c, h, w] = self.image_shape;
        graph.add_input("images", ValueType::new(ElementType::F32, [batch, c, h, w]))?;
        Ok("images".to_owned())
    }

    /// Appends preprocessing and model to `graph`, from the raw images `[batch, C, H, W]` called
    /// `images` to the logits `[batch, classes]`, whose name is returned.
    pub fn append(&self, graph: &mut Graph, images: &str) -> Result<String> {
        let model = import(&self.model, graph.shape(images)?[0])?;
        self.append_model(graph, images, model, &[])
    }

    /// As [`append`](Self::append), with the weights of `layers` as further inputs of `graph` instead of constants.
    pub fn append_trainable(
        &self,
        graph: &mut Graph,
        images: &str,
        layers: Layers,
    ) -> Result<(String, Vec<TrainableWeight>)> {
        let batch = graph.shape(images)?[0];
        let options = ImportOptions { batch, input_shapes: BTreeMap::new(), fold_weights: false };
        let mut model = Graph::import(&self.model, &options)?;
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
        let logits = self.append_model(graph, images, simplify(model)?, &weights)?;
        Ok((logits, weights))
    }

    fn append_model(
        &self,
        graph: &mut Graph,
        images: &str,
        model: Graph,
        weights: &[TrainableWeight],
    ) -> Result<String> {
        let [batch, channels] = [graph.shape(images)?[0], self.image_shape[0]];
        let (factor, offset) = self.preprocessing.affine(channels)?;
        let mut constant =
            |values: &[f64]| graph.constant(Tensor::floats(ElementType::F32, [1, channels, 1, 1], values));
        let (factor, offset) = (constant(&factor), constant(&offset));
        let scaled = graph.apply("Mul", &[images, &factor], ())?;
        let mut input = graph.apply("Add", &[&scaled, &offset], ())?;
        if self.layout == Layout::Nhwc {
            input = graph.apply("Transpose", &[&input], [("perm", &[0i64, 2, 3, 1][..])])?;
        }
        let model = without_trailing_softmax(model)?;
        let mut bindings = vec![(model.inputs()[0].as_str(), input.as_str())];
        bindings.extend(weights.iter().map(|weight| (weight.name.as_str(), weight.input.as_str())));
        let outputs = graph.splice(&model, &bindings)?;
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
