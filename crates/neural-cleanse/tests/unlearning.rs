//! A backdoor is unlearned, and nothing of the model changes but its weights.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ndarray::Array3;
use neural_cleanse::data::{self, Wanted};
use neural_cleanse::engine::Rten;
use neural_cleanse::mitigation::{Backdoor, Mitigation, Unlearning, UnlearningStep, mitigate, unlearn};
use neural_cleanse::{
    Classifier, ClassifierOptions, CleanSet, Error, Layers, Model, Optimiser, Preprocessing, Trigger,
};
use onnx_grad::Graph;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

fn classifier(name: &str, threads: usize) -> Classifier {
    let model = Model::read(fixture(&format!("{name}.onnx"))).expect("the model");
    let preprocessing = Preprocessing { scale: 1.0 / 255.0, mean: vec![0.286], std: vec![0.353] };
    let options = ClassifierOptions { preprocessing, ..ClassifierOptions::default() };
    Classifier::new(model, options, Arc::new(Rten), threads).expect("a classifier")
}

fn backdoor(name: &str, target_class: usize) -> Backdoor {
    let trigger = Trigger::read_npz(&fixture(&format!("triggers/{name}.npz"))).expect("the trigger");
    Backdoor { target_class, trigger }
}

/// Samples to train on and others to measure with.
fn samples(classifier: &Classifier, held_out: usize) -> (CleanSet, CleanSet) {
    let samples = data::load(&fixture("fashion-mnist-400.npz"), None, &Wanted::new(1, 28, 28)).expect("the samples");
    let (train, held_out) = samples.split(held_out, 1);
    (CleanSet::new(classifier, train).expect("labels"), CleanSet::new(classifier, held_out).expect("labels"))
}

fn repaired(classifier: &Classifier, backdoor: &Backdoor, train: &CleanSet, options: &Unlearning) -> Model {
    let backdoors = std::slice::from_ref(backdoor);
    unlearn(classifier, backdoors, train, options, &mut |_| ControlFlow::Continue(())).expect("a repaired model")
}

/// The initializers that unlearning of `layers` trains.
fn trained(classifier: &Classifier, layers: Layers) -> Vec<String> {
    let mut graph = Graph::new();
    let images = classifier.network().add_images(&mut graph, 1).expect("an input");
    let (_, weights) = classifier.network().append_trainable(&mut graph, &images, layers).expect("a network");
    weights.into_iter().map(|weight| weight.name).collect()
}

/// Asserts that `after` is `before` with other elements in each of `names`, and equal in all else.
fn assert_only_changed(before: &Model, after: &Model, names: &[String]) {
    let mut expected = before.clone();
    for name in names {
        let weight = after.initializer(name).expect("a weight");
        assert_ne!(weight, before.initializer(name).expect("a weight"), "{name} is as it was");
        expected.set_initializer(name, &weight).expect("a weight of the same shape");
    }
    assert!(expected == *after, "something else than {names:?} has changed");
}

#[test]
fn the_backdoor_is_gone_and_the_accuracy_is_not() {
    for (name, target) in [("fmnist_badnets", 7), ("resnet_badnets", 3)] {
        let classifier = classifier(name, 2);
        let backdoor = backdoor(name, target);
        let (train, held_out) = samples(&classifier, 100);
        let measure = |classifier: &Classifier| {
            let accuracy = classifier.accuracy(held_out.images.view(), &held_out.labels).expect("an accuracy");
            (accuracy, held_out.attack_success_rate(classifier, &backdoor.trigger, target).expect("a rate"))
        };
        let (accuracy, success) = measure(&classifier);
        assert!(success > 0.99, "{name}: {success}");

        let after = repaired(&classifier, &backdoor, &train, &Unlearning::default());
        let (accuracy_after, success) = measure(&classifier.with_model(after.clone()).expect("a classifier"));
        assert!(success < 0.05, "{name}: attack success rate {success}");
        assert!(accuracy_after >= accuracy - 0.03, "{name}: accuracy from {accuracy} to {accuracy_after}");

        let names = trained(&classifier, Layers::All);
        assert!(!names.iter().any(|name| name.contains("running")), "{names:?}");
        assert_only_changed(classifier.network().model(), &after, &names);
    }
}

