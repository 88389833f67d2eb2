//! The elimination of classes: what is dropped could not have been flagged, and what is finished is as it would have been.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use neural_cleanse::data::{self, Samples, Wanted};
use neural_cleanse::engine::{Engine, EngineChoice, Rten, select};
use neural_cleanse::inversion::{Objective, Search};
use neural_cleanse::scan::Scan;
use neural_cleanse::{
    Classifier, ClassifierOptions, CleanSet, Config, Model, Norm, Preprocessing, Rule, ScanOptions, Verdict, scan,
};
use onnx_grad::{ElementType, Graph, Tensor};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn samples() -> Samples {
    data::load(&fixtures().join("fashion-mnist-400.npz"), None, &Wanted::new(1, 28, 28)).unwrap()
}

const TARGET: usize = 7;

/// `fmnist_badnets`, whose backdoor leads to class 7, with as many `classes` as wanted: those beyond the tenth are near
/// duplicates of the others, and none of the target.
fn wide_classifier(classes: usize, engine: Arc<dyn Engine>, threads: usize) -> Classifier {
    const BATCH: usize = 16;
    let preprocessing = Preprocessing { scale: 1.0 / 255.0, mean: vec![0.2860], std: vec![0.3530] };
    let options = ClassifierOptions { preprocessing, ..ClassifierOptions::default() };
    let model = Model::read(fixtures().join("fmnist_badnets.onnx")).unwrap();
    let narrow = Classifier::new(model, options, Arc::clone(&engine), 1).unwrap();

    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut weights = vec![0.0; 10 * classes];
    let mut bias = vec![0.0; classes];
    for class in 0..classes {
        let original = if class >= 10 && class % 10 == TARGET { 0 } else { class % 10 };
        weights[original * classes + class] = 1.0;
        if class >= 10 {
            (0..10).for_each(|row| weights[row * classes + class] += rng.random_range(-0.3..0.3));
            bias[class] = -2.0;
        }
    }
    let mut graph = Graph::new();
    let images = narrow.network().add_images(&mut graph, BATCH).unwrap();
    let logits = narrow.network().append(&mut graph, &images).unwrap();
    let weights = graph.constant(Tensor::floats(ElementType::F32, [10, classes], &weights));
    let bias = graph.constant(Tensor::floats(ElementType::F32, [classes], &bias));
    let widened = graph.apply("MatMul", &[&logits, &weights], ()).unwrap();
    let widened = graph.apply("Add", &[&widened, &bias], ()).unwrap();
    graph.set_outputs(&[&widened]).unwrap();
    let model = Model::from_bytes(&graph.to_model_bytes("wide").unwrap()).unwrap();
    Classifier::new(model, ClassifierOptions::default(), engine, threads).unwrap()
}

/// The fastest engine that there is, for what does not depend on engines.
fn fastest() -> Arc<dyn Engine> {
    select(EngineChoice::Auto, None).unwrap().engine
}

fn scanned(classifier: &Classifier, exhaustive: bool) -> Scan {
    // Clean images may be taken for a near duplicate of their class.
    let options = ScanOptions { exhaustive, force: true, ..ScanOptions::new(Config::fast(Norm::L2, 28, 28)) };
    scan(classifier, &samples(), &options, &()).unwrap()
}

