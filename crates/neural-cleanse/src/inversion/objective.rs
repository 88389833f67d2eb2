use ndarray::{Array2, Array3, Array4, ArrayD, ArrayView4, ArrayViewD, Axis, Ix2, s};
use onnx_grad::{ElementType, Graph, Tensor, ValueType, differentiate};

use super::{Config, TriggerKind};
use crate::classifier::Classifier;
use crate::engine::{Engine, Precision, Session};
use crate::error::{Error, Result};
use crate::logits::classes_of;
use crate::trigger::Trigger;

/// The attack objective as one compiled graph: images, triggers and targets go in; for each trigger the mean
/// cross-entropy of the stamped images towards their targets, its gradients with respect to mask and
/// pattern, and the logits come out.
///
/// The targets are an input, so that one objective serves all classes. Several triggers, each with images of its own, can share a
/// run: the objective then has as many *lanes* ([`Config::classes_per_batch`]). What comes of a lane does not depend on the others.
pub struct Objective {
    session: Box<dyn Session>,
    /// The same in float32, where the search is not.
    reference: Option<Box<dyn Session>>,
    outputs: Vec<String>,
    inputs: Inputs,
}

/// What the next run is given.
struct Inputs {
    kind: TriggerKind,
    lanes: usize,
    /// `[lanes · batch, C, H, W]`.
    images: Array4<f32>,
    /// `[lanes · batch, classes]`: the weight of each image at its target, 0 elsewhere.
    targets: Array2<f32>,
    /// `[lanes, C, H, W]`.
    patterns: Array4<f32>,
    /// `[lanes, 1 or C, H, W]`.
    masks: Array4<f32>,
}

/// A trigger to evaluate, and on what.
pub struct Question<'a> {
    /// Images, `[N, C, H, W]`.
    pub pool: ArrayView4<'a, f32>,
    /// The positions of those that count, as many as a minibatch has or fewer.
    pub rows: &'a [usize],
    /// What they are stamped with.
    pub trigger: &'a Trigger,
    /// Where they are to go.
    pub targets: Targets<'a>,
    /// Whether to compute in float32, whatever the search does.
    pub in_float32: bool,
}

/// The classes that images are to be sent to.
#[derive(Clone, Copy)]
pub enum Targets<'a> {
    /// One for all.
    Class(usize),
    /// One for each image of the pool.
    Labels(&'a [usize]),
}

/// Answers what a search asks of the model.
pub trait Evaluate {
    /// The largest number of images in a minibatch.
    fn batch(&self) -> usize;

    /// Whether there is a session in float32 beside that of the search.
    fn has_reference(&self) -> bool;

