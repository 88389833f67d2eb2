//! Pruning and filtering of the backdoored fixtures, with their true triggers.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ndarray::{Array4, Axis};
use neural_cleanse::classifier::classes_of;
use neural_cleanse::data::{self, Samples, Wanted};
use neural_cleanse::engine::Rten;
use neural_cleanse::mitigation::{
    Backdoor, Filter, Filtering, Penultimate, ProfileKind, Pruning, PruningOutcome, PruningStep, Stopped, embed_filter,
    prune,
};
use neural_cleanse::{Classifier, ClassifierOptions, CleanSet, Error, Model, Preprocessing, Trigger};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

/// A backdoored classifier, its backdoor, and clean samples in two sets of 300 and 100.
struct Case {
    classifier: Classifier,
    backdoor: Backdoor,
    train: CleanSet,
    unseen: CleanSet,
}

fn case(name: &str, target_class: usize) -> Case {
    let preprocessing = Preprocessing { scale: 1.0 / 255.0, mean: vec![0.2860], std: vec![0.3530] };
    let options = ClassifierOptions { preprocessing, ..ClassifierOptions::default() };
    let model = Model::read(fixtures().join(format!("{name}.onnx"))).unwrap();
    let trigger = Trigger::read_npz(&fixtures().join(format!("triggers/{name}.npz"))).unwrap();
    let samples = data::load(&fixtures().join("fashion-mnist-400.npz"), None, &Wanted::new(1, 28, 28)).unwrap();
    let (train, unseen) = samples.split(100, 0);
    let clean = |samples: Samples| CleanSet { images: samples.images, labels: samples.labels.unwrap() };
    Case {
        classifier: Classifier::new(model, options, Arc::new(Rten), 2).unwrap(),
        backdoor: Backdoor { target_class, trigger },
        train: clean(train),
        unseen: clean(unseen),
    }
}

fn cases() -> [Case; 2] {
    [case("fmnist_badnets", 7), case("resnet_badnets", 3)]
}

fn pruned(case: &Case, options: &Pruning) -> (Model, PruningOutcome, Vec<PruningStep>) {
    let mut steps = Vec::new();
    let mut observe = |step: &PruningStep| {
        steps.push(*step);
        ControlFlow::Continue(())
    };
    let backdoors = [case.backdoor.clone()];
    let (model, outcome) = prune(&case.classifier, &backdoors, &case.train, options, &mut observe).unwrap();
    (model, outcome, steps)
}

fn share(answers: &[bool]) -> f64 {
    answers.iter().filter(|&&answer| answer).count() as f64 / answers.len() as f64
}

#[test]
fn pruning_keeps_to_its_bounds_and_changes_one_initializer() {
    for case in cases() {
        let (model, outcome, steps) = pruned(&case, &Pruning::default());
        println!("{outcome:?}");
        assert!(outcome.pruned.len() as f64 <= 0.3 * outcome.of as f64);
        assert!(outcome.before.clean_accuracy - outcome.after.clean_accuracy <= 0.05 + 1e-9);
        assert!(outcome.before.attack_success_rate > 0.98);
        if outcome.stopped == Stopped::AttackFails {
            assert!(outcome.after.attack_success_rate <= 0.05);
        }
        if let Some(last) = steps.iter().rev().find(|step| step.pruned == outcome.pruned.len()) {
            assert_eq!(*last, outcome.after, "kept features and the pruned model disagree");
        }

        let original = case.classifier.network().model();
        for (name, _) in original.initializers() {
            let same = original.initializer(name).unwrap() == model.initializer(name).unwrap();
            assert_eq!(same, name != outcome.weights, "{name}");
        }
        let mut restored = model;
        restored.set_initializer(&outcome.weights, &original.initializer(&outcome.weights).unwrap()).unwrap();
        assert_eq!(&restored, original);
    }
}

