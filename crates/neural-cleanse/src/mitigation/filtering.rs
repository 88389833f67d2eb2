//! Filtering: inputs that excite the penultimate layer as the trigger does are not classified (paper §VI-A).

use std::fmt;

use ndarray::{Array2, ArrayView1, ArrayView2, ArrayView4, Axis};
use serde::{Deserialize, Serialize};

use super::discriminant::discriminant;
use super::ranking::{Reactions, most_responsive};
use super::{Backdoor, Penultimate};
use crate::classifier::{Classifier, Predictor};
use crate::clean_set::CleanSet;
use crate::data::Samples;
use crate::error::{Error, Result};

/// How the activations of the penultimate layer are summed up to the profile of an input.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProfileKind {
    /// The weighted sum of all neurons which best tells triggered inputs from clean ones (Fisher's linear
    /// discriminant). It discounts neurons that also vary between the classes, with which the mean over the
    /// top neurons confuses the target class's own images.
    Discriminant,
    /// The paper's: the mean over this share of the neurons, those which the trigger excites most; at least one neuron.
    TopNeurons {
        /// In 0..=1; the paper's is 0.01.
        share: f64,
    },
}

/// How a filter is fitted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Filtering {
    /// How an input's activations are summed up.
    pub profile: ProfileKind,
    /// The share of clean inputs that may be rejected, between 0 and 1.
    pub false_positive_rate: f64,
    /// Seeds the division of the calibration samples.
    pub seed: u64,
}

impl Default for Filtering {
    fn default() -> Self {
        Filtering { profile: ProfileKind::Discriminant, false_positive_rate: 0.05, seed: 0 }
    }
}

/// Abstains from inputs on which the penultimate layer of a model reacts as it does to a trigger.
///
/// It belongs to the model that it was fitted to and to no other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Filter {
    /// One for each backdoor.
    pub profiles: Vec<Profile>,
    /// The false-positive rate that the thresholds are for.
    pub false_positive_rate: f64,
    /// How many clean samples the thresholds were set on.
    pub calibrated_on: usize,
}

/// A weighted sum of the penultimate layer's activations and the value above which the filter abstains.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// The class to which the backdoor leads.
    pub target_class: usize,
    /// One weight for each neuron; their absolute values sum up to 1.
    pub weights: Vec<f32>,
    /// The filter abstains from inputs whose profile is larger.
    pub threshold: f32,
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = 100.0 * self.false_positive_rate;
        write!(f, "filter for {rate} % false positives, calibrated on {} images", self.calibrated_on)
    }
}

impl Filter {
    /// Fits a filter for `backdoors` on clean samples.
    ///
    /// One half of `calibration` says, with and without triggers, which neurons to look at; on the other the thresholds
    /// are set, so high that on further samples like these the expected share of rejections is at most the wanted
    /// one (split conformal prediction: of n profiles in ascending order, number ⌈(n + 1)(1 − rate)⌉). Several
    /// backdoors have a profile each and share the rate evenly. Measure the rate on samples that are in neither half.
    ///
    /// # Errors
    /// If there is no backdoor, too few samples for so small a rate, no reaction to a trigger, or the engine fails.
    pub fn fit(
        classifier: &Classifier,
        backdoors: &[Backdoor],
        calibration: &CleanSet,
        options: &Filtering,
    ) -> Result<Self> {
        options.validate().map_err(Error::Config)?;
        if backdoors.is_empty() {
            return Err(Error::Config("there is no backdoor to filter: give a trigger".into()));
        }
        let (fitting, thresholds) = halves(calibration, options.seed);
        let rate = options.false_positive_rate / backdoors.len() as f64;
        let rank = quantile_rank(thresholds.labels.len(), rate).ok_or_else(|| {
            Error::Config(format!(
                "{} calibration samples are too few for a false-positive rate of {}: at least {} are needed",
                calibration.labels.len(),
                options.false_positive_rate,
                2.0 * (1.0 / rate - 1.0 - 1e-9).ceil() - 1.0
            ))
        })?;
        let penultimate = Penultimate::find(classifier.network())?;
        let mut activations = penultimate.predictor(classifier)?;
        let clean = activations.predict(fitting.images.view())?;
        let unseen = activations.predict(thresholds.images.view())?;
        let profile = |backdoor: &Backdoor| {
            let weights = weights(&mut activations, clean.view(), &fitting, backdoor, options.profile)?;
            let mut profiles: Vec<f64> = unseen.outer_iter().map(|row| dot(row, &weights)).collect();
            profiles.sort_by(f64::total_cmp);
            Ok(Profile { target_class: backdoor.target_class, threshold: threshold(&profiles, rank), weights })
        };
        Ok(Filter {
            profiles: backdoors.iter().map(profile).collect::<Result<_>>()?,
            false_positive_rate: options.false_positive_rate,
            calibrated_on: thresholds.labels.len(),
        })
    }

    /// The profiles `[N, backdoors]` of `images` `[N, C, H, W]`.
    ///
    /// # Errors
    /// If the filter is not for the model of `classifier`, or the engine fails.
    pub fn profile(&self, classifier: &Classifier, images: ArrayView4<'_, f32>) -> Result<Array2<f64>> {
        let penultimate = Penultimate::find(classifier.network())?;
        self.check_fits(&penultimate)?;
        let activations = penultimate.activations(classifier, images)?;
        let shape = (activations.nrows(), self.profiles.len());
        Ok(Array2::from_shape_fn(shape, |(i, k)| dot(activations.row(i), &self.profiles[k].weights)))
    }

