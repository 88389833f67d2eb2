use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a backdoor does with images that carry its trigger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Attack {
    /// Images of all classes go to one.
    AllToOne {
        /// Where they go.
        target: usize,
    },
    /// Images of one class go to another.
    SourceSpecific {
        /// The class of the images.
        source: usize,
        /// Where they go.
        target: usize,
    },
    /// Images of each class go to the one that is so many further on, counted in a circle.
    AllToAll {
        /// How many.
        shift: usize,
    },
    /// Something is abnormal, and what looked at it cannot tell which images go where.
    Unknown,
}

impl Attack {
    /// The class that images are sent to, if it is one.
    pub fn target(self) -> Option<usize> {
        match self {
            Attack::AllToOne { target } | Attack::SourceSpecific { target, .. } => Some(target),
            Attack::AllToAll { .. } | Attack::Unknown => None,
        }
    }
}

impl fmt::Display for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Attack::AllToOne { target } => write!(f, "all classes to {target}"),
            Attack::SourceSpecific { source, target } => write!(f, "class {source} to {target}"),
            Attack::AllToAll { shift } => write!(f, "every class y to y + {shift}"),
            Attack::Unknown => f.write_str("of an unknown kind"),
        }
    }
}
