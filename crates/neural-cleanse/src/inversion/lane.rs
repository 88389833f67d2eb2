use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::{Evaluate, Evaluation, Objective, Question};
use crate::error::{Error, Result};

/// An objective that several searches share, each in a lane and a thread of its own. A run takes place when each has asked something or left, so
/// that all go in step: what comes of them does not depend on how threads are scheduled.
pub struct Shared<'a> {
    round: Mutex<Round<'a>>,
    answered: Condvar,
    batch: usize,
    has_reference: bool,
}

/// What is asked and answered between two runs.
struct Round<'a> {
    objective: &'a mut Objective,
    lanes: Vec<State>,
}

enum State {
    /// A search is about to ask.
    Awaited,
    /// About so many images, in float32 or in the precision of the search.
    Asked {
        rows: usize,
        in_float32: bool,
    },
    Answered(Box<Result<Evaluation>>),
    Left,
}

impl State {
    fn answered(answer: Result<Evaluation>) -> Self {
        State::Answered(Box::new(answer))
    }
}

/// One lane of a shared objective. It is left when it is dropped.
pub struct Lane<'a> {
    number: usize,
    shared: &'a Shared<'a>,
}

impl<'a> Shared<'a> {
    /// Shares `objective`.
    pub fn new(objective: &'a mut Objective) -> Self {
        let (batch, has_reference) = (objective.batch(), objective.has_reference());
        let lanes = (0..objective.lanes()).map(|_| State::Awaited).collect();
        Shared { round: Mutex::new(Round { objective, lanes }), answered: Condvar::new(), batch, has_reference }
    }

    /// All lanes. Nothing runs before each is used or left.
    pub fn lanes(&'a self) -> Vec<Lane<'a>> {
        (0..self.round().lanes.len()).map(|number| Lane { number, shared: self }).collect()
    }

    fn round(&self) -> MutexGuard<'_, Round<'a>> {
        self.round.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Round<'_> {
    /// Runs if no lane is waited for.
    fn run_if_complete(&mut self) {
        if self.lanes.iter().any(|lane| matches!(lane, State::Awaited | State::Answered(_))) {
            return;
        }
        for precision in [false, true] {
            let asked = |(number, lane): (usize, &State)| match lane {
                State::Asked { rows, in_float32 } if *in_float32 == precision => Some((number, *rows)),
                _ => None,
            };
            let asked: Vec<(usize, usize)> = self.lanes.iter().enumerate().filter_map(asked).collect();
            if asked.is_empty() {
                continue;
            }
            // The answer where the engine panics, and for all but one where it fails.
            asked.iter().for_each(|&(number, _)| self.lanes[number] = State::answered(Err(Error::Interrupted)));
            match self.objective.run(precision, &asked) {
                Ok(evaluations) => {
                    for (&(number, _), evaluation) in asked.iter().zip(evaluations) {
                        self.lanes[number] = State::answered(Ok(evaluation));
                    }
                }
                Err(error) => self.lanes[asked[0].0] = State::answered(Err(error)),
            }
        }
    }
}

impl Evaluate for Lane<'_> {
    fn batch(&self) -> usize {
        self.shared.batch
    }

    fn has_reference(&self) -> bool {
        self.shared.has_reference
    }

    fn answer(&mut self, question: &Question<'_>) -> Result<Evaluation> {
        let mut round = self.shared.round();
        round.objective.fill(self.number, question);
        round.lanes[self.number] = State::Asked { rows: question.rows.len(), in_float32: question.in_float32 };
        round.run_if_complete();
        self.shared.answered.notify_all();
        loop {
            match std::mem::replace(&mut round.lanes[self.number], State::Awaited) {
                State::Answered(answer) => return *answer,
                asked => round.lanes[self.number] = asked,
            }
            round = self.shared.answered.wait(round).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Lane<'_> {
    fn drop(&mut self) {
        let mut round = self.shared.round();
        round.lanes[self.number] = State::Left;
        if std::thread::panicking() {
            let asked = round.lanes.iter_mut().filter(|lane| matches!(lane, State::Asked { .. }));
            asked.for_each(|lane| *lane = State::answered(Err(Error::Interrupted)));
        } else {
            round.run_if_complete();
        }
        self.shared.answered.notify_all();
    }
}
