use std::ops::ControlFlow;

use crate::inversion::Step;
use crate::store::Store;

/// Is told how a scan gets on. Calls come from several threads.
pub trait Observer: Sync {
    /// A round begins: so many classes are taken to this step.
    fn round_started(&self, _classes: usize, _steps: usize) {}

    /// Where searches are kept each time they pause, and taken up again from what an earlier scan has kept.
    fn store(&self) -> Option<&Store> {
        None
    }

    /// The inversion of a class begins or goes on; `look` is 0, or the number of the further look.
    fn class_started(&self, _class: usize, _look: u64) {}

    /// A class has taken a step. Breaking off ends the scan with [`Error::Interrupted`](crate::Error::Interrupted).
    fn step(&self, _class: usize, _look: u64, _step: &Step) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    /// A class has come to the end of the round.
    fn class_paused(&self, _class: usize, _look: u64) {}

    /// The search for a trigger that sends images of one class to another has taken a step. Breaking off ends the scan.
    fn pair_step(&self, _source: usize, target: usize, step: &Step) -> ControlFlow<()> {
        self.step(target, 0, step)
    }

    /// Such a search has come to the end of the round.
    fn pair_paused(&self, _source: usize, _target: usize) {}

    /// A step towards the largest margin of a class begins. Breaking off ends the scan.
    fn margin_step(&self, _class: usize) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// Watches nothing.
impl Observer for () {}
