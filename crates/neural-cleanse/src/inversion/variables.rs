use ndarray::Array3;
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use super::Norm;
use super::config::Config;
use super::objective::Evaluation;
use crate::optimiser::{Adam, Descent};
use crate::trigger::Trigger;

/// The moments that the official code has Adam keep.
const BETAS: (f64, f64) = (0.5, 0.9);

/// The unconstrained variables behind a trigger, `mask = tanh(a)/2 + 1/2` and the pattern likewise, rescaled
/// to the range of pixel values; and the optimiser that moves them.
#[derive(Serialize, Deserialize)]
pub struct TriggerVariables {
    values: Vec<f64>,
    /// The hyperbolic tangents of the values, which take long beside all else that is done with them.
    tangents: Vec<f64>,
    adam: Adam<f64>,
    learning_rate: f64,
    mask_shape: [usize; 3],
    image_shape: [usize; 3],
    value_range: (f32, f32),
}

impl TriggerVariables {
    /// A mask that is `config.initial_mask` everywhere and a uniformly random pattern.
    pub fn new(config: &Config, image_shape: [usize; 3], value_range: (f32, f32), rng: &mut impl Rng) -> Self {
        let [channels, height, width] = image_shape;
        let mask_shape = [if config.mask_per_channel { channels } else { 1 }, height, width];
        let mask_len: usize = mask_shape.iter().product();
        let pattern_len: usize = image_shape.iter().product();
        let mut values = vec![unconstrained(config.initial_mask); mask_len];
        values.extend((0..pattern_len).map(|_| unconstrained(rng.random_range(0.01..0.99))));
        let adam = Adam::new(BETAS, values.len());
        let tangents = values.iter().map(|value| value.tanh()).collect();
        TriggerVariables {
            values,
            tangents,
            adam,
            learning_rate: config.learning_rate,
            mask_shape,
            image_shape,
            value_range,
        }
    }

    /// The trigger that the variables stand for.
    pub fn trigger(&self) -> Trigger {
        let (mask, pattern) = self.tangents.split_at(self.mask_shape.iter().product());
        let (low, high) = (f64::from(self.value_range.0), f64::from(self.value_range.1));
        let mut values = mask.iter().map(|&t| constrained(t) as f32);
        let mask = Array3::from_shape_simple_fn(self.mask_shape, || values.next().unwrap_or_default());
        let mut values = pattern.iter().map(|&t| (low + (high - low) * constrained(t)) as f32);
        let pattern = Array3::from_shape_simple_fn(self.image_shape, || values.next().unwrap_or_default());
        Trigger { mask, pattern }
    }

    /// The mask in row-major order.
    pub fn mask(&self) -> Vec<f64> {
        self.tangents[..self.mask_shape.iter().product()].iter().map(|&t| constrained(t)).collect()
    }

    /// One step of Adam against cross-entropy + `cost` · norm of the mask.
    pub fn descend(&mut self, evaluation: &Evaluation, norm: Norm, cost: f64) {
        let norm_gradient = norm.gradient(&self.mask());
        let scale = f64::from(self.value_range.1 - self.value_range.0);
        let by_mask = (evaluation.mask_gradient.iter().zip(norm_gradient)).map(|(&g, n)| f64::from(g) + cost * n);
        let by_pattern = evaluation.pattern_gradient.iter().map(|&g| f64::from(g) * scale);
        let gradient: Vec<f64> =
            by_mask.chain(by_pattern).zip(&self.tangents).map(|(gradient, &t)| gradient * slope(t)).collect();
        self.adam.step(self.learning_rate, &mut self.values, &gradient);
        for (tangent, value) in self.tangents.iter_mut().zip(&self.values) {
            *tangent = value.tanh();
        }
    }
}

/// What a tangent stands for, in 0..=1.
fn constrained(tangent: f64) -> f64 {
    tangent / 2.0 + 0.5
}

/// From 0..1 to the real line.
fn unconstrained(value: f64) -> f64 {
    ((value - 0.5) * 2.0).atanh()
}

/// The derivative, with respect to the variable, of what its `tangent` stands for.
fn slope(tangent: f64) -> f64 {
    (1.0 - tangent.powi(2)) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    fn variables(config: &Config) -> TriggerVariables {
        TriggerVariables::new(config, [3, 4, 5], (-1.0, 3.0), &mut ChaCha8Rng::seed_from_u64(7))
    }

    #[test]
    fn the_trigger_starts_as_the_config_says_and_within_the_range() {
        let trigger = variables(&Config::default()).trigger();
        assert_eq!(trigger.mask.shape(), [1, 4, 5]);
        assert!(trigger.mask.iter().all(|m| (m - 0.1).abs() < 1e-6));
        assert!(trigger.pattern.iter().all(|p| (-1.0..=3.0).contains(p)));
        assert!(trigger.pattern.iter().any(|&p| p < 0.0) && trigger.pattern.iter().any(|&p| p > 2.0));
        let per_channel = Config { mask_per_channel: true, ..Config::default() };
        assert_eq!(variables(&per_channel).trigger().mask.shape(), [3, 4, 5]);
    }

    #[test]
    fn descent_follows_the_chain_rule_through_tanh_and_range() {
        // Cross-entropy Σ g·pattern + Σ h·mask, so that its gradients are g and h everywhere.
        let mut variables = variables(&Config::default());
        let evaluation = Evaluation {
            cross_entropy: 0.0,
            logits: Array2::zeros((1, 2)),
            mask_gradient: Array3::from_elem((1, 4, 5), -0.5),
            pattern_gradient: Array3::from_elem((3, 4, 5), 2.0),
        };
        let before = variables.values.clone();
        let objective = |values: &[f64]| {
            let mask: f64 = values[..20].iter().map(|a| constrained(a.tanh())).sum();
            let pattern: f64 = values[20..].iter().map(|b| -1.0 + 4.0 * constrained(b.tanh())).sum();
            2.0 * pattern - 0.5 * mask + 0.3 * mask
        };
        variables.descend(&evaluation, Norm::L1, 0.3);
        for i in 0..before.len() {
            let (mut above, mut below) = (before.clone(), before.clone());
            above[i] += 1e-5;
            below[i] -= 1e-5;
            let slope = objective(&above) - objective(&below);
            let moved = variables.values[i] - before[i];
            // Adam's first step has the length of the learning rate and the sign of the slope.
            assert!((moved + 0.1 * slope.signum()).abs() < 1e-4, "variable {i} moved by {moved} against {slope}");
        }
    }
}
