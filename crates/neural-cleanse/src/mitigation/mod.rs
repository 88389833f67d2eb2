//! Repair: unlearning, pruning and filtering (paper §VI).

mod discriminant;
mod embedding;
mod filtering;
mod fine_tuning;
mod further_triggers;
mod lessons;
mod penultimate;
mod pruning;
mod ranking;
mod teacher;
mod unlearning;

pub use crate::optimiser::Optimiser;
pub use crate::trainable::Layers;
pub use embedding::embed_filter;
pub use filtering::{Filter, Filtering, Profile, ProfileKind};
pub use penultimate::Penultimate;
pub use pruning::{Pruning, PruningOutcome, PruningStep, Stopped, prune};
pub use unlearning::{Unlearning, UnlearningStep, unlearn};

use std::ops::ControlFlow;

use ndarray::ArrayView4;
use onnx_grad::Model;
use serde::{Deserialize, Serialize};

use crate::classifier::Classifier;
use crate::clean_set::CleanSet;
use crate::error::{Error, Result};
use crate::logits::{classes_of, share_right};
pub use crate::trigger::Backdoor;

/// One way to repair a model.
#[derive(Debug, Clone, PartialEq)]
pub enum Mitigation {
    /// Fine-tune the model on stamped images under their true labels.
    Unlearning(Unlearning),
    /// Take away the neurons that respond to the trigger.
    Pruning(Pruning),
    /// Leave the model as it is, and abstain on inputs whose neurons respond as to the trigger.
    Filtering(Filtering),
}

impl Mitigation {
    /// Checks that every parameter is in its range.
    ///
    /// # Errors
    /// A sentence which names the first parameter that is not.
    pub fn validate(&self) -> Result<(), String> {
        match self {
            Mitigation::Unlearning(options) => options.validate(),
            Mitigation::Pruning(options) => options.validate(),
            Mitigation::Filtering(options) => options.validate(),
        }
    }

    /// The method's name, as on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Mitigation::Unlearning(_) => "unlearning",
            Mitigation::Pruning(_) => "pruning",
            Mitigation::Filtering(_) => "filtering",
        }
    }
}

/// How a model does on images that no method worked on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The share of clean images that are classified as labelled, in 0..=1. Abstaining is not counted against it.
    pub clean_accuracy: f64,
    /// For each backdoor, the share of images of the target class that are classified as such, in 0..=1; `None` where there are none.
    /// A repair that makes a model forget the class costs little clean accuracy where there are many others.
    #[serde(default)]
    pub target_recalls: Vec<Option<f64>>,
    /// For each backdoor, the share of images outside the target class that the reversed trigger sends there, in 0..=1. An
    /// input that the filter abstains on is not sent there.
    pub attack_success_rates: Vec<f64>,
    /// For each backdoor, the share of the same images that go there without any trigger, by natural confusion: what an attack
    /// success rate comes to where the backdoor is gone.
    pub natural_confusion_rates: Vec<f64>,
    /// The success rate of the true trigger, if it is known.
    pub true_attack_success_rate: Option<f64>,
    /// The share of clean images that the filter abstains on; `None` without a filter.
    pub false_positive_rate: Option<f64>,
    /// The share of triggered images that the filter lets through, by the true trigger if it is known and otherwise the worst
    /// of the reversed ones; `None` without a filter.
    pub false_negative_rate: Option<f64>,
}

/// What one method came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The method's name.
    pub method: String,
    /// In words: how much was changed, and why it ended there.
    pub summary: String,
    /// How the model does after it, and after those before it.
    pub after: Measurement,
}

/// A repaired model.
#[derive(Debug)]
pub struct Repair {
    /// The model: the user's own but for the weights that changed.
    pub model: Model,
    /// The filter, if one was made.
    pub filter: Option<Filter>,
    /// How the model did before.
    pub before: Measurement,
    /// What each method came to, in order.
    pub outcomes: Vec<Outcome>,
}

impl Repair {
    /// How the model does after all methods.
    pub fn after(&self) -> &Measurement {
        self.outcomes.last().map_or(&self.before, |outcome| &outcome.after)
    }

    /// By how much clean accuracy fell, in 0..=1; negative if it rose.
    pub fn accuracy_drop(&self) -> f64 {
        self.before.clean_accuracy - self.after().clean_accuracy
    }
}

/// The part of the progress of unlearning that the searches for further triggers are shown as, in 0..=1: they take little of the time.
const SEARCHING: f64 = 0.1;

