//! The penultimate layer: what goes into the last linear layer before the logits.

mod search;

use ndarray::{Array2, ArrayView4};
use onnx_grad::{ElementType, Graph, Model, Tensor, ValueType};

use crate::classifier::{BATCH, Classifier, Predictor};
use crate::error::Result;
use crate::network::Network;

/// The penultimate layer of a classifier.
///
/// Its neurons are the inputs of the last linear layer, which may be a Gemm, a MatMul with constant weights or a
/// convolution. Where these are the positions of channels, because a `[N, C, H, W]` value is flattened or the layer
/// is a convolution, a neuron is a channel, and its activation is the mean over its positions.
#[derive(Debug, Clone, PartialEq)]
pub struct Penultimate {
    /// The value that goes into the last linear layer, by its name in the model.
    features: String,
    /// The initializer with the weights of that layer.
    weights: String,
    /// The axis of that initializer along which the features are.
    weights_axis: usize,
    /// How many entries in a row of that axis belong to one neuron.
    weights_per_neuron: usize,
    /// The extents into which the features of one image split in row-major order: positions, neurons,
    /// positions.
    extents: [usize; 3],
}

impl Penultimate {
    /// Finds the layer, walking back from the scores.
    ///
    /// # Errors
    /// If what the scores come from is not a linear layer with weights of its own, known before the model runs.
    pub fn find(network: &Network) -> Result<Self> {
        search::find(network)
    }

    /// The number of neurons.
    pub fn neurons(&self) -> usize {
        self.extents[1]
    }

    /// The name of the value that goes into the last linear layer.
    pub fn features(&self) -> &str {
        &self.features
    }

    /// The name of the initializer with the weights of the last linear layer.
    pub fn weights(&self) -> &str {
        &self.weights
    }

    /// How many features there are for each image: the neurons times their positions.
    pub(super) fn features_per_image(&self) -> usize {
        self.extents.iter().product()
    }

    /// How many features make up one neuron.
    pub(super) fn positions(&self) -> usize {
        self.extents[0] * self.extents[2]
    }

    /// The neuron that feature `i` of an image, in row-major order, belongs to.
    pub(super) fn neuron_of(&self, i: usize) -> usize {
        i / self.extents[2] % self.neurons()
    }

    /// The activations `[N, neurons]` of `images` `[N, C, H, W]`.
    pub fn activations(&self, classifier: &Classifier, images: ArrayView4<'_, f32>) -> Result<Array2<f32>> {
        self.predictor(classifier)?.predict(images)
    }

    /// A compiled pass from images to activations.
    pub(super) fn predictor(&self, classifier: &Classifier) -> Result<Predictor> {
        let [before, neurons, after] = self.extents;
        let batch = classifier.network().batch(BATCH);
        self.compile(classifier, |graph, features| {
            let split = graph.constant(Tensor::ints(&[batch, before, neurons, after].map(|extent| extent as i64)));
            let split = graph.apply("Reshape", &[features, &split], ())?;
            let positions = graph.constant(Tensor::ints(&[1, 3]));
            graph.apply("ReduceMean", &[&split, &positions], [("keepdims", 0)])
        })
    }

    /// A compiled pass from images to all features, `[N, features]`.
    pub(super) fn features_predictor(&self, classifier: &Classifier) -> Result<Predictor> {
        let batch = classifier.network().batch(BATCH);
        self.compile(classifier, |graph, features| {
            let rows = graph.constant(Tensor::ints(&[batch as i64, self.features_per_image() as i64]));
            graph.apply("Reshape", &[features, &rows], ())
        })
    }

    /// A compiled pass from all features, `[N, features]`, to the logits.
    pub(super) fn scores_predictor(&self, classifier: &Classifier) -> Result<Predictor> {
        let batch = classifier.network().batch(BATCH);
        let mut graph = Graph::new();
        graph.add_input("features", ValueType::new(ElementType::F32, [batch, self.features_per_image()]))?;
        let shape = classifier.network().shape_of(&self.features, batch)?;
        let shape: Vec<i64> = shape.iter().map(|&extent| extent as i64).collect();
        let shape = graph.constant(Tensor::ints(&shape));
        let features = graph.apply("Reshape", &["features", &shape], ())?;
        let logits = classifier.network().append_after(&mut graph, &features, &self.features)?;
        Predictor::compile(&**classifier.engine(), graph, "features", &logits, classifier.threads())
    }

    fn compile(
        &self,
        classifier: &Classifier,
        finish: impl FnOnce(&mut Graph, &str) -> onnx_grad::Result<String>,
    ) -> Result<Predictor> {
        let mut graph = Graph::new();
        let images = classifier.network().add_images(&mut graph, classifier.network().batch(BATCH))?;
        let features = classifier.network().append_value(&mut graph, &images, &self.features)?;
        let output = finish(&mut graph, &features)?;
        Predictor::compile(&**classifier.engine(), graph, &images, &output, classifier.threads())
    }

    /// Sets the weights that lead out of `neurons` to zero, so that these contribute nothing to the scores. No other
    /// constant of the model changes.
    pub(super) fn silence(&self, model: &mut Model, neurons: &[usize]) -> Result<()> {
        let weights = model.initializer(&self.weights)?;
        let extent = weights.shape()[self.weights_axis];
        let inner: usize = weights.shape()[self.weights_axis + 1..].iter().product();
        let mut values = weights.to_f64();
        for (i, value) in values.iter_mut().enumerate() {
            let neuron = i / inner % extent / self.weights_per_neuron % self.neurons();
            if neurons.contains(&neuron) {
                *value = 0.0;
            }
        }
        Ok(model.set_initializer(&self.weights, &Tensor::floats(weights.element(), weights.shape(), &values))?)
    }
}

#[cfg(test)]
mod tests;