    /// Evaluates the trigger of `question`.
    ///
    /// # Errors
    /// If the engine fails, or the other lanes were left.
    fn answer(&mut self, question: &Question<'_>) -> Result<Evaluation>;

    /// Evaluates `trigger` towards `target` on the images `[N, C, H, W]` at `rows` of `pool`, as many as
    /// [`batch`](Self::batch) or fewer.
    ///
    /// # Errors
    /// As [`answer`](Self::answer) has them.
    fn evaluate(
        &mut self,
        pool: ArrayView4<'_, f32>,
        rows: &[usize],
        trigger: &Trigger,
        target: usize,
    ) -> Result<Evaluation> {
        self.answer(&Question { pool, rows, trigger, targets: Targets::Class(target), in_float32: false })
    }

    /// Evaluates `trigger` on the images at `rows` of `pool`, each towards the class that `labels` has for it.
    ///
    /// # Errors
    /// As [`answer`](Self::answer) has them.
    fn evaluate_towards_labels(
        &mut self,
        pool: ArrayView4<'_, f32>,
        rows: &[usize],
        trigger: &Trigger,
        labels: &[usize],
    ) -> Result<Evaluation> {
        self.answer(&Question { pool, rows, trigger, targets: Targets::Labels(labels), in_float32: false })
    }

    /// Whether float32 confirms what a search in another precision has found: on the first two minibatches of `rows`,
    /// the trigger sends to `target` at least the share `threshold` of the images that it sends there in the precision of
    /// the search.
    ///
    /// # Errors
    /// As [`answer`](Self::answer) has them.
    fn confirms(
        &mut self,
        pool: ArrayView4<'_, f32>,
        rows: &[usize],
        trigger: &Trigger,
        target: usize,
        threshold: f64,
    ) -> Result<bool> {
        if !self.has_reference() {
            return Ok(true);
        }
        let hits = |evaluation: Evaluation| classes_of(&evaluation.logits).iter().filter(|&&c| c == target).count();
        let (mut seen, mut confirmed) = (0, 0);
        for rows in rows.chunks(self.batch()).take(2) {
            let mut ask = |in_float32| {
                self.answer(&Question { pool, rows, trigger, targets: Targets::Class(target), in_float32 })
            };
            seen += hits(ask(false)?);
            confirmed += hits(ask(true)?);
        }
        Ok(confirmed as f64 >= threshold * seen as f64)
    }
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

    /// How many triggers share a run.
    pub fn lanes(&self) -> usize {
        self.inputs.lanes
    }

    /// Puts `question` into `lane` for the next run.
    pub(super) fn fill(&mut self, lane: usize, question: &Question<'_>) {
        self.inputs.fill(lane, question);
    }

    /// Runs what the lanes were filled with, and returns what came of those that `rows` has: lanes, each with its number of images.
    pub(super) fn run(&mut self, in_float32: bool, rows: &[(usize, usize)]) -> Result<Vec<Evaluation>> {
        let session = self.reference.as_mut().filter(|_| in_float32).unwrap_or(&mut self.session);
        let names: Vec<&str> = self.outputs.iter().map(String::as_str).collect();
        let mut outputs = session.run(&self.inputs.named(), &names)?.into_iter();
        let mut output = || outputs.next().ok_or_else(malformed);
        let cross_entropies = output()?;
        let logits = output()?.into_dimensionality::<Ix2>().map_err(|_| malformed())?;
        let by_pattern = output()?;
        let by_mask = outputs.next();
        let batch = self.batch();
        let evaluation = |&(lane, rows): &(usize, usize)| {
            let gradient = |of: &ArrayD<f32>| -> Result<Array3<f32>> {
                let of_lane = (of.ndim() == 4 && lane < of.len_of(Axis(0))).then(|| of.index_axis(Axis(0), lane));
                of_lane.and_then(|of| of.to_owned().into_dimensionality().ok()).ok_or_else(malformed)
            };
            Ok(Evaluation {
                cross_entropy: cross_entropies.iter().nth(lane).copied().map(f64::from).ok_or_else(malformed)?,
                logits: logits.slice(s![lane * batch..lane * batch + rows, ..]).to_owned(),
                pattern_gradient: gradient(&by_pattern)?,
                mask_gradient: by_mask.as_ref().map(gradient).transpose()?,
            })
        };
        rows.iter().map(evaluation).collect()
    }
}

/// The first lane alone.
impl Evaluate for Objective {
    fn batch(&self) -> usize {
        self.inputs.batch()
    }

    fn has_reference(&self) -> bool {
        self.reference.is_some()
    }

    fn answer(&mut self, question: &Question<'_>) -> Result<Evaluation> {
        self.fill(0, question);
        self.run(question.in_float32, &[(0, question.rows.len())])?.pop().ok_or_else(malformed)
    }
}

impl Inputs {
    /// How many images a lane has.
    fn batch(&self) -> usize {
        self.images.len_of(Axis(0)) / self.lanes
    }

    fn fill(&mut self, lane: usize, question: &Question<'_>) {
        let batch = self.batch();
        let first = lane * batch;
        self.targets.slice_mut(s![first..first + batch, ..]).fill(0.0);
        let weight = 1.0 / question.rows.len() as f32;
        for (i, &row) in question.rows.iter().enumerate() {
            self.images.index_axis_mut(Axis(0), first + i).assign(&question.pool.index_axis(Axis(0), row));
            let target = match question.targets {
                Targets::Class(class) => class,
                Targets::Labels(labels) => labels[row],
            };
            self.targets[[first + i, target]] = weight;
        }
        self.patterns.index_axis_mut(Axis(0), lane).assign(&question.trigger.pattern);
        if self.kind == TriggerKind::Blended {
            self.masks.index_axis_mut(Axis(0), lane).assign(&question.trigger.mask);
        }
    }

