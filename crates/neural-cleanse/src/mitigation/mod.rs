//! Repair: unlearning, pruning and filtering (paper §VI).

mod fine_tuning;
mod unlearning;

pub use unlearning::{Unlearning, UnlearningStep, unlearn};

use crate::trigger::Trigger;

/// A backdoor that was found: the trigger and the class that it leads to.
#[derive(Debug, Clone, PartialEq)]
pub struct Backdoor {
    /// The class that triggered images are sent to.
    pub target_class: usize,
    /// The trigger, reversed or true.
    pub trigger: Trigger,
}
