//! The documented API, used as its page describes it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use neural_cleanse::data::{self, Wanted};
use neural_cleanse::engine::Rten;
use neural_cleanse::mitigation::{Filtering, Pruning};
use neural_cleanse::{
    Backdoor, Classifier, ClassifierOptions, Config, Mitigation, Model, NeuralCleanse, Norm, Preprocessing, Trigger,
    Verdict,
};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn classifier(model: &str) -> Classifier {
    let preprocessing = Preprocessing { scale: 1.0 / 255.0, mean: vec![0.2860], std: vec![0.3530] };
    let options = ClassifierOptions { preprocessing, ..ClassifierOptions::default() };
    Classifier::new(Model::read(fixtures().join(model)).unwrap(), options, Arc::new(Rten), 2).unwrap()
}

#[test]
fn a_transformed_classifier_finds_the_backdoor() {
    let samples = data::load(&fixtures().join("fashion-mnist-400.npz"), None, &Wanted::new(1, 28, 28)).unwrap();
    let (x_val, y_val) = (samples.images, samples.labels.unwrap());
    let config = Config { norm: Norm::L1, ..Config::fast(Norm::L1, 28, 28) };
    let cleanse = NeuralCleanse::new(classifier("fmnist_badnets.onnx")).transform(config).unwrap();

    let inversion = cleanse.generate_backdoor(x_val.view(), Some(&y_val), 7).unwrap();
    assert!(inversion.converged);
    assert_eq!((inversion.target_class, inversion.steps.len()), (7, 60));
    assert!(inversion.trigger.norm_l1() < 20.0, "{}", inversion.trigger.norm_l1());

    let scan = cleanse.outlier_detection(x_val.view(), Some(&y_val)).unwrap();
    assert_eq!((scan.detection.verdict, scan.flagged_classes), (Verdict::Backdoored, vec![7]));
    assert_eq!(cleanse.predict(x_val.view()).unwrap().logits.shape(), [400, 10]);
}

#[test]
fn without_labels_the_models_own_predictions_serve() {
    let samples = data::load(&fixtures().join("fashion-mnist-400.npz"), None, &Wanted::new(1, 28, 28)).unwrap();
    let config = Config { steps: 5, ..Config::fast(Norm::L2, 28, 28) };
    let cleanse = NeuralCleanse::new(classifier("fmnist_badnets.onnx")).transform(config).unwrap();
    let scan = cleanse.outlier_detection(samples.images.view(), None).unwrap();
    assert_eq!(scan.clean_accuracy, None);
    assert_eq!(scan.classes.len(), 10);
}

#[test]
fn fewer_samples_than_a_minibatch_are_enough() {
    let samples = data::load(&fixtures().join("images"), None, &Wanted::new(1, 28, 28)).unwrap();
    let config = Config { steps: 3, batches_per_step: None, ..Config::default() };
    let cleanse = NeuralCleanse::new(classifier("fmnist_badnets.onnx")).transform(config).unwrap();
    let inversion = cleanse.generate_backdoor(samples.images.view(), samples.labels.as_deref(), 0).unwrap();
    assert_eq!(inversion.gradient_samples, 3 * 18);
}

#[test]
fn the_optimisation_moves_the_trigger_and_raises_the_cost() {
    let samples = data::load(&fixtures().join("fashion-mnist-400.npz"), None, &Wanted::new(1, 28, 28)).unwrap();
    let config = Config { batches_per_step: Some(1), patience: 3, steps: 60, early_stop: false, ..Config::default() };
    let cleanse = NeuralCleanse::new(classifier("fmnist_badnets.onnx")).transform(config).unwrap();
    let inversion = cleanse.generate_backdoor(samples.images.view(), samples.labels.as_deref(), 7).unwrap();
    let costs: Vec<f64> = inversion.steps.iter().map(|step| step.cost).collect();
    assert_eq!(costs[0], 0.0);
    assert!(costs.contains(&0.001) && costs.iter().any(|&cost| cost > 0.002), "{costs:?}");
    let first = &inversion.steps[0];
    assert!(inversion.steps.iter().any(|step| step.cross_entropy < 0.2 * first.cross_entropy));
}

#[test]
fn images_that_are_all_of_the_class_are_refused_by_name() {
    let samples = data::load(&fixtures().join("images/7"), None, &Wanted::new(1, 28, 28)).unwrap();
    let cleanse = NeuralCleanse::new(classifier("fmnist_clean.onnx")).transform(Config::default()).unwrap();
    let error = cleanse.generate_backdoor(samples.images.view(), Some(&[7, 7]), 7).unwrap_err();
    assert!(error.to_string().contains("all samples are of class 7"), "{error}");
}

#[test]
fn mitigation_finds_the_backdoor_removes_it_and_abstains() {
    let samples = data::load(&fixtures().join("fashion-mnist-400.npz"), None, &Wanted::new(1, 28, 28)).unwrap();
    let (x_val, y_val) = (samples.images, samples.labels.unwrap());
    let defence = NeuralCleanse::new(classifier("fmnist_badnets.onnx"));
    defence.fit(x_val.view(), Some(&y_val));
    let mut cleanse = defence.transform(Config::fast(Norm::L2, 28, 28)).unwrap();

    let trigger = Trigger::read(&fixtures().join("triggers/fmnist_badnets.npz"), [1, 28, 28]).unwrap();
    let backdoors = [Backdoor { target_class: 7, trigger }];
    let examples = cleanse.backdoor_examples(x_val.view(), Some(&y_val), &backdoors).unwrap();
    // The trigger goes on images of every class but the target, which keep their true labels.
    assert_eq!(examples.targets, vec![7; 360]);
    assert!(examples.labels.iter().all(|&label| label != 7));
    assert_eq!(examples.clean.shape(), examples.backdoored.shape());
    assert!(cleanse.check_backdoor_effective(&examples).unwrap());
    assert_eq!(cleanse.abstain(x_val.view()).unwrap(), vec![false; 400]);

    let methods = [Mitigation::Pruning(Pruning::default()), Mitigation::Filtering(Filtering::default())];
    let repair = cleanse.mitigate(x_val.view(), &y_val, &methods).unwrap().unwrap();
    assert_eq!(repair.outcomes.len(), 2);
    assert!(repair.accuracy_drop() < 0.05, "{:?}", repair.outcomes);
    assert!(!cleanse.check_backdoor_effective(&examples).unwrap());
    let stamped = cleanse.predict(examples.backdoored.view()).unwrap();
    let sent = stamped.classes().iter().filter(|class| **class == Some(7)).count();
    assert!(sent < 18, "{sent} of 360 stamped images still go to the target");
    let clean = cleanse.predict(x_val.view()).unwrap().classes();
    assert!(clean.iter().filter(|class| class.is_none()).count() < 60);
}

#[test]
fn a_clean_model_is_left_as_it_is() {
    let samples = data::load(&fixtures().join("fashion-mnist-400.npz"), None, &Wanted::new(1, 28, 28)).unwrap();
    let config = Config::fast(Norm::L2, 28, 28);
    let mut cleanse = NeuralCleanse::new(classifier("fmnist_clean.onnx")).transform(config).unwrap();
    let methods = [Mitigation::Pruning(Pruning::default())];
    let labels = samples.labels.unwrap();
    assert!(cleanse.mitigate(samples.images.view(), &labels, &methods).unwrap().is_none());
}
