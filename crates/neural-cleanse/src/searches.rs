//! The searches of many classes, advanced side by side.

use std::sync::{Mutex, PoisonError};
use std::thread::Builder;

use serde::{Deserialize, Serialize};

use crate::classifier::Classifier;
use crate::clean_set::CleanSet;
use crate::engine;
use crate::error::{Error, Result};
use crate::extent::Extent;
use crate::inversion::{Blueprint, Config, Inversion, Lane, Objective, Search, Shared, Step};
use crate::scan::{Job, Observer};
use crate::store::Store;
use crate::window::Window;

/// What the searches that wait for their next round may take of memory, in bytes, with their triggers and the state of
/// their optimisers. Where they would take more they are let go, and taken up again from their first step.
const MEMORY: usize = 1 << 30;

/// One class and how far its search has come.
#[derive(Serialize, Deserialize)]
pub struct Contender {
    /// The class.
    pub class: usize,
    /// The class whose images are to be sent there; `None` is all others.
    pub source: Option<usize>,
    /// 0, or the number of a further look at the class.
    pub look: u64,
    /// What the trigger is confined to; `None` is the whole image.
    pub window: Option<Window>,
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
    /// Whether it was taken up again after it had dropped out.
    again: bool,
    /// The rounds that were gone through; the norm at the end of each is in `norms`.
    rounds: Vec<Round>,
    /// What an earlier scan has kept of the rounds to come.
    #[serde(skip)]
    kept: Option<Box<Contender>>,
}

/// What a class had come to at the end of a round.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Round {
    /// The step that the round led to, at the most.
    to: usize,
    steps: usize,
    gradient_samples: u64,
    cross_entropy: f64,
}

/// Over how many steps the cross-entropy is averaged.
const RECENT: usize = 5;

impl Contender {
    /// A class before its first step.
    pub fn new(Job { class, look, window }: Job) -> Self {
        Contender {
            class,
            source: None,
            look,
            window,
            steps: 0,
            gradient_samples: 0,
            cross_entropy: f64::INFINITY,
            norms: Vec::new(),
            inversion: None,
            search: None,
            dropped: false,
            again: false,
            rounds: Vec::new(),
            kept: None,
        }
    }

