//! What a long scan and many scans leave behind in their process: nothing.
#![cfg(target_os = "linux")]

mod installed;

use std::fs;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use installed::engines;
use ndarray::Array4;
use neural_cleanse::data::Samples;
use neural_cleanse::engine::Engine;
use neural_cleanse::inversion::Step;
use neural_cleanse::scan::Observer;
use neural_cleanse::{Classifier, ClassifierOptions, Config, Model, ScanOptions, scan};
use onnx_grad::{ElementType, Graph, Tensor, ValueType};

/// What is counted is the process's: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

const BATCH: usize = 16;

/// After how many steps the memory is read.
const INTERVAL: usize = 10_000;

/// A linear model of 4x4 pixels and three classes, which look at a row each.
fn model() -> Vec<u8> {
    let weights: Vec<f64> = (0..16 * 3).map(|i| if i / 3 / 4 == i % 3 { 1.0 / 255.0 } else { 0.0 }).collect();
    let mut graph = Graph::new();
    graph.add_input("x", ValueType::new(ElementType::F32, [BATCH, 1, 4, 4])).unwrap();
    let shape = graph.constant(Tensor::ints(&[BATCH as i64, 16]));
    let flat = graph.apply("Reshape", &["x", &shape], ()).unwrap();
    let weights = graph.constant(Tensor::floats(ElementType::F32, [16, 3], &weights));
    let scores = graph.apply("MatMul", &[&flat, &weights], ()).unwrap();
    graph.set_outputs(&[&scores]).unwrap();
    graph.to_model_bytes("rows").unwrap()
}

fn samples() -> Samples {
    let images =
        Array4::from_shape_fn((48, 1, 4, 4), |(n, _, y, x)| if n % 3 == y { 200.0 } else { (n * x % 50) as f32 });
    let labels = Some((0..48).map(|n| n % 3).collect());
    Samples { images, labels, class_names: None, notes: Vec::new() }
}

/// A scan of one class for so many steps, of a model that is read and compiled for it.
fn scan_for(engine: &Arc<dyn Engine>, steps: usize, observer: &dyn Observer) {
    let model = Model::from_bytes(&model()).unwrap();
    let classifier = Classifier::new(model, ClassifierOptions::default(), engine.clone(), 2).unwrap();
    let config = Config { steps, early_stop: false, batch_size: BATCH, batches_per_step: Some(1), ..Config::default() };
    let options = ScanOptions { classes: Some(vec![0]), ..ScanOptions::new(config) };
    scan(&classifier, &samples(), &options, observer).unwrap();
}

/// What the process holds of memory, in KiB.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// The memory that is held at every [`INTERVAL`]-th step.
#[derive(Default)]
struct Memory {
    steps: Mutex<usize>,
    held: Mutex<Vec<u64>>,
}

impl Observer for Memory {
    fn step(&self, _class: usize, look: u64, _step: &Step) -> ControlFlow<()> {
        let mut steps = self.steps.lock().unwrap();
        *steps += usize::from(look == 0);
        if steps.is_multiple_of(INTERVAL) {
            self.held.lock().unwrap().push(resident());
        }
        ControlFlow::Continue(())
    }
}

#[test]
fn memory_stays_flat_over_a_hundred_thousand_steps() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for engine in engines() {
        let memory = Memory::default();
        scan_for(&engine, 10 * INTERVAL, &memory);
        let held = memory.held.into_inner().unwrap();
        eprintln!("{}: {held:?} KiB after every {INTERVAL} steps", engine.name());
        assert_eq!(held.len(), 10);
        // Engines fill their pools at first, for ten thousand steps and more where the machine is busy; what leaks goes on. The
        // figures of each step are kept: less than a hundred bytes.
        assert!(held[9] < held[7] + 2048, "{}: {held:?} KiB", engine.name());
    }
}

/// How many files are open and how many threads run.
fn held() -> (usize, usize) {
    let entries = |folder: &str| fs::read_dir(folder).unwrap().count();
    (entries("/proc/self/fd"), entries("/proc/self/task"))
}

/// The same once it is no more than `before`, or after a second: a thread that was waited for is listed for a moment more.
fn held_in_the_end(before: (usize, usize)) -> (usize, usize) {
    for _ in 0..100 {
        let now = held();
        if now.0 <= before.0 && now.1 <= before.1 {
            return now;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    held()
}

#[test]
fn many_scans_leave_no_file_open_and_no_thread_behind() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for engine in engines() {
        // What is made once in a process, such as pools of threads, is there after the first ones.
        (0..5).for_each(|_| scan_for(&engine, 3, &()));
        let before = held();
        // OpenVINO takes a second to compile the graphs of a scan.
        let more = if engine.name() == "openvino" { 10 } else { 100 };
        (0..more).for_each(|_| scan_for(&engine, 3, &()));
        let after = held_in_the_end(before);
        eprintln!("{}: {before:?} files and threads after five scans, {after:?} after {more} more", engine.name());
        assert!(after.0 <= before.0 && after.1 <= before.1, "{}: {before:?}, then {after:?}", engine.name());
    }
}