#[test]
fn pruning_without_bounds_on_accuracy_defeats_the_attack_on_unseen_images() {
    let case = case("fmnist_badnets", 7);
    let (model, outcome, _) = pruned(&case, &Pruning { accuracy_bound: 1.0, most: 1.0, ..Pruning::default() });
    assert_eq!(outcome.stopped, Stopped::AttackFails);
    let repaired = case.classifier.with_model(model).unwrap();
    let rate = case.unseen.attack_success_rate(&repaired, &case.backdoor.trigger, 7).unwrap();
    assert!(rate < 0.1, "{rate}");
}

#[test]
fn pruning_can_be_interrupted_and_refuses_what_makes_no_sense() {
    let case = case("fmnist_badnets", 7);
    let run = |backdoors: &[Backdoor], options: &Pruning| {
        prune(&case.classifier, backdoors, &case.train, options, &mut |_| ControlFlow::Break(())).unwrap_err()
    };
    let backdoors = [case.backdoor.clone()];
    assert!(matches!(run(&backdoors, &Pruning::default()), Error::Interrupted));
    assert!(run(&[], &Pruning::default()).to_string().contains("no backdoor"));
    let error = run(&backdoors, &Pruning { most: 1.5, ..Pruning::default() }).to_string();
    assert!(error.contains("most is 1.5, and must be a share"), "{error}");
}

#[test]
fn a_filter_abstains_from_triggered_images_and_seldom_from_clean_ones() {
    for case in cases() {
        let filter =
            Filter::fit(&case.classifier, std::slice::from_ref(&case.backdoor), &case.train, &Filtering::default())
                .unwrap();
        let rejected = share(&filter.abstains(&case.classifier, case.unseen.images.view()).unwrap());
        let stamped = stamped(&case);
        let caught = share(&filter.abstains(&case.classifier, stamped.view()).unwrap());
        println!("{rejected} of the clean, {caught} of the triggered");
        assert!(rejected <= 0.12, "{rejected}");
        assert!(caught >= 0.95, "{caught}");
    }
}

#[test]
fn the_papers_profile_is_the_mean_over_the_top_neurons() {
    let case = case("resnet_badnets", 3);
    let options = Filtering { profile: ProfileKind::TopNeurons { share: 0.05 }, ..Filtering::default() };
    let filter = Filter::fit(&case.classifier, std::slice::from_ref(&case.backdoor), &case.train, &options).unwrap();
    let mut weights = filter.profiles[0].weights.clone();
    weights.sort_by(f32::total_cmp);
    assert_eq!(weights, [vec![0.0; 38], vec![0.5; 2]].concat());
}

#[test]
fn a_filter_survives_as_text() {
    let case = case("resnet_badnets", 3);
    let filter =
        Filter::fit(&case.classifier, std::slice::from_ref(&case.backdoor), &case.train, &Filtering::default())
            .unwrap();
    let text = serde_json::to_string(&filter).unwrap();
    assert_eq!(serde_json::from_str::<Filter>(&text).unwrap(), filter);
}

#[test]
fn too_few_samples_for_a_rate_are_an_error_that_says_how_many_would_do() {
    let case = case("fmnist_badnets", 7);
    let few = CleanSet { images: case.train.images.select(Axis(0), &(0..36).collect::<Vec<_>>()), labels: vec![0; 36] };
    let fit = |set: &CleanSet, options: &Filtering| {
        Filter::fit(&case.classifier, std::slice::from_ref(&case.backdoor), set, options).unwrap_err().to_string()
    };
    let error = fit(&few, &Filtering::default());
    assert!(error.contains("36 calibration samples are too few") && error.contains("at least 37"), "{error}");
    let error = fit(&case.train, &Filtering { false_positive_rate: 0.0, ..Filtering::default() });
    assert!(error.contains("must be between 0 and 1"), "{error}");
}

