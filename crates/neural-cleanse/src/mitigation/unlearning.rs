use std::ops::ControlFlow;

use ndarray::{Array2, Array4, ArrayView4, Axis};
use onnx_grad::Model;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Backdoor;
use super::fine_tuning::FineTuning;
use crate::classifier::{Classifier, one_hot};
use crate::clean_set::CleanSet;
use crate::error::{Error, Result};
use crate::minibatches::Minibatches;
use crate::optimiser::Optimiser;
use crate::trainable::Layers;

/// How a backdoor is unlearned: by training on clean samples of all classes, some of which carry the trigger and all of
/// which have their true labels (paper §VI-D), softened by what the model itself said of them before.
///
/// The paper trains for one epoch on a tenth of the training data. Here a thousand samples are usual, and the reversed
/// trigger covers the true one in part only: what removes both is longer steps, and more of them. What keeps the
/// accuracy meanwhile is self-distillation, which leaves the model no reason to move where the trigger is not.
#[derive(Debug, Clone, PartialEq)]
pub struct Unlearning {
    /// How often all samples are passed over. By default 10.
    pub epochs: usize,
    /// The share of the samples that carry a trigger, 0..=1, chosen anew in every epoch. By default 0.3; the paper has
    /// 0.2.
    /// Where there are several backdoors, each of these samples carries one of them.
    pub stamped_share: f64,
    /// How much of what is asked of a sample, 0..=1, is the model's own answer before the training: the probabilities that
    /// it gave the sample without a trigger. The rest is the true label. By default 0.7; the paper has 0.
    pub distillation: f64,
    /// The number of images in a minibatch. By default 32.
    pub batch_size: usize,
    /// The length of the optimiser's first step, from which it falls linearly to 0 at the end of the training, for the
    /// noise of the last minibatches not to cost accuracy. By default 2e-3.
    pub learning_rate: f64,
    /// How the weights follow their gradients. By default Adam with β = (0.9, 0.999), whose steps do not depend on
    /// the scale of the model's inputs and losses.
    pub optimiser: Optimiser,
    /// The layers whose weights are trained. By default all.
    pub layers: Layers,
    /// Seeds the order of the samples and the choice of those that carry a trigger.
    pub seed: u64,
}

impl Default for Unlearning {
    fn default() -> Self {
        Unlearning {
            epochs: 10,
            stamped_share: 0.3,
            distillation: 0.7,
            batch_size: 32,
            learning_rate: 2e-3,
            optimiser: Optimiser::ADAM,
            layers: Layers::All,
            seed: 0,
        }
    }
}

impl Unlearning {
    /// Checks that every parameter is in its range.
    ///
    /// # Errors
    /// A sentence which names the first parameter that is not.
    pub fn validate(&self) -> Result<(), String> {
        let check = |holds: bool, message: &str| if holds { Ok(()) } else { Err(message.to_owned()) };
        check(self.epochs > 0, "epochs must be at least 1")?;
        check((0.0..=1.0).contains(&self.stamped_share), "stamped_share must lie between 0 and 1")?;
        check((0.0..=1.0).contains(&self.distillation), "distillation must lie between 0 and 1")?;
        check(self.batch_size > 0, "batch_size must be at least 1")?;
        let positive = self.learning_rate.is_finite() && self.learning_rate > 0.0;
        check(positive, "learning_rate must be a number above 0")?;
        check(self.layers != Layers::Last(0), "layers must be at least 1")?;
        self.optimiser.validate()
    }
}

/// What one step of the training came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UnlearningStep {
    /// The step, counted from 1 through all epochs.
    pub step: usize,
    /// How many steps there will be.
    pub steps: usize,
    /// The epoch, counted from 1.
    pub epoch: usize,
    /// The mean cross-entropy of the minibatch towards what is asked of it, before the step, in nats.
    pub cross_entropy: f64,
}

