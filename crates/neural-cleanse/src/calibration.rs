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
const CLEAN: [f64; 195] = [0.328, 0.337, 0.340, 0.351, 0.357, 0.357, 0.365, 0.370, 0.371, 0.374, 0.376, 0.377, 0.382, 0.445, 0.455, 0.458, 0.465, 0.475, 0.492, 0.496, 0.502, 0.507, 0.508, 0.510, 0.520, 0.531, 0.534, 0.535, 0.537, 0.542, 0.547, 0.557, 0.561, 0.568, 0.569, 0.572, 0.576, 0.579, 0.587, 0.588, 0.593, 0.599, 0.602, 0.631, 0.632, 0.643, 0.643, 0.645, 0.646, 0.646, 0.649, 0.654, 0.662, 0.662, 0.667, 0.672, 0.673, 0.677, 0.678, 0.679, 0.680, 0.680, 0.683, 0.687, 0.691, 0.694, 0.700, 0.705, 0.705, 0.714, 0.718, 0.722, 0.727, 0.728, 0.728, 0.732, 0.737, 0.740, 0.744, 0.746, 0.747, 0.748, 0.748, 0.749, 0.751, 0.792, 0.795, 0.802, 0.802, 0.808, 0.810, 0.811, 0.811, 0.812, 0.812, 0.812, 0.812, 0.812, 0.817, 0.819, 0.819, 0.819, 0.819, 0.819, 0.820, 0.822, 0.823, 0.823, 0.824, 0.825, 0.826, 0.826, 0.826, 0.828, 0.832, 0.833, 0.834, 0.835, 0.836, 0.836, 0.836, 0.836, 0.838, 0.843, 0.844, 0.845, 0.845, 0.848, 0.851, 0.852, 0.852, 0.853, 0.854, 0.860, 0.861, 0.864, 0.865, 0.865, 0.866, 0.866, 0.867, 0.867, 0.868, 0.868, 0.869, 0.869, 0.870, 0.871, 0.873, 0.874, 0.875, 0.876, 0.876, 0.881, 0.881, 0.882, 0.884, 0.886, 0.886, 0.887, 0.888, 0.889, 0.891, 0.893, 0.894, 0.896, 0.896, 0.897, 0.900, 0.901, 0.905, 0.905, 0.905, 0.906, 0.907, 0.911, 0.911, 0.911, 0.912, 0.913, 0.920, 0.922, 0.928, 0.929, 0.939, 0.941, 0.944, 0.946, 0.946, 0.950, 0.951, 0.955, 0.965, 0.970, 0.972];

/// The same of models with a backdoor that a patch leads to from all classes.
#[rustfmt::skip]
const PATCHED: [f64; 150] = [0.022, 0.024, 0.024, 0.025, 0.030, 0.034, 0.035, 0.037, 0.038, 0.041, 0.041, 0.043, 0.043, 0.044, 0.045, 0.046, 0.046, 0.047, 0.047, 0.047, 0.050, 0.051, 0.053, 0.053, 0.056, 0.057, 0.057, 0.059, 0.059, 0.061, 0.062, 0.063, 0.065, 0.066, 0.066, 0.066, 0.067, 0.068, 0.068, 0.068, 0.068, 0.068, 0.069, 0.069, 0.069, 0.069, 0.070, 0.073, 0.074, 0.074, 0.075, 0.075, 0.077, 0.077, 0.078, 0.078, 0.079, 0.079, 0.079, 0.080, 0.081, 0.081, 0.082, 0.083, 0.084, 0.084, 0.084, 0.084, 0.086, 0.087, 0.088, 0.088, 0.088, 0.089, 0.090, 0.094, 0.095, 0.096, 0.096, 0.097, 0.097, 0.099, 0.102, 0.103, 0.104, 0.107, 0.111, 0.114, 0.118, 0.119, 0.122, 0.124, 0.125, 0.132, 0.132, 0.133, 0.135, 0.136, 0.139, 0.143, 0.143, 0.148, 0.152, 0.155, 0.155, 0.158, 0.165, 0.165, 0.180, 0.180, 0.183, 0.188, 0.194, 0.195, 0.197, 0.198, 0.210, 0.211, 0.228, 0.233, 0.233, 0.241, 0.245, 0.254, 0.256, 0.259, 0.259, 0.260, 0.261, 0.262, 0.267, 0.279, 0.280, 0.280, 0.310, 0.314, 0.317, 0.328, 0.345, 0.352, 0.355, 0.374, 0.383, 0.421, 0.433, 0.443, 0.449, 0.473, 0.474, 0.784];

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
