use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use ndarray::{ArrayD, ArrayViewD};
use neural_cleanse::engine::{Engine, EngineError, Precision, Provider, Session};

/// An engine whose sessions count the time that they run.
pub struct Timed {
    engine: Arc<dyn Engine>,
    nanoseconds: Arc<AtomicU64>,
}

impl Timed {
    pub fn new(engine: Arc<dyn Engine>) -> Self {
        Timed { engine, nanoseconds: Arc::default() }
    }

    pub fn reset(&self) {
        self.nanoseconds.store(0, Ordering::Relaxed);
    }

    /// How long the sessions have run since the last reset, in all.
    pub fn seconds(&self) -> f64 {
        self.nanoseconds.load(Ordering::Relaxed) as f64 * 1e-9
    }
}

impl Engine for Timed {
    fn name(&self) -> &'static str {
        self.engine.name()
    }

    fn version(&self) -> String {
        self.engine.version()
    }

    fn with_precision(&self, precision: Precision) -> Result<Arc<dyn Engine>, EngineError> {
        let engine = self.engine.with_precision(precision)?;
        Ok(Arc::new(Timed { engine, nanoseconds: self.nanoseconds.clone() }))
    }

    fn with_provider(&self, provider: Provider) -> Result<Arc<dyn Engine>, EngineError> {
        let engine = self.engine.with_provider(provider)?;
        Ok(Arc::new(Timed { engine, nanoseconds: self.nanoseconds.clone() }))
    }

    fn compile(&self, model: &[u8], threads: usize) -> Result<Box<dyn Session>, EngineError> {
        let session = self.engine.compile(model, threads)?;
        Ok(Box::new(TimedSession { session, nanoseconds: self.nanoseconds.clone() }))
    }
}

struct TimedSession {
    session: Box<dyn Session>,
    nanoseconds: Arc<AtomicU64>,
}

impl Session for TimedSession {
    fn run(
        &mut self,
        inputs: &[(&str, ArrayViewD<'_, f32>)],
        outputs: &[&str],
    ) -> Result<Vec<ArrayD<f32>>, EngineError> {
        let started = Instant::now();
        let results = self.session.run(inputs, outputs);
        self.nanoseconds.fetch_add(started.elapsed().as_nanos() as u64, Ordering::Relaxed);
        results
    }
}
