//! The searches of many classes, advanced side by side.

use std::sync::{Mutex, PoisonError};
use std::thread::Builder;

use crate::classifier::Classifier;
use crate::clean_set::CleanSet;
use crate::engine;
use crate::error::{Error, Result};
use crate::inversion::{Config, Inversion, Objective, Search, Step};
use crate::scan::{Job, Observer};

/// What the searches that wait for their next round may take of memory, in bytes, with their triggers and the state of
/// their optimisers. Where they would take more they are let go, and taken up again from their first step.
const MEMORY: usize = 1 << 30;

/// One class and how far its search has come.
pub struct Contender {
    /// The class.
    pub class: usize,
    /// 0, or the number of a further look at the class.
    pub look: u64,
    /// How many steps were taken.
    pub steps: usize,
    /// How many images went forward and backward.
    pub gradient_samples: u64,
    /// The mean cross-entropy of the last [`RECENT`] steps, in nats.
    pub cross_entropy: f64,
    /// Σ|mask| of the best trigger at the end of each round; `None` where there was none yet.
    pub norms: Vec<Option<f64>>,
    /// What the search came to, when it is finished.
    pub inversion: Option<Inversion>,
    search: Option<Search>,
    dropped: bool,
}

/// Over how many steps the cross-entropy is averaged.
const RECENT: usize = 5;

impl Contender {
    /// A class before its first step.
    pub fn new(Job { class, look }: Job) -> Self {
        Contender {
            class,
            look,
            steps: 0,
            gradient_samples: 0,
            cross_entropy: f64::INFINITY,
            norms: Vec::new(),
            inversion: None,
            search: None,
            dropped: false,
        }
    }

    /// Σ|mask| of the best trigger at the end of the last round, if there was one.
    pub fn norm(&self) -> Option<f64> {
        self.norms.last().copied().flatten()
    }

    /// Ends the search where it is.
    pub fn drop_out(&mut self) {
        self.search = None;
        self.dropped = true;
    }

    /// Whether the class has dropped out.
    pub fn is_dropped(&self) -> bool {
        self.dropped
    }

    fn record(&mut self, search: Search, before: u64, keep: bool) {
        self.steps = search.steps().len();
        self.gradient_samples += search.gradient_samples() - before;
        let recent = &search.steps()[self.steps.saturating_sub(RECENT)..];
        self.cross_entropy = recent.iter().map(|step| step.cross_entropy).sum::<f64>() / recent.len() as f64;
        self.norms.push(search.best().map(|trigger| trigger.norm_l1()));
        if search.is_finished() {
            self.inversion = search.into_inversion();
        } else if keep {
            self.search = Some(search);
        }
    }
}

/// Runs searches, as many side by side as the classifier has threads, each with an objective of its own, so that
/// results cannot depend on the number of threads.
pub struct Searches<'a> {
    surroundings: Surroundings<'a>,
    objectives: Vec<Objective>,
    memory: usize,
}

/// What all searches share.
struct Surroundings<'a> {
    classifier: &'a Classifier,
    working: &'a CleanSet,
    config: &'a Config,
    observer: &'a dyn Observer,
}

impl<'a> Searches<'a> {
    /// Compiles the objectives for at most `classes` searches side by side.
    ///
    /// # Errors
    /// If the objective cannot be built or compiled.
    pub fn new(
        classifier: &'a Classifier,
        working: &'a CleanSet,
        config: &'a Config,
        observer: &'a dyn Observer,
        classes: usize,
    ) -> Result<Self> {
        let workers = classifier.threads().clamp(1, classes.max(1));
        let threads = (classifier.threads() / workers).max(1);
        let objective = |_| Objective::new(classifier, config, working.labels.len(), threads);
        let objectives = (0..workers).map(objective).collect::<Result<_>>()?;
        Ok(Searches {
            surroundings: Surroundings { classifier, working, config, observer },
            objectives,
            memory: MEMORY,
        })
    }

