use std::ops::ControlFlow;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::variables::TriggerVariables;
use super::{Config, CostSchedule, EarlyStop, Evaluate, Evaluation, Inversion, Step};
use crate::clean_set::CleanSet;
use crate::error::{Error, Result};
use crate::logits::classes_of;
use crate::minibatches::Minibatches;
use crate::trigger::Trigger;
use crate::window::Window;

/// The inversion of one class as far as it has come: it can be left at any step and taken up again, and comes to the
/// same as if it had never been left.
#[derive(Serialize, Deserialize)]
pub struct Search {
    /// Not kept on disk: [`Search::resumed`] gives it back.
    #[serde(skip)]
    config: Config,
    source: Option<usize>,
    target: usize,
    rng: ChaCha8Rng,
    variables: TriggerVariables,
    minibatches: Minibatches,
    schedule: CostSchedule,
    early_stop: Option<EarlyStop>,
    steps: Vec<Step>,
    best: Option<(f64, Trigger)>,
    /// The trigger of the last step, while there is no better one.
    last: Option<Trigger>,
    gradient_samples: u64,
    finished: bool,
}

impl Search {
    /// The inversion of class `target` on `working` before its first step, to be advanced with `objective` or one like it.
    ///
    /// Its outcome depends on the configuration, the images and the class alone; `look` tells apart repeated inversions of
    /// one class under one seed.
    ///
    /// # Errors
    /// If there is no image outside the class.
    pub fn new(
        objective: &impl Evaluate,
        working: &CleanSet,
        config: &Config,
        value_range: (f32, f32),
        target: usize,
        look: u64,
    ) -> Result<Self> {
        Search::between(objective, working, config, value_range, None, target, look)
    }

    /// The same on the images of class `source` alone, if there is one.
    ///
    /// # Errors
    /// If there is no image to send to the target.
    pub fn between(
        objective: &impl Evaluate,
        working: &CleanSet,
        config: &Config,
        value_range: (f32, f32),
        source: Option<usize>,
        target: usize,
        look: u64,
    ) -> Result<Self> {
        let rows = working.rows_to_send(source, target);
        if rows.is_empty() {
            return Err(Error::Classifier(match source {
                Some(source) => format!("no sample is of class {source}: give samples of it to look for its triggers"),
                None => {
                    format!("all samples are of class {target}: give samples of other classes to look for its trigger")
                }
            }));
        }
        let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
        let from = source.map_or(0, |source| source as u64 + 1);
        rng.set_stream((from << 40) | ((look + 1) << 32) | target as u64);
        let mut shape = [0; 3];
        shape.copy_from_slice(&working.images.shape()[1..]);
        let variables = TriggerVariables::new(config, shape, value_range, &mut rng);
        let minibatches = Minibatches::new(rows, config.batch_size.min(objective.batch()), &mut rng);
        Ok(Search {
            source,
            target,
            rng,
            variables,
            minibatches,
            schedule: CostSchedule::new(config),
            early_stop: EarlyStop::new(config),
            steps: Vec::new(),
            best: None,
            last: None,
            gradient_samples: 0,
            finished: false,
            config: config.clone(),
        })
    }

    /// The same search, before its first step, for a trigger within `window`.
    pub fn confined_to(self, window: Window) -> Self {
        Search { variables: self.variables.confined_to(window, &self.config), ..self }
    }

    /// The search that was read back from disk, under the configuration that it was begun with.
    pub fn resumed(self, config: &Config) -> Self {
        Search { config: config.clone(), ..self }
    }

    /// The steps that were taken, in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The trigger with the smallest norm among the steps that reached the success threshold, if any did.
    pub fn best(&self) -> Option<&Trigger> {
        self.best.as_ref().map(|(_, trigger)| trigger)
    }

    /// How many images went forward and backward.
    pub fn gradient_samples(&self) -> u64 {
        self.gradient_samples
    }

