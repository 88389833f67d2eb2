use ndarray::Array3;
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use super::config::{Config, TriggerKind};
use super::objective::Evaluation;
use super::tabor;
use crate::optimiser::{Adam, Descent};
use crate::trigger::{Stamp, Trigger};
use crate::window::Window;

/// The moments that the official code has Adam keep.
const BETAS: (f64, f64) = (0.5, 0.9);

/// The mask that a search in a window starts with. From a faint one it grows towards the patch or towards strokes of the class beside it, as its
/// seed has it; from a half-opaque one, which works at once, it loses what does nothing. (`docs/error-rates.md` has what was measured.)
const CONFINED_MASK: f64 = 0.5;

/// The unconstrained variables behind a trigger and the optimiser that moves them. Each stands for a *share* in 0..1, `tanh(v)/2 + 1/2`. Of a
/// trigger that is blended in, these are the mask and, as a share of the range of pixel values, the pattern; of one that is added, what
/// brightens pixels and what darkens them.
#[derive(Serialize, Deserialize)]
pub struct TriggerVariables {
    values: Vec<f64>,
    /// The hyperbolic tangents of the values, which take long beside all else that is done with them.
    tangents: Vec<f64>,
    /// How many variables the mask, or what brightens pixels, has.
    first: usize,
    adam: Adam<f64>,
    image_shape: [usize; 3],
    value_range: (f32, f32),
}

impl TriggerVariables {
    /// A mask that is `config.initial_mask` everywhere and a uniformly random pattern; or random changes of that size.
    pub fn new(config: &Config, image_shape: [usize; 3], value_range: (f32, f32), rng: &mut impl Rng) -> Self {
        let image_len: usize = image_shape.iter().product();
        let mut random = |up_to: f64| unconstrained(up_to * rng.random_range(0.01..0.99));
        let (first, values) = match config.trigger {
            TriggerKind::Blended => {
                let mask_len = if config.mask_per_channel { image_len } else { image_shape[1] * image_shape[2] };
                let mut values = vec![unconstrained(config.initial_mask); mask_len];
                values.extend((0..image_len).map(|_| random(1.0)));
                (mask_len, values)
            }
            TriggerKind::Additive => {
                let up_to = (2.0 * config.initial_mask).min(1.0);
                (image_len, (0..2 * image_len).map(|_| random(up_to)).collect())
            }
        };
        let tangents = values.iter().map(|value| value.tanh()).collect();
        TriggerVariables { adam: Adam::new(BETAS, values.len()), values, tangents, first, image_shape, value_range }
    }

    /// The same variables, before the first step, where those of pixels outside `window` stand for shares of 0 and stay there: their tangents are −1, whose slope is 0. Within it the
    /// mask of a trigger that is blended in is [`CONFINED_MASK`], or what the configuration says where that is more.
    pub fn confined_to(mut self, window: Window, config: &Config) -> Self {
        let [_, height, width] = self.image_shape;
        let mask = unconstrained(config.initial_mask.max(CONFINED_MASK));
        for i in 0..self.values.len() {
            let pixel = i % (height * width);
            if !window.contains(pixel / width, pixel % width) {
                (self.values[i], self.tangents[i]) = (NOTHING, NOTHING.tanh());
            } else if config.trigger == TriggerKind::Blended && i < self.first {
                (self.values[i], self.tangents[i]) = (mask, mask.tanh());
            }
        }
        self
    }

    /// The trigger that the variables stand for.
    pub fn trigger(&self, config: &Config) -> Trigger {
        let [channels, height, width] = self.image_shape;
        let (low, high) = (f64::from(self.value_range.0), f64::from(self.value_range.1));
        let (first, second) = self.tangents.split_at(self.first);
        match config.trigger {
            TriggerKind::Blended => {
                let mut values = first.iter().map(|&t| constrained(t) as f32);
                let mask_channels = if config.mask_per_channel { channels } else { 1 };
                let mask = array([mask_channels, height, width], &mut values);
                let mut values = second.iter().map(|&t| (low + (high - low) * constrained(t)) as f32);
                Trigger { mask, pattern: array(self.image_shape, &mut values), stamp: Stamp::Blend }
            }
            TriggerKind::Additive => {
                let change = |(brighter, darker): (&f64, &f64)| (high - low) * (brighter - darker) / 2.0;
                let mut values = first.iter().zip(second).map(|changes| change(changes) as f32);
                Trigger::added(array(self.image_shape, &mut values), self.value_range, config.mask_per_channel)
            }
        }
    }

