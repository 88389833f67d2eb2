//! How often scans whose answer is known came to what a scan has come to (`docs/error-rates.md`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::classifier::Classifier;
use crate::detection::Rule;
use crate::elimination;
use crate::few_classes;
use crate::inversion::{Config, Norm};

/// The lowest score of each scan of a clean model, in the half of the zoo that set no bound. Printed by
/// `zoo/score.py --calibration`, as is [`PATCHED`].
#[rustfmt::skip]
const CLEAN: [f64; 195] = [0.333, 0.361, 0.378, 0.399, 0.418, 0.422, 0.428, 0.434, 0.447, 0.456, 0.456, 0.459, 0.461, 0.468, 0.474, 0.474, 0.480, 0.481, 0.481, 0.483, 0.490, 0.492, 0.495, 0.497, 0.497, 0.504, 0.514, 0.517, 0.519, 0.520, 0.534, 0.538, 0.544, 0.545, 0.552, 0.553, 0.554, 0.585, 0.596, 0.600, 0.602, 0.606, 0.612, 0.622, 0.630, 0.641, 0.642, 0.645, 0.659, 0.668, 0.671, 0.671, 0.673, 0.675, 0.681, 0.682, 0.686, 0.687, 0.688, 0.695, 0.700, 0.703, 0.703, 0.706, 0.714, 0.717, 0.726, 0.726, 0.727, 0.739, 0.741, 0.753, 0.754, 0.759, 0.765, 0.770, 0.779, 0.782, 0.784, 0.787, 0.795, 0.801, 0.801, 0.804, 0.805, 0.806, 0.807, 0.807, 0.808, 0.812, 0.813, 0.813, 0.815, 0.815, 0.817, 0.817, 0.818, 0.818, 0.819, 0.819, 0.820, 0.821, 0.821, 0.822, 0.823, 0.823, 0.823, 0.824, 0.824, 0.824, 0.825, 0.825, 0.825, 0.826, 0.828, 0.829, 0.829, 0.830, 0.830, 0.834, 0.836, 0.839, 0.842, 0.844, 0.846, 0.849, 0.849, 0.850, 0.851, 0.853, 0.853, 0.853, 0.854, 0.858, 0.860, 0.860, 0.866, 0.868, 0.870, 0.870, 0.870, 0.873, 0.875, 0.875, 0.876, 0.876, 0.877, 0.879, 0.882, 0.883, 0.885, 0.886, 0.888, 0.889, 0.889, 0.891, 0.894, 0.894, 0.895, 0.898, 0.898, 0.899, 0.900, 0.902, 0.903, 0.903, 0.903, 0.904, 0.904, 0.904, 0.910, 0.914, 0.917, 0.919, 0.923, 0.933, 0.934, 0.934, 0.938, 0.945, 0.945, 0.946, 0.947, 0.950, 0.951, 0.955, 0.958, 0.960, 0.966, 0.968, 0.969, 0.969, 0.975, 0.977, 0.979];

