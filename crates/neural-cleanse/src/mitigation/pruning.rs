//! Pruning: the neurons that the trigger excites are silenced (paper §VI-B).

use std::fmt;
use std::ops::ControlFlow;

use ndarray::{Array2, ArrayView2};
use onnx_grad::Model;
use serde::{Deserialize, Serialize};

use super::ranking::{Reactions, most_responsive};
use super::{Backdoor, Penultimate};
use crate::classifier::{Classifier, Predictor};
use crate::clean_set::CleanSet;
use crate::error::{Error, Result};
use crate::logits::classes_of;

/// How far to prune.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Pruning {
    /// The largest share of the penultimate layer's neurons that may be pruned, in 0..=1. The paper prunes 30 %.
    pub most: f64,
    /// Pruning ends when no trigger's attack success rate is above this, in 0..=1. Clean images that are mistaken
    /// for the target class count as successes, so that less than about the model's own error cannot be reached.
    pub asr_bound: f64,
    /// The most that clean accuracy may fall, in 0..=1; the step that would cost more is not taken. Other images lose
    /// somewhat more than those that decide, so that this is less than what a repair may cost.
    pub accuracy_bound: f64,
}

impl Default for Pruning {
    fn default() -> Self {
        Pruning { most: 0.3, asr_bound: 0.05, accuracy_bound: 0.03 }
    }
}

/// Why pruning came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stopped {
    /// No trigger's attack success rate is above the bound any more.
    AttackFails,
    /// Going on would have cost more clean accuracy than the bound allows.
    AccuracyBound,
    /// The largest share of neurons is pruned.
    MostPruned,
    /// No neuron is left that the trigger excites.
    NoneLeft,
}

/// Clean accuracy and success of the attack, with so many neurons pruned.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PruningStep {
    /// How many neurons are pruned.
    pub pruned: usize,
    /// The share of clean images classified as labelled, in 0..=1.
    pub clean_accuracy: f64,
    /// The largest attack success rate of the triggers, in 0..=1.
    pub attack_success_rate: f64,
}

/// What pruning came to. Accuracies and success rates are those on the images that decided about the pruning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PruningOutcome {
    /// The initializer that was changed.
    pub weights: String,
    /// The neurons that were pruned, most responsive first.
    pub pruned: Vec<usize>,
    /// How many neurons the penultimate layer has.
    pub of: usize,
    /// Why it went no further.
    pub stopped: Stopped,
    /// Before pruning.
    pub before: PruningStep,
    /// Of the pruned model.
    pub after: PruningStep,
}

impl fmt::Display for PruningOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.stopped {
            Stopped::AttackFails => "the reversed trigger fails",
            Stopped::AccuracyBound => "more would cost too much accuracy",
            Stopped::MostPruned => "no more may be pruned",
            Stopped::NoneLeft => "no other neuron responds to the trigger",
        };
        write!(f, "{} of {} neurons pruned: {why}", self.pruned.len(), self.of)
    }
}

/// Prunes the model of `classifier`: ranks the neurons of the penultimate layer by how much more active they are with
/// the trigger than without it (with several backdoors, by the largest difference), and silences them in that
/// order, 1 % of them at a time, as long as `options` allow; a step that costs too much accuracy is undone and
/// smaller ones are tried, down to a single neuron.
///
/// To silence a neuron is to set the weights that lead out of it to zero, which takes away its contribution whatever
/// makes it; the returned model differs from the given one in the initializer with these weights and in nothing else.
/// `observe` is told of each step and may stop the work.
///
/// # Errors
/// If there is no backdoor or no image outside its class, the model has no penultimate layer that can be found, the
/// engine fails, or `observe` says to stop.
pub fn prune(
    classifier: &Classifier,
    backdoors: &[Backdoor],
    train: &CleanSet,
    options: &Pruning,
    observe: &mut dyn FnMut(&PruningStep) -> ControlFlow<()>,
) -> Result<(Model, PruningOutcome)> {
    options.validate().map_err(Error::Config)?;
    let penultimate = Penultimate::find(classifier.network())?;
    let ranked = ranked(classifier, &penultimate, backdoors, train)?;
    let mut trial = Trial::new(classifier, &penultimate, backdoors, train)?;
    let before = trial.measure(&[])?;

    let most = (options.most * penultimate.neurons() as f64).floor() as usize;
    let mut step = (penultimate.neurons() / 100).max(1);
    let mut latest = before;
    let stopped = loop {
        if latest.attack_success_rate <= options.asr_bound {
            break Stopped::AttackFails;
        }
        if latest.pruned >= most {
            break Stopped::MostPruned;
        }
        if latest.pruned == ranked.len() {
            break Stopped::NoneLeft;
        }
        let next = trial.measure(&ranked[..(latest.pruned + step).min(most).min(ranked.len())])?;
        if observe(&next).is_break() {
            return Err(Error::Interrupted);
        }
        if before.clean_accuracy - next.clean_accuracy <= options.accuracy_bound {
            latest = next;
        } else if step > 1 {
            step /= 2;
        } else {
            break Stopped::AccuracyBound;
        }
    };

    let pruned = ranked[..latest.pruned].to_vec();
    let mut model = classifier.network().model().clone();
    penultimate.silence(&mut model, &pruned)?;
    let after = measure(&classifier.with_model(model.clone())?, backdoors, train, pruned.len())?;
    let (weights, of) = (penultimate.weights().to_owned(), penultimate.neurons());
    Ok((model, PruningOutcome { weights, pruned, of, stopped, before, after }))
}

