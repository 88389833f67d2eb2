use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use neural_cleanse::inversion::{Inversion, Step};
use neural_cleanse::scan::Observer;

/// Whether Ctrl-C was pressed.
#[derive(Clone)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Takes over Ctrl-C; once in a process.
    pub fn install() -> anyhow::Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        let handler = flag.clone();
        ctrlc::set_handler(move || handler.store(true, Ordering::Relaxed))?;
        Ok(Interrupt(flag))
    }

    /// Whether Ctrl-C was pressed.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A bar for each class under way and one for all; none where standard error is not a terminal. Ctrl-C ends
/// the scan.
pub struct Progress {
    bars: MultiProgress,
    overall: ProgressBar,
    by_class: Mutex<HashMap<(usize, u64), ProgressBar>>,
    steps: u64,
    interrupt: Interrupt,
}

impl Progress {
    /// Progress of a scan of `classes` classes, of at most `steps` steps each.
    pub fn new(classes: usize, steps: usize, interrupt: Interrupt) -> anyhow::Result<Self> {
        let bars = MultiProgress::new();
        let style = ProgressStyle::with_template("{msg:<28} [{bar:30}] {pos}/{len} classes, {elapsed}, {eta} left")?;
        let overall = bars.add(ProgressBar::new(classes as u64).with_style(style).with_message("scan"));
        overall.tick();
        Ok(Progress { bars, overall, by_class: Mutex::default(), steps: steps as u64, interrupt })
    }

    /// Takes the bars away.
    pub fn finish(&self) {
        self.overall.finish_and_clear();
    }
}

impl Observer for Progress {
    fn class_started(&self, class: usize, look: u64) {
        let message = if look == 0 { format!("class {class}") } else { format!("class {class}, look {}", look + 1) };
        let bar = self.bars.insert_before(&self.overall, ProgressBar::new(self.steps).with_message(message));
        if let Ok(style) = ProgressStyle::with_template("{prefix:<28} [{bar:30}] {pos}/{len} steps, {msg}") {
            bar.set_style(style);
        }
        bar.set_prefix(bar.message());
        if look > 0 {
            self.overall.inc_length(1);
        }
        self.by_class.lock().unwrap_or_else(PoisonError::into_inner).insert((class, look), bar);
    }

    fn step(&self, class: usize, look: u64, step: &Step) -> ControlFlow<()> {
        if let Some(bar) = self.by_class.lock().unwrap_or_else(PoisonError::into_inner).get(&(class, look)) {
            bar.set_message(format!("ASR {:.2}, norm {:.2}", step.attack_success_rate, step.norm));
            bar.set_position(step.step as u64);
        }
        if self.interrupt.is_set() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn class_finished(&self, inversion: &Inversion, look: u64) {
        let bar = self.by_class.lock().unwrap_or_else(PoisonError::into_inner).remove(&(inversion.target_class, look));
        if let Some(bar) = bar {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
        self.overall.inc(1);
    }
}
