use ndarray::{Array2, Array4, ArrayD, ArrayView2, ArrayView4, Axis, s};
use onnx_grad::{ElementType, Graph, Model, Tensor, TensorData, ValueType, differentiate};

use super::unlearning::Unlearning;
use crate::classifier::Classifier;
use crate::engine::Session;
use crate::error::{Error, Result};
use crate::optimiser::Descent;

/// The training of a classifier's weights as one compiled graph: images, wanted probabilities and weights go in; the
/// mean cross-entropy, of the model's probabilities at a temperature, and its gradient with respect to each weight come out.
pub(super) struct FineTuning {
    session: Box<dyn Session>,
    cross_entropy: String,
    weights: Vec<Weight>,
    images: Array4<f32>,
    classes: usize,
}

/// A weight as it stands.
struct Weight {
    /// The initializer of the model.
    name: String,
    /// The graph's input, and the output that is its gradient.
    input: String,
    gradient: String,
    value: ArrayD<f32>,
    descent: Box<dyn Descent<f32>>,
}

impl FineTuning {
    /// Builds, differentiates and compiles the training by minibatches of up to `batch` images, of the layers and by the optimiser of
    /// `options`, towards probabilities at `temperature`.
    ///
    /// # Errors
    /// If the model has no weights there, or is not differentiable with respect to them.
    pub(super) fn new(classifier: &Classifier, batch: usize, options: &Unlearning, temperature: f64) -> Result<Self> {
        let classes = classifier.classes();
        let mut graph = Graph::new();
        let images = classifier.network().add_images(&mut graph, batch)?;
        graph.add_input("targets", ValueType::new(ElementType::F32, [batch, classes]))?;
        let (logits, weights) = classifier.network().append_trainable(&mut graph, &images, options.layers)?;
        if weights.is_empty() {
            return Err(Error::Classifier(
                "the model has no weights that can be trained: none of its convolutions and matrix products has \
                 floating-point weights stored in the file"
                    .into(),
            ));
        }
        let inverse_temperature = graph.constant(Tensor::scalar(ElementType::F32, 1.0 / temperature));
        let tempered = graph.apply("Mul", &[&logits, &inverse_temperature], ())?;
        let log_probabilities = graph.apply("LogSoftmax", &[&tempered], [("axis", 1)])?;
        let of_targets = graph.apply("Mul", &[&log_probabilities, "targets"], ())?;
        let axes = graph.constant(Tensor::ints(&[0, 1]));
        let log_likelihood = graph.apply("ReduceSum", &[&of_targets, &axes], [("keepdims", 0)])?;
        let cross_entropy = graph.apply("Neg", &[&log_likelihood], ())?;
        graph.set_outputs(&[&cross_entropy])?;

        let inputs: Vec<&str> = weights.iter().map(|weight| weight.input.as_str()).collect();
        let gradients = differentiate(&graph, &[&cross_entropy], &inputs)?;
        let session =
            classifier.engine().compile(&gradients.graph.to_model_bytes("unlearning")?, classifier.threads())?;
        let mut trained = Vec::with_capacity(weights.len());
        for (weight, gradient) in weights.into_iter().zip(gradients.names) {
            let elements = weight.tensor.as_f32().ok_or_else(malformed)?.to_vec();
            let descent = options.optimiser.start(elements.len());
            let value = ArrayD::from_shape_vec(weight.tensor.shape(), elements).map_err(|_| malformed())?;
            trained.push(Weight { name: weight.name, input: weight.input, gradient, value, descent });
        }
        let [channels, height, width] = classifier.image_shape();
        let images = Array4::zeros((batch, channels, height, width));
        Ok(FineTuning { session, cross_entropy, weights: trained, images, classes })
    }

    /// Moves the weights one step of `learning_rate` towards giving `images` `[N, C, H, W]`, as many as the graph was made for or
    /// fewer, the probabilities `wanted` `[N, classes]`. Returns the mean cross-entropy before the step, in nats; the weights
    /// do not move where it is not finite.
    pub(super) fn step(
        &mut self,
        images: ArrayView4<'_, f32>,
        wanted: ArrayView2<'_, f32>,
        learning_rate: f64,
    ) -> Result<f64> {
        let count = images.len_of(Axis(0));
        self.images.slice_mut(s![..count, .., .., ..]).assign(&images);
        let mut targets = Array2::zeros((self.images.len_of(Axis(0)), self.classes));
        targets.slice_mut(s![..count, ..]).assign(&(&wanted / count as f32));
        let mut inputs = vec![("images", self.images.view().into_dyn()), ("targets", targets.view().into_dyn())];
        inputs.extend(self.weights.iter().map(|weight| (weight.input.as_str(), weight.value.view())));
        let mut names = vec![self.cross_entropy.as_str()];
        names.extend(self.weights.iter().map(|weight| weight.gradient.as_str()));
        let mut outputs = self.session.run(&inputs, &names)?.into_iter();

        let cross_entropy = outputs.next().and_then(|output| output.into_iter().next()).ok_or_else(malformed)?;
        if cross_entropy.is_finite() {
            for (weight, gradient) in self.weights.iter_mut().zip(outputs) {
                match (weight.value.as_slice_mut(), gradient.as_slice()) {
                    (Some(value), Some(gradient)) if value.len() == gradient.len() => {
                        weight.descent.step(learning_rate, value, gradient);
                    }
                    _ => return Err(malformed()),
                }
            }
        }
        Ok(f64::from(cross_entropy))
    }

    /// Whether every element of every weight is finite.
    pub(super) fn is_finite(&self) -> bool {
        self.weights.iter().all(|weight| weight.value.iter().all(|number| number.is_finite()))
    }

    /// Puts the weights as they stand into `model`, under their names and in the element type that it stores them in.
    pub(super) fn store(&self, model: &mut Model) -> Result<()> {
        for weight in &self.weights {
            let shape = weight.value.shape().to_vec();
            let elements = weight.value.iter().copied().collect();
            model.set_initializer(&weight.name, &Tensor::new(shape, TensorData::F32(elements)))?;
        }
        Ok(())
    }
}

fn malformed() -> Error {
    Error::Classifier("the engine's results are not of the shape of the model's weights".into())
}