    fn named(&self) -> Vec<(&str, ArrayViewD<'_, f32>)> {
        let mut named = vec![
            ("images", self.images.view().into_dyn()),
            ("pattern", self.patterns.view().into_dyn()),
            ("targets", self.targets.view().into_dyn()),
        ];
        if self.kind == TriggerKind::Blended {
            named.push(("mask", self.masks.view().into_dyn()));
        }
        named
    }
}

/// The graph of an objective, of which any number can be compiled.
pub(crate) struct Blueprint {
    model: Vec<u8>,
    memory: u64,
    outputs: Vec<String>,
    lanes: usize,
    images: [usize; 4],
    mask_channels: usize,
    classes: usize,
    kind: TriggerKind,
}

impl Blueprint {
    /// Builds and differentiates the objective, as [`Objective::new`] has it, with fewer lanes where so large a graph cannot be had.
    ///
    /// # Errors
    /// If it would take more memory than the classifier may use.
    pub(crate) fn new(classifier: &Classifier, config: &Config, samples: usize) -> Result<Self> {
        let mut wanted = config.classes_per_batch;
        loop {
            match Blueprint::with_lanes(wanted, classifier, config, samples) {
                Err(_) if wanted > 1 => wanted /= 2,
                blueprint => return blueprint,
            }
        }
    }

    fn with_lanes(wanted: usize, classifier: &Classifier, config: &Config, samples: usize) -> Result<Self> {
        let minibatch = config.batch_size.min(samples).max(1);
        let batch = classifier.network().batch(minibatch.saturating_mul(wanted));
        let lanes = lanes(batch, minibatch, wanted);
        let [channels, height, width] = classifier.image_shape();
        let mask_channels = if config.mask_per_channel { channels } else { 1 };
        let classes = classifier.classes();
        let mut graph = Graph::new();
        let images = classifier.network().add_images(&mut graph, batch)?;
        let mut input = |name: &str, shape: &[usize]| graph.add_input(name, ValueType::new(ElementType::F32, shape));
        input("pattern", &[lanes, channels, height, width])?;
        input("targets", &[batch, classes])?;
        let variables = match config.trigger {
            TriggerKind::Blended => {
                input("mask", &[lanes, mask_channels, height, width])?;
                &["pattern", "mask"][..]
            }
            TriggerKind::Additive => &["pattern"],
        };

        let mut shared = Lanes { graph: &mut graph, lanes, each: batch / lanes };
        let by_lane = shared.split(&images, &[channels, height, width])?;
        let pattern = shared.one_each("pattern", &[channels, height, width])?;
        let stamped = match config.trigger {
            TriggerKind::Blended => {
                let mask = shared.one_each("mask", &[mask_channels, height, width])?;
                blended(shared.graph, &by_lane, &mask, &pattern)?
            }
            TriggerKind::Additive => added(shared.graph, &by_lane, &pattern, classifier.value_range())?,
        };
        let stamped = shared.join(&stamped, &[channels, height, width])?;
        let logits = classifier.network().append(shared.graph, &stamped)?;
        let log_probabilities = shared.graph.apply("LogSoftmax", &[&logits], [("axis", 1)])?;
        let of_targets = shared.graph.apply("Mul", &[&log_probabilities, "targets"], ())?;
        let log_likelihood = shared.sums(&of_targets, classes)?;
        let cross_entropy = graph.apply("Neg", &[&log_likelihood], ())?;
        // Each trigger is in one term alone.
        let sum = if lanes == 1 { cross_entropy.clone() } else { total(&mut graph, &cross_entropy)? };

        graph.set_outputs(&[&cross_entropy, &logits])?;
        let gradients = differentiate(&graph, &[&sum], variables)?;
        let memory = classifier.memory_for(&gradients.graph)?;
        let model = gradients.graph.to_model_bytes("objective")?;
        let outputs = [cross_entropy, logits].into_iter().chain(gradients.names).collect();
        let images = [batch, channels, height, width];
        Ok(Blueprint { model, memory, outputs, lanes, images, mask_channels, classes, kind: config.trigger })
    }

    /// About how many bytes an objective takes.
    pub(crate) fn memory(&self) -> u64 {
        self.memory
    }

    /// How many triggers share a run.
    pub(crate) fn lanes(&self) -> usize {
        self.lanes
    }

