use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Norm;
use crate::engine::Provider;
use crate::trigger::Stamp;

/// How the weight of the mask's norm begins.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StartCost {
    /// At 0, until `patience` steps in a row have succeeded (the paper's released code).
    Zero,
    /// At `init_cost` from the first step on.
    InitCost,
}

/// How the trigger that is searched for changes an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TriggerKind {
    /// A pattern that a mask blends in, `(1 − mask)·x + mask·pattern` (Neural Cleanse, §III).
    #[default]
    Blended,
    /// A change that is added and cut off at the range of pixel values, the difference of two variables that are made small (Tao et al.,
    /// Better Trigger Inversion Optimization in Backdoor Scanning, CVPR 2022).
    Additive,
}

impl From<Stamp> for TriggerKind {
    fn from(stamp: Stamp) -> Self {
        match stamp {
            Stamp::Blend => TriggerKind::Blended,
            Stamp::Add { .. } => TriggerKind::Additive,
        }
    }
}

impl FromStr for TriggerKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "blended" => Ok(TriggerKind::Blended),
            "additive" => Ok(TriggerKind::Additive),
            _ => Err(format!("`{text}` is not a kind of trigger: use blended or additive")),
        }
    }
}

/// Every parameter of trigger inversion.
///
/// Names and defaults are those of the documented `NeuralCleanse.__call__`; the fields which
/// that page lacks come last. [`Config::default`] is that page, [`Config::fast`] a schedule which
/// reaches the same verdicts with a sixtieth of the work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Config {
    /// The largest number of steps for a class. A step is `batches_per_step` minibatches, after
    /// which the cost schedule looks at the attack success rate.
    pub steps: usize,
    /// The first weight of the mask's norm that is not 0.
    pub init_cost: f64,
    /// The norm of the mask to make small.
    pub norm: Norm,
    /// The learning rate of Adam.
    pub learning_rate: f64,
    /// The attack success rate, in 0..=1, from which on a step counts as a success.
    pub attack_success_threshold: f64,
    /// The number of successes (failures) in a row after which the cost rises (falls).
    pub patience: usize,
    /// Whether to stop before `steps` when the norm no longer falls.
    pub early_stop: bool,
    /// A norm above this share of the best one is no improvement.
    pub early_stop_threshold: f64,
    /// The number of steps without an improvement after which a class is finished.
    pub early_stop_patience: usize,
    /// The factor by which the cost rises; it falls by this factor to the power of 1.5.
    pub cost_multiplier: f64,
    /// The number of images in a minibatch.
    pub batch_size: usize,

    /// The number of minibatches in a step; `None` is one pass over the working set.
    pub batches_per_step: Option<usize>,
    /// How the cost begins.
    pub start_cost: StartCost,
    /// The value of the whole mask, in 0..1, at the start, where the pattern is uniformly random. The variables of an additive trigger
    /// start at random about it. A search that is confined to a window starts from 0.5 at the least.
    pub initial_mask: f64,
    /// How many triggers share a run of the model, each with a minibatch of its own: more is faster where runs cost much beside the
    /// images in them, as on GPUs. Results differ by rounding alone. It is
    /// fewer where a model was exported for a fixed number of images, or memory does not suffice.
    #[serde(default = "one")]
    pub classes_per_batch: usize,
    /// Whether each colour channel has a mask of its own, rather than all sharing one.
    pub mask_per_channel: bool,
    /// The seed of the initial pattern, the minibatches and the split of the samples.
    pub seed: u64,

    /// How the trigger changes an image.
    #[serde(default)]
    pub trigger: TriggerKind,
    /// The weight, beside the norm's, of TABOR's regulariser of overly large triggers.
    #[serde(default)]
    pub overly_large: f64,
    /// The weight, beside the norm's, of TABOR's regulariser of scattered triggers.
    #[serde(default)]
    pub scattered: f64,
    /// The weight, beside that of the cross-entropy, of TABOR's regulariser of blocking triggers: images whose masked part is black are
    /// to keep their classes. It takes as many gradient samples again.
    #[serde(default)]
    pub blocking: f64,
}