#[test]
fn an_embedded_filter_answers_as_the_filter_does_and_changes_nothing_else() {
    for case in cases() {
        let model = case.classifier.network().model();
        let backdoor = case.backdoor.clone();
        // A second backdoor, so that two answers are joined.
        let corner = Backdoor { target_class: 0, trigger: corner() };
        let filter = Filter::fit(&case.classifier, &[backdoor, corner], &case.train, &Filtering::default()).unwrap();
        let embedded =
            Model::from_bytes(&embed_filter(case.classifier.network(), &filter).unwrap().to_bytes()).unwrap();
        let outputs: Vec<String> = embedded.outputs().iter().map(ToString::to_string).collect();
        assert_eq!((outputs.len(), &outputs[0]), (2, &model.outputs()[0].to_string()));
        assert!(outputs[1].starts_with("abstain: bool["), "{}", outputs[1]);

        let images = ndarray::concatenate![Axis(0), case.unseen.images, stamped(&case)];
        let expected = filter.abstains(&case.classifier, images.view()).unwrap();
        assert!(expected.contains(&true) && expected.contains(&false));
        assert_eq!(case.classifier.embedded_abstain(images.view()).unwrap(), None);
        let with_filter = case.classifier.with_model(embedded.clone()).unwrap();
        assert_eq!(with_filter.embedded_abstain(images.view()).unwrap(), Some(expected.clone()));
        let logits = case.classifier.predict(images.view()).unwrap();
        assert_eq!(with_filter.predict(images.view()).unwrap(), logits);
        assert_eq!(run_in_rten(&embedded, &images), (classes_of(&logits), expected));

        let again = embed_filter(with_filter.network(), &filter).unwrap_err().to_string();
        assert!(again.contains("already has a filter"), "{again}");
    }
}

#[test]
fn a_filter_for_another_model_is_refused() {
    let [dense, residual] = cases();
    let filter =
        Filter::fit(&dense.classifier, std::slice::from_ref(&dense.backdoor), &dense.train, &Filtering::default())
            .unwrap();
    let network = residual.classifier.network();
    assert_eq!(Penultimate::find(network).unwrap().neurons(), 40);
    let error = embed_filter(network, &filter).unwrap_err().to_string();
    assert!(error.contains("for 64 neurons, and the model's penultimate layer has 40"), "{error}");
}

fn stamped(case: &Case) -> Array4<f32> {
    case.backdoor.trigger.apply(case.unseen.images_outside(case.backdoor.target_class).view()).unwrap()
}

fn corner() -> Trigger {
    let mut mask = ndarray::Array3::zeros((1, 28, 28));
    mask.slice_mut(ndarray::s![.., ..9, 19..]).fill(1.0);
    Trigger::new(mask, ndarray::Array3::from_elem((1, 28, 28), 255.0)).unwrap()
}

/// What the bytes of `model` themselves give in an engine: classes and abstentions.
fn run_in_rten(model: &Model, images: &Array4<f32>) -> (Vec<usize>, Vec<bool>) {
    use rten_tensor::prelude::*;
    let engine = rten::ModelOptions::with_all_ops().load(model.to_bytes()).unwrap();
    let input = images.mapv(|pixel| (pixel / 255.0 - 0.2860) / 0.3530);
    let input = rten_tensor::Tensor::from_data(images.shape(), input.into_raw_vec_and_offset().0);
    let nodes: Vec<_> = engine.output_ids().to_vec();
    let outputs = engine.run(vec![(engine.input_ids()[0], input.into())], &nodes, None).unwrap();
    let [scores, abstain] = <[rten::Value; 2]>::try_from(outputs).ok().unwrap();
    let scores: rten_tensor::Tensor<f32> = scores.into_tensor().unwrap();
    let scores = ndarray::Array2::from_shape_vec((images.len_of(Axis(0)), 10), scores.to_vec()).unwrap();
    let abstain: rten_tensor::Tensor<i32> = abstain.into_tensor().unwrap();
    (classes_of(&scores), abstain.iter().map(|&abstain| abstain != 0).collect())
}