    /// An objective in `engine`, for `classifier`.
    pub(crate) fn objective(&self, classifier: &Classifier, engine: &dyn Engine, threads: usize) -> Result<Objective> {
        let reference = match classifier.precision() {
            Precision::F32 => None,
            Precision::Bf16 => Some(classifier.engine().compile(&self.model, threads)?),
        };
        let Blueprint { lanes, images, .. } = *self;
        let [batch, channels, height, width] = images;
        Ok(Objective {
            session: engine.compile(&self.model, threads)?,
            reference,
            outputs: self.outputs.clone(),
            inputs: Inputs {
                kind: self.kind,
                lanes,
                images: Array4::zeros(images),
                targets: Array2::zeros((batch, self.classes)),
                patterns: Array4::zeros((lanes, channels, height, width)),
                masks: Array4::zeros((lanes, self.mask_channels, height, width)),
            },
        })
    }
}

/// Among how many of `wanted` lanes a batch is divided: as many as leave each a whole minibatch, and none over.
fn lanes(batch: usize, minibatch: usize, wanted: usize) -> usize {
    let fit = |lanes: &usize| batch.is_multiple_of(*lanes) && batch / lanes >= minibatch;
    (1..=wanted).rev().find(fit).unwrap_or(1)
}

/// Gives the batch of a graph an axis of lanes, and takes it away. One lane needs none.
struct Lanes<'a> {
    graph: &'a mut Graph,
    lanes: usize,
    each: usize,
}

impl Lanes<'_> {
    /// `[lanes · each, …]` as `[lanes, each, …]`.
    fn split(&mut self, batch: &str, rest: &[usize]) -> Result<String> {
        self.reshaped(batch, &[&[self.lanes, self.each], rest].concat())
    }

    /// `[lanes, …]` as `[lanes, 1, …]`.
    fn one_each(&mut self, values: &str, rest: &[usize]) -> Result<String> {
        self.reshaped(values, &[&[self.lanes, 1], rest].concat())
    }

    /// `[lanes, each, …]` as `[lanes · each, …]`.
    fn join(&mut self, lanes: &str, rest: &[usize]) -> Result<String> {
        self.reshaped(lanes, &[&[self.lanes * self.each], rest].concat())
    }

    /// The sums of `[lanes · each, columns]` over each lane.
    fn sums(&mut self, rows: &str, columns: usize) -> Result<String> {
        let split = self.split(rows, &[columns])?;
        let axes: &[i64] = if self.lanes == 1 { &[0, 1] } else { &[1, 2] };
        let axes = self.graph.constant(Tensor::ints(axes));
        Ok(self.graph.apply("ReduceSum", &[&split, &axes], [("keepdims", 0)])?)
    }

    fn reshaped(&mut self, value: &str, shape: &[usize]) -> Result<String> {
        if self.lanes == 1 {
            return Ok(value.to_owned());
        }
        let shape: Vec<i64> = shape.iter().map(|&n| n as i64).collect();
        let shape = self.graph.constant(Tensor::ints(&shape));
        Ok(self.graph.apply("Reshape", &[value, &shape], ())?)
    }
}

fn total(graph: &mut Graph, values: &str) -> Result<String> {
    let axes = graph.constant(Tensor::ints(&[0]));
    Ok(graph.apply("ReduceSum", &[values, &axes], [("keepdims", 0)])?)
}

/// `(1 − mask)·images + mask·pattern`.
fn blended(graph: &mut Graph, images: &str, mask: &str, pattern: &str) -> Result<String> {
    let change = graph.apply("Sub", &[pattern, images], ())?;
    let change = graph.apply("Mul", &[mask, &change], ())?;
    Ok(graph.apply("Add", &[images, &change], ())?)
}

/// `images + pattern`, cut off at the range of pixel values.
fn added(graph: &mut Graph, images: &str, pattern: &str, (low, high): (f32, f32)) -> Result<String> {
    let changed = graph.apply("Add", &[images, pattern], ())?;
    let [low, high] = [low, high].map(|bound| graph.constant(Tensor::scalar(ElementType::F32, bound.into())));
    Ok(graph.apply("Clip", &[&changed, &low, &high], ())?)
}

fn malformed() -> Error {
    Error::Classifier("the engine's results are not of the shape of the objective's outputs".into())
}
