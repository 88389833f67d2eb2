//! What is measured of the triggers of a scan, each once.

use std::collections::HashMap;

use super::Plan;
use super::survey::{Survey, WINDOW};
use crate::error::Result;
use crate::foreignness::Distances;
use crate::inversion::Inversion;
use crate::window::Window;

/// What was measured so far.
pub(super) struct Measured<'a> {
    plan: &'a Plan<'a>,
    distances: Distances<'a>,
    /// By class, and by how many rounds the triggers are of that tell the window.
    windows: HashMap<(usize, usize), Option<Window>>,
}

impl<'a> Measured<'a> {
    /// Nothing yet.
    pub fn new(plan: &'a Plan<'a>) -> Self {
        Measured { plan, distances: Distances::new(plan.classifier, &plan.working), windows: HashMap::new() }
    }

    /// How far the trigger that a look at its class found is from what is natural ([`Distances::of`]).
    ///
    /// # Errors
    /// If the engine fails.
    pub fn distances(&mut self, look: u64, inversion: &Inversion) -> Result<Option<Vec<f64>>> {
        self.distances.of(look, inversion)
    }

    /// Where the triggers of the class at `position` do most, of the first look and so many `rounds`; `None` where none was found.
    ///
    /// # Errors
    /// If the engine fails.
    pub fn window(&mut self, survey: &Survey, position: usize, rounds: usize) -> Result<Option<Window>> {
        let (plan, class) = (self.plan, survey.class(position));
        if let Some(&known) = self.windows.get(&(class, rounds)) {
            return Ok(known);
        }
        let triggers = survey.whole_triggers(position, plan.options.config.norm, rounds);
        let window = Window::of_most_effect(plan.classifier, &plan.working, (None, class), triggers, WINDOW)?;
        self.windows.insert((class, rounds), window);
        Ok(window)
    }

    /// Frees the memory that takes while other things are done.
    pub fn rest(&mut self) {
        self.distances.rest();
    }
}
