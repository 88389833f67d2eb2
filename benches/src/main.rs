//! Takes steps of the inversion, and times them, when told to: for `scripts/bench_peers.py`, which lets several such
//! programs and PyTorch take turns.
//!
//! Each line of standard input is a number of steps; each line of standard output says, as JSON, what they took.

mod engine;
mod fma;

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use ndarray::Array4;
use neural_cleanse::engine::{EngineChoice, Precision, select};
use neural_cleanse::inversion::{Config, Norm, Objective, invert};
use neural_cleanse::{Classifier, ClassifierOptions, CleanSet, Model};

use engine::Timed;

#[derive(Parser)]
struct Arguments {
    /// The classifier; without one, fused multiply-adds are counted
    model: Option<PathBuf>,

    #[arg(long, default_value = "auto")]
    engine: EngineChoice,

    #[arg(long)]
    engine_library: Option<PathBuf>,

    #[arg(long, default_value = "f32")]
    precision: Precision,

    /// The number of images in a minibatch
    #[arg(long, default_value_t = 32)]
    batch: usize,

    /// Classes that are inverted side by side
    #[arg(long, default_value_t = 1)]
    sessions: usize,

    /// Threads of each of them
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut take = match &arguments.model {
        None => fma_rounds(arguments.threads),
        Some(model) => step_rounds(&arguments, model.clone())?,
    };
    for line in std::io::stdin().lock().lines() {
        let report = take(line?.trim().parse()?)?;
        let mut stdout = std::io::stdout().lock();
        serde_json::to_writer(&mut stdout, &report)?;
        writeln!(stdout)?;
        stdout.flush()?;
    }
    Ok(())
}

type Rounds = Box<dyn FnMut(usize) -> anyhow::Result<serde_json::Value>>;

/// Rounds of `n` milliseconds of nothing but fused multiply-adds.
fn fma_rounds(threads: usize) -> Rounds {
    Box::new(move |milliseconds| {
        let gflops = fma::gflops(threads, Duration::from_millis(milliseconds as u64));
        Ok(serde_json::json!({ "gflops": gflops }))
    })
}

/// Rounds of `n` steps in each of the sessions.
fn step_rounds(arguments: &Arguments, model: PathBuf) -> anyhow::Result<Rounds> {
    let selected = select(arguments.engine, arguments.engine_library.as_deref())?;
    let engine = Arc::new(Timed::new(selected.engine.with_precision(arguments.precision)?));
    let options = ClassifierOptions::default();
    let classifier = Classifier::new(Model::read(model)?, options, engine.clone(), arguments.threads)?;
    let [channels, height, width] = classifier.image_shape();
    let images = Array4::from_shape_fn((arguments.batch, channels, height, width), |(n, c, y, x)| {
        ((n * 7919 + c * 104_729 + y * 1299 + x * 31) % 256) as f32
    });
    // Labels outside the targets, so that every image takes part in every step.
    let labels = vec![classifier.classes() - 1; arguments.batch];
    let clean = CleanSet { images, labels };
    let config = Config { batch_size: arguments.batch, ..Config::fast(Norm::L2, height, width) };
    let objectives = (0..arguments.sessions)
        .map(|_| Objective::new(&classifier, &config, arguments.batch, arguments.threads))
        .collect::<Result<Vec<_>, _>>()?;
    let mut objectives = objectives;
    let range = classifier.value_range();
    Ok(Box::new(move |steps| {
        engine.reset();
        let config = Config { steps, ..config.clone() };
        let started = Instant::now();
        std::thread::scope(|scope| {
            let running = objectives.iter_mut().enumerate().map(|(target, objective)| {
                let (clean, config) = (&clean, &config);
                scope.spawn(move || {
                    invert(objective, clean, config, range, target, 0, &mut |_| std::ops::ControlFlow::Continue(()))
                })
            });
            let running: Vec<_> = running.collect();
            running.into_iter().try_for_each(|thread| thread.join().expect("no panic").map(drop))
        })?;
        let wall = started.elapsed().as_secs_f64();
        let sessions = objectives.len() as f64;
        Ok(serde_json::json!({
            "ms": 1e3 * wall / (steps as f64 * sessions),
            "beside_engine": 1.0 - engine.seconds() / (wall * sessions),
        }))
    }))
}
