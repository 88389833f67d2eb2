use std::path::Path;
use std::sync::Arc;

use ndarray::{Array4, Axis, s};
use onnx_grad::{Attributes, ElementType, ValueType};

use super::*;
use crate::ClassifierOptions;
use crate::engine::Rten;

/// A graph under construction, from an input `x` `[1, 3, 4, 4]`.
struct Sketch(Graph);

impl Sketch {
    fn new() -> Self {
        let mut graph = Graph::new();
        graph.add_input("x", ValueType::new(ElementType::F32, [1, 3, 4, 4])).unwrap();
        Sketch(graph)
    }

    /// A weight called `name` of numbers without a pattern.
    fn weight(&mut self, name: &str, shape: &[usize]) {
        let count = shape.iter().product();
        let values: Vec<f64> = (0..count).map(|i| ((i * 7919 + 13) % 97) as f64 / 97.0 - 0.4).collect();
        self.0.add_initializer(name, Tensor::floats(ElementType::F32, shape, &values)).unwrap();
    }

    fn ints(&mut self, name: &str, values: &[i64]) {
        self.0.add_initializer(name, Tensor::ints(values)).unwrap();
    }

    fn apply(&mut self, op: &str, inputs: &[&str], attributes: impl Into<Attributes>) -> String {
        self.0.apply(op, inputs, attributes).unwrap()
    }

    /// Relu of a convolution to `channels` channels, `[1, channels, 4, 4]`.
    fn convolved(&mut self, channels: usize) -> String {
        self.weight("conv", &[channels, 3, 1, 1]);
        let conv = self.apply("Conv", &["x", "conv"], ());
        self.apply("Relu", &[&conv], ())
    }

    fn model(mut self, output: &str) -> Model {
        self.0.add_output(output).unwrap();
        Model::from_bytes(&self.0.to_model_bytes("sketch").unwrap()).unwrap()
    }
}

fn classifier(model: &Model) -> Classifier {
    Classifier::new(model.clone(), ClassifierOptions::default(), Arc::new(Rten), 1).unwrap()
}

fn images(count: usize) -> Array4<f32> {
    Array4::from_shape_fn((count, 3, 4, 4), |(n, c, y, x)| ((n * 7919 + c * 104_729 + y * 1299 + x * 31) % 256) as f32)
}

/// Checks that the layer of `model` has its features in `extents`, that an activation is the mean of the neuron's
/// features, and that silencing a neuron is as if its features were zero.
fn check(model: &Model, weights: &str, extents: [usize; 3]) {
    let whole = classifier(model);
    let penultimate = Penultimate::find(whole.network()).unwrap();
    assert_eq!((penultimate.weights(), penultimate.extents), (weights, extents));

    let images = images(3);
    let features = penultimate.features_predictor(&whole).unwrap().predict(images.view()).unwrap();
    let activations = penultimate.activations(&whole, images.view()).unwrap();
    assert_eq!(activations.shape(), [3, penultimate.neurons()]);

    let neuron = penultimate.neurons() - 1;
    let own: Vec<usize> = (0..features.ncols()).filter(|&i| penultimate.neuron_of(i) == neuron).collect();
    assert_eq!(own.len(), penultimate.positions());
    let mean = features.select(Axis(1), &own).mean_axis(Axis(1)).unwrap();
    for (mean, activation) in mean.iter().zip(activations.column(neuron)) {
        assert!((mean - activation).abs() <= 1e-4 * mean.abs().max(1.0), "{mean} and {activation}");
    }

    let mut silenced = features.clone();
    own.iter().for_each(|&i| silenced.slice_mut(s![.., i]).fill(0.0));
    let expected = penultimate.scores_predictor(&whole).unwrap().predict(silenced.view()).unwrap();
    let mut repaired = model.clone();
    penultimate.silence(&mut repaired, &[neuron]).unwrap();
    let logits = classifier(&repaired).predict(images.view()).unwrap();
    assert_ne!(logits, whole.predict(images.view()).unwrap());
    for (logit, expected) in logits.iter().zip(&expected) {
        assert!((logit - expected).abs() <= 1e-3 * expected.abs().max(1.0), "{logit} and {expected}");
    }
}

#[test]
fn the_fixtures_have_the_layers_that_they_were_trained_with() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    for (file, features, weights, neurons) in [
        ("fmnist_badnets.onnx", "/8/Relu_output_0", "9.weight", 64),
        ("resnet_badnets.onnx", "/7/Flatten_output_0", "8.weight", 40),
    ] {
        let penultimate = Penultimate::find(classifier(&Model::read(fixtures.join(file)).unwrap()).network()).unwrap();
        assert_eq!((penultimate.features(), penultimate.weights()), (features, weights));
        assert_eq!((penultimate.neurons(), penultimate.positions()), (neurons, 1));
    }
}