    /// `trigger`, which is one of these variables', with a black pattern.
    pub fn black(&self, trigger: &Trigger) -> Trigger {
        Trigger { pattern: Array3::from_elem(self.image_shape, self.value_range.0), ..trigger.clone() }
    }

    /// One step of Adam against cross-entropy + `cost` · size, of which `evaluation` has the former's gradient. `blocked` is, where
    /// `config.blocking` is not 0, the evaluation of the same mask with a black pattern towards the images' own classes.
    pub fn descend(&mut self, config: &Config, evaluation: &Evaluation, blocked: Option<&Evaluation>, cost: f64) {
        let range = f64::from(self.value_range.1 - self.value_range.0);
        let by_pattern = evaluation.pattern_gradient.iter().map(|&g| f64::from(g) * range);
        let mut gradient: Vec<f64> = match &evaluation.mask_gradient {
            Some(by_mask) => by_mask.iter().map(|&g| f64::from(g)).chain(by_pattern).collect(),
            None => by_pattern.clone().chain(by_pattern.map(|g| -g)).collect(),
        };
        if let Some(by_mask) = blocked.and_then(|blocked| blocked.mask_gradient.as_ref()) {
            gradient.iter_mut().zip(by_mask).for_each(|(g, &by_mask)| *g += config.blocking * f64::from(by_mask));
        }
        gradient.iter_mut().zip(self.size_gradient(config)).for_each(|(g, by_size)| *g += cost * by_size);
        gradient.iter_mut().zip(&self.tangents).for_each(|(g, &tangent)| *g *= slope(tangent));
        self.adam.step(config.learning_rate, &mut self.values, &gradient);
        for (tangent, value) in self.tangents.iter_mut().zip(&self.values) {
            *tangent = value.tanh();
        }
    }

    /// The gradient, with respect to the shares, of the norm and of the regularisers that are weighed with it.
    fn size_gradient(&self, config: &Config) -> Vec<f64> {
        let shares: Vec<f64> = self.tangents.iter().map(|&t| constrained(t)).collect();
        let [_, height, width] = self.image_shape;
        match config.trigger {
            TriggerKind::Blended => {
                let (mask, pattern) = shares.split_at(self.first);
                let mut by_mask = config.norm.gradient(mask);
                let mut by_pattern = vec![0.0; pattern.len()];
                if config.overly_large > 0.0 || config.scattered > 0.0 {
                    let (regularised_mask, regularised_pattern) =
                        tabor::gradient(config, mask, pattern, self.image_shape);
                    by_mask.iter_mut().zip(regularised_mask).for_each(|(g, regularised)| *g += regularised);
                    by_pattern = regularised_pattern;
                }
                by_mask.append(&mut by_pattern);
                by_mask
            }
            // The two sides of a change are made small each by itself, and of a pixel's channels the one that is changed most.
            TriggerKind::Additive if config.mask_per_channel => config.norm.gradient(&shares),
            TriggerKind::Additive => {
                let largest: Vec<usize> = shares
                    .chunks(self.first)
                    .enumerate()
                    .flat_map(|(side, shares)| {
                        largest_of_channels(shares, height * width).map(move |i| side * self.first + i)
                    })
                    .collect();
                let mask: Vec<f64> = largest.iter().map(|&i| shares[i]).collect();
                let mut gradient = vec![0.0; shares.len()];
                largest.iter().zip(config.norm.gradient(&mask)).for_each(|(&i, g)| gradient[i] = g);
                gradient
            }
        }
    }
}

/// A variable whose tangent is −1.
const NOTHING: f64 = -40.0;

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