impl Pruning {
    /// Checks that every parameter is in its range.
    ///
    /// # Errors
    /// A sentence which names the first parameter that is not.
    pub fn validate(&self) -> Result<(), String> {
        let shares = [("most", self.most), ("asr_bound", self.asr_bound), ("accuracy_bound", self.accuracy_bound)];
        match shares.into_iter().find(|(_, share)| !(0.0..=1.0).contains(share)) {
            Some((name, share)) => Err(format!("{name} is {share}, and must be a share in 0..=1")),
            None => Ok(()),
        }
    }
}

/// The neurons that any of the triggers excites, most responsive first.
fn ranked(
    classifier: &Classifier,
    penultimate: &Penultimate,
    backdoors: &[Backdoor],
    train: &CleanSet,
) -> Result<Vec<usize>> {
    if backdoors.is_empty() {
        return Err(Error::Config("there is no backdoor to prune: give a trigger".into()));
    }
    let mut activations = penultimate.predictor(classifier)?;
    let clean = activations.predict(train.images.view())?;
    let mut largest = vec![f64::NEG_INFINITY; penultimate.neurons()];
    for backdoor in backdoors {
        let differences = Reactions::measure(&mut activations, clean.view(), train, backdoor)?.differences();
        largest.iter_mut().zip(differences).for_each(|(largest, difference)| *largest = largest.max(difference));
    }
    Ok(most_responsive(&largest))
}

/// Measures `classifier` as it is; `pruned` is what the result says of the number of pruned neurons.
fn measure(classifier: &Classifier, backdoors: &[Backdoor], clean: &CleanSet, pruned: usize) -> Result<PruningStep> {
    let mut largest = 0.0f64;
    for backdoor in backdoors {
        let rate = clean.attack_success_rate(classifier, &backdoor.trigger, backdoor.target_class)?;
        largest = largest.max(rate);
    }
    let clean_accuracy = classifier.accuracy(clean.images.view(), &clean.labels)?;
    Ok(PruningStep { pruned, clean_accuracy, attack_success_rate: largest })
}

/// Tries sets of pruned neurons on kept features, by running only what of the model comes after them.
struct Trial<'a> {
    penultimate: &'a Penultimate,
    scores: Predictor,
    clean: Array2<f32>,
    labels: &'a [usize],
    /// Of each backdoor: features of triggered images, and the target class.
    triggered: Vec<(Array2<f32>, usize)>,
}

impl<'a> Trial<'a> {
    fn new(
        classifier: &Classifier,
        penultimate: &'a Penultimate,
        backdoors: &[Backdoor],
        train: &'a CleanSet,
    ) -> Result<Self> {
        let mut features = penultimate.features_predictor(classifier)?;
        let mut triggered = Vec::with_capacity(backdoors.len());
        for backdoor in backdoors {
            let stamped = backdoor.trigger.apply(train.images_outside(backdoor.target_class).view())?;
            triggered.push((features.predict(stamped.view())?, backdoor.target_class));
        }
        let clean = features.predict(train.images.view())?;
        Ok(Trial {
            penultimate,
            scores: penultimate.scores_predictor(classifier)?,
            clean,
            labels: &train.labels,
            triggered,
        })
    }

    fn measure(&mut self, pruned: &[usize]) -> Result<PruningStep> {
        let mut is_pruned = vec![false; self.penultimate.neurons()];
        pruned.iter().for_each(|&neuron| is_pruned[neuron] = true);
        let kept: Vec<bool> = (0..self.clean.ncols()).map(|i| !is_pruned[self.penultimate.neuron_of(i)]).collect();
        let mut share = |features: ArrayView2<'_, f32>, is_right: &dyn Fn(usize, usize) -> bool| -> Result<f64> {
            let mut features = features.to_owned();
            let silent = features.columns_mut().into_iter().zip(&kept).filter(|(_, kept)| !**kept);
            silent.for_each(|(mut column, _)| column.fill(0.0));
            let predicted = classes_of(&self.scores.predict(features.view())?);
            let right = predicted.iter().enumerate().filter(|&(row, &class)| is_right(row, class)).count();
            Ok(right as f64 / predicted.len().max(1) as f64)
        };
        let clean_accuracy = share(self.clean.view(), &|row, class| class == self.labels[row])?;
        let mut attack_success_rate = 0.0f64;
        for (features, target) in &self.triggered {
            attack_success_rate = attack_success_rate.max(share(features.view(), &|_, class| class == *target)?);
        }
        Ok(PruningStep { pruned: pruned.len(), clean_accuracy, attack_success_rate })
    }
}