#[test]
fn inputs_of_a_dense_layer_are_neurons() {
    let mut sketch = Sketch::new();
    let flat = sketch.apply("Flatten", &["x"], ());
    sketch.weight("w", &[48, 5]);
    let hidden = sketch.apply("MatMul", &[&flat, "w"], ());
    let hidden = sketch.apply("Relu", &[&hidden], ());
    sketch.weight("w2", &[4, 5]);
    sketch.weight("b2", &[4]);
    let logits = sketch.apply("Gemm", &[&hidden, "w2", "b2"], [("transB", 1)]);
    let scores = sketch.apply("Softmax", &[&logits], [("axis", 1)]);
    check(&sketch.model(&scores), "w2", [1, 5, 1]);
}

#[test]
fn weights_are_found_behind_what_rearranges_them() {
    let mut sketch = Sketch::new();
    let flat = sketch.apply("Flatten", &["x"], ());
    sketch.weight("w", &[48, 5]);
    let hidden = sketch.apply("MatMul", &[&flat, "w"], ());
    sketch.weight("w2", &[4, 5]);
    let weights = sketch.apply("Identity", &["w2"], ());
    let weights = sketch.apply("Transpose", &[&weights], ());
    let product = sketch.apply("MatMul", &[&hidden, &weights], ());
    sketch.weight("b2", &[4]);
    let logits = sketch.apply("Add", &["b2", &product], ());
    check(&sketch.model(&logits), "w2", [1, 5, 1]);
}

#[test]
fn positions_of_a_flattened_channel_are_one_neuron() {
    let mut sketch = Sketch::new();
    let channels = sketch.convolved(6);
    let flat = sketch.apply("Flatten", &[&channels], ());
    sketch.weight("w", &[96, 4]);
    let logits = sketch.apply("Gemm", &[&flat, "w"], ());
    check(&sketch.model(&logits), "w", [1, 6, 16]);
}

#[test]
fn channels_may_be_flattened_last() {
    let mut sketch = Sketch::new();
    let channels = sketch.convolved(6);
    let last = sketch.apply("Transpose", &[&channels], [("perm", &[0i64, 2, 3, 1][..])]);
    sketch.ints("shape", &[-1, 96]);
    let flat = sketch.apply("Reshape", &[&last, "shape"], ());
    sketch.weight("w", &[96, 4]);
    let logits = sketch.apply("MatMul", &[&flat, "w"], ());
    check(&sketch.model(&logits), "w", [16, 6, 1]);
}

#[test]
fn a_convolution_before_the_pooling_is_the_last_layer() {
    let mut sketch = Sketch::new();
    let channels = sketch.convolved(6);
    sketch.weight("w", &[4, 6, 1, 1]);
    sketch.weight("b", &[4]);
    let scores = sketch.apply("Conv", &[&channels, "w", "b"], ());
    let scores = sketch.apply("Relu", &[&scores], ());
    let pooled = sketch.apply("GlobalAveragePool", &[&scores], ());
    let logits = sketch.apply("Flatten", &[&pooled], ());
    check(&sketch.model(&logits), "w", [1, 6, 16]);
}

#[test]
fn a_layer_at_every_position_is_one_layer() {
    let mut sketch = Sketch::new();
    let channels = sketch.convolved(6);
    let last = sketch.apply("Transpose", &[&channels], [("perm", &[0i64, 2, 3, 1][..])]);
    sketch.weight("w", &[6, 4]);
    let scores = sketch.apply("MatMul", &[&last, "w"], ());
    sketch.ints("axes", &[1, 2]);
    let logits = sketch.apply("ReduceMean", &[&scores, "axes"], [("keepdims", 0)]);
    check(&sketch.model(&logits), "w", [16, 6, 1]);
}

#[test]
fn what_is_not_a_layer_with_weights_of_its_own_is_refused_by_name() {
    let mut shared = Sketch::new();
    let flat = shared.apply("Flatten", &["x"], ());
    shared.weight("w", &[48, 48]);
    let hidden = shared.apply("MatMul", &[&flat, "w"], ());
    let logits = shared.apply("MatMul", &[&hidden, "w"], ());

    let mut product = Sketch::new();
    let flat_too = product.apply("Flatten", &["x"], ());
    let squared = product.apply("Mul", &[&flat_too, &flat_too], ());

    let mut nothing = Sketch::new();
    let only_flat = nothing.apply("Flatten", &["x"], ());

    for (model, expected) in [
        (shared.model(&logits), "shares its weights `w` with another node"),
        (product.model(&squared), "(Mul) is not a linear layer"),
        (nothing.model(&only_flat), "there is no linear layer before output"),
    ] {
        let error = Penultimate::find(classifier(&model).network()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