    /// Whether the filter abstains from each of `images` `[N, C, H, W]`: whether any profile is above its threshold.
    ///
    /// # Errors
    /// As [`profile`](Self::profile) has them.
    pub fn abstains(&self, classifier: &Classifier, images: ArrayView4<'_, f32>) -> Result<Vec<bool>> {
        let profiles = self.profile(classifier, images)?;
        let is_above = |(profile, limit): (&f64, &Profile)| *profile > f64::from(limit.threshold);
        Ok(profiles.outer_iter().map(|row| row.iter().zip(&self.profiles).any(is_above)).collect())
    }

    /// That every profile has a weight for each neuron of `penultimate`.
    pub(super) fn check_fits(&self, penultimate: &Penultimate) -> Result<()> {
        match self.profiles.iter().find(|profile| profile.weights.len() != penultimate.neurons()) {
            Some(profile) => Err(Error::Classifier(format!(
                "the filter is for {} neurons, and the model's penultimate layer has {}: it was fitted to another model",
                profile.weights.len(),
                penultimate.neurons()
            ))),
            None => Ok(()),
        }
    }
}

impl Filtering {
    /// Checks that every parameter is in its range.
    ///
    /// # Errors
    /// A sentence which names the first parameter that is not.
    pub fn validate(&self) -> Result<(), String> {
        if !(self.false_positive_rate > 0.0 && self.false_positive_rate < 1.0) {
            let rate = self.false_positive_rate;
            return Err(format!("false_positive_rate is {rate}, and must be between 0 and 1"));
        }
        match self.profile {
            ProfileKind::TopNeurons { share } if !(0.0..=1.0).contains(&share) => {
                Err(format!("top share is {share}, and must be a share of the neurons in 0..=1"))
            }
            _ => Ok(()),
        }
    }
}

/// Two halves of `set` with the classes spread evenly over them.
fn halves(set: &CleanSet, seed: u64) -> (CleanSet, CleanSet) {
    let samples =
        Samples { images: set.images.clone(), labels: Some(set.labels.clone()), class_names: None, notes: Vec::new() };
    let (fitting, thresholds) = samples.split(set.labels.len().div_ceil(2), seed);
    let clean = |samples: Samples| CleanSet { labels: samples.labels.unwrap_or_default(), images: samples.images };
    (clean(fitting), clean(thresholds))
}

/// The weights of the profile of `backdoor`, whose absolute values sum up to 1.
fn weights(
    activations: &mut Predictor,
    clean: ArrayView2<'_, f32>,
    fitting: &CleanSet,
    backdoor: &Backdoor,
    kind: ProfileKind,
) -> Result<Vec<f32>> {
    let reactions = Reactions::measure(activations, clean, fitting, backdoor)?;
    let weights: Option<Vec<f64>> = match kind {
        ProfileKind::Discriminant => discriminant(clean, reactions.triggered.view()).map(|weights| weights.to_vec()),
        ProfileKind::TopNeurons { share } => {
            let ranked = most_responsive(&reactions.differences());
            let neurons = clean.len_of(Axis(1));
            let count = ((share * neurons as f64).floor() as usize).max(1);
            let top = ranked.get(..count.min(ranked.len())).filter(|top| !top.is_empty());
            top.map(|top| (0..neurons).map(|neuron| f64::from(u8::from(top.contains(&neuron)))).collect())
        }
    };
    let weights = weights.ok_or_else(|| {
        Error::Classifier(format!(
            "the penultimate layer does not react to the trigger of class {}, so it cannot be filtered by it",
            backdoor.target_class
        ))
    })?;
    let sum: f64 = weights.iter().map(|weight| weight.abs()).sum();
    Ok(weights.iter().map(|weight| (weight / sum) as f32).collect())
}

/// The number, from 1, of the smallest of `n` ascending profiles which one more of their kind exceeds with a probability
/// of `rate` at most; `None` if none of them is large enough.
fn quantile_rank(n: usize, rate: f64) -> Option<usize> {
    let rank = ((n + 1) as f64 * (1.0 - rate) - 1e-9).ceil() as usize;
    (1..=n).contains(&rank).then_some(rank)
}

/// The threshold at the profile of number `rank`: half-way to the next larger one, so that rounding does not decide
/// about the sample that it comes from.
fn threshold(ascending: &[f64], rank: usize) -> f32 {
    let at = ascending[rank - 1];
    let next = ascending[rank..].iter().find(|&&profile| profile > at);
    next.map_or(at, |next| (at + next) / 2.0) as f32
}

fn dot(activations: ArrayView1<'_, f32>, weights: &[f32]) -> f64 {
    activations.iter().zip(weights).map(|(&activation, &weight)| f64::from(activation) * f64::from(weight)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_those_of_conformal_prediction() {
        assert_eq!(quantile_rank(19, 0.05), Some(19));
        assert_eq!(quantile_rank(18, 0.05), None);
        assert_eq!(quantile_rank(99, 0.05), Some(95));
        assert_eq!(quantile_rank(100, 0.05), Some(96));
        assert_eq!(quantile_rank(0, 0.05), None);
    }

    #[test]
    fn the_threshold_lies_between_profiles() {
        assert_eq!(threshold(&[0.0, 1.0, 1.0, 2.0], 2), 1.5);
        assert_eq!(threshold(&[0.0, 1.0, 2.0], 3), 2.0);
    }
}
