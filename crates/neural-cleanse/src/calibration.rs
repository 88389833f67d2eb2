//! How often scans whose answer is known came to what a scan has come to (`docs/error-rates.md`).

use std::ops::RangeInclusive;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::detection::Rule;
use crate::elimination;
use crate::few_classes;
use crate::inversion::{Config, Norm};

/// Scans of one kind of models, in the half of the zoo that set no bound. Printed by `zoo/score.py --calibration`.
struct Known {
    scans: usize,
    /// The lowest score of each, in ascending order, where there is one.
    lowest: &'static [f64],
}

impl Known {
    fn as_low(&self, score: f64) -> usize {
        self.lowest.partition_point(|&other| other <= score)
    }
}

/// Of clean models, scores of classes.
#[rustfmt::skip]
const CLEAN: Known = Known { scans: 195, lowest: &[0.315, 0.343, 0.385, 0.434, 0.434, 0.435, 0.465, 0.465, 0.474, 0.482, 0.495, 0.502, 0.503, 0.507, 0.508, 0.510, 0.510, 0.517, 0.528, 0.533, 0.534, 0.534, 0.535, 0.542, 0.542, 0.562, 0.564, 0.569, 0.575, 0.578, 0.590, 0.592, 0.593, 0.600, 0.602, 0.615, 0.617, 0.625, 0.627, 0.644, 0.661, 0.663, 0.670, 0.681, 0.690, 0.690, 0.692, 0.692, 0.694, 0.697, 0.701, 0.706, 0.708, 0.710, 0.711, 0.716, 0.716, 0.718, 0.722, 0.724, 0.743, 0.744, 0.747, 0.753, 0.765, 0.768, 0.772, 0.775, 0.776, 0.779, 0.779, 0.782, 0.790, 0.791, 0.802, 0.813, 0.814, 0.822, 0.824, 0.825, 0.826, 0.830, 0.834, 0.838, 0.838, 0.841, 0.854, 0.855, 0.856, 0.857, 0.858, 0.858, 0.858, 0.858, 0.862, 0.863, 0.863, 0.863, 0.863, 0.863, 0.865, 0.865, 0.865, 0.866, 0.867, 0.867, 0.868, 0.868, 0.869, 0.869, 0.870, 0.871, 0.871, 0.873, 0.874, 0.876, 0.877, 0.881, 0.882, 0.885, 0.887, 0.887, 0.889, 0.889, 0.891, 0.891, 0.893, 0.893, 0.893, 0.894, 0.895, 0.896, 0.897, 0.897, 0.897, 0.901, 0.902, 0.902, 0.904, 0.904, 0.905, 0.906, 0.907, 0.909, 0.909, 0.909, 0.910, 0.910, 0.910, 0.912, 0.913, 0.914, 0.914, 0.915, 0.918, 0.920, 0.928, 0.929, 0.931, 0.932, 0.934, 0.936, 0.937, 0.941, 0.944, 0.944, 0.948, 0.949, 0.949, 0.952, 0.953, 0.954, 0.954, 0.955, 0.956, 0.956, 0.960, 0.960, 0.963, 0.963, 0.963, 0.966, 0.966, 0.968, 0.969, 0.976, 0.977, 0.977, 0.978, 0.979, 0.983, 0.986, 0.988, 0.993, 0.996] };

/// The same of models with a backdoor that a patch leads to from all classes.
#[rustfmt::skip]
#[allow(clippy::approx_constant, reason = "what is near a constant is a score all the same")]
const PATCHED: Known = Known { scans: 150, lowest: &[0.010, 0.010, 0.011, 0.011, 0.012, 0.025, 0.028, 0.028, 0.028, 0.030, 0.030, 0.031, 0.032, 0.033, 0.034, 0.035, 0.035, 0.035, 0.037, 0.037, 0.039, 0.039, 0.039, 0.040, 0.040, 0.040, 0.041, 0.041, 0.043, 0.045, 0.045, 0.048, 0.049, 0.050, 0.051, 0.053, 0.053, 0.054, 0.056, 0.056, 0.057, 0.057, 0.057, 0.059, 0.059, 0.059, 0.059, 0.060, 0.060, 0.061, 0.061, 0.062, 0.062, 0.062, 0.063, 0.063, 0.063, 0.063, 0.064, 0.064, 0.065, 0.066, 0.067, 0.067, 0.068, 0.068, 0.069, 0.070, 0.070, 0.072, 0.072, 0.073, 0.073, 0.074, 0.074, 0.075, 0.075, 0.077, 0.077, 0.077, 0.079, 0.079, 0.080, 0.083, 0.083, 0.084, 0.086, 0.086, 0.089, 0.089, 0.094, 0.095, 0.099, 0.105, 0.106, 0.110, 0.117, 0.126, 0.127, 0.129, 0.131, 0.134, 0.135, 0.135, 0.137, 0.138, 0.139, 0.144, 0.151, 0.151, 0.168, 0.176, 0.179, 0.179, 0.183, 0.183, 0.184, 0.184, 0.185, 0.186, 0.189, 0.197, 0.197, 0.201, 0.201, 0.203, 0.222, 0.225, 0.226, 0.233, 0.239, 0.240, 0.240, 0.241, 0.251, 0.258, 0.259, 0.263, 0.263, 0.269, 0.275, 0.281, 0.287, 0.288, 0.292, 0.304, 0.330, 0.336, 0.337, 0.358] };