/// The most classes that can share a batch: each has a thread of its own.
pub const MOST_CLASSES_PER_BATCH: usize = 64;

fn one() -> usize {
    1
}

impl Default for Config {
    fn default() -> Self {
        Config {
            steps: 1000,
            init_cost: 1e-3,
            norm: Norm::L2,
            learning_rate: 0.1,
            attack_success_threshold: 0.99,
            patience: 5,
            early_stop: true,
            early_stop_threshold: 0.99,
            early_stop_patience: 10,
            cost_multiplier: 1.5,
            batch_size: 32,
            batches_per_step: None,
            classes_per_batch: 1,
            start_cost: StartCost::Zero,
            initial_mask: 0.1,
            mask_per_channel: false,
            seed: 0,
            trigger: TriggerKind::Blended,
            overly_large: 0.0,
            scattered: 0.0,
            blocking: 0.0,
        }
    }
}

impl Config {
    /// One minibatch of 16 a step for 60 steps of twice the documented learning rate, with a cost that counts from the first step on.
    ///
    /// The start cost is set for images of about 28×28 pixels and is scaled to `height`×`width` so
    /// that a mask which covers the same share of the image weighs the same.
    ///
    /// ```
    /// use neural_cleanse::{Config, Norm};
    ///
    /// let config = Config { seed: 7, ..Config::fast(Norm::L1, 32, 32) };
    /// assert_eq!(config.validate(), Ok(()));
    /// let none = Config { steps: 0, ..config };
    /// assert_eq!(none.validate(), Err("steps must be at least 1".to_owned()));
    /// ```
    pub fn fast(norm: Norm, height: usize, width: usize) -> Self {
        let side_ratio = 28.0 / ((height * width) as f64).sqrt();
        let init_cost = match norm {
            Norm::L1 => 1e-2 * side_ratio * side_ratio,
            Norm::L2 => 5e-2 * side_ratio,
            Norm::Inf => 5e-2,
        };
        Config {
            steps: 60,
            init_cost,
            norm,
            learning_rate: 0.2,
            patience: 3,
            early_stop: false,
            batch_size: 16,
            batches_per_step: Some(1),
            start_cost: StartCost::InitCost,
            ..Config::default()
        }
    }

    /// How many of `classes` best share a batch where minibatches of `batch_size` are computed on `provider`: one on processors, which a minibatch keeps
    /// busy, and as many as make up 256 images elsewhere.
    pub fn usual_classes_per_batch(provider: Provider, batch_size: usize, classes: usize) -> usize {
        match provider {
            Provider::Cpu => 1,
            _ => (256 / batch_size.max(1)).min(classes).clamp(1, MOST_CLASSES_PER_BATCH),
        }
    }

