use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use neural_cleanse::inversion::Step;
use neural_cleanse::mitigation::Mitigation;
use neural_cleanse::scan::Observer;
use pyo3::prelude::*;

/// How often the caller's thread looks whether Ctrl-C was pressed.
const LOOK: Duration = Duration::from_millis(50);

/// What Python is told of.
pub enum Event {
    Round { classes: usize, steps: usize },
    Started { class: usize, look: u64 },
    Step { class: usize, look: u64, step: Step },
    Paused { class: usize, look: u64 },
    Repairing { method: &'static str, share: f64 },
}

impl Event {
    /// `watch("round", classes, steps)`, `("started", class, look)`, `("step", class, look, step, ASR, norm)`,
    /// `("paused", class, look)` or `("repairing", method, share)`.
    fn tell(&self, watch: &Bound<'_, PyAny>) -> PyResult<()> {
        match *self {
            Event::Round { classes, steps } => watch.call1(("round", classes, steps)),
            Event::Started { class, look } => watch.call1(("started", class, look)),
            Event::Step { class, look, step } => {
                watch.call1(("step", class, look, step.step, step.attack_success_rate, step.norm))
            }
            Event::Paused { class, look } => watch.call1(("paused", class, look)),
            Event::Repairing { method, share } => watch.call1(("repairing", method, share)),
        }?;
        Ok(())
    }
}

/// Stands between work on threads of its own and the Python thread that waits for it.
pub struct Supervisor {
    stop: AtomicBool,
    events: Option<Sender<Event>>,
}

impl Supervisor {
    fn tell(&self, event: Event) -> ControlFlow<()> {
        if let Some(events) = &self.events {
            // The receiver lives until the work is done.
            let _ = events.send(event);
        }
        self.go_on()
    }

    /// Whether the work is to go on.
    fn go_on(&self) -> ControlFlow<()> {
        if self.stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// That `method` is done by `share`, 0..=1.
    pub fn repairing(&self, method: &Mitigation, share: f64) -> ControlFlow<()> {
        self.tell(Event::Repairing { method: method.name(), share })
    }

    /// That the inversion of `class` took a step.
    pub fn stepped(&self, class: usize, step: &Step) -> ControlFlow<()> {
        self.tell(Event::Step { class, look: 0, step: *step })
    }
}

impl Observer for Supervisor {
    fn round_started(&self, classes: usize, steps: usize) {
        let _ = self.tell(Event::Round { classes, steps });
    }

    fn class_started(&self, class: usize, look: u64) {
        let _ = self.tell(Event::Started { class, look });
    }

    fn step(&self, class: usize, look: u64, step: &Step) -> ControlFlow<()> {
        self.tell(Event::Step { class, look, step: *step })
    }

    fn class_paused(&self, class: usize, look: u64) {
        let _ = self.tell(Event::Paused { class, look });
    }

    fn pair_paused(&self, _source: usize, target: usize) {
        let _ = self.tell(Event::Paused { class: target, look: 0 });
    }

    fn margin_step(&self, _class: usize) -> ControlFlow<()> {
        self.go_on()
    }
}

/// Does `work` on another thread while this one tells `watch` of it and listens for Ctrl-C.
///
/// # Errors
/// What `watch` or a signal's handler raises, after the work has been told to stop and has stopped.
pub fn supervised<T: Send>(
    py: Python<'_>,
    watch: Option<&Bound<'_, PyAny>>,
    work: impl FnOnce(&Supervisor) -> T + Send,
) -> PyResult<T> {
    let (sender, events) = mpsc::channel();
    let supervisor = Supervisor { stop: AtomicBool::new(false), events: watch.map(|_| sender) };
    let caller = thread::current();
    thread::scope(|scope| {
        let supervisor = &supervisor;
        let worker = scope.spawn(move || {
            let result = work(supervisor);
            caller.unpark();
            result
        });
        let mut raised = None;
        loop {
            let ended = worker.is_finished();
            let heard = events.try_iter().try_for_each(|event| match watch {
                Some(watch) if raised.is_none() => event.tell(watch),
                _ => Ok(()),
            });
            if let Err(error) = heard.and_then(|()| py.check_signals()) {
                supervisor.stop.store(true, Ordering::Relaxed);
                raised.get_or_insert(error);
            }
            if ended {
                break;
            }
            py.detach(|| thread::park_timeout(LOOK));
        }
        let result = match worker.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        match raised {
            Some(error) => Err(error),
            None => Ok(result),
        }
    })
}
