use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Standing;
#[cfg(doc)]
use super::{FurtherLooks, Statistics};
use crate::inversion::Norm;

/// How norms are judged.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum Rule {
    /// By the share of the [usual size](Statistics::usual_size) that a class's trigger is, and by that of the [usual confined one](Statistics::usual_confined_size) where it is confined
    /// to a part of the image.
    Ratio {
        /// A class with a [score](FurtherLooks::score) below this is flagged.
        backdoored_below: f64,
        /// A class whose trigger is below this share is looked at again.
        suspicious_below: f64,
    },
    /// By the anomaly index, as the paper does.
    Mad {
        /// A class whose norm is below the median and whose index is above this is flagged.
        threshold: f64,
    },
}

impl Rule {
    /// The ratio rule with the bounds that go with the norm that was optimised. Those of the maximum norm
    /// are the ones of norm 1: no others were validated.
    pub fn ratio(norm: Norm) -> Self {
        match norm {
            Norm::L1 => Rule::Ratio { backdoored_below: 0.34, suspicious_below: 0.5 },
            Norm::L2 => Rule::Ratio { backdoored_below: 0.4, suspicious_below: 0.85 },
            Norm::Inf => Rule::Ratio { backdoored_below: 1.0 / 3.0, suspicious_below: 0.5 },
        }
    }

    /// The paper's rule.
    pub fn mad() -> Self {
        Rule::Mad { threshold: 2.0 }
    }

    /// Whether both are ratio rules, and every class that this one suspects is suspected by `other`, too.
    pub(crate) fn suspects_no_more_than(self, other: Rule) -> bool {
        match (self, other) {
            (Rule::Ratio { suspicious_below: this, .. }, Rule::Ratio { suspicious_below: other, .. }) => this <= other,
            _ => false,
        }
    }

    /// The same rule with another bound beyond which a class is flagged.
    ///
    /// # Errors
    /// A sentence if the bound is not a number above 0.
    pub fn with_threshold(self, bound: f64) -> Result<Self, String> {
        if !(bound.is_finite() && bound > 0.0) {
            return Err(format!("the bound must be a number above 0, not {bound}"));
        }
        Ok(match self {
            Rule::Ratio { suspicious_below, .. } => {
                Rule::Ratio { backdoored_below: bound, suspicious_below: suspicious_below.max(bound) }
            }
            Rule::Mad { .. } => Rule::Mad { threshold: bound },
        })
    }

    /// What it decides on: the ratio or the anomaly index.
    pub(super) fn figure(self, standing: Standing) -> Option<f64> {
        match self {
            Rule::Ratio { .. } => standing.ratio,
            Rule::Mad { .. } => standing.anomaly_index,
        }
    }

    /// The bound beyond which a class is flagged.
    pub fn threshold(self) -> f64 {
        match self {
            Rule::Ratio { backdoored_below, .. } => backdoored_below,
            Rule::Mad { threshold } => threshold,
        }
    }
}
