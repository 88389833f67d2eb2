//! How often scans whose answer is known came to what a scan has come to (`docs/error-rates.md`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::classifier::Classifier;
use crate::detection::Rule;
use crate::elimination;
use crate::few_classes;
use crate::inversion::{Config, Norm};

/// The lowest ratio of each scan of a clean model, in the half of the zoo that set no bound. Printed by
/// `zoo/score.py --calibration`, as is [`PATCHED`].
#[rustfmt::skip]
const CLEAN: [f64; 117] = [0.273, 0.313, 0.331, 0.384, 0.407, 0.424, 0.425, 0.436, 0.436, 0.438, 0.459, 0.480, 0.483, 0.512, 0.527, 0.532, 0.551, 0.557, 0.559, 0.568, 0.570, 0.571, 0.572, 0.579, 0.582, 0.585, 0.599, 0.609, 0.611, 0.622, 0.629, 0.632, 0.639, 0.647, 0.662, 0.664, 0.665, 0.667, 0.672, 0.677, 0.679, 0.681, 0.683, 0.695, 0.698, 0.703, 0.704, 0.721, 0.725, 0.729, 0.731, 0.732, 0.733, 0.737, 0.739, 0.740, 0.742, 0.743, 0.746, 0.749, 0.756, 0.756, 0.764, 0.765, 0.767, 0.769, 0.769, 0.774, 0.782, 0.783, 0.792, 0.793, 0.793, 0.795, 0.804, 0.809, 0.812, 0.813, 0.813, 0.815, 0.820, 0.824, 0.825, 0.826, 0.831, 0.833, 0.837, 0.840, 0.846, 0.856, 0.862, 0.863, 0.865, 0.865, 0.866, 0.867, 0.867, 0.869, 0.869, 0.876, 0.887, 0.889, 0.891, 0.894, 0.897, 0.902, 0.904, 0.904, 0.905, 0.906, 0.912, 0.914, 0.920, 0.929, 0.941, 0.944, 0.956];

/// The same of models with a backdoor that a patch leads to from all classes.
#[rustfmt::skip]
const PATCHED: [f64; 90] = [0.028, 0.029, 0.031, 0.040, 0.043, 0.044, 0.044, 0.046, 0.051, 0.051, 0.058, 0.059, 0.060, 0.063, 0.063, 0.066, 0.067, 0.071, 0.072, 0.073, 0.074, 0.074, 0.075, 0.075, 0.077, 0.077, 0.077, 0.079, 0.080, 0.081, 0.083, 0.085, 0.085, 0.086, 0.086, 0.089, 0.090, 0.090, 0.093, 0.095, 0.098, 0.107, 0.115, 0.115, 0.117, 0.120, 0.122, 0.128, 0.129, 0.130, 0.130, 0.136, 0.136, 0.142, 0.156, 0.157, 0.161, 0.182, 0.183, 0.197, 0.199, 0.201, 0.203, 0.204, 0.213, 0.216, 0.222, 0.241, 0.248, 0.248, 0.267, 0.276, 0.276, 0.278, 0.288, 0.292, 0.314, 0.330, 0.356, 0.367, 0.379, 0.397, 0.405, 0.411, 0.435, 0.438, 0.454, 0.456, 0.464, 0.665];

/// How many of the zoo's scans came to a ratio as low as that of a scan. The shares are what the figure is worth: how often it is a false alarm,
/// and how often a backdoor shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Calibration {
    /// The scans of clean models whose lowest ratio is no higher.
    pub clean_as_low: usize,
    /// All scans of clean models.
    pub clean: usize,
    /// The scans of models with a patch for all classes whose lowest ratio is no higher.
    pub patched_as_low: usize,
    /// All scans of such models.
    pub patched: usize,
}

impl Calibration {
    /// Of a scan of `classes` classes of `classifier` whose lowest ratio is `ratio`; `None` where it is another kind of scan than those of the zoo: the default
    /// schedule and rule, under norm 2, of five classes or more.
    pub(crate) fn of(ratio: f64, rule: Rule, config: &Config, classifier: &Classifier, classes: usize) -> Option<Self> {
        let [_, height, width] = classifier.image_shape();
        let is_usual = config.norm == Norm::L2
            && rule == Rule::ratio(Norm::L2)
            && elimination::applies(config, height, width)
            && !few_classes::applies(classes);
        is_usual.then(|| Calibration::at(ratio))
    }

    fn at(ratio: f64) -> Self {
        let as_low = |ratios: &[f64]| ratios.iter().filter(|&&other| other <= ratio).count();
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
            "{clean_as_low} of {clean} scans of clean models had a ratio as low, and {patched_as_low} of {patched} of models with a patch"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scans_with_a_ratio_as_low_are_counted() {
        let (nothing, everything) = (Calibration::at(0.0), Calibration::at(2.0));
        assert_eq!((nothing.clean_as_low, nothing.patched_as_low), (0, 0));
        assert_eq!((everything.clean_as_low, everything.patched_as_low), (CLEAN.len(), PATCHED.len()));
        let at = Calibration::at(CLEAN[3]);
        assert_eq!(at.clean_as_low, 4);
        assert_eq!(
            at.to_string(),
            format!(
                "4 of {} scans of clean models had a ratio as low, and {} of {} of models with a patch",
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
