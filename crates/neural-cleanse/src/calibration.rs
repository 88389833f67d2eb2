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
const CLEAN: [f64; 195] = [0.417, 0.419, 0.436, 0.445, 0.462, 0.464, 0.482, 0.486, 0.488, 0.496, 0.502, 0.505, 0.505, 0.508, 0.509, 0.521, 0.529, 0.533, 0.534, 0.539, 0.545, 0.545, 0.548, 0.548, 0.552, 0.554, 0.568, 0.590, 0.599, 0.603, 0.606, 0.614, 0.615, 0.624, 0.625, 0.632, 0.637, 0.641, 0.651, 0.652, 0.658, 0.660, 0.661, 0.667, 0.675, 0.678, 0.679, 0.680, 0.684, 0.692, 0.700, 0.701, 0.703, 0.705, 0.711, 0.712, 0.715, 0.718, 0.719, 0.719, 0.722, 0.729, 0.739, 0.740, 0.741, 0.744, 0.749, 0.753, 0.755, 0.761, 0.763, 0.764, 0.764, 0.771, 0.771, 0.778, 0.780, 0.788, 0.799, 0.801, 0.803, 0.815, 0.820, 0.826, 0.830, 0.830, 0.834, 0.835, 0.836, 0.851, 0.851, 0.851, 0.851, 0.852, 0.853, 0.853, 0.854, 0.855, 0.856, 0.858, 0.858, 0.858, 0.859, 0.859, 0.860, 0.860, 0.860, 0.860, 0.861, 0.865, 0.865, 0.865, 0.866, 0.870, 0.871, 0.871, 0.871, 0.872, 0.872, 0.872, 0.874, 0.875, 0.876, 0.877, 0.882, 0.884, 0.884, 0.884, 0.888, 0.888, 0.893, 0.893, 0.895, 0.895, 0.896, 0.896, 0.896, 0.898, 0.900, 0.902, 0.902, 0.903, 0.905, 0.905, 0.905, 0.905, 0.906, 0.910, 0.912, 0.913, 0.913, 0.913, 0.914, 0.915, 0.917, 0.917, 0.921, 0.922, 0.924, 0.925, 0.928, 0.929, 0.931, 0.931, 0.932, 0.932, 0.934, 0.934, 0.935, 0.936, 0.936, 0.939, 0.945, 0.947, 0.947, 0.948, 0.953, 0.953, 0.957, 0.958, 0.963, 0.964, 0.964, 0.965, 0.967, 0.968, 0.968, 0.970, 0.970, 0.975, 0.978, 0.981, 0.984, 0.987, 0.994];

/// The same of models with a backdoor that a patch leads to from all classes.
#[rustfmt::skip]
#[allow(clippy::approx_constant, reason = "what is near a constant is a score all the same")]
const PATCHED: [f64; 150] = [0.008, 0.009, 0.009, 0.010, 0.011, 0.026, 0.027, 0.028, 0.029, 0.030, 0.031, 0.031, 0.033, 0.034, 0.034, 0.034, 0.034, 0.035, 0.036, 0.037, 0.037, 0.038, 0.039, 0.041, 0.041, 0.043, 0.044, 0.047, 0.048, 0.048, 0.048, 0.048, 0.049, 0.050, 0.051, 0.051, 0.052, 0.053, 0.053, 0.054, 0.054, 0.055, 0.056, 0.056, 0.056, 0.056, 0.057, 0.058, 0.059, 0.061, 0.061, 0.061, 0.062, 0.063, 0.063, 0.064, 0.064, 0.065, 0.065, 0.065, 0.065, 0.065, 0.067, 0.067, 0.067, 0.067, 0.068, 0.068, 0.070, 0.070, 0.070, 0.072, 0.072, 0.073, 0.073, 0.075, 0.079, 0.081, 0.081, 0.081, 0.082, 0.082, 0.085, 0.087, 0.088, 0.089, 0.091, 0.092, 0.093, 0.093, 0.095, 0.096, 0.096, 0.096, 0.097, 0.097, 0.100, 0.107, 0.125, 0.129, 0.131, 0.135, 0.136, 0.138, 0.145, 0.150, 0.151, 0.152, 0.156, 0.156, 0.156, 0.160, 0.160, 0.166, 0.168, 0.172, 0.172, 0.173, 0.180, 0.181, 0.183, 0.196, 0.202, 0.205, 0.219, 0.221, 0.225, 0.228, 0.240, 0.240, 0.243, 0.248, 0.251, 0.254, 0.257, 0.263, 0.267, 0.280, 0.290, 0.305, 0.306, 0.318, 0.331, 0.335, 0.362, 0.366, 0.388, 0.389, 0.389, 0.707];

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
