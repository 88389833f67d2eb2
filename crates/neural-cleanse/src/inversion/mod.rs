//! Trigger inversion: the smallest trigger that sends images to a target class (paper §III).

mod config;
mod cost;
mod lane;
mod norm;
mod objective;
mod search;
mod tabor;
mod variables;

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

pub use config::{Config, StartCost, TriggerKind};
pub use cost::{CostSchedule, EarlyStop};
pub(crate) use lane::{Lane, Shared};
pub use norm::Norm;
pub(crate) use objective::Blueprint;
pub use objective::{Evaluate, Evaluation, Objective, Question, Targets};
pub use search::Search;
pub(crate) use variables::TriggerVariables;

use crate::clean_set::CleanSet;
use crate::error::{Error, Result};
use crate::extent::Extent;
use crate::trigger::Trigger;

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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Inversion {
    /// The class that the trigger leads to.
    pub target_class: usize,
    /// The trigger with the smallest norm among the steps that reached the success threshold; the last one
    /// where no step did.
    pub trigger: Trigger,
    /// Whether any step reached the success threshold, and float32 confirms it where the search was in another precision.
    pub converged: bool,
    /// How much of an image the trigger needs; `None` if the search did not converge, and of [`invert`], which has no classifier to measure it with.
    pub extent: Option<Extent>,
    /// Every step, in order.
    pub steps: Vec<Step>,
    /// How many images went forward and backward.
    pub gradient_samples: u64,
}

impl Inversion {
    /// How large the trigger is, in pixels: the geometric mean of its L1 norm and its [extent](Extent::pixels). Triggers of backdoors are small by both;
    /// `None` where there is no extent.
    pub fn size(&self) -> Option<f64> {
        Some((self.trigger.norm_l1() * self.extent?.pixels()).sqrt())
    }
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
    objective: &mut impl Evaluate,
    working: &CleanSet,
    config: &Config,
    value_range: (f32, f32),
    target: usize,
    look: u64,
    observe: &mut dyn FnMut(&Step) -> ControlFlow<()>,
) -> Result<Inversion> {
    let mut search = Search::new(objective, working, config, value_range, target, look)?;
    search.advance(objective, working, config.steps, observe)?;
    search.into_inversion().ok_or(Error::Interrupted)
}
