use ndarray::{Array2, Array3, Array4, ArrayView4, Axis, Ix2, s};
use onnx_grad::{ElementType, Graph, Tensor, ValueType, differentiate};

use super::Config;
use crate::classifier::{Classifier, classes_of};
use crate::engine::{Engine, Precision, Session};
use crate::error::{Error, Result};
use crate::trigger::Trigger;

/// The attack objective as one compiled graph: images, trigger and target go in; the mean
/// cross-entropy of the stamped images towards the target, its gradients with respect to mask and
/// pattern, and the logits come out.
///
/// The target is an input, so that one objective serves all classes.
pub struct Objective {
    session: Box<dyn Session>,
    /// The same in float32, where the search is not.
    reference: Option<Box<dyn Session>>,
    outputs: [String; 4],
    images: Array4<f32>,
    classes: usize,
}

/// What one minibatch says of a trigger.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// The mean cross-entropy of the stamped images towards the target class, in nats.
    pub cross_entropy: f64,
    /// The logits of the stamped images, `[N, classes]`.
    pub logits: Array2<f32>,
    /// The gradient of the cross-entropy, of the mask's shape.
    pub mask_gradient: Array3<f32>,
    /// The gradient of the cross-entropy, `[C, H, W]`.
    pub pattern_gradient: Array3<f32>,
}

impl Objective {
    /// Builds, differentiates and compiles the objective for the minibatches and masks of `config`, to be evaluated on
    /// `samples` images in all. Minibatches are smaller where there are fewer images or the model takes fewer at a time.
    pub fn new(classifier: &Classifier, config: &Config, samples: usize, threads: usize) -> Result<Self> {
        Blueprint::new(classifier, config, samples)?.objective(classifier, &**classifier.search_engine(), threads)
    }

    /// The largest number of images in a minibatch.
    pub fn batch(&self) -> usize {
        self.images.len_of(Axis(0))
    }

    /// Evaluates `trigger` towards `target` on the images `[N, C, H, W]` at `rows` of `pool`, as many as
    /// [`batch`](Self::batch) or fewer.
    pub fn evaluate(
        &mut self,
        pool: ArrayView4<'_, f32>,
        rows: &[usize],
        trigger: &Trigger,
        target: usize,
    ) -> Result<Evaluation> {
        self.run(pool, rows, trigger, target, false)
    }

    /// Whether float32 confirms what a search in another precision has found: on the first two minibatches of `rows`,
    /// the trigger sends to `target` at least the share `threshold` of the images that it sends there in the precision of
    /// the search.
    pub fn confirms(
        &mut self,
        pool: ArrayView4<'_, f32>,
        rows: &[usize],
        trigger: &Trigger,
        target: usize,
        threshold: f64,
    ) -> Result<bool> {
        if self.reference.is_none() {
            return Ok(true);
        }
        let hits = |evaluation: Evaluation| classes_of(&evaluation.logits).iter().filter(|&&c| c == target).count();
        let (mut seen, mut confirmed) = (0, 0);
        for batch in rows.chunks(self.batch()).take(2) {
            seen += hits(self.run(pool, batch, trigger, target, false)?);
            confirmed += hits(self.run(pool, batch, trigger, target, true)?);
        }
        Ok(confirmed as f64 >= threshold * seen as f64)
    }

    fn run(
        &mut self,
        pool: ArrayView4<'_, f32>,
        rows: &[usize],
        trigger: &Trigger,
        target: usize,
        in_float32: bool,
    ) -> Result<Evaluation> {
        for (mut slot, &row) in self.images.outer_iter_mut().zip(rows) {
            slot.assign(&pool.index_axis(Axis(0), row));
        }
        let mut weights = Array2::zeros((self.batch(), 1));
        weights.slice_mut(s![..rows.len(), ..]).fill(1.0 / rows.len() as f32);
        let mut one_hot = Array2::zeros((1, self.classes));
        one_hot[[0, target]] = 1.0;
        let inputs = [
            ("images", self.images.view().into_dyn()),
            ("mask", trigger.mask.view().insert_axis(Axis(0)).into_dyn()),
            ("pattern", trigger.pattern.view().insert_axis(Axis(0)).into_dyn()),
            ("target", one_hot.view().into_dyn()),
            ("weights", weights.view().into_dyn()),
        ];
        let session = self.reference.as_mut().filter(|_| in_float32).unwrap_or(&mut self.session);
        let outputs = session.run(&inputs, &self.outputs.each_ref().map(String::as_str))?;
        let [cross_entropy, logits, mask_gradient, pattern_gradient] =
            <[_; 4]>::try_from(outputs).map_err(|_| malformed())?;
        let cross_entropy = cross_entropy.into_iter().next().ok_or_else(malformed)?;
        let logits = logits.into_dimensionality::<Ix2>().map_err(|_| malformed())?;
        Ok(Evaluation {
            cross_entropy: f64::from(cross_entropy),
            logits: logits.slice(s![..rows.len(), ..]).to_owned(),
            mask_gradient: mask_gradient.into_shape_with_order(trigger.mask.raw_dim()).map_err(|_| malformed())?,
            pattern_gradient: (pattern_gradient.into_shape_with_order(trigger.pattern.raw_dim()))
                .map_err(|_| malformed())?,
        })
    }
}