/// The same of models with a backdoor that a patch leads to from all classes.
#[rustfmt::skip]
const PATCHED: [f64; 145] = [0.009, 0.009, 0.009, 0.010, 0.012, 0.026, 0.030, 0.030, 0.031, 0.031, 0.032, 0.034, 0.034, 0.035, 0.035, 0.035, 0.036, 0.036, 0.036, 0.037, 0.037, 0.037, 0.039, 0.039, 0.039, 0.042, 0.042, 0.042, 0.043, 0.045, 0.046, 0.046, 0.047, 0.047, 0.047, 0.049, 0.050, 0.050, 0.051, 0.051, 0.051, 0.051, 0.052, 0.052, 0.052, 0.052, 0.053, 0.053, 0.053, 0.053, 0.054, 0.054, 0.055, 0.055, 0.056, 0.057, 0.058, 0.058, 0.059, 0.059, 0.059, 0.059, 0.061, 0.062, 0.062, 0.066, 0.066, 0.066, 0.066, 0.066, 0.066, 0.067, 0.071, 0.071, 0.072, 0.073, 0.073, 0.079, 0.079, 0.080, 0.085, 0.087, 0.088, 0.088, 0.092, 0.092, 0.094, 0.095, 0.095, 0.096, 0.097, 0.097, 0.100, 0.109, 0.114, 0.124, 0.131, 0.138, 0.138, 0.141, 0.145, 0.145, 0.146, 0.147, 0.149, 0.150, 0.150, 0.153, 0.155, 0.157, 0.158, 0.161, 0.161, 0.164, 0.172, 0.182, 0.182, 0.185, 0.195, 0.201, 0.202, 0.202, 0.202, 0.208, 0.217, 0.227, 0.228, 0.236, 0.237, 0.239, 0.244, 0.246, 0.260, 0.265, 0.271, 0.282, 0.287, 0.288, 0.314, 0.321, 0.329, 0.343, 0.419, 0.491, 0.564];

/// How many of the zoo's scans came to a score as low as that of a scan. The shares are what the figure is worth: how often it is a false alarm,
/// and how often a backdoor shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Calibration {
    /// The scans of clean models whose lowest score is no higher.
    pub clean_as_low: usize,
    /// All scans of clean models.
    pub clean: usize,
    /// The scans of models with a patch for all classes whose lowest score is no higher.
    pub patched_as_low: usize,
    /// All scans of such models.
    pub patched: usize,
}

impl Calibration {
    /// Of a scan of `classes` classes of `classifier` whose lowest score is `score`; `None` where it is another kind of scan than those of the zoo: the default
    /// schedule and rule, under norm 2, of five classes or more.
    pub(crate) fn of(score: f64, rule: Rule, config: &Config, classifier: &Classifier, classes: usize) -> Option<Self> {
        let [_, height, width] = classifier.image_shape();
        let is_usual = config.norm == Norm::L2
            && rule == Rule::ratio(Norm::L2)
            && elimination::applies(config, height, width)
            && !few_classes::applies(classes);
        is_usual.then(|| Calibration::at(score))
    }

    fn at(score: f64) -> Self {
        let as_low = |scores: &[f64]| scores.iter().filter(|&&other| other <= score).count();
        Calibration {
            clean_as_low: as_low(&CLEAN),
            clean: CLEAN.len(),
            patched_as_low: as_low(&PATCHED),
            patched: PATCHED.len(),
        }
    }
}

impl std::fmt::Display for Calibration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Calibration { clean_as_low, clean, patched_as_low, patched } = self;
        write!(
            f,
            "{clean_as_low} of {clean} scans of clean models had a score as low, and {patched_as_low} of {patched} of models with a patch"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scans_with_a_score_as_low_are_counted() {
        let (nothing, everything) = (Calibration::at(0.0), Calibration::at(2.0));
        assert_eq!((nothing.clean_as_low, nothing.patched_as_low), (0, 0));
        assert_eq!((everything.clean_as_low, everything.patched_as_low), (CLEAN.len(), PATCHED.len()));
        let at = Calibration::at(CLEAN[3]);
        assert_eq!(at.clean_as_low, 4);
        assert_eq!(
            at.to_string(),
            format!(
                "4 of {} scans of clean models had a score as low, and {} of {} of models with a patch",
                CLEAN.len(),
                at.patched_as_low,
                PATCHED.len()
            )
        );
    }

    #[test]
    fn what_is_flagged_is_rare_among_clean_models_and_usual_among_patched_ones() {
        let Rule::Ratio { backdoored_below, .. } = Rule::ratio(Norm::L2) else { panic!("a ratio rule") };
        let Calibration { clean_as_low, clean, patched_as_low, patched } = Calibration::at(backdoored_below);
        assert!(10 * clean_as_low < clean && 10 * patched_as_low > 9 * patched);
    }
}
