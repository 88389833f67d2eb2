//! What a scan spends beside its steps, and on one, for the fixtures: `cargo bench --package neural-cleanse-benches`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use divan::Bencher;
use ndarray::Array4;
use neural_cleanse::engine::{Engine, EngineChoice, Precision, select};
use neural_cleanse::inversion::{Config, Evaluate, Norm, Objective};
use neural_cleanse::{Classifier, ClassifierOptions, Model, Trigger};
use onnx_grad::{Graph, ImportOptions, differentiate, simplify};

const MODELS: [&str; 2] = ["fmnist_clean", "resnet_clean"];
const BATCH: usize = 32;

/// Engines and precisions; those that are not installed are left out.
const ENGINES: [(EngineChoice, Precision); 4] = [
    (EngineChoice::Rten, Precision::F32),
    (EngineChoice::OnnxRuntime, Precision::F32),
    (EngineChoice::OpenVino, Precision::F32),
    (EngineChoice::OpenVino, Precision::Bf16),
];

fn main() {
    divan::main();
}

fn path(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../fixtures/{model}.onnx"))
}

fn read(model: &str) -> Model {
    Model::read(path(model)).expect("a fixture")
}

fn import(model: &Model) -> Graph {
    let options = ImportOptions { batch: BATCH, input_shapes: BTreeMap::new(), fold_weights: true };
    Graph::import(model, &options).expect("a graph")
}

fn engine((choice, precision): (EngineChoice, Precision)) -> Option<Arc<dyn Engine>> {
    select(choice, None).ok()?.engine.with_precision(precision).ok()
}

fn classifier(model: &str, engine: Arc<dyn Engine>) -> Classifier {
    Classifier::new(read(model), ClassifierOptions::default(), engine, 1).expect("a classifier")
}

fn config() -> Config {
    Config { batch_size: BATCH, ..Config::fast(Norm::L2, 28, 28) }
}

#[divan::bench(args = MODELS)]
fn read_and_import(model: &str) -> Graph {
    import(&read(model))
}

#[divan::bench(args = MODELS)]
fn simplified(bencher: Bencher, model: &str) {
    let model = read(model);
    bencher.with_inputs(|| import(&model)).bench_values(|graph| simplify(graph).expect("a simpler graph"));
}

#[divan::bench(args = MODELS)]
fn differentiated(bencher: Bencher, model: &str) {
    let graph = simplify(import(&read(model))).expect("a simpler graph");
    let (output, input) = (graph.outputs()[0].clone(), graph.inputs()[0].clone());
    bencher.bench(|| differentiate(&graph, &[&output], &[&input]).expect("gradients"));
}

#[divan::bench(args = cases())]
fn compiled(bencher: Bencher, case: &Case) {
    let Some(engine) = engine(case.engine) else { return };
    let classifier = classifier(case.model, engine);
    bencher.bench_local(|| Objective::new(&classifier, &config(), BATCH, 1).expect("an objective"));
}

#[divan::bench(args = cases())]
fn step(bencher: Bencher, case: &Case) {
    let Some(engine) = engine(case.engine) else { return };
    let classifier = classifier(case.model, engine);
    let mut objective = Objective::new(&classifier, &config(), BATCH, 1).expect("an objective");
    let images =
        Array4::from_shape_fn((BATCH, 1, 28, 28), |(n, _, y, x)| ((n * 7919 + y * 1299 + x * 31) % 256) as f32);
    let rows: Vec<usize> = (0..BATCH).collect();
    let mask = ndarray::Array3::from_elem((1, 28, 28), 0.1);
    let trigger = Trigger::new(mask.clone(), mask.mapv(|m: f32| 1000.0 * m)).unwrap();
    bencher.bench_local(|| objective.evaluate(images.view(), &rows, &trigger, 3).expect("an evaluation"));
}

struct Case {
    model: &'static str,
    engine: (EngineChoice, Precision),
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {} {}", self.model, self.engine.0, self.engine.1)
    }
}

fn cases() -> impl Iterator<Item = Case> {
    MODELS.into_iter().flat_map(|model| ENGINES.map(|engine| Case { model, engine }))
}