/// The graph of an objective, of which any number can be compiled.
pub(crate) struct Blueprint {
    model: Vec<u8>,
    memory: u64,
    outputs: [String; 4],
    images: [usize; 4],
    classes: usize,
}

impl Blueprint {
    /// Builds and differentiates the objective, as [`Objective::new`] has it.
    ///
    /// # Errors
    /// If it would take more memory than the classifier may use.
    pub(crate) fn new(classifier: &Classifier, config: &Config, samples: usize) -> Result<Self> {
        let batch = classifier.network().batch(config.batch_size.min(samples).max(1));
        let mask_channels = if config.mask_per_channel { classifier.image_shape()[0] } else { 1 };
        let [channels, height, width] = classifier.image_shape();
        let classes = classifier.classes();
        let mut graph = Graph::new();
        let images = classifier.network().add_images(&mut graph, batch)?;
        let mut input = |name: &str, shape: &[usize]| graph.add_input(name, ValueType::new(ElementType::F32, shape));
        input("mask", &[1, mask_channels, height, width])?;
        input("pattern", &[1, channels, height, width])?;
        input("target", &[1, classes])?;
        input("weights", &[batch, 1])?;

        let change = graph.apply("Sub", &["pattern", &images], ())?;
        let change = graph.apply("Mul", &["mask", &change], ())?;
        let stamped = graph.apply("Add", &[&images, &change], ())?;
        let logits = classifier.network().append(&mut graph, &stamped)?;
        let log_probabilities = graph.apply("LogSoftmax", &[&logits], [("axis", 1)])?;
        let of_target = graph.apply("Mul", &[&log_probabilities, "target"], ())?;
        let weighted = graph.apply("Mul", &[&of_target, "weights"], ())?;
        let axes = graph.constant(Tensor::ints(&[0, 1]));
        let log_likelihood = graph.apply("ReduceSum", &[&weighted, &axes], [("keepdims", 0)])?;
        let cross_entropy = graph.apply("Neg", &[&log_likelihood], ())?;

        graph.set_outputs(&[&cross_entropy, &logits])?;
        let gradients = differentiate(&graph, &[&cross_entropy], &["mask", "pattern"])?;
        let memory = classifier.memory_for(&gradients.graph)?;
        let model = gradients.graph.to_model_bytes("objective")?;
        let [mask_gradient, pattern_gradient] = <[String; 2]>::try_from(gradients.names).map_err(|_| malformed())?;
        let outputs = [cross_entropy, logits, mask_gradient, pattern_gradient];
        Ok(Blueprint { model, memory, outputs, images: [batch, channels, height, width], classes })
    }

    /// About how many bytes an objective takes.
    pub(crate) fn memory(&self) -> u64 {
        self.memory
    }

    /// An objective in `engine`, for `classifier`.
    pub(crate) fn objective(&self, classifier: &Classifier, engine: &dyn Engine, threads: usize) -> Result<Objective> {
        let reference = match classifier.precision() {
            Precision::F32 => None,
            Precision::Bf16 => Some(classifier.engine().compile(&self.model, threads)?),
        };
        Ok(Objective {
            session: engine.compile(&self.model, threads)?,
            reference,
            outputs: self.outputs.clone(),
            images: Array4::zeros(self.images),
            classes: self.classes,
        })
    }
}

fn malformed() -> Error {
    Error::Classifier("the engine's results are not of the shape of the objective's outputs".into())
}
