//! Classes that share a batch come to what each comes to alone.

mod installed;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ndarray::{Array, Dimension};
use neural_cleanse::data::{self, Picked, Samples, Wanted};
use neural_cleanse::engine::{Engine, Rten};
use neural_cleanse::inversion::{Evaluate, Objective, Step, TriggerKind};
use neural_cleanse::scan::{ClassScan, Observer};
use neural_cleanse::{
    Classifier, ClassifierOptions, Config, Error, Model, Norm, Preprocessing, Scan, ScanOptions, scan,
};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn classifier(engine: Arc<dyn Engine>, threads: usize, max_memory: Option<u64>) -> Classifier {
    let preprocessing = Preprocessing { scale: 1.0 / 255.0, mean: vec![0.2860], std: vec![0.3530] };
    let options = ClassifierOptions { preprocessing, max_memory, ..ClassifierOptions::default() };
    Classifier::new(Model::read(fixtures().join("fmnist_badnets.onnx")).unwrap(), options, engine, threads).unwrap()
}

fn samples() -> Samples {
    let wanted = Wanted { at_most: Some(Picked { samples: 200, seed: 0 }), ..Wanted::new(1, 28, 28) };
    data::load(&fixtures().join("fashion-mnist-400.npz"), None, &wanted).unwrap()
}

fn sharing(classes_per_batch: usize) -> Config {
    Config { classes_per_batch, ..Config::fast(Norm::L2, 28, 28) }
}

fn scanned(engine: Arc<dyn Engine>, threads: usize, classes_per_batch: usize) -> Scan {
    let options = ScanOptions { exhaustive: true, ..ScanOptions::new(sharing(classes_per_batch)) };
    scan(&classifier(engine, threads, None), &samples(), &options, &()).unwrap()
}

#[test]
fn a_scan_of_classes_that_share_batches_comes_to_the_same() {
    for engine in installed::engines() {
        let alone = scanned(Arc::clone(&engine), 2, 1);
        let shared = scanned(Arc::clone(&engine), 2, 4);
        assert_eq!(shared.flagged_classes, [7], "{}: {}", engine.name(), shared.detection.reason);
        assert_eq!(shared.gradient_samples, alone.gradient_samples, "{}", engine.name());
        for (shared, alone) in shared.classes.iter().zip(&alone.classes) {
            let first = |class: &ClassScan| class.inversion.steps[..5].to_vec();
            for (shared, alone) in first(shared).iter().zip(first(alone)) {
                let apart = (shared.cross_entropy / alone.cross_entropy - 1.0).abs();
                assert!(apart < 1e-3, "{}: {shared:?} is not {alone:?}", engine.name());
            }
            // Sixty steps make more of what was a difference in rounding.
            let apart = (shared.norm_l1 / alone.norm_l1 - 1.0).abs();
            assert!(apart < 0.1, "{}: {} is not {}", engine.name(), shared.norm_l1, alone.norm_l1);
        }
    }
}

#[test]
fn neither_threads_nor_the_choice_of_classes_change_a_bit() {
    let scanned = |threads, classes| {
        let config = Config { steps: 25, ..sharing(4) };
        let options = ScanOptions { classes, exhaustive: true, ..ScanOptions::new(config) };
        scan(&classifier(Arc::new(Rten), threads, None), &samples(), &options, &()).unwrap()
    };
    let whole = scanned(1, None);
    assert_eq!(scanned(3, None), whole);
    let few = scanned(2, Some(vec![2, 7, 8]));
    let inversions = |scan: &Scan| -> Vec<_> { scan.classes.iter().map(|class| class.inversion.clone()).collect() };
    let all = inversions(&whole);
    assert_eq!(inversions(&few), [2, 7, 8].map(|class| all[class].clone()));
}

fn largest_difference<D: Dimension>(one: &Array<f32, D>, other: &Array<f32, D>) -> f32 {
    (one - other).iter().fold(0.0, |largest, difference| difference.abs().max(largest))
}

#[test]
fn each_kind_of_trigger_has_the_same_gradients_in_a_shared_batch() {
    let (classifier, samples) = (classifier(Arc::new(Rten), 1, None), samples());
    let rows: Vec<usize> = (0..16).collect();
    let trigger = scanned(Arc::new(Rten), 2, 1).classes[3].inversion.trigger.clone();
    for kind in [TriggerKind::Blended, TriggerKind::Additive] {
        let evaluated = |classes_per_batch| {
            let config = Config { trigger: kind, ..sharing(classes_per_batch) };
            let mut objective = Objective::new(&classifier, &config, 200, 1).unwrap();
            assert_eq!((objective.lanes(), objective.batch()), (classes_per_batch, 16));
            objective.evaluate(samples.images.view(), &rows, &trigger, 3).unwrap()
        };
        let (alone, shared) = (evaluated(1), evaluated(3));
        assert!((alone.cross_entropy - shared.cross_entropy).abs() < 1e-5 * alone.cross_entropy, "{kind:?}");
        assert!(largest_difference(&alone.logits, &shared.logits) < 1e-4, "{kind:?}");
        assert!(largest_difference(&alone.pattern_gradient, &shared.pattern_gradient) < 1e-5, "{kind:?}");
        let masks = alone.mask_gradient.zip(shared.mask_gradient);
        assert_eq!(masks.is_some(), kind == TriggerKind::Blended);
        assert!(masks.is_none_or(|(alone, shared)| largest_difference(&alone, &shared) < 1e-4), "{kind:?}");
    }
}

#[test]
fn as_many_classes_share_a_batch_as_there_is_memory_for() {
    let lanes = |max_memory| {
        let classifier = classifier(Arc::new(Rten), 1, max_memory);
        Objective::new(&classifier, &sharing(16), 200, 1).map(|objective| objective.lanes())
    };
    assert_eq!(lanes(None).unwrap(), 16);
    let fewer = (10..30).map(|mebibytes| lanes(Some(mebibytes << 20)).unwrap_or(0)).collect::<Vec<_>>();
    assert!(fewer.is_sorted() && fewer.iter().any(|lanes| (1..16).contains(lanes)), "{fewer:?}");
}

/// Breaks off in the middle of a search, while others wait for theirs to go on.
struct Impatient(AtomicUsize);

impl Observer for Impatient {
    fn step(&self, _: usize, _: u64, _: &Step) -> ControlFlow<()> {
        if self.0.fetch_add(1, Ordering::Relaxed) == 25 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

#[test]
fn a_search_that_is_broken_off_lets_the_others_go() {
    let options = ScanOptions::new(sharing(4));
    let error = scan(&classifier(Arc::new(Rten), 2, None), &samples(), &options, &Impatient(AtomicUsize::new(0)));
    assert!(matches!(error, Err(Error::Interrupted)), "{error:?}");
}