    /// The class of `job`, and one whose images are to be sent there, before the first step.
    pub fn of_pair(source: usize, job: Job) -> Self {
        Contender { source: Some(source), ..Contender::new(job) }
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

    /// Takes part again, from the first step.
    pub fn start_again(&mut self) {
        self.dropped = false;
        self.again = true;
        self.norms.clear();
        self.rounds.clear();
    }

    /// What its search goes by on disk.
    fn name(&self) -> String {
        let way = self.source.map_or("class".to_owned(), |source| format!("pair_{source:03}"));
        let again = if self.again { "_again" } else { "" };
        format!("{way}_{:03}_look_{}{again}", self.class, self.look)
    }

    /// Whether the class has dropped out.
    pub fn is_dropped(&self) -> bool {
        self.dropped
    }

    /// Goes through the round to step `to` as an earlier scan did, and so to the same; `false` if that has not come so far.
    fn recall(&mut self, store: &Store, config: &Config, to: usize) -> bool {
        let round = self.rounds.len();
        if round == 0 {
            self.kept = store.load(&self.name()).map(Box::new);
        }
        let Some(mut kept) = self.kept.take_if(|kept| kept.rounds.get(round).is_some_and(|round| round.to == to))
        else {
            self.kept = None;
            return false;
        };
        if kept.rounds.len() == round + 1 {
            kept.search = kept.search.map(|search| search.resumed(config));
            *self = *kept;
        } else {
            let Round { steps, gradient_samples, cross_entropy, .. } = kept.rounds[round];
            self.rounds.push(kept.rounds[round]);
            self.norms.push(kept.norms.get(round).copied().flatten());
            (self.steps, self.gradient_samples, self.cross_entropy) = (steps, gradient_samples, cross_entropy);
            self.kept = Some(kept);
        }
        true
    }

    fn record(&mut self, search: Search, to: usize, before: u64, keep: bool) {
        self.steps = search.steps().len();
        self.gradient_samples += search.gradient_samples() - before;
        let recent = &search.steps()[self.steps.saturating_sub(RECENT)..];
        self.cross_entropy = recent.iter().map(|step| step.cross_entropy).sum::<f64>() / recent.len() as f64;
        self.norms.push(search.best().map(|trigger| trigger.norm_l1()));
        let Contender { steps, gradient_samples, cross_entropy, .. } = *self;
        self.rounds.push(Round { to, steps, gradient_samples, cross_entropy });
        if search.is_finished() {
            self.inversion = search.into_inversion();
        } else if keep {
            self.search = Some(search);
        }
    }
}

/// Runs searches, as many side by side as the classifier has threads, each with an objective of its own or a lane of one, so that
/// results cannot depend on the number of threads.
pub struct Searches<'a> {
    surroundings: Surroundings<'a>,
    objectives: Vec<Objective>,
    /// Of each objective.
    lanes: usize,
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
    /// Compiles the objectives for at most `classes` searches side by side, and no more than there is memory for.
    ///
    /// # Errors
    /// If the objective cannot be built or compiled, or would take more memory than the classifier may use.
    pub fn new(
        classifier: &'a Classifier,
        working: &'a CleanSet,
        config: &'a Config,
        observer: &'a dyn Observer,
        classes: usize,
    ) -> Result<Self> {
        let blueprint = Blueprint::new(classifier, config, working.labels.len())?;
        let room = classifier.room_for(blueprint.memory());
        let workers = classifier.threads().min(room).clamp(1, classes.div_ceil(blueprint.lanes()).max(1));
        let threads = (classifier.threads() / workers).max(1);
        let objective = |_| blueprint.objective(classifier, &**classifier.search_engine(), threads);
        let objectives = (0..workers).map(objective).collect::<Result<_>>()?;
        Ok(Searches {
            surroundings: Surroundings { classifier, working, config, observer },
            objectives,
            lanes: blueprint.lanes(),
            memory: MEMORY,
        })
    }

    /// Takes the searches of all `jobs` to their ends; the results are in the order of the jobs.
    ///
    /// # Errors
    /// As [`Searches::advance`] has them, and if what was kept of a search ends without a trigger.
    pub fn finish(&mut self, jobs: &[Job]) -> Result<Vec<Inversion>> {
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        let mut contenders: Vec<Contender> = jobs.iter().map(|&job| Contender::new(job)).collect();
        self.advance(contenders.iter_mut().collect(), self.surroundings.config.steps)?;
        // Whoever changes what is kept on disk can have a search end with nothing.
        let inversion = |contender: Contender| {
            let name = contender.name();
            contender.inversion.ok_or_else(|| {
                Error::Store(format!(
                    "what is kept of {name} ends without a trigger: remove it, or scan with --restart"
                ))
            })
        };
        contenders.into_iter().map(inversion).collect()
    }

    /// Takes the search of each of `contenders` to its step `steps`, or to its end.
    ///
    /// # Errors
    /// If there is no image outside a class, the engine fails, the model gives numbers that are not finite, or the observer
    /// breaks off.
    pub fn advance(&mut self, contenders: Vec<&mut Contender>, steps: usize) -> Result<()> {
        let Searches { surroundings, objectives, lanes, memory } = self;
        surroundings.observer.round_started(contenders.len(), steps);
        let size = Search::memory(surroundings.config, surroundings.classifier.image_shape());
        let keep = contenders.len().saturating_mul(size) <= *memory;
        let shared: Vec<Shared<'_>> = objectives.iter_mut().map(Shared::new).collect();
        let waiting = Waiting::new(contenders, *lanes);
        let work = &|lane: usize, objective: &mut Lane<'_>| -> Result<()> {
            while let Some(contender) = waiting.next(lane) {
                if let Err(error) = surroundings.advance(objective, contender, steps, keep) {
                    // The other workers finish what they have begun and take up nothing more.
                    waiting.clear();
                    return Err(error);
                }
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let mut handles = Vec::new();
            for (lane, mut objective) in shared.iter().flat_map(|shared| shared.lanes().into_iter().enumerate()) {
                let work = move || work(lane, &mut objective);
                let builder = Builder::new().stack_size(engine::STACK);
                handles.push(builder.spawn_scoped(scope, work).map_err(Error::Thread)?);
            }
            handles.into_iter().try_for_each(|handle| match handle.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })
    }
}