/// Trains the classifier on the samples of `train`, some of them with one of `backdoors` on, to say what their labels say, and
/// as far as [`Unlearning::distillation`] has it, what the classifier said of them without a trigger.
///
/// Returns the model that the classifier was made from with other floating-point initializers: weights, biases, and scale and
/// bias of normalisation layers. The running mean and variance of BatchNormalization stay, as does everything else in
/// the file. The outcome depends on the options, the samples and the engine, not on the number of threads. `observe` is told
/// of each step and may stop the work.
///
/// # Errors
/// If options, samples or triggers do not go with the model, it has no weights to train or no gradient, the
/// loss is not finite, the engine fails, or `observe` says to stop.
pub fn unlearn(
    classifier: &Classifier,
    backdoors: &[Backdoor],
    train: &CleanSet,
    options: &Unlearning,
    observe: &mut dyn FnMut(UnlearningStep) -> ControlFlow<()>,
) -> Result<Model> {
    options.validate().map_err(Error::Config)?;
    check_samples(classifier, train)?;
    if backdoors.is_empty() && options.stamped_share > 0.0 {
        return Err(Error::Config("there is no backdoor to unlearn".into()));
    }
    let samples = train.labels.len();
    let batch = options.batch_size.min(samples);
    let wanted = wanted_probabilities(classifier, train, options.distillation)?;
    let mut tuning = FineTuning::new(classifier, batch, options.layers, options.optimiser)?;
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let mut minibatches = Minibatches::new((0..samples).collect(), batch, &mut rng);
    let steps = options.epochs.saturating_mul(minibatches.in_a_pass());
    let mut step = 0;
    for epoch in 1..=options.epochs {
        let stamps = stamps(samples, options.stamped_share, backdoors, &mut rng);
        for _ in 0..minibatches.in_a_pass() {
            let left = (steps - step) as f64 / steps as f64;
            step += 1;
            let rows = minibatches.next(true, &mut rng);
            let images = stamped(train.images.view(), rows, &stamps)?;
            let wanted = wanted.select(Axis(0), rows);
            let cross_entropy = tuning.step(images.view(), wanted.view(), options.learning_rate * left)?;
            if !cross_entropy.is_finite() || !tuning.is_finite() {
                return Err(diverged(step, cross_entropy, options.learning_rate));
            }
            if observe(UnlearningStep { step, steps, epoch, cross_entropy }).is_break() {
                return Err(Error::Interrupted);
            }
        }
    }
    let mut model = classifier.network().model().clone();
    tuning.store(&mut model)?;
    Ok(model)
}

fn check_samples(classifier: &Classifier, train: &CleanSet) -> Result<()> {
    let images = train.images.len_of(Axis(0));
    if images == 0 {
        return Err(Error::Classifier("there are no samples to train on".into()));
    }
    if train.images.shape()[1..] != classifier.image_shape() {
        return Err(Error::Classifier(format!(
            "images of shape {:?} for a model that takes {:?}",
            &train.images.shape()[1..],
            classifier.image_shape()
        )));
    }
    classifier.check_labels(&train.labels, images)
}

/// For each sample the probabilities `[N, classes]` that the training is after: of its label and, by the share `distillation`,
/// of the classifier's own answer.
fn wanted_probabilities(classifier: &Classifier, train: &CleanSet, distillation: f64) -> Result<Array2<f32>> {
    let answers = softmax(classifier.predict(train.images.view())?);
    let of_labels = one_hot(&train.labels, classifier.classes());
    Ok(answers * distillation as f32 + of_labels * (1.0 - distillation) as f32)
}

/// Each row of `logits` as probabilities.
fn softmax(mut logits: Array2<f32>) -> Array2<f32> {
    for mut row in logits.outer_iter_mut() {
        let largest = row.fold(f32::NEG_INFINITY, |largest, &logit| largest.max(logit));
        row.mapv_inplace(|logit| (logit - largest).exp());
        let sum = row.sum();
        row /= sum;
    }
    logits
}

/// For each sample the backdoor whose trigger it carries, if it carries one; the backdoors take turns.
fn stamps<'a>(samples: usize, share: f64, backdoors: &'a [Backdoor], rng: &mut impl Rng) -> Vec<Option<&'a Backdoor>> {
    let count = (share * samples as f64).round() as usize;
    let mut stamps: Vec<Option<&Backdoor>> = backdoors.iter().cycle().take(count).map(Some).collect();
    stamps.resize(samples, None);
    stamps.shuffle(rng);
    stamps
}