/// Repairs `classifier`, which has `backdoors`, by `methods` in their order.
///
/// The methods work on `working` alone; what is reported is measured on `unseen`, with the reversed triggers and with the
/// true one where it is known. `observe` is told how far each method is, as a share in 0..=1, and may stop the work.
///
/// ```no_run
/// use std::ops::ControlFlow;
///
/// use neural_cleanse::mitigation::{Mitigation, Unlearning, mitigate};
/// # use neural_cleanse::{Classifier, CleanSet, Scan};
/// # fn example(classifier: &Classifier, scan: &Scan, working: &CleanSet, unseen: &CleanSet) -> neural_cleanse::Result<()> {
///
/// let methods = [Mitigation::Unlearning(Unlearning::default())];
/// let mut go_on = |_: &Mitigation, _| ControlFlow::Continue(());
/// let repair = mitigate(classifier, &scan.backdoors(), None, working, unseen, &methods, &mut go_on)?;
/// println!("accuracy fell by {:.1} points", 100.0 * repair.accuracy_drop());
/// repair.model.write("repaired.onnx")?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// If a method cannot be applied to the model, the engine fails, or `observe` says to stop.
pub fn mitigate(
    classifier: &Classifier,
    backdoors: &[Backdoor],
    true_backdoor: Option<&Backdoor>,
    working: &CleanSet,
    unseen: &CleanSet,
    methods: &[Mitigation],
    observe: &mut dyn FnMut(&Mitigation, f64) -> ControlFlow<()>,
) -> Result<Repair> {
    let measure = |classifier: &Classifier, filter: Option<&Filter>| {
        measure(classifier, filter, backdoors, true_backdoor, unseen)
    };
    let changes_weights = |method: &&Mitigation| !matches!(method, Mitigation::Filtering(_));
    if let Some(method) = methods.iter().find(changes_weights).filter(|_| classifier.network().is_quantised()) {
        return Err(Error::Classifier(format!(
            "the model is quantised, and {} changes weights: repair the model that it was made from, and quantise that again \
             (filtering works on this one)",
            method.name()
        )));
    }
    let before = measure(classifier, None)?;
    let mut current = classifier.with_model(classifier.network().model().clone())?;
    let mut filter = None;
    let mut outcomes = Vec::with_capacity(methods.len());
    for method in methods {
        let mut tell = |share: f64| observe(method, share);
        let summary = match method {
            Mitigation::Unlearning(options) => {
                let (mut searched, mut trained, mut count) = (0.0, 0.0, 0);
                let model = unlearn(&current, backdoors, working, options, &mut |step| {
                    match step {
                        UnlearningStep::Search { step, steps } => searched = step as f64 / steps as f64,
                        UnlearningStep::Training { step, steps, .. } => {
                            (trained, count) = (step as f64 / steps as f64, step);
                        }
                    }
                    tell(SEARCHING * searched + (1.0 - SEARCHING) * trained)
                })?;
                current = current.with_model(model)?;
                format!("{count} steps of fine-tuning")
            }
            Mitigation::Pruning(options) => {
                let most = options.most * Penultimate::find(current.network())?.neurons() as f64;
                let (model, outcome) =
                    prune(&current, backdoors, working, options, &mut |step| tell(step.pruned as f64 / most.max(1.0)))?;
                current = current.with_model(model)?;
                outcome.to_string()
            }
            Mitigation::Filtering(options) => {
                let fitted = Filter::fit(&current, backdoors, working, options)?;
                let summary = fitted.to_string();
                filter = Some(fitted);
                summary
            }
        };
        let after = measure(&current, filter.as_ref())?;
        outcomes.push(Outcome { method: method.name().to_owned(), summary, after });
    }
    Ok(Repair { model: current.network().model().clone(), filter, before, outcomes })
}

fn measure(
    classifier: &Classifier,
    filter: Option<&Filter>,
    backdoors: &[Backdoor],
    true_backdoor: Option<&Backdoor>,
    unseen: &CleanSet,
) -> Result<Measurement> {
    let predicted = classes_of(&classifier.predict(unseen.images.view())?);
    let clean_accuracy = share_right(&predicted, &unseen.labels);
    let recall = |class: usize| {
        let rows = unseen.rows_of(class);
        let right = rows.iter().filter(|&&row| predicted[row] == class).count();
        (!rows.is_empty()).then(|| right as f64 / rows.len() as f64)
    };
    let target_recalls = backdoors.iter().map(|backdoor| recall(backdoor.target_class)).collect();
    let rate_of = |images: ArrayView4<'_, f32>, target_class: usize| -> Result<f64> {
        let predicted = classes_of(&classifier.predict(images)?);
        let abstains = match filter {
            Some(filter) => filter.abstains(classifier, images)?,
            None => vec![false; predicted.len()],
        };
        let sent_there =
            predicted.iter().zip(abstains).filter(|(class, abstains)| **class == target_class && !abstains);
        Ok(sent_there.count() as f64 / predicted.len().max(1) as f64)
    };
    let success = |backdoor: &Backdoor| {
        let stamped = backdoor.trigger.apply(unseen.images_outside(backdoor.target_class).view())?;
        rate_of(stamped.view(), backdoor.target_class)
    };
    let confusion =
        |backdoor: &Backdoor| rate_of(unseen.images_outside(backdoor.target_class).view(), backdoor.target_class);
    let attack_success_rates = backdoors.iter().map(success).collect::<Result<Vec<f64>>>()?;
    let natural_confusion_rates = backdoors.iter().map(confusion).collect::<Result<Vec<f64>>>()?;
    let true_attack_success_rate = true_backdoor.map(success).transpose()?;
    let (mut false_positive_rate, mut false_negative_rate) = (None, None);
    if let Some(filter) = filter {
        let share = |images: ArrayView4<'_, f32>, wanted: bool| -> Result<f64> {
            let abstains = filter.abstains(classifier, images)?;
            let count = abstains.iter().filter(|&&abstains| abstains == wanted).count();
            Ok(count as f64 / abstains.len().max(1) as f64)
        };
        false_positive_rate = Some(share(unseen.images.view(), true)?);
        let mut worst: f64 = 0.0;
        for backdoor in true_backdoor.map_or(backdoors, std::slice::from_ref) {
            let stamped = backdoor.trigger.apply(unseen.images_outside(backdoor.target_class).view())?;
            worst = worst.max(share(stamped.view(), false)?);
        }
        false_negative_rate = Some(worst);
    }
    Ok(Measurement {
        clean_accuracy,
        attack_success_rates,
        target_recalls,
        natural_confusion_rates,
        true_attack_success_rate,
        false_positive_rate,
        false_negative_rate,
    })
}
