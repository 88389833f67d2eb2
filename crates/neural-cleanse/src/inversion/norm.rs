use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The norm of the mask that trigger inversion makes small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Norm {
    /// Σ|m|: the number of pixels that the mask covers, each weighted by its opacity.
    #[serde(rename = "1")]
    L1,
    /// √Σm²; the default of the documented API.
    #[serde(rename = "2")]
    L2,
    /// max|m|: makes a trigger faint rather than small.
    #[serde(rename = "inf")]
    Inf,
}

impl FromStr for Norm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "1" => Ok(Norm::L1),
            "2" => Ok(Norm::L2),
            "inf" => Ok(Norm::Inf),
            _ => Err(format!("`{text}` is not a norm: use 1, 2 or inf")),
        }
    }
}

impl fmt::Display for Norm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Norm::L1 => "1",
            Norm::L2 => "2",
            Norm::Inf => "inf",
        })
    }
}

/// How far below the largest mask value, in mask units, a pixel shares in the gradient of the
/// maximum norm: the exact subgradient would move one pixel a step and leave the rest in place.
const INF_TEMPERATURE: f64 = 0.02;

impl Norm {
    /// The norm of `mask`, whose values lie in 0..=1.
    pub fn of(self, mask: &[f64]) -> f64 {
        match self {
            Norm::L1 => mask.iter().sum(),
            Norm::L2 => mask.iter().map(|m| m * m).sum::<f64>().sqrt(),
            Norm::Inf => mask.iter().copied().fold(0.0, f64::max),
        }
    }

    /// The gradient of the norm with respect to each value of `mask`.
    ///
    /// For the maximum norm it is that of a smooth maximum, `τ·log Σ exp(m/τ)` with τ = 0.02: its entries
    /// sum to 1 and are shared by all pixels near the maximum.
    pub fn gradient(self, mask: &[f64]) -> Vec<f64> {
        match self {
            Norm::L1 => vec![1.0; mask.len()],
            Norm::L2 => {
                let norm = self.of(mask).max(f64::MIN_POSITIVE);
                mask.iter().map(|m| m / norm).collect()
            }
            Norm::Inf => {
                let max = self.of(mask);
                let shares: Vec<f64> = mask.iter().map(|m| ((m - max) / INF_TEMPERATURE).exp()).collect();
                let total: f64 = shares.iter().sum();
                shares.iter().map(|share| share / total).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [f64; 4] = [0.3, 0.9, 0.0, 0.5];

    #[test]
    fn the_norms_are_those_of_their_definition() {
        assert!((Norm::L1.of(&MASK) - 1.7).abs() < 1e-12);
        assert!((Norm::L2.of(&MASK) - 1.15f64.sqrt()).abs() < 1e-12);
        assert_eq!(Norm::Inf.of(&MASK), 0.9);
    }

    #[test]
    fn the_gradients_agree_with_finite_differences() {
        let smooth_maximum =
            |mask: &[f64]| INF_TEMPERATURE * mask.iter().map(|m| (m / INF_TEMPERATURE).exp()).sum::<f64>().ln();
        for norm in [Norm::L1, Norm::L2, Norm::Inf] {
            let value = |mask: &[f64]| if norm == Norm::Inf { smooth_maximum(mask) } else { norm.of(mask) };
            for (i, gradient) in norm.gradient(&MASK).into_iter().enumerate() {
                let (mut above, mut below) = (MASK, MASK);
                above[i] += 1e-6;
                below[i] -= 1e-6;
                let difference = (value(&above) - value(&below)) / 2e-6;
                assert!((gradient - difference).abs() < 1e-6, "norm {norm}, entry {i}: {gradient} and {difference}");
            }
        }
    }

    #[test]
    fn a_mask_of_zeros_has_a_finite_gradient() {
        for norm in [Norm::L1, Norm::L2, Norm::Inf] {
            assert!(norm.gradient(&[0.0; 3]).iter().all(|g| g.is_finite()), "norm {norm}");
        }
    }

    #[test]
    fn norms_are_read_as_they_are_written() {
        for norm in [Norm::L1, Norm::L2, Norm::Inf] {
            assert_eq!(norm.to_string().parse(), Ok(norm));
        }
        assert!("3".parse::<Norm>().is_err());
    }
}