/// The images at `rows` of `images`, with the triggers that `stamps` have for them.
fn stamped(images: ArrayView4<'_, f32>, rows: &[usize], stamps: &[Option<&Backdoor>]) -> Result<Array4<f32>> {
    let mut batch = images.select(Axis(0), rows);
    for (mut image, &row) in batch.axis_chunks_iter_mut(Axis(0), 1).zip(rows) {
        if let Some(backdoor) = stamps[row] {
            let stamped = backdoor.trigger.apply(image.view())?;
            image.assign(&stamped);
        }
    }
    Ok(batch)
}

fn diverged(step: usize, cross_entropy: f64, learning_rate: f64) -> Error {
    Error::Classifier(if step == 1 && !cross_entropy.is_finite() {
        format!(
            "the model's loss on the samples is {cross_entropy} before any training: its outputs are not finite for some of them"
        )
    } else {
        format!(
            "the training diverged at step {step}, the loss being {cross_entropy}: use a learning rate below {learning_rate}"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trigger::Trigger;
    use ndarray::{Array3, array};

    fn backdoor(target_class: usize) -> Backdoor {
        let trigger =
            Trigger::new(Array3::ones((1, 1, 1)), Array3::from_elem((1, 1, 1), 100.0 + target_class as f32)).unwrap();
        Backdoor { target_class, trigger }
    }

    #[test]
    fn a_share_of_the_samples_carries_one_of_the_triggers_each() {
        let backdoors = [backdoor(0), backdoor(1), backdoor(2)];
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let stamps = stamps(100, 0.2, &backdoors, &mut rng);
        let carrying = |class| stamps.iter().flatten().filter(|backdoor| backdoor.target_class == class).count();
        assert_eq!([carrying(0), carrying(1), carrying(2), stamps.len()], [7, 7, 6, 100]);
        assert_ne!(stamps, super::stamps(100, 0.2, &backdoors, &mut rng), "the choice is made anew");

        let images = Array4::from_shape_fn((100, 1, 1, 1), |(row, ..)| row as f32);
        let rows = [5, 99, 40, 41, 42, 43, 44];
        let batch = stamped(images.view(), &rows, &stamps).unwrap();
        for (&pixel, row) in batch.iter().zip(rows) {
            let expected = stamps[row].map_or(row as f32, |backdoor| 100.0 + backdoor.target_class as f32);
            assert_eq!(pixel, expected);
        }
    }

    #[test]
    fn probabilities_follow_from_logits_of_any_size() {
        let probabilities = softmax(array![[0.0, 3f32.ln()], [1000.0, 1000.0], [f32::NEG_INFINITY, -1000.0]]);
        let error =
            (&probabilities - &array![[0.25, 0.75], [0.5, 0.5], [0.0, 1.0]]).fold(0.0, |e: f32, d| e.max(d.abs()));
        assert!(error < 1e-6, "{probabilities}");
    }

    #[test]
    fn each_parameter_out_of_range_is_named() {
        Unlearning::default().validate().unwrap();
        let good = Unlearning::default;
        let cases = [
            ("epochs", Unlearning { epochs: 0, ..good() }),
            ("stamped_share", Unlearning { stamped_share: f64::NAN, ..good() }),
            ("distillation", Unlearning { distillation: 1.5, ..good() }),
            ("batch_size", Unlearning { batch_size: 0, ..good() }),
            ("learning_rate", Unlearning { learning_rate: 0.0, ..good() }),
            ("layers", Unlearning { layers: Layers::Last(0), ..good() }),
            ("momentum", Unlearning { optimiser: Optimiser::Sgd { momentum: 1.0 }, ..good() }),
        ];
        for (name, options) in cases {
            let message = options.validate().unwrap_err();
            assert!(message.starts_with(name), "{name}: {message}");
        }
    }
}