/// Of clean models, scores in all of pairs.
#[rustfmt::skip]
const CLEAN_BY_PAIRS: Known = Known { scans: 87, lowest: &[0.108, 0.111, 0.129, 0.141, 0.157, 0.164, 0.183, 0.207, 0.219, 0.225, 0.262, 0.314, 0.334, 0.339, 0.349, 0.381, 0.385, 0.395, 0.400, 0.409, 0.421, 0.427, 0.449, 0.463, 0.465, 0.471, 0.490, 0.493, 0.518, 0.523, 0.546, 0.556, 0.557, 0.566, 0.571, 0.575, 0.584, 0.586, 0.605, 0.621, 0.632, 0.657, 0.661, 0.673, 0.703, 0.719, 0.740, 0.756, 0.768, 0.771, 0.812, 0.814, 0.830, 0.851, 0.855, 0.874, 0.929, 0.935, 0.960, 0.975, 0.981, 1.213, 1.223, 1.248, 1.288, 1.308, 1.349, 1.400, 1.486, 1.560, 1.687, 1.758, 1.822, 1.947, 2.081, 2.134, 2.139, 2.386, 2.404, 2.535] };

/// The same of models with a backdoor of a single pair.
#[rustfmt::skip]
const SOURCE_SPECIFIC: Known = Known { scans: 78, lowest: &[0.009, 0.010, 0.010, 0.012, 0.013, 0.014, 0.020, 0.022, 0.024, 0.030, 0.032, 0.032, 0.034, 0.036, 0.038, 0.039, 0.039, 0.039, 0.040, 0.043, 0.044, 0.045, 0.046, 0.047, 0.049, 0.049, 0.052, 0.054, 0.056, 0.057, 0.059, 0.060, 0.065, 0.065, 0.066, 0.067, 0.068, 0.069, 0.069, 0.071, 0.071, 0.076, 0.080, 0.085, 0.087, 0.088, 0.090, 0.092, 0.098, 0.099, 0.101, 0.119, 0.124, 0.137, 0.138, 0.140, 0.144, 0.165, 0.198, 0.198, 0.206, 0.213, 0.237, 0.307, 0.326, 0.327, 0.375, 0.445, 0.487, 0.495, 0.508, 0.620, 0.622, 0.626, 0.637, 0.692, 0.824, 0.920] };

/// The models of those scans of pairs have 90, and of about as many the lowest are about as low.
const COMPARABLE_PAIRS: RangeInclusive<usize> = 45..=180;

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
    /// Of a scan of `classes` classes with images of this shape whose lowest score is `score`; `None` where it is another kind of scan than those of the zoo: the default
    /// schedule and rule, under norm 2, of five classes or more.
    pub(crate) fn of(score: f64, rule: Rule, config: &Config, image_shape: [usize; 3], classes: usize) -> Option<Self> {
        let is_usual =
            rule == Rule::ratio(Norm::L2) && has_usual_schedule(config, image_shape) && !few_classes::applies(classes);
        is_usual.then(|| Calibration::at(score))
    }

    fn at(score: f64) -> Self {
        Calibration {
            clean_as_low: CLEAN.as_low(score),
            clean: CLEAN.scans,
            patched_as_low: PATCHED.as_low(score),
            patched: PATCHED.scans,
        }
    }
}

/// The same of a score in all of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PairCalibration {
    /// The scans of clean models in which the lowest score in all of a pair is no higher.
    pub clean_as_low: usize,
    /// All scans of clean models.
    pub clean: usize,
    /// The scans of models with a source-specific backdoor in which it is no higher.
    pub source_specific_as_low: usize,
    /// All scans of such models.
    pub source_specific: usize,
}

