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
/// trigger covers the true one in part only. What removes the true one is several reversed triggers, of the model as it was and as it is
/// it becomes meanwhile (as adversarial training has it; Zeng et al., ICLR 2022, for backdoors), longer steps, and more of
/// them. What keeps the accuracy meanwhile is self-distillation, which leaves the model no reason to move where the
/// trigger is not, at a temperature at which its answers say enough (Hinton et al., 2015), on the samples as they are shifted about and
/// mixed with one another, of which there are more (Zhang et al., "mixup", ICLR 2018).
#[derive(Debug, Clone, PartialEq)]
pub struct Unlearning {
    /// How often all samples are passed over. By default 20.
    pub epochs: usize,
    /// The share of the samples that carry a trigger, 0..=1, chosen anew in every epoch. By default 0.2, as in the paper.
    /// Where there are several backdoors, each of these samples carries one of them. Of a target class there are as many samples as
    /// with its triggers: those that there are return, where they are fewer.
    pub stamped_share: f64,
    /// How much of what is asked of a sample, 0..=1, is the model's own answer before the training: the probabilities that
    /// it gave the sample without a trigger. The rest is the true label. By default the share of the samples that the model answers rightly,
    /// and 0.9 at the most; the paper has 0.
    pub distillation: Option<f64>,
    /// The temperature of the model's answers, before and in the training: probabilities are `softmax(logits / temperature)`. By default
    /// the one at which the answers to the samples have on average half the entropy that they could have, and 1 at the least. The paper has 1.
    pub temperature: Option<f64>,
    /// The share of the samples without a trigger, 0..=1, that are mixed with another sample. By default 0.5; the paper
    /// has 0.
    pub mixing: f64,
    /// The share of the samples, 0..=1, that are shifted by up to a sixteenth of their sides before anything else is done with them, and of
    /// which the model's own answer to the shifted image is asked. By default 1; the paper has 0.
    pub shifting: f64,
    /// How many further triggers each search inverts for the class of each backdoor, from other starting points, to be unlearned
    /// together with the given one. By default 2; the paper has 0.
    pub further_triggers: usize,
    /// How often further triggers are searched for: before the training, and then after equal parts of it, in the model as it has become;
    /// no more than once an epoch. By default 3.
    pub searches: usize,
    /// The number of images in a minibatch. By default 32.
    pub batch_size: usize,
    /// The length of the optimiser's steps. It rises from 0 through the first tenth of the training, for Adam's first steps, which are as
    /// long for all weights, not to do harm that nothing mends; and falls linearly to 0 at the end, for the noise of the last minibatches
    /// not to cost accuracy. By default 3e-3.
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
            stamped_share: 0.2,
            distillation: None,
            temperature: None,
            mixing: 0.5,
            shifting: 1.0,
            further_triggers: 2,
            searches: 3,
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
        check(
            self.distillation.is_none_or(|share| (0.0..=1.0).contains(&share)),
            "distillation must lie between 0 and 1",
        )?;
        let above_zero = |number: f64| number.is_finite() && number > 0.0;
        check(self.temperature.is_none_or(above_zero), "temperature must be a number above 0")?;
        check((0.0..=1.0).contains(&self.mixing), "mixing must lie between 0 and 1")?;
        check((0.0..=1.0).contains(&self.shifting), "shifting must lie between 0 and 1")?;
        check(self.searches > 0, "searches must be at least 1")?;
        check(self.batch_size > 0, "batch_size must be at least 1")?;
        check(above_zero(self.learning_rate), "learning_rate must be a number above 0")?;
        check(self.layers != Layers::Last(0), "layers must be at least 1")?;
        self.optimiser.validate()
    }

    pub(super) fn number_of_searches(&self) -> usize {
        self.searches.min(self.epochs)
    }

    /// Which search, counted from 0, comes before this `epoch`, counted from 0, if one does.
    fn search_before(&self, epoch: usize) -> Option<usize> {
        let searches = self.number_of_searches();
        (0..searches).find(|search| search * self.epochs / searches == epoch)
    }
}

/// The part of the training in which the learning rate rises.
const WARM_UP: f64 = 0.1;

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
        /// The mean cross-entropy of the minibatch towards what is asked of it, at the temperature, before the step, in nats.
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
    let mut lessons = Lessons::new(classifier, train, options)?;
    let samples = train.labels.len();
    let batch = options.batch_size.min(samples);
    let mut tuning = FineTuning::new(classifier, batch, options, lessons.temperature())?;
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let mut minibatches = Minibatches::new(lessons.rows(backdoors), batch, &mut rng);
    let steps = options.epochs.saturating_mul(minibatches.in_a_pass());
    let mut step = 0;
    let mut known = backdoors.to_vec();
    for epoch in 0..options.epochs {
        if let Some(search) = options.search_before(epoch).filter(|_| options.stamped_share > 0.0) {
            let as_it_is = classifier.with_model(trained(classifier, &tuning)?)?;
            known.extend(further_triggers(&as_it_is, backdoors, train, options, search, observe)?);
        }
        lessons.start_epoch(known.len(), &mut rng);
        for _ in 0..minibatches.in_a_pass() {
            step += 1;
            let rows = minibatches.next(true, &mut rng).to_vec();
            let Lesson { images, wanted } = lessons.lesson(&rows, &known, &mut rng)?;
            let cross_entropy =
                tuning.step(images.view(), wanted.view(), options.learning_rate * schedule(step, steps))?;
            if !cross_entropy.is_finite() || !tuning.is_finite() {
                return Err(diverged(step, cross_entropy, options.learning_rate));
            }
            if observe(UnlearningStep::Training { step, steps, cross_entropy }).is_break() {
                return Err(Error::Interrupted);
            }
        }
    }
    trained(classifier, &tuning)
}

/// What part of the learning rate a `step` of `steps`, counted from 1, has.
fn schedule(step: usize, steps: usize) -> f64 {
    let warm = step as f64 / (WARM_UP * steps as f64).max(1.0);
    let left = (steps + 1 - step) as f64 / steps as f64;
    left * warm.min(1.0)
}

/// The model that the classifier was made from, with the weights as they stand.
fn trained(classifier: &Classifier, tuning: &FineTuning) -> Result<Model> {
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
            ("distillation", Unlearning { distillation: Some(1.5), ..good() }),
            ("temperature", Unlearning { temperature: Some(0.0), ..good() }),
            ("searches", Unlearning { searches: 0, ..good() }),
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

    #[test]
    fn the_learning_rate_rises_and_falls() {
        let rates: Vec<f64> = (1..=100).map(|step| schedule(step, 100)).collect();
        assert!(
            rates[..10].windows(2).all(|pair| pair[0] < pair[1]) && rates[9..].windows(2).all(|pair| pair[0] > pair[1])
        );
        assert_eq!((rates[0], rates[9], rates[99]), (0.1, 0.91, 0.01));
        assert_eq!(schedule(1, 1), 1.0, "a single step is a whole one");
    }

    #[test]
    fn searches_part_the_training_evenly() {
        let before = |searches, epochs| {
            let options = Unlearning { searches, epochs, ..Unlearning::default() };
            (0..epochs)
                .filter_map(|epoch| options.search_before(epoch).map(|search| (search, epoch)))
                .collect::<Vec<_>>()
        };
        assert_eq!(before(1, 20), [(0, 0)]);
        assert_eq!(before(2, 20), [(0, 0), (1, 10)]);
        assert_eq!(before(3, 10), [(0, 0), (1, 3), (2, 6)]);
        assert_eq!(before(5, 2), [(0, 0), (1, 1)], "no more than one before an epoch");
    }
}
