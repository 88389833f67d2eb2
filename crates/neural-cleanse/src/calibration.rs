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
const CLEAN: [f64; 72] = [0.300, 0.310, 0.374, 0.471, 0.475, 0.479, 0.535, 0.539, 0.560, 0.562, 0.567, 0.568, 0.572, 0.591, 0.592, 0.599, 0.603, 0.605, 0.606, 0.626, 0.639, 0.644, 0.658, 0.660, 0.663, 0.678, 0.680, 0.682, 0.685, 0.696, 0.699, 0.707, 0.708, 0.713, 0.716, 0.721, 0.724, 0.727, 0.728, 0.736, 0.739, 0.744, 0.744, 0.749, 0.764, 0.769, 0.772, 0.778, 0.782, 0.785, 0.794, 0.806, 0.807, 0.808, 0.814, 0.823, 0.823, 0.826, 0.842, 0.842, 0.848, 0.852, 0.858, 0.858, 0.865, 0.866, 0.867, 0.890, 0.900, 0.925, 0.937, 0.947];

/// The same of models with a backdoor that a patch leads to from all classes.
#[rustfmt::skip]
const PATCHED: [f64; 69] = [0.048, 0.070, 0.091, 0.101, 0.105, 0.105, 0.113, 0.117, 0.117, 0.121, 0.122, 0.124, 0.128, 0.130, 0.134, 0.137, 0.145, 0.145, 0.147, 0.150, 0.151, 0.152, 0.156, 0.156, 0.157, 0.162, 0.166, 0.166, 0.169, 0.169, 0.177, 0.178, 0.185, 0.186, 0.187, 0.193, 0.199, 0.201, 0.206, 0.229, 0.231, 0.234, 0.235, 0.236, 0.242, 0.254, 0.261, 0.269, 0.286, 0.286, 0.303, 0.308, 0.321, 0.322, 0.338, 0.409, 0.413, 0.414, 0.421, 0.423, 0.437, 0.446, 0.468, 0.484, 0.525, 0.542, 0.549, 0.549, 0.549];

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