impl PairCalibration {
    /// Of a scan of `pairs` pairs with images of this shape of which the lowest has this score in all; `None` where it is another kind of scan than those of the zoo: the default schedule
    /// under norm 2, and about as many pairs.
    pub(crate) fn of(score: f64, config: &Config, image_shape: [usize; 3], pairs: usize) -> Option<Self> {
        let is_usual = has_usual_schedule(config, image_shape) && COMPARABLE_PAIRS.contains(&pairs);
        is_usual.then(|| PairCalibration::at(score))
    }

    fn at(score: f64) -> Self {
        PairCalibration {
            clean_as_low: CLEAN_BY_PAIRS.as_low(score),
            clean: CLEAN_BY_PAIRS.scans,
            source_specific_as_low: SOURCE_SPECIFIC.as_low(score),
            source_specific: SOURCE_SPECIFIC.scans,
        }
    }
}

/// Whether it is the schedule of those scans, for images of this shape, `[channels, height, width]`.
fn has_usual_schedule(config: &Config, [_, height, width]: [usize; 3]) -> bool {
    config.norm == Norm::L2 && elimination::applies(config, height, width)
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

impl std::fmt::Display for PairCalibration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let PairCalibration { clean_as_low, clean, source_specific_as_low, source_specific } = self;
        write!(
            f,
            "{clean_as_low} of {clean} scans of clean models had a pair with a score in all as low, and {source_specific_as_low} of {source_specific} of models with a source-specific backdoor"
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
        assert_eq!((everything.clean_as_low, everything.patched_as_low), (CLEAN.lowest.len(), PATCHED.lowest.len()));
        let at = Calibration::at(CLEAN.lowest[2]);
        assert_eq!(at.clean_as_low, 3);
        assert_eq!(
            at.to_string(),
            format!(
                "3 of {} scans of clean models had a score as low, and {} of {} of models with a patch",
                CLEAN.lowest.len(),
                at.patched_as_low,
                PATCHED.lowest.len()
            )
        );
    }

    #[test]
    fn scans_in_which_no_pair_was_looked_at_again_are_counted_as_never_as_low() {
        let [nothing, everything] = [0.0, f64::INFINITY].map(PairCalibration::at);
        assert_eq!((nothing.clean_as_low, nothing.source_specific_as_low), (0, 0));
        assert_eq!(everything.clean_as_low, CLEAN_BY_PAIRS.lowest.len());
        assert!(everything.clean_as_low < everything.clean, "in some no pair is suspicious");
        let PairCalibration { clean, source_specific, .. } = everything;
        assert_eq!(
            nothing.to_string(),
            format!(
                "0 of {clean} scans of clean models had a pair with a score in all as low, and 0 of {source_specific} of models with a source-specific backdoor"
            )
        );
    }

    #[test]
    fn nothing_is_said_of_scans_of_pairs_that_are_unlike_those_of_the_zoo() {
        let usual = Config::fast(Norm::L2, 28, 28);
        let is_said = |config: &Config, pairs| PairCalibration::of(0.1, config, [1, 28, 28], pairs).is_some();
        assert_eq!([20, 90, 342].map(|pairs| is_said(&usual, pairs)), [false, true, false]);
        assert!(!is_said(&Config::fast(Norm::L1, 28, 28), 90));
        assert!(!is_said(&Config { steps: 61, ..usual }, 90));
    }

    #[test]
    fn scores_are_in_ascending_order() {
        for known in [CLEAN, PATCHED, CLEAN_BY_PAIRS, SOURCE_SPECIFIC] {
            assert!(known.lowest.is_sorted() && known.lowest.len() <= known.scans);
        }
    }

    #[test]
    fn what_is_flagged_is_rare_among_clean_models_and_usual_among_patched_ones() {
        let Rule::Ratio { backdoored_below, .. } = Rule::ratio(Norm::L2) else { panic!("a ratio rule") };
        let Calibration { clean_as_low, clean, patched_as_low, patched } = Calibration::at(backdoored_below);
        assert!(10 * clean_as_low < clean && 10 * patched_as_low > 9 * patched);
        let by_pairs = PairCalibration::at(0.18);
        assert!(10 * by_pairs.clean_as_low < by_pairs.clean);
        assert!(10 * by_pairs.source_specific_as_low > 6 * by_pairs.source_specific);
    }
}