    /// Takes the searches of all `jobs` to their ends; the results are in the order of the jobs.
    ///
    /// # Errors
    /// As [`Searches::advance`] has them.
    pub fn finish(&mut self, jobs: &[Job]) -> Result<Vec<Inversion>> {
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        let mut contenders: Vec<Contender> = jobs.iter().map(|&job| Contender::new(job)).collect();
        self.advance(contenders.iter_mut().collect(), self.surroundings.config.steps)?;
        Ok(contenders.into_iter().filter_map(|contender| contender.inversion).collect())
    }

    /// Takes the search of each of `contenders` to its step `steps`, or to its end.
    ///
    /// # Errors
    /// If there is no image outside a class, the engine fails, the model gives numbers that are not finite, or the observer
    /// breaks off.
    pub fn advance(&mut self, contenders: Vec<&mut Contender>, steps: usize) -> Result<()> {
        let Searches { surroundings, objectives, memory } = self;
        surroundings.observer.round_started(contenders.len(), steps);
        let size = Search::memory(surroundings.config, surroundings.classifier.image_shape());
        let keep = contenders.len().saturating_mul(size) <= *memory;
        let waiting = Mutex::new(contenders.into_iter());
        let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = |objective: &mut Objective| -> Result<()> {
            while let Some(contender) = next() {
                if let Err(error) = surroundings.advance(objective, contender, steps, keep) {
                    // The other workers finish what they have begun and take up nothing more.
                    while next().is_some() {}
                    return Err(error);
                }
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let spawn = |objective| Builder::new().stack_size(engine::STACK).spawn_scoped(scope, || work(objective));
            let handles = objectives.iter_mut().map(spawn).collect::<Result<Vec<_>, _>>().map_err(Error::Thread)?;
            handles.into_iter().try_for_each(|handle| match handle.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })
    }
}

impl Surroundings<'_> {
    fn advance(&self, objective: &mut Objective, contender: &mut Contender, steps: usize, keep: bool) -> Result<()> {
        let (class, look) = (contender.class, contender.look);
        self.observer.class_started(class, look);
        let mut search = match contender.search.take() {
            Some(search) => search,
            None => Search::new(objective, self.working, self.config, self.classifier.value_range(), class, look)?,
        };
        let before = search.gradient_samples();
        let mut observe = |step: &Step| self.observer.step(class, look, step);
        search.advance(objective, self.working, steps, &mut observe)?;
        contender.record(search, before, keep);
        self.observer.class_paused(class, look);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use ndarray::Array4;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::classifier::ClassifierOptions;
    use crate::engine::Rten;
    use crate::inversion::Norm;

    #[test]
    fn a_search_that_was_let_go_comes_to_the_same_when_it_is_taken_up_again() {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/fmnist_badnets.onnx");
        let model = onnx_grad::Model::read(model).unwrap();
        let classifier = Classifier::new(model, ClassifierOptions::default(), Arc::new(Rten), 2).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let images = Array4::from_shape_simple_fn((40, 1, 28, 28), || rng.random_range(0.0..1.0));
        let working = CleanSet { images, labels: (0..40).map(|i| i % 10).collect() };
        let config = Config { steps: 6, ..Config::fast(Norm::L2, 28, 28) };
        let run = |memory: usize, rounds: &[usize]| {
            let mut searches = Searches::new(&classifier, &working, &config, &(), 3).unwrap();
            searches.memory = memory;
            let mut contenders: Vec<Contender> = [2, 5, 7].map(|class| Contender::new(Job { class, look: 0 })).into();
            for &steps in rounds {
                searches.advance(contenders.iter_mut().collect(), steps).unwrap();
                assert!(contenders.iter().all(|contender| contender.steps == steps));
            }
            let spent: u64 = contenders.iter().map(|contender| contender.gradient_samples).sum();
            (contenders.into_iter().map(|contender| contender.inversion.unwrap()).collect::<Vec<_>>(), spent)
        };
        let (at_once, spent) = run(MEMORY, &[6]);
        assert_eq!(spent, 3 * 6 * 16);
        assert_eq!(run(MEMORY, &[2, 3, 6]), (at_once.clone(), spent));
        assert_eq!(run(0, &[2, 3, 6]), (at_once, 3 * (2 + 3 + 6) * 16));
    }
}
