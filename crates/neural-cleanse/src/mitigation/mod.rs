//! Repair: unlearning, pruning and filtering (paper §VI).

mod discriminant;
mod embedding;
mod filtering;
mod penultimate;
mod pruning;
mod ranking;

pub use embedding::embed_filter;
pub use filtering::{Filter, Filtering, Profile, ProfileKind};
pub use penultimate::Penultimate;
pub use pruning::{Pruning, PruningOutcome, PruningStep, Stopped, prune};

use crate::trigger::Trigger;

/// A backdoor that was found: the trigger and the class that it leads to.
#[derive(Debug, Clone, PartialEq)]
pub struct Backdoor {
    /// The class that triggered images are sent to.
    pub target_class: usize,
    /// The trigger, reversed or true.
    pub trigger: Trigger,
}