    /// Checks that every parameter is in its range.
    ///
    /// # Errors
    /// A sentence which names the first parameter that is not.
    pub fn validate(&self) -> Result<(), String> {
        let check = |holds: bool, message: &str| if holds { Ok(()) } else { Err(message.to_owned()) };
        let positive = |value: f64| value.is_finite() && value > 0.0;
        check(self.steps > 0, "steps must be at least 1")?;
        check(positive(self.init_cost), "init_cost must be a number above 0")?;
        check(positive(self.learning_rate), "learning_rate must be a number above 0")?;
        check(
            self.attack_success_threshold > 0.0 && self.attack_success_threshold <= 1.0,
            "attack_success_threshold must be above 0 and at most 1",
        )?;
        check(self.patience > 0, "patience must be at least 1")?;
        check(
            self.early_stop_threshold > 0.0 && self.early_stop_threshold <= 1.0,
            "early_stop_threshold must be above 0 and at most 1",
        )?;
        check(self.early_stop_patience > 0, "early_stop_patience must be at least 1")?;
        check(
            self.cost_multiplier.is_finite() && self.cost_multiplier > 1.0,
            "cost_multiplier must be a number above 1",
        )?;
        check(self.batch_size > 0, "batch_size must be at least 1")?;
        check(self.batches_per_step != Some(0), "batches_per_step must be at least 1")?;
        check(
            (1..=MOST_CLASSES_PER_BATCH).contains(&self.classes_per_batch),
            &format!("classes_per_batch must be 1 to {MOST_CLASSES_PER_BATCH}"),
        )?;
        check(self.initial_mask > 0.0 && self.initial_mask < 1.0, "initial_mask must lie between 0 and 1")?;
        for (name, weight) in self.tabor() {
            check(weight.is_finite() && weight >= 0.0, &format!("{name} must be a number of at least 0"))?;
            check(
                weight == 0.0 || self.trigger == TriggerKind::Blended,
                &format!("{name} is about a mask and a pattern: it must be 0 for additive triggers"),
            )?;
        }
        Ok(())
    }

    /// The weights of TABOR's regularisers, with their names.
    fn tabor(&self) -> [(&'static str, f64); 3] {
        [("overly_large", self.overly_large), ("scattered", self.scattered), ("blocking", self.blocking)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_documented_api() {
        let config = Config::default();
        assert_eq!((config.steps, config.init_cost, config.norm), (1000, 0.001, Norm::L2));
        assert_eq!((config.learning_rate, config.attack_success_threshold, config.patience), (0.1, 0.99, 5));
        assert_eq!((config.early_stop, config.early_stop_threshold, config.early_stop_patience), (true, 0.99, 10));
        assert_eq!((config.cost_multiplier, config.batch_size), (1.5, 32));
        config.validate().unwrap();
        Config::fast(Norm::L1, 28, 28).validate().unwrap();
    }

    #[test]
    fn each_parameter_out_of_range_is_named() {
        type Spoil = fn(&mut Config);
        let cases: [(&str, Spoil); 13] = [
            ("steps", |c| c.steps = 0),
            ("init_cost", |c| c.init_cost = f64::NAN),
            ("learning_rate", |c| c.learning_rate = -0.1),
            ("attack_success_threshold", |c| c.attack_success_threshold = 1.5),
            ("patience", |c| c.patience = 0),
            ("early_stop_threshold", |c| c.early_stop_threshold = 0.0),
            ("cost_multiplier", |c| c.cost_multiplier = 1.0),
            ("batch_size", |c| c.batch_size = 0),
            ("batches_per_step", |c| c.batches_per_step = Some(0)),
            ("classes_per_batch", |c| c.classes_per_batch = 0),
            ("initial_mask", |c| c.initial_mask = 1.0),
            ("blocking", |c| c.blocking = -1.0),
            ("scattered", |c| (c.scattered, c.trigger) = (1.0, TriggerKind::Additive)),
        ];
        for (name, spoil) in cases {
            let mut config = Config::default();
            spoil(&mut config);
            let message = config.validate().unwrap_err();
            assert!(message.starts_with(name), "{name}: {message}");
        }
    }

    #[test]
    fn classes_share_batches_where_that_is_not_the_processor() {
        let usual = Config::usual_classes_per_batch;
        assert_eq!([16, 1].map(|batch_size| usual(Provider::Cpu, batch_size, 1000)), [1, 1]);
        assert_eq!([16, 1, 300].map(|batch_size| usual(Provider::Cuda, batch_size, 1000)), [16, 64, 1]);
        assert_eq!(usual(Provider::Cuda, 16, 10), 10);
    }

    #[test]
    fn the_start_cost_of_the_fast_preset_scales_with_the_image() {
        let small = Config::fast(Norm::L1, 28, 28);
        let large = Config::fast(Norm::L1, 224, 224);
        assert!((small.init_cost / large.init_cost - 64.0).abs() < 1e-9);
    }
}