/// For each of the `pixels`, the position of the largest value among its channels.
fn largest_of_channels(values: &[f64], pixels: usize) -> impl Iterator<Item = usize> {
    (0..pixels).map(move |pixel| {
        let of_pixel = (pixel..values.len()).step_by(pixels);
        of_pixel.fold(pixel, |largest, i| if values[i] > values[largest] { i } else { largest })
    })
}

fn array(shape: [usize; 3], values: &mut dyn Iterator<Item = f32>) -> Array3<f32> {
    Array3::from_shape_simple_fn(shape, || values.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inversion::Norm;
    use ndarray::{Array2, s};
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    fn variables(config: &Config) -> TriggerVariables {
        TriggerVariables::new(config, [3, 4, 5], (-1.0, 3.0), &mut ChaCha8Rng::seed_from_u64(7))
    }

    #[test]
    fn the_trigger_starts_as_the_config_says_and_within_the_range() {
        let config = Config::default();
        let trigger = variables(&config).trigger(&config);
        assert_eq!(trigger.mask.shape(), [1, 4, 5]);
        assert!(trigger.mask.iter().all(|m| (m - 0.1).abs() < 1e-6));
        assert!(trigger.pattern.iter().all(|p| (-1.0..=3.0).contains(p)));
        assert!(trigger.pattern.iter().any(|&p| p < 0.0) && trigger.pattern.iter().any(|&p| p > 2.0));
        let per_channel = Config { mask_per_channel: true, ..config };
        assert_eq!(variables(&per_channel).trigger(&per_channel).mask.shape(), [3, 4, 5]);
    }

    #[test]
    fn a_trigger_that_is_added_starts_with_small_changes_to_both_sides() {
        let config = Config { trigger: TriggerKind::Additive, ..Config::default() };
        let trigger = variables(&config).trigger(&config);
        assert_eq!(trigger.stamp, Stamp::Add { low: -1.0, high: 3.0 });
        assert!(trigger.pattern.iter().all(|change| change.abs() < 0.2 * 4.0));
        assert!(trigger.pattern.iter().any(|&p| p < -0.1) && trigger.pattern.iter().any(|&p| p > 0.1));
    }

    #[test]
    fn in_a_window_a_mask_starts_half_opaque_and_the_pattern_as_it_was() {
        let window = Window { top: 1, left: 2, height: 2, width: 2 };
        let triggers = |config: &Config| {
            let (whole, confined) = (variables(config), variables(config).confined_to(window, config));
            [whole, confined].map(|variables| variables.trigger(config))
        };
        let pixels = s![.., 1..3, 2..4];
        for (initial_mask, expected) in [(0.1, 0.5), (0.8, 0.8)] {
            let [whole, confined] = triggers(&Config { initial_mask, ..Config::default() });
            for ((_, y, x), &m) in confined.mask.indexed_iter() {
                let expected = if window.contains(y, x) { expected } else { 0.0 };
                assert!((m - expected).abs() < 1e-6, "row {y}, column {x}: {m}");
            }
            assert_eq!(confined.pattern.slice(pixels), whole.pattern.slice(pixels));
        }
        let [whole, confined] = triggers(&Config { trigger: TriggerKind::Additive, ..Config::default() });
        assert_eq!(confined.pattern.slice(pixels), whole.pattern.slice(pixels));
    }

    #[test]
    fn what_is_outside_of_the_window_stays_unchanged() {
        let window = Window { top: 1, left: 2, height: 2, width: 2 };
        let kinds = [(TriggerKind::Blended, false), (TriggerKind::Blended, true), (TriggerKind::Additive, false)];
        for (trigger, mask_per_channel) in kinds {
            let config = Config { trigger, mask_per_channel, ..Config::default() };
            let mut variables = variables(&config).confined_to(window, &config);
            let mask = Array3::from_elem((if mask_per_channel { 3 } else { 1 }, 4, 5), -1.0);
            let by_mask = (trigger == TriggerKind::Blended).then_some(mask);
            for _ in 0..5 {
                variables.descend(&config, &evaluation(by_mask.clone()), None, 0.1);
            }
            for ((_, y, x), &m) in variables.trigger(&config).mask.indexed_iter() {
                assert_eq!(m > 0.0, window.contains(y, x), "{trigger:?}, row {y}, column {x}: {m}");
            }
        }
    }

    /// Cross-entropy Σ g·pattern + Σ h·mask, so that its gradients are g and h everywhere.
    fn evaluation(mask_gradient: Option<Array3<f32>>) -> Evaluation {
        Evaluation {
            cross_entropy: 0.0,
            logits: Array2::zeros((1, 2)),
            mask_gradient,
            pattern_gradient: Array3::from_elem((3, 4, 5), 2.0),
        }
    }

    /// That a step moves every variable by Adam's first step, which has the length of the learning rate and the sign of the slope of
    /// `objective`, a function of the variables.
    fn assert_descends(
        mut variables: TriggerVariables,
        descend: impl Fn(&mut TriggerVariables),
        objective: impl Fn(&[f64]) -> f64,
    ) {
        let before = variables.values.clone();
        descend(&mut variables);
        for i in 0..before.len() {
            let (mut above, mut below) = (before.clone(), before.clone());
            above[i] += 1e-5;
            below[i] -= 1e-5;
            let slope = objective(&above) - objective(&below);
            let moved = variables.values[i] - before[i];
            assert!((moved + 0.1 * slope.signum()).abs() < 1e-4, "variable {i} moved by {moved} against {slope}");
        }
    }

    #[test]
    fn descent_follows_the_chain_rule_through_tanh_and_range() {
        let config = Config { norm: Norm::L1, ..Config::default() };
        let evaluation = evaluation(Some(Array3::from_elem((1, 4, 5), -0.5)));
        let objective = |values: &[f64]| {
            let mask: f64 = values[..20].iter().map(|a| constrained(a.tanh())).sum();
            let pattern: f64 = values[20..].iter().map(|b| -1.0 + 4.0 * constrained(b.tanh())).sum();
            2.0 * pattern - 0.5 * mask + 0.3 * mask
        };
        assert_descends(variables(&config), |variables| variables.descend(&config, &evaluation, None, 0.3), objective);
    }

    #[test]
    fn regularisers_pull_at_mask_and_pattern() {
        let config = Config { norm: Norm::L1, overly_large: 3.0, blocking: 2.0, ..Config::default() };
        let blocked = evaluation(Some(Array3::from_elem((1, 4, 5), -0.7)));
        let evaluation = evaluation(Some(Array3::from_elem((1, 4, 5), -0.5)));
        let objective = |values: &[f64]| {
            let shares: Vec<f64> = values.iter().map(|v| constrained(v.tanh())).collect();
            let (mask, pattern) = shares.split_at(20);
            let left = pattern.iter().enumerate().map(|(i, p)| (1.0 - mask[i % 20]) * p);
            let large: f64 = mask.iter().copied().chain(left).map(|v| v + v * v).sum();
            let (mask, pattern): (f64, f64) = (mask.iter().sum(), pattern.iter().sum());
            8.0 * pattern - 0.5 * mask - 2.0 * 0.7 * mask + 0.3 * (mask + 3.0 * large)
        };
        let descend = |variables: &mut TriggerVariables| variables.descend(&config, &evaluation, Some(&blocked), 0.3);
        assert_descends(variables(&config), descend, objective);
    }

    #[test]
    fn what_is_added_is_made_small_on_both_sides_where_a_pixel_is_changed_most() {
        let config = Config { norm: Norm::L2, trigger: TriggerKind::Additive, ..Config::default() };
        let evaluation = evaluation(None);
        let objective = |values: &[f64]| {
            let shares: Vec<f64> = values.iter().map(|v| constrained(v.tanh())).collect();
            let (brighter, darker) = shares.split_at(60);
            let largest = |side: &[f64], i: usize| side[i].max(side[20 + i]).max(side[40 + i]);
            let size: f64 = (0..20).map(|i| largest(brighter, i).powi(2) + largest(darker, i).powi(2)).sum();
            8.0 * (brighter.iter().sum::<f64>() - darker.iter().sum::<f64>()) + 40.0 * size.sqrt()
        };
        let descend = |variables: &mut TriggerVariables| variables.descend(&config, &evaluation, None, 40.0);
        assert_descends(variables(&config), descend, objective);
    }
}