    /// Whether all steps were taken, or the early stop has ended the search.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Goes on until `steps` steps were taken in all, or the search is finished. `observe` is told of each step and may
    /// stop the work.
    ///
    /// # Errors
    /// If the engine fails, the model gives numbers that are not finite, or `observe` says to stop.
    pub fn advance(
        &mut self,
        objective: &mut impl Evaluate,
        working: &CleanSet,
        steps: usize,
        observe: &mut dyn FnMut(&Step) -> ControlFlow<()>,
    ) -> Result<()> {
        while !self.finished && self.steps.len() < steps {
            let step = self.step(objective, working)?;
            if observe(&step).is_break() {
                return Err(Error::Interrupted);
            }
        }
        Ok(())
    }

    fn step(&mut self, objective: &mut impl Evaluate, working: &CleanSet) -> Result<Step> {
        let cost = self.schedule.cost();
        let mut tally = Tally::default();
        let mut trigger = self.variables.trigger(&self.config);
        for _ in 0..self.config.batches_per_step.unwrap_or(self.minibatches.in_a_pass()) {
            trigger = self.variables.trigger(&self.config);
            let batch = self.minibatches.next(self.config.batches_per_step.is_none(), &mut self.rng);
            let evaluation = objective.evaluate(working.images.view(), batch, &trigger, self.target)?;
            if !evaluation.cross_entropy.is_finite() {
                return Err(Error::Classifier(format!(
                    "the model's loss towards class {} is {}: its outputs are not finite for some inputs",
                    self.target, evaluation.cross_entropy
                )));
            }
            tally.add(&evaluation, self.target);
            self.gradient_samples += batch.len() as u64;
            let mut blocked = None;
            if self.config.blocking > 0.0 {
                let black = self.variables.black(&trigger);
                let towards =
                    objective.evaluate_towards_labels(working.images.view(), batch, &black, &working.labels)?;
                blocked = Some(towards);
                self.gradient_samples += batch.len() as u64;
            }
            self.variables.descend(&self.config, &evaluation, blocked.as_ref(), cost);
        }

        // The trigger as it was when the step's last minibatch was measured, before it moved on.
        let mask: Vec<f64> = trigger.mask.iter().map(|&m| f64::from(m)).collect();
        let step = tally.step(self.steps.len() + 1, self.config.norm.of(&mask), cost);
        let success = step.attack_success_rate >= self.config.attack_success_threshold;
        if success && self.best.as_ref().is_none_or(|(norm, _)| step.norm < *norm) {
            self.best = Some((step.norm, trigger));
            self.last = None;
        } else if self.best.is_none() {
            self.last = Some(trigger);
        }
        self.schedule.record(success);
        self.steps.push(step);
        let best_norm = self.best.as_ref().map(|(norm, _)| *norm);
        let stopped = self.early_stop.as_mut().is_some_and(|rule| rule.record(best_norm, &self.schedule));
        self.finished = stopped || self.steps.len() == self.config.steps;
        if self.finished {
            self.confirm(objective, working)?;
        }
        Ok(step)
    }

    /// Lets the best trigger stand only if the objective confirms it.
    fn confirm(&mut self, objective: &mut impl Evaluate, working: &CleanSet) -> Result<()> {
        let Some((_, best)) = &self.best else { return Ok(()) };
        let rows = working.rows_to_send(self.source, self.target);
        let threshold = self.config.attack_success_threshold;
        if !objective.confirms(working.images.view(), &rows, best, self.target, threshold)? {
            self.last = self.best.take().map(|(_, trigger)| trigger);
        }
        Ok(())
    }

    /// How many bytes a search holds between its steps, roughly, for images of `[C, H, W]`: the variables with the
    /// two moments of the optimiser, and the best trigger.
    pub fn memory(config: &Config, [channels, height, width]: [usize; 3]) -> usize {
        let mask_channels = if config.mask_per_channel { channels } else { 1 };
        let variables = (mask_channels + channels) * height * width;
        variables * (3 * size_of::<f64>() + size_of::<f32>())
    }

    /// What the search has come to; `None` before its first step.
    pub fn into_inversion(self) -> Option<Inversion> {
        let converged = self.best.is_some();
        let trigger = self.best.map(|(_, trigger)| trigger).or(self.last)?;
        Some(Inversion {
            target_class: self.target,
            trigger,
            converged,
            extent: None,
            steps: self.steps,
            gradient_samples: self.gradient_samples,
        })
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
