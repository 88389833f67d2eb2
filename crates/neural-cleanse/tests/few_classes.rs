//! Models of two to four classes: they are judged by a rule of their own, and never silently clean.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ndarray::Axis;
use neural_cleanse::data::{self, Samples, Wanted};
use neural_cleanse::engine::{EngineChoice, select};
use neural_cleanse::scan::ClassScan;
use neural_cleanse::{
    Attack, Classifier, ClassifierOptions, Config, Model, Norm, Preprocessing, Scan, ScanOptions, Verdict, scan,
};
use onnx_grad::{ElementType, Graph, Tensor};

const BATCH: usize = 16;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

/// `model` with the scores of `classes` alone. With a `trigger`, white pixels at the top left lead to the first of them.
fn narrowed(model: &str, classes: &[usize], trigger: bool) -> Classifier {
    let preprocessing = Preprocessing { scale: 1.0 / 255.0, mean: vec![0.2860], std: vec![0.3530] };
    let options = ClassifierOptions { preprocessing, ..ClassifierOptions::default() };
    let model = Model::read(fixtures().join(format!("{model}.onnx"))).unwrap();
    let engine = select(EngineChoice::Auto, None).unwrap().engine;
    let whole = Classifier::new(model, options, Arc::clone(&engine), 1).unwrap();
    let n = classes.len();
    let mut choice = vec![0.0; 10 * n];
    classes.iter().enumerate().for_each(|(i, class)| choice[class * n + i] = 1.0);
    // On the first class's score: 0.1 for each step of brightness of the two by two pixels in the corner, and of no others.
    let mut corner = vec![0.0; 784 * n];
    [0, 1, 28, 29].iter().for_each(|pixel| corner[pixel * n] = 0.1);

    let mut graph = Graph::new();
    let images = whole.network().add_images(&mut graph, BATCH).unwrap();
    let logits = whole.network().append(&mut graph, &images).unwrap();
    let choice = graph.constant(Tensor::floats(ElementType::F32, [10, n], &choice));
    let mut scores = graph.apply("MatMul", &[&logits, &choice], ()).unwrap();
    if trigger {
        let shape = graph.constant(Tensor::ints(&[BATCH as i64, 784]));
        let flat = graph.apply("Reshape", &[&images, &shape], ()).unwrap();
        let corner = graph.constant(Tensor::floats(ElementType::F32, [784, n], &corner));
        let extra = graph.apply("MatMul", &[&flat, &corner], ()).unwrap();
        scores = graph.apply("Add", &[&scores, &extra], ()).unwrap();
    }
    graph.set_outputs(&[&scores]).unwrap();
    let model = Model::from_bytes(&graph.to_model_bytes("few").unwrap()).unwrap();
    Classifier::new(model, ClassifierOptions::default(), engine, 2).unwrap()
}

fn samples_of(classes: &[usize]) -> Samples {
    let samples = data::load(&fixtures().join("fashion-mnist-400.npz"), None, &Wanted::new(1, 28, 28)).unwrap();
    let labels = samples.labels.clone().unwrap();
    let rows: Vec<usize> = (0..labels.len()).filter(|&row| classes.contains(&labels[row])).collect();
    let label = |&row: &usize| classes.iter().position(|class| *class == labels[row]).unwrap();
    Samples { images: samples.images.select(Axis(0), &rows), labels: Some(rows.iter().map(label).collect()), ..samples }
}

fn scanned(model: &str, classes: &[usize], trigger: bool) -> Scan {
    let options = ScanOptions::new(Config::fast(Norm::L2, 28, 28));
    scan(&narrowed(model, classes, trigger), &samples_of(classes), &options, &()).unwrap()
}

#[test]
fn a_tiny_trigger_is_found_among_two_and_three_classes() {
    for classes in [&[4, 1][..], &[3, 7, 8]] {
        let scan = scanned("fmnist_clean", classes, true);
        assert_eq!(scan.detection.verdict, Verdict::Backdoored, "{}", scan.detection.reason);
        assert_eq!(scan.attacks, [Attack::AllToOne { target: 0 }]);
        let looks = |class: &ClassScan| [&class.further_looks, &class.confined_looks].map(Vec::len);
        assert!(scan.classes.iter().all(|class| looks(class) == [2, 2]), "every class is looked at five times");
    }
}

#[test]
fn usual_triggers_are_clean_among_two_and_three_classes() {
    for classes in [&[8, 3][..], &[1, 0, 8]] {
        let scan = scanned("fmnist_clean", classes, false);
        assert_eq!(scan.detection.verdict, Verdict::Clean, "{}", scan.detection.reason);
        assert!(scan.detection.reason.contains("of the image"), "{}", scan.detection.reason);
    }
}

/// The backdoor of this model leads to class 7, by a patch of four by four pixels.
#[test]
fn a_patch_is_found_among_two_and_three_classes() {
    for classes in [&[0, 7][..], &[6, 0, 7]] {
        let scan = scanned("fmnist_badnets", classes, false);
        assert_eq!(scan.detection.verdict, Verdict::Backdoored, "{}", scan.detection.reason);
        assert_eq!(scan.flagged_classes, [classes.len() - 1]);
    }
}