#[test]
fn further_triggers_remove_what_one_trigger_does_not_cover() {
    let classifier = classifier("fmnist_badnets", 2);
    let backdoor = backdoor("fmnist_badnets", 7);
    let (train, held_out) = samples(&classifier, 100);
    // Half of the true trigger, as a search may find it.
    let mut half = backdoor.clone();
    half.trigger.mask.slice_mut(ndarray::s![.., ..26, ..]).fill(0.0);
    let mut searched = 0;
    let mut success = |further_triggers| {
        let options = Unlearning { epochs: 4, further_triggers, ..Unlearning::default() };
        let mut observe = |step| {
            searched += usize::from(matches!(step, UnlearningStep::Search { .. }));
            ControlFlow::Continue(())
        };
        let model = unlearn(&classifier, std::slice::from_ref(&half), &train, &options, &mut observe).expect("a model");
        let after = classifier.with_model(model).expect("a classifier");
        held_out.attack_success_rate(&after, &backdoor.trigger, 7).expect("a rate")
    };
    let (alone, together) = (success(0), success(2));
    assert!(searched > 0);
    assert!(together < alone && together < 0.05, "{alone} by half the trigger, {together} with two others");
}

#[test]
fn further_triggers_are_searched_for_in_what_the_model_becomes() {
    let classifier = classifier("fmnist_badnets", 2);
    let backdoor = backdoor("fmnist_badnets", 7);
    let (train, _) = samples(&classifier, 100);
    let options = Unlearning { epochs: 6, searches: 3, further_triggers: 1, ..Unlearning::default() };
    let (mut searched_after, mut trained, mut shown) = (Vec::new(), 0, 0);
    let mut observe = |step| {
        match step {
            UnlearningStep::Search { step, steps } => {
                assert!(step > shown && step <= steps, "{shown}, {step} of {steps}");
                shown = step;
                searched_after.push(trained);
            }
            UnlearningStep::Training { step, .. } => trained = step,
        }
        ControlFlow::Continue(())
    };
    unlearn(&classifier, std::slice::from_ref(&backdoor), &train, &options, &mut observe).expect("a model");
    searched_after.dedup();
    assert_eq!(searched_after, [0, trained / 3, 2 * trained / 3]);
}

#[test]
fn answers_are_asked_for_where_they_have_half_their_entropy() {
    let classifier = classifier("fmnist_badnets", 2);
    let (train, _) = samples(&classifier, 100);
    let first_loss = |temperature| {
        // All samples as they are, and nothing but the model's own answers to them: the cross-entropy is the entropy.
        let options = Unlearning {
            epochs: 1,
            stamped_share: 0.0,
            mixing: 0.0,
            shifting: 0.0,
            distillation: Some(1.0),
            batch_size: train.labels.len(),
            temperature,
            ..Unlearning::default()
        };
        let mut loss = f64::NAN;
        let mut observe = |step| {
            if let UnlearningStep::Training { cross_entropy, .. } = step {
                loss = cross_entropy;
            }
            ControlFlow::Continue(())
        };
        unlearn(&classifier, &[], &train, &options, &mut observe).expect("a model");
        loss
    };
    let most = 10f64.ln();
    assert!((first_loss(None) / most - 0.5).abs() < 1e-3, "{} of {most}", first_loss(None));
    assert!(first_loss(Some(1.0)) < 0.4 * most && first_loss(Some(100.0)) > 0.99 * most);
}

#[test]
fn distillation_holds_the_model_to_its_own_answers() {
    let classifier = classifier("fmnist_badnets", 2);
    let (train, held_out) = samples(&classifier, 100);
    let wrong = CleanSet { labels: train.labels.iter().map(|label| (label + 1) % 10).collect(), ..train };
    let accuracy = |distillation| {
        let options = Unlearning {
            epochs: 4,
            learning_rate: 1e-3,
            stamped_share: 0.0,
            distillation: Some(distillation),
            ..Unlearning::default()
        };
        let model = unlearn(&classifier, &[], &wrong, &options, &mut |_| ControlFlow::Continue(())).expect("a model");
        let after = classifier.with_model(model).expect("a classifier");
        after.accuracy(held_out.images.view(), &held_out.labels).expect("an accuracy")
    };
    let (by_answers, by_labels) = (accuracy(1.0), accuracy(0.0));
    assert!(by_answers > 0.85 && by_labels < 0.5, "{by_answers} by the answers, {by_labels} by the wrong labels");
}

