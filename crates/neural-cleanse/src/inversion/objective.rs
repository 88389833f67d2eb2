use ndarray::{Array2, Array3, Array4, ArrayD, ArrayView4, Axis, Ix2, s};
use onnx_grad::{ElementType, Graph, Tensor, ValueType, differentiate};

use super::{Config, TriggerKind};
use crate::classifier::{Classifier, classes_of};
use crate::engine::{Engine, Precision, Session};
use crate::error::{Error, Result};
use crate::trigger::Trigger;

/// The attack objective as one compiled graph: images, trigger and targets go in; the mean
/// cross-entropy of the stamped images towards the targets, its gradients with respect to mask and
/// pattern, and the logits come out.
///
/// The targets are an input, so that one objective serves all classes.
pub struct Objective {
    session: Box<dyn Session>,
    /// The same in float32, where the search is not.
    reference: Option<Box<dyn Session>>,
    outputs: Vec<String>,
    images: Array4<f32>,
    classes: usize,
    kind: TriggerKind,
}

/// What one minibatch says of a trigger.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// The mean cross-entropy of the stamped images towards their target classes, in nats.
    pub cross_entropy: f64,
    /// The logits of the stamped images, `[N, classes]`.
    pub logits: Array2<f32>,
    /// The gradient of the cross-entropy, of the mask's shape; `None` for additive triggers, which their pattern makes up.
    pub mask_gradient: Option<Array3<f32>>,
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
        self.run(pool, rows, trigger, &|_| target, false)
    }

    /// Evaluates `trigger` on the images at `rows` of `pool`, each towards the class that `labels` has for it.
    pub fn evaluate_towards_labels(
        &mut self,
        pool: ArrayView4<'_, f32>,
        rows: &[usize],
        trigger: &Trigger,
        labels: &[usize],
    ) -> Result<Evaluation> {
        self.run(pool, rows, trigger, &|row| labels[row], false)
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
            seen += hits(self.run(pool, batch, trigger, &|_| target, false)?);
            confirmed += hits(self.run(pool, batch, trigger, &|_| target, true)?);
        }
        Ok(confirmed as f64 >= threshold * seen as f64)
    }

    fn run(
        &mut self,
        pool: ArrayView4<'_, f32>,
        rows: &[usize],
        trigger: &Trigger,
        target: &dyn Fn(usize) -> usize,
        in_float32: bool,
    ) -> Result<Evaluation> {
        let mut targets = Array2::zeros((self.batch(), self.classes));
        for (i, &row) in rows.iter().enumerate() {
            self.images.index_axis_mut(Axis(0), i).assign(&pool.index_axis(Axis(0), row));
            targets[[i, target(row)]] = 1.0 / rows.len() as f32;
        }
        let mut inputs = vec![
            ("images", self.images.view().into_dyn()),
            ("pattern", trigger.pattern.view().insert_axis(Axis(0)).into_dyn()),
            ("targets", targets.view().into_dyn()),
        ];
        if self.kind == TriggerKind::Blended {
            inputs.push(("mask", trigger.mask.view().insert_axis(Axis(0)).into_dyn()));
        }
        let session = self.reference.as_mut().filter(|_| in_float32).unwrap_or(&mut self.session);
        let names: Vec<&str> = self.outputs.iter().map(String::as_str).collect();
        let mut outputs = session.run(&inputs, &names)?.into_iter();
        let mut output = || outputs.next().ok_or_else(malformed);
        let cross_entropy = output()?.into_iter().next().ok_or_else(malformed)?;
        let logits = output()?.into_dimensionality::<Ix2>().map_err(|_| malformed())?;
        let gradient =
            |of: ArrayD<f32>, like: &Array3<f32>| of.into_shape_with_order(like.raw_dim()).map_err(|_| malformed());
        Ok(Evaluation {
            cross_entropy: f64::from(cross_entropy),
            logits: logits.slice(s![..rows.len(), ..]).to_owned(),
            pattern_gradient: gradient(output()?, &trigger.pattern)?,
            mask_gradient: outputs.next().map(|of| gradient(of, &trigger.mask)).transpose()?,
        })
    }
}

/// The graph of an objective, of which any number can be compiled.
pub(crate) struct Blueprint {
    model: Vec<u8>,
    memory: u64,
    outputs: Vec<String>,
    images: [usize; 4],
    classes: usize,
    kind: TriggerKind,
}

impl Blueprint {
    /// Builds and differentiates the objective, as [`Objective::new`] has it.
    ///
    /// # Errors
    /// If it would take more memory than the classifier may use.
    pub(crate) fn new(classifier: &Classifier, config: &Config, samples: usize) -> Result<Self> {
        let batch = classifier.network().batch(config.batch_size.min(samples).max(1));
        let [channels, height, width] = classifier.image_shape();
        let classes = classifier.classes();
        let mut graph = Graph::new();
        let images = classifier.network().add_images(&mut graph, batch)?;
        let mut input = |name: &str, shape: &[usize]| graph.add_input(name, ValueType::new(ElementType::F32, shape));
        input("pattern", &[1, channels, height, width])?;
        // One row for each image: its weight at its target, 0 elsewhere.
        input("targets", &[batch, classes])?;

        let (stamped, variables) = match config.trigger {
            TriggerKind::Blended => {
                let mask_channels = if config.mask_per_channel { channels } else { 1 };
                input("mask", &[1, mask_channels, height, width])?;
                (blended(&mut graph, &images)?, &["pattern", "mask"][..])
            }
            TriggerKind::Additive => (added(&mut graph, &images, classifier.value_range())?, &["pattern"][..]),
        };
        let logits = classifier.network().append(&mut graph, &stamped)?;
        let log_probabilities = graph.apply("LogSoftmax", &[&logits], [("axis", 1)])?;
        let of_targets = graph.apply("Mul", &[&log_probabilities, "targets"], ())?;
        let axes = graph.constant(Tensor::ints(&[0, 1]));
        let log_likelihood = graph.apply("ReduceSum", &[&of_targets, &axes], [("keepdims", 0)])?;
        let cross_entropy = graph.apply("Neg", &[&log_likelihood], ())?;

        graph.set_outputs(&[&cross_entropy, &logits])?;
        let gradients = differentiate(&graph, &[&cross_entropy], variables)?;
        let memory = classifier.memory_for(&gradients.graph)?;
        let model = gradients.graph.to_model_bytes("objective")?;
        let outputs = [cross_entropy, logits].into_iter().chain(gradients.names).collect();
        let images = [batch, channels, height, width];
        Ok(Blueprint { model, memory, outputs, images, classes, kind: config.trigger })
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
            kind: self.kind,
        })
    }
}

/// `(1 − mask)·images + mask·pattern`.
fn blended(graph: &mut Graph, images: &str) -> Result<String> {
    let change = graph.apply("Sub", &["pattern", images], ())?;
    let change = graph.apply("Mul", &["mask", &change], ())?;
    Ok(graph.apply("Add", &[images, &change], ())?)
}

/// `images + pattern`, cut off at the range of pixel values.
fn added(graph: &mut Graph, images: &str, (low, high): (f32, f32)) -> Result<String> {
    let changed = graph.apply("Add", &[images, "pattern"], ())?;
    let [low, high] = [low, high].map(|bound| graph.constant(Tensor::scalar(ElementType::F32, bound.into())));
    Ok(graph.apply("Clip", &[&changed, &low, &high], ())?)
}

fn malformed() -> Error {
    Error::Classifier("the engine's results are not of the shape of the objective's outputs".into())
}