/// The contenders that no worker has taken up yet, by the lane in which they go, which is the same whatever else is searched for.
struct Waiting<'c>(Vec<Mutex<std::vec::IntoIter<&'c mut Contender>>>);

impl<'c> Waiting<'c> {
    fn new(contenders: Vec<&'c mut Contender>, lanes: usize) -> Self {
        let mut by_lane: Vec<Vec<&mut Contender>> = (0..lanes).map(|_| Vec::new()).collect();
        for contender in contenders {
            by_lane[(contender.source.unwrap_or(0) + contender.class) % lanes].push(contender);
        }
        Waiting(by_lane.into_iter().map(|contenders| Mutex::new(contenders.into_iter())).collect())
    }

    fn next(&self, lane: usize) -> Option<&'c mut Contender> {
        self.0[lane].lock().unwrap_or_else(PoisonError::into_inner).next()
    }

    fn clear(&self) {
        (0..self.0.len()).for_each(|lane| while self.next(lane).is_some() {});
    }
}

impl Surroundings<'_> {
    fn advance(&self, objective: &mut Lane<'_>, contender: &mut Contender, steps: usize, keep: bool) -> Result<()> {
        let (class, source, look) = (contender.class, contender.source, contender.look);
        let paused = || match source {
            Some(source) => self.observer.pair_paused(source, class),
            None => self.observer.class_paused(class, look),
        };
        let store = self.observer.store();
        if store.is_some_and(|store| contender.recall(store, self.config, steps)) {
            paused();
            return Ok(());
        }
        if source.is_none() {
            self.observer.class_started(class, look);
        }
        let mut search = match contender.search.take() {
            Some(search) => search,
            None => {
                let range = self.classifier.value_range();
                let search = Search::between(objective, self.working, self.config, range, source, class, look)?;
                match contender.window {
                    Some(window) => search.confined_to(window),
                    None => search,
                }
            }
        };
        let before = search.gradient_samples();
        let mut observe = |step: &Step| match source {
            Some(source) => self.observer.pair_step(source, class, step),
            None => self.observer.step(class, look, step),
        };
        search.advance(objective, self.working, steps, &mut observe)?;
        contender.record(search, steps, before, keep);
        if let Some(inversion) = contender.inversion.as_mut().filter(|inversion| inversion.converged) {
            let extent = Extent::measure(self.classifier, self.working, &inversion.trigger, source, class)?;
            inversion.extent = Some(extent);
        }
        if let Some(store) = store {
            store.save(&contender.name(), contender)?;
        }
        paused();
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
    use crate::store::Fingerprint;

    struct Keeping(Option<Store>);

    impl Observer for Keeping {
        fn store(&self) -> Option<&Store> {
            self.0.as_ref()
        }
    }

    fn surroundings() -> (Classifier, CleanSet, Config) {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/fmnist_badnets.onnx");
        let model = onnx_grad::Model::read(model).unwrap();
        let classifier = Classifier::new(model, ClassifierOptions::default(), Arc::new(Rten), 2).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let images = Array4::from_shape_simple_fn((40, 1, 28, 28), || rng.random_range(0.0..1.0));
        let working = CleanSet { images, labels: (0..40).map(|i| i % 10).collect() };
        (classifier, working, Config { steps: 6, ..Config::fast(Norm::L2, 28, 28) })
    }

    /// What three classes and two pairs come to in these rounds, and with how many gradient samples. The second pair drops out after the first
    /// round, and is taken up again after the last.
    fn run(memory: usize, rounds: &[usize], observer: &Keeping) -> (Vec<Inversion>, u64) {
        let (classifier, working, config) = surroundings();
        let mut searches = Searches::new(&classifier, &working, &config, observer, 3).unwrap();
        searches.memory = memory;
        let mut contenders: Vec<Contender> = [2, 5, 7].map(|class| Contender::new(Job::first(class))).into();
        contenders.extend([Contender::of_pair(2, Job::first(7)), Contender::of_pair(7, Job::first(2))]);
        for &steps in rounds {
            let in_the_race = contenders.iter_mut().filter(|contender| !contender.is_dropped()).collect();
            searches.advance(in_the_race, steps).unwrap();
            assert!(contenders.iter().all(|contender| contender.is_dropped() || contender.steps == steps));
            contenders[4].drop_out();
        }
        if rounds.ends_with(&[6]) {
            contenders[4].start_again();
            searches.advance(vec![&mut contenders[4]], 6).unwrap();
        }
        let spent: u64 = contenders.iter().map(|contender| contender.gradient_samples).sum();
        (contenders.into_iter().filter_map(|contender| contender.inversion).collect(), spent)
    }

    #[test]
    fn a_search_that_was_let_go_comes_to_the_same_when_it_is_taken_up_again() {
        let (at_once, spent) = run(MEMORY, &[6], &Keeping(None));
        // 16 images a step, and the 4 of a class.
        assert_eq!((at_once.len(), spent), (5, 3 * 6 * 16 + (6 + 6 + 6) * 4));
        assert_eq!(run(MEMORY, &[2, 3, 6], &Keeping(None)), (at_once.clone(), 3 * 6 * 16 + (6 + 2 + 6) * 4));
        let from_the_first_step = 2 + 3 + 6;
        let spent = 3 * from_the_first_step * 16 + (from_the_first_step + 2 + 6) * 4;
        assert_eq!(run(0, &[2, 3, 6], &Keeping(None)), (at_once, spent));
    }

    #[test]
    fn a_search_that_was_kept_on_disk_comes_to_the_same_with_the_same_count() {
        for memory in [MEMORY, 0] {
            let undisturbed = run(memory, &[2, 3, 6], &Keeping(None));
            for stopped_after in [&[2][..], &[2, 3], &[2, 3, 6]] {
                let folder = tempfile::tempdir().unwrap();
                let keeping = || Keeping(Some(Store::open(folder.path(), &Fingerprint::default(), false).unwrap()));
                run(memory, stopped_after, &keeping());
                // One of the classes had not come so far, and neither had one of the pairs.
                for search in ["class_005_look_0.search", "pair_002_007_look_0.search"] {
                    std::fs::remove_file(folder.path().join(search)).unwrap();
                }
                assert!(folder.path().join("pair_007_002_look_0.search").exists());
                assert_eq!(
                    folder.path().join("pair_007_002_look_0_again.search").exists(),
                    stopped_after.ends_with(&[6])
                );
                assert_eq!(run(memory, &[2, 3, 6], &keeping()), undisturbed, "{memory}, {stopped_after:?}");
            }
        }
    }

    #[test]
    fn a_search_that_is_kept_without_a_trigger_is_named_and_not_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let observer = Keeping(Some(Store::open(folder.path(), &Fingerprint::default(), false).unwrap()));
        let (classifier, working, config) = surroundings();
        let finish = |jobs: &[Job]| Searches::new(&classifier, &working, &config, &observer, 2)?.finish(jobs);
        let jobs = [Job::first(2), Job::first(5)];
        assert_eq!(finish(&jobs).unwrap().len(), 2);
        let store = observer.store().unwrap();
        let kept: Contender = store.load("class_002_look_0").unwrap();
        store.save("class_002_look_0", &Contender { inversion: None, ..kept }).unwrap();
        let problem = finish(&jobs).unwrap_err().to_string();
        assert!(problem.contains("class_002_look_0") && problem.contains("--restart"), "{problem}");
    }
}
