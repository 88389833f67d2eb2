//! Trigger inversion: the smallest trigger that sends images to a target class (paper §III).

mod config;
mod cost;
mod norm;
mod objective;
mod variables;

use std::ops::ControlFlow;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

pub use config::{Config, StartCost};
pub use cost::{CostSchedule, EarlyStop};
pub use norm::Norm;
pub use objective::{Evaluation, Objective};

use crate::classifier::classes_of;
use crate::clean_set::CleanSet;
use crate::error::{Error, Result};
use crate::minibatches::Minibatches;
use crate::trigger::Trigger;
use variables::TriggerVariables;

/// What one step of the inversion of one class came to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Counted from 1.
    pub step: usize,
    /// The mean cross-entropy over the step's minibatches, in nats.
    pub cross_entropy: f64,
    /// The share of the step's images that went to the target class, in 0..=1.
    pub attack_success_rate: f64,
    /// The optimised norm of the mask.
    pub norm: f64,
    /// The weight of the norm in this step.
    pub cost: f64,
}

/// The result of inverting one class.
#[derive(Debug, Clone, PartialEq)]
pub struct Inversion {
    /// The class that the trigger leads to.
    pub target_class: usize,
    /// The trigger with the smallest norm among the steps that reached the success threshold; the last one
    /// where no step did.
    pub trigger: Trigger,
    /// Whether any step reached the success threshold.
    pub converged: bool,
    /// Every step, in order.
    pub steps: Vec<Step>,
    /// How many images went forward and backward.
    pub gradient_samples: u64,
}

/// Inverts the trigger of class `target` on `working`.
///
/// The outcome depends on the configuration, the images and the class alone; `look` tells apart
/// repeated inversions of one class under one seed. `observe` is told of each step and may stop the work.
///
/// # Errors
/// If there is no image outside the class, the engine fails, the model gives numbers that are not finite, or
/// `observe` says to stop.
pub fn invert(
    objective: &mut Objective,
    working: &CleanSet,
    config: &Config,
    value_range: (f32, f32),
    target: usize,
    look: u64,
    observe: &mut dyn FnMut(&Step) -> ControlFlow<()>,
) -> Result<Inversion> {
    let rows = working.rows_outside(target);
    if rows.is_empty() {
        return Err(Error::Classifier(format!(
            "all samples are of class {target}: give samples of other classes to look for its trigger"
        )));
    }
    let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
    rng.set_stream(((look + 1) << 32) | target as u64);
    let mut shape = [0; 3];
    shape.copy_from_slice(&working.images.shape()[1..]);
    let mut variables = TriggerVariables::new(config, shape, value_range, &mut rng);
    let mut minibatches = Minibatches::new(rows, config.batch_size.min(objective.batch()), &mut rng);
    let mut schedule = CostSchedule::new(config);
    let mut early_stop = EarlyStop::new(config);

    let mut steps: Vec<Step> = Vec::new();
    let mut best: Option<(f64, Trigger)> = None;
    let mut gradient_samples = 0;
    loop {
        let cost = schedule.cost();
        let mut tally = Tally::default();
        let mut trigger = variables.trigger();
        for _ in 0..config.batches_per_step.unwrap_or(minibatches.in_a_pass()) {
            trigger = variables.trigger();
            let batch = minibatches.next(config.batches_per_step.is_none(), &mut rng);
            let evaluation = objective.evaluate(working.images.view(), batch, &trigger, target)?;
            if !evaluation.cross_entropy.is_finite() {
                return Err(Error::Classifier(format!(
                    "the model's loss towards class {target} is {}: its outputs are not finite for some inputs",
                    evaluation.cross_entropy
                )));
            }
            tally.add(&evaluation, target);
            variables.descend(&evaluation, config.norm, cost);
        }
        gradient_samples += tally.images as u64;

        // The trigger as it was when the step's last minibatch was measured, before it moved on.
        let mask: Vec<f64> = trigger.mask.iter().map(|&m| f64::from(m)).collect();
        let step = tally.step(steps.len() + 1, config.norm.of(&mask), cost);
        let success = step.attack_success_rate >= config.attack_success_threshold;
        if success && best.as_ref().is_none_or(|(norm, _)| step.norm < *norm) {
            best = Some((step.norm, trigger.clone()));
        }
        schedule.record(success);
        steps.push(step);
        if observe(&step).is_break() {
            return Err(Error::Interrupted);
        }
        let best_norm = best.as_ref().map(|(norm, _)| *norm);
        let finished = early_stop.as_mut().is_some_and(|rule| rule.record(best_norm, &schedule));
        if finished || steps.len() == config.steps {
            let converged = best.is_some();
            let trigger = best.map_or(trigger, |(_, trigger)| trigger);
            return Ok(Inversion { target_class: target, trigger, converged, steps, gradient_samples });
        }
    }
}

#[derive(Default)]
struct Tally {
    images: usize,
    successes: usize,
    cross_entropy: f64,
}

impl Tally {
    fn add(&mut self, evaluation: &Evaluation, target: usize) {
        let predicted = classes_of(&evaluation.logits);
        self.images += predicted.len();
        self.successes += predicted.iter().filter(|&&class| class == target).count();
        self.cross_entropy += evaluation.cross_entropy * predicted.len() as f64;
    }

    fn step(&self, step: usize, norm: f64, cost: f64) -> Step {
        let images = self.images as f64;
        let attack_success_rate = self.successes as f64 / images;
        Step { step, cross_entropy: self.cross_entropy / images, attack_success_rate, norm, cost }
    }
}