#[test]
fn natural_confusion_is_what_a_trigger_that_shows_nothing_comes_to() {
    let classifier = classifier("fmnist_clean", 2);
    let (train, unseen) = samples(&classifier, 200);
    let nothing = Trigger::new(Array3::zeros((1, 28, 28)), Array3::zeros((1, 28, 28))).expect("a trigger");
    let backdoors = [0, 6].map(|target_class| Backdoor { target_class, trigger: nothing.clone() });
    let mut go_on = |_: &Mitigation, _| ControlFlow::Continue(());
    let repair = mitigate(&classifier, &backdoors, None, &train, &unseen, &[], &mut go_on).expect("a measurement");
    assert!(repair.before.natural_confusion_rates.iter().any(|&rate| rate > 0.0), "{:?}", repair.before);
    assert_eq!(repair.before.natural_confusion_rates, repair.before.attack_success_rates);
}

#[test]
fn how_much_of_the_target_class_is_recognised_is_measured() {
    let classifier = classifier("fmnist_clean", 2);
    let (train, unseen) = samples(&classifier, 200);
    let nothing = Trigger::new(Array3::zeros((1, 28, 28)), Array3::zeros((1, 28, 28))).expect("a trigger");
    let backdoor = Backdoor { target_class: 6, trigger: nothing };
    let mut go_on = |_: &Mitigation, _| ControlFlow::Continue(());
    let mut recall = |unseen: &CleanSet| {
        let backdoors = std::slice::from_ref(&backdoor);
        mitigate(&classifier, backdoors, None, &train, unseen, &[], &mut go_on)
            .expect("a measurement")
            .before
            .target_recalls
    };
    let rows = |wanted: bool| -> CleanSet {
        let rows: Vec<usize> = (0..unseen.labels.len()).filter(|&row| (unseen.labels[row] == 6) == wanted).collect();
        let labels = rows.iter().map(|&row| unseen.labels[row]).collect();
        CleanSet { images: unseen.images.select(ndarray::Axis(0), &rows), labels }
    };
    let of_class = rows(true);
    let expected = classifier.accuracy(of_class.images.view(), &of_class.labels).expect("an accuracy");
    assert!(expected > 0.3 && expected < 1.0, "{expected}");
    assert_eq!(recall(&unseen), [Some(expected)]);
    assert_eq!(recall(&rows(false)), [None], "there is none of the class");
}

#[test]
fn the_same_bits_come_out_whatever_the_number_of_threads() {
    let options = Unlearning { epochs: 1, ..Unlearning::default() };
    for (name, target) in [("fmnist_badnets", 7), ("resnet_badnets", 3)] {
        let after = [1, 2].map(|threads| {
            let classifier = classifier(name, threads);
            // The last minibatch is not full.
            let (_, train) = samples(&classifier, 80);
            repaired(&classifier, &backdoor(name, target), &train, &options).to_bytes()
        });
        assert!(after[0] == after[1], "{name}");
    }
}

#[test]
fn only_the_last_layer_is_trained_if_so_asked() {
    let classifier = classifier("resnet_badnets", 1);
    let (_, train) = samples(&classifier, 40);
    let options = Unlearning { epochs: 1, layers: Layers::Last(1), ..Unlearning::default() };
    let after = repaired(&classifier, &backdoor("resnet_badnets", 3), &train, &options);
    assert_only_changed(classifier.network().model(), &after, &["8.weight".to_owned(), "8.bias".to_owned()]);
}

#[test]
fn what_cannot_be_done_is_said() {
    let classifier = classifier("fmnist_badnets", 1);
    let backdoor = backdoor("fmnist_badnets", 7);
    let (_, train) = samples(&classifier, 40);
    let attempt = |train: &CleanSet, options: &Unlearning| {
        let mut go_on = |_| ControlFlow::Continue(());
        unlearn(&classifier, std::slice::from_ref(&backdoor), train, options, &mut go_on).unwrap_err().to_string()
    };
    let wild = Unlearning { learning_rate: 1e30, optimiser: Optimiser::Sgd { momentum: 0.9 }, ..Unlearning::default() };
    let message = attempt(&train, &wild);
    assert!(message.contains("diverged") && message.contains("learning rate"), "{message}");
    let mislabelled = CleanSet { labels: vec![10; 40], ..train.clone() };
    let message = attempt(&mislabelled, &Unlearning::default());
    assert!(message.contains("label 10"), "{message}");

    let mut stop = |_| ControlFlow::Break(());
    let stopped = unlearn(&classifier, std::slice::from_ref(&backdoor), &train, &Unlearning::default(), &mut stop);
    assert!(matches!(stopped, Err(Error::Interrupted)));
}