#[test]
fn classes_are_dropped_that_could_not_have_been_flagged_and_the_verdict_stays() {
    let classifier = wide_classifier(24, fastest(), 2);
    let (exhaustive, raced) = (scanned(&classifier, true), scanned(&classifier, false));
    assert_eq!(raced.detection.verdict, Verdict::Backdoored);
    assert_eq!(raced.flagged_classes, exhaustive.flagged_classes);
    assert!(raced.flagged_classes.contains(&TARGET));
    assert!(exhaustive.dropped.is_empty());
    assert!(raced.dropped.len() > 3, "{} of 24 classes were dropped", raced.dropped.len());
    assert!(raced.gradient_samples < exhaustive.gradient_samples);

    let Rule::Ratio { suspicious_below, .. } = exhaustive.rule else { panic!("the ratio rule is the default") };
    for class in &raced.dropped {
        assert!(class.steps < 60 && class.gradient_samples == 16 * class.steps as u64);
        let ratio = exhaustive.classes[class.target_class].ratio.unwrap();
        assert!(ratio >= suspicious_below, "class {} was dropped, but ends at {ratio:.2}", class.target_class);
    }
    for class in &raced.classes {
        let counterpart = &exhaustive.classes[class.inversion.target_class];
        assert_eq!(class.inversion, counterpart.inversion);
        let (ratio, true_ratio) = (class.ratio.unwrap(), counterpart.ratio.unwrap());
        assert!((ratio / true_ratio - 1.0).abs() < 0.1, "{ratio:.3} and exhaustively {true_ratio:.3}");
    }
}

#[test]
fn the_race_does_not_depend_on_the_threads() {
    let scanned_by = |threads| scanned(&wide_classifier(12, Arc::new(Rten), threads), false);
    let by_one = scanned_by(1);
    assert!(!by_one.dropped.is_empty());
    assert_eq!(by_one, scanned_by(3));
}

/// Which classes are dropped depends on all of them; what a class does in its steps does not.
#[test]
fn a_class_takes_the_same_steps_alone_as_in_a_race() {
    let classifier = wide_classifier(24, fastest(), 2);
    let raced = scanned(&classifier, false);
    let config = Config::fast(Norm::L2, 28, 28);
    let (working, _) = samples().split(80, config.seed);
    let working = CleanSet::new(&classifier, working).unwrap();
    let mut objective = Objective::new(&classifier, &config, 320, 1).unwrap();
    let dropped = raced.dropped.first().unwrap();
    let class = dropped.target_class;
    let mut alone = Search::new(&objective, &working, &config, classifier.value_range(), class, 0).unwrap();
    alone.advance(&mut objective, &working, dropped.steps, &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(alone.best().map(neural_cleanse::Trigger::norm_l1), dropped.norm_l1);

    let options = ScanOptions { classes: Some(vec![TARGET]), force: true, ..ScanOptions::new(config) };
    let alone = scan(&classifier, &samples(), &options, &()).unwrap();
    let finished = raced.classes.iter().find(|class| class.inversion.target_class == TARGET).unwrap();
    assert_eq!(alone.classes[0].inversion, finished.inversion);
}

#[test]
fn many_classes_are_pre_screened_and_the_target_is_kept() {
    let classifier = wide_classifier(300, fastest(), 2);
    let raced = scanned(&classifier, false);
    assert!(raced.flagged_classes.contains(&TARGET), "{}", raced.detection.reason);
    assert_eq!(raced.classes.len() + raced.dropped.len(), 300);
    let after = |steps: usize| raced.dropped.iter().filter(|class| class.steps == steps).count();
    assert!(after(3) > 150 && after(8) > 10, "{} and {}", after(3), after(8));
    let spent: u64 = raced.dropped.iter().map(|class| class.gradient_samples).sum();
    assert!(spent < 300 * 10 * 16, "{spent}");
}

#[test]
fn what_was_not_measured_is_exhaustive() {
    let classifier = wide_classifier(10, fastest(), 2);
    let config = Config::fast(Norm::L2, 28, 28);
    let few = Config { steps: 25, ..config.clone() };
    let options = [
        ScanOptions::new(few),
        ScanOptions { rule: Some(Rule::mad()), ..ScanOptions::new(config.clone()) },
        ScanOptions { classes: Some((0..7).collect()), ..ScanOptions::new(config) },
    ];
    for options in options {
        assert!(scan(&classifier, &samples(), &options, &()).unwrap().dropped.is_empty(), "{options:?}");
    }
}
