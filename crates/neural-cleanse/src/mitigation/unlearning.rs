use std::ops::ControlFlow;

use ndarray::Axis;
use onnx_grad::Model;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::Backdoor;
use super::fine_tuning::FineTuning;
use super::further_triggers::further_triggers;
use super::lessons::{Lesson, Lessons};
use crate::classifier::Classifier;
use crate::clean_set::CleanSet;
use crate::error::{Error, Result};
use crate::minibatches::Minibatches;
use crate::optimiser::Optimiser;
use crate::trainable::Layers;

/// How a backdoor is unlearned: by training on clean samples of all classes, some of which carry the trigger and all of
/// which have their true labels (paper §VI-D), softened by what the model itself said of them before.
///
/// The paper trains for one epoch on a tenth of the training data. Here a thousand samples are usual, and a reversed
/// trigger covers the true one in part only. What removes the true one is several reversed triggers, longer steps, and more of
/// them. What keeps the accuracy meanwhile is self-distillation, which leaves the model no reason to move where the
/// trigger is not, on the samples as they are shifted about and mixed with one another, of which there are more (Zhang et al., "mixup",
/// ICLR 2018).
#[derive(Debug, Clone, PartialEq)]
pub struct Unlearning {
    /// How often all samples are passed over. By default 20.
    pub epochs: usize,
    /// The share of the samples that carry a trigger, 0..=1, chosen anew in every epoch. By default 0.4; the paper has
    /// 0.2.
    /// Where there are several backdoors, each of these samples carries one of them.
    pub stamped_share: f64,
    /// How much of what is asked of a sample, 0..=1, is the model's own answer before the training: the probabilities that
    /// it gave the sample without a trigger. The rest is the true label. By default 0.9; the paper has 0.
    pub distillation: f64,
    /// The share of the samples without a trigger, 0..=1, that are mixed with another sample. By default 0.5; the paper
    /// has 0.
    pub mixing: f64,
    /// The share of the samples, 0..=1, that are shifted by up to a sixteenth of their sides before anything else is done with them, and of
    /// which the model's own answer to the shifted image is asked. By default 1; the paper has 0.
    pub shifting: f64,
    /// How many further triggers are inverted for the class of each backdoor, from other starting points, to be unlearned
    /// together with the given one. By default 2; the paper has 0.
    pub further_triggers: usize,
    /// The number of images in a minibatch. By default 32.
    pub batch_size: usize,
    /// The length of the optimiser's first step, from which it falls linearly to 0 at the end of the training, for the
    /// noise of the last minibatches not to cost accuracy. By default 3e-3.
    pub learning_rate: f64,
    /// How the weights follow their gradients. By default Adam with β = (0.9, 0.999), whose steps do not depend on
    /// the scale of the model's inputs and losses.
    pub optimiser: Optimiser,
    /// The layers whose weights are trained. By default all.
    pub layers: Layers,
    /// Seeds the further triggers, the order of the samples and the choice of those that are mixed or carry a trigger.
    pub seed: u64,
}

impl Default for Unlearning {
    fn default() -> Self {
        Unlearning {
            epochs: 20,
            stamped_share: 0.4,
            distillation: 0.9,
            mixing: 0.5,
            shifting: 1.0,
            further_triggers: 2,
            batch_size: 32,
            learning_rate: 3e-3,
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
        check((0.0..=1.0).contains(&self.mixing), "mixing must lie between 0 and 1")?;
        check((0.0..=1.0).contains(&self.shifting), "shifting must lie between 0 and 1")?;
        check(self.batch_size > 0, "batch_size must be at least 1")?;
        let positive = self.learning_rate.is_finite() && self.learning_rate > 0.0;
        check(positive, "learning_rate must be a number above 0")?;
        check(self.layers != Layers::Last(0), "layers must be at least 1")?;
        self.optimiser.validate()
    }
}

/// A step of the work.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum UnlearningStep {
    /// One in the search for further triggers.
    Search {
        /// The step, counted from 1 through all searches.
        step: usize,
        /// How many there will be at the most.
        steps: usize,
    },
    /// One of the training.
    Training {
        /// The step, counted from 1 through all epochs.
        step: usize,
        /// How many there will be.
        steps: usize,
        /// The mean cross-entropy of the minibatch towards what is asked of it, before the step, in nats.
        cross_entropy: f64,
    },
}

/// Trains the classifier on the samples of `train`, some of them with one of `backdoors` on, to say what their labels say, and
/// as far as [`Unlearning::distillation`] has it, what the classifier said of them without a trigger.
/// [`Unlearning::further_triggers`] join those of `backdoors`.
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
    let mut backdoors = backdoors.to_vec();
    if options.stamped_share > 0.0 {
        backdoors.extend(further_triggers(classifier, &backdoors, train, options, observe)?);
    }
    let mut lessons = Lessons::new(classifier, &backdoors, train, options)?;
    let samples = train.labels.len();
    let batch = options.batch_size.min(samples);
    let mut tuning = FineTuning::new(classifier, batch, options.layers, options.optimiser)?;
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let mut minibatches = Minibatches::new((0..samples).collect(), batch, &mut rng);
    let steps = options.epochs.saturating_mul(minibatches.in_a_pass());
    for step in 1..=steps {
        if (step - 1) % minibatches.in_a_pass() == 0 {
            lessons.start_epoch(&mut rng);
        }
        let left = (steps + 1 - step) as f64 / steps as f64;
        let rows = minibatches.next(true, &mut rng).to_vec();
        let Lesson { images, wanted } = lessons.lesson(&rows, &mut rng)?;
        let cross_entropy = tuning.step(images.view(), wanted.view(), options.learning_rate * left)?;
        if !cross_entropy.is_finite() || !tuning.is_finite() {
            return Err(diverged(step, cross_entropy, options.learning_rate));
        }
        if observe(UnlearningStep::Training { step, steps, cross_entropy }).is_break() {
            return Err(Error::Interrupted);
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

    #[test]
    fn each_parameter_out_of_range_is_named() {
        Unlearning::default().validate().unwrap();
        let good = Unlearning::default;
        let cases = [
            ("epochs", Unlearning { epochs: 0, ..good() }),
            ("stamped_share", Unlearning { stamped_share: f64::NAN, ..good() }),
            ("distillation", Unlearning { distillation: 1.5, ..good() }),
            ("mixing", Unlearning { mixing: -0.5, ..good() }),
            ("shifting", Unlearning { shifting: 2.0, ..good() }),
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
