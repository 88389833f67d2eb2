use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use neural_cleanse::Store;
use neural_cleanse::inversion::Step;
use neural_cleanse::scan::Observer;

use crate::Status;
use crate::limits::Time;
use crate::log;

/// The exit status of a command that was interrupted.
pub const INTERRUPTED: Status = 130;

/// Whether Ctrl-C was pressed, or the process asked to end in another way; the second time it ends at once.
#[derive(Clone)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Takes over Ctrl-C, which counts as not pressed so far.
    pub fn install() -> anyhow::Result<Self> {
        static INSTALLED: Mutex<Option<Interrupt>> = Mutex::new(None);
        let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
        let interrupt = match &*installed {
            Some(interrupt) => interrupt.clone(),
            None => {
                let interrupt = Interrupt(Arc::default());
                let handler = interrupt.clone();
                ctrlc::set_handler(move || {
                    if handler.0.swap(true, Ordering::Relaxed) {
                        std::process::exit(INTERRUPTED.into());
                    }
                })?;
                installed.insert(interrupt).clone()
            }
        };
        interrupt.0.store(false, Ordering::Relaxed);
        Ok(interrupt)
    }

    /// Whether Ctrl-C was pressed.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A bar for each class under way and one for the round; none where standard error is not a terminal. Ctrl-C ends the
/// scan.
pub struct Progress {
    bars: MultiProgress,
    round: ProgressBar,
    by_class: Mutex<HashMap<(usize, u64), ProgressBar>>,
    latest: Mutex<HashMap<(usize, u64), Step>>,
    steps: AtomicU64,
    interrupt: Interrupt,
    store: Option<Store>,
    time: Option<Time>,
    /// When the rounds of the classes under way began.
    began: Mutex<HashMap<(usize, u64), Instant>>,
    overrun: OnceLock<String>,
}

impl Progress {
    /// Progress of a scan before its first round, whose searches are kept in `store`, and which has so much time.
    pub fn new(interrupt: Interrupt, store: Option<Store>, time: Option<Time>) -> anyhow::Result<Self> {
        let bars = MultiProgress::with_draw_target(log::bars());
        let style = ProgressStyle::with_template("{msg:<28} [{bar:30}] {pos}/{len} classes, {elapsed}, {eta} left")?;
        let round = bars.add(ProgressBar::new(0).with_style(style).with_message("scan"));
        Ok(Progress {
            bars,
            round,
            by_class: Mutex::default(),
            latest: Mutex::default(),
            steps: AtomicU64::new(0),
            interrupt,
            store,
            time,
            began: Mutex::default(),
            overrun: OnceLock::new(),
        })
    }

    /// Takes the bars away, and gives back the searches, and what took too long if anything did.
    pub fn finish(self) -> (Option<Store>, Option<String>) {
        self.round.finish_and_clear();
        (self.store, self.overrun.into_inner())
    }

    /// Whether the step of a class is one too many.
    fn takes_too_long(&self, class: usize, look: u64) -> bool {
        // Pairs and margins have no time of their own, but share that of the scan.
        let began = self.began.lock().unwrap_or_else(PoisonError::into_inner).get(&(class, look)).copied();
        let since = began.unwrap_or_else(Instant::now);
        let overrun = self.time.as_ref().and_then(|time| time.overrun(class, since));
        overrun.map(|words| self.overrun.set(words)).is_some()
    }
}

impl Observer for Progress {
    fn store(&self) -> Option<&Store> {
        self.store.as_ref()
    }

    fn round_started(&self, classes: usize, steps: usize) {
        self.steps.store(steps as u64, Ordering::Relaxed);
        self.round.set_message(format!("to step {steps}"));
        self.round.set_length(classes as u64);
        self.round.set_position(0);
        self.round.reset_eta();
    }

    fn class_started(&self, class: usize, look: u64) {
        self.began.lock().unwrap_or_else(PoisonError::into_inner).insert((class, look), Instant::now());
        let message = if look == 0 { format!("class {class}") } else { format!("class {class}, look {}", look + 1) };
        let bar = ProgressBar::new(self.steps.load(Ordering::Relaxed)).with_prefix(message);
        let bar = self.bars.insert_before(&self.round, bar);
        if let Ok(style) = ProgressStyle::with_template("{prefix:<28} [{bar:30}] {pos}/{len} steps, {msg}") {
            bar.set_style(style);
        }
        self.by_class.lock().unwrap_or_else(PoisonError::into_inner).insert((class, look), bar);
    }

    fn step(&self, class: usize, look: u64, step: &Step) -> ControlFlow<()> {
        if let Some(bar) = self.by_class.lock().unwrap_or_else(PoisonError::into_inner).get(&(class, look)) {
            bar.set_message(format!("ASR {:.2}, norm {:.2}", step.attack_success_rate, step.norm));
            bar.set_position(step.step as u64);
        }
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).insert((class, look), *step);
        let stops = self.interrupt.is_set() || self.takes_too_long(class, look);
        if stops { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn pair_step(&self, _source: usize, target: usize, _step: &Step) -> ControlFlow<()> {
        self.margin_step(target)
    }

    fn pair_paused(&self, source: usize, target: usize) {
        tracing::debug!(source, target, "class {source} to {target}: done");
        self.round.inc(1);
    }

    fn margin_step(&self, class: usize) -> ControlFlow<()> {
        if self.interrupt.is_set() || self.takes_too_long(class, 0) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn class_paused(&self, class: usize, look: u64) {
        if let Some(step) = self.latest.lock().unwrap_or_else(PoisonError::into_inner).remove(&(class, look)) {
            let Step { step, attack_success_rate, norm, .. } = step;
            tracing::debug!(
                class,
                look,
                step,
                attack_success_rate,
                norm,
                "class {class}, look {}: step {step}, ASR {attack_success_rate:.2}, norm {norm:.2}",
                look + 1
            );
        }
        if let Some(bar) = self.by_class.lock().unwrap_or_else(PoisonError::into_inner).remove(&(class, look)) {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
        self.round.inc(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_round_counts_its_own_classes_and_leaves_no_bar_behind() {
        let progress = Progress::new(Interrupt(Arc::default()), None, None).unwrap();
        let step = Step { step: 20, cross_entropy: 0.1, attack_success_rate: 1.0, norm: 9.0, cost: 0.1 };
        for (classes, steps, look) in [(3, 20, 0), (2, 60, 0), (1, 60, 1)] {
            progress.round_started(classes, steps);
            assert_eq!((progress.round.position(), progress.round.length()), (0, Some(classes as u64)));
            assert_eq!(progress.round.message(), format!("to step {steps}"));
            for class in 0..classes {
                progress.class_started(class, look);
                assert!(progress.step(class, look, &step).is_continue());
                assert_eq!(progress.by_class.lock().unwrap()[&(class, look)].length(), Some(steps as u64));
                progress.class_paused(class, look);
            }
            assert_eq!(progress.round.position(), classes as u64);
            assert!(progress.by_class.lock().unwrap().is_empty());
        }
        progress.interrupt.0.store(true, Ordering::Relaxed);
        assert!(progress.step(0, 0, &step).is_break());
    }
}
