//! Models in the forms in which they come: channels last, fixed batches, with and without a Softmax.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ndarray::Array4;
use neural_cleanse::data::{self, Picked, Wanted};
use neural_cleanse::engine::Rten;
use neural_cleanse::{Classifier, ClassifierOptions, Layout, Model, Preprocessing, Scores};
use onnx_grad::{ElementType, Graph, ImportOptions, ValueType};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn images() -> Array4<f32> {
    let at_most = Some(Picked { samples: 50, seed: 1 });
    let wanted = Wanted { at_most, ..Wanted::new(1, 28, 28) };
    data::load(&fixtures().join("fashion-mnist-400.npz"), None, &wanted).unwrap().images
}

fn classifier(model: Model) -> Classifier {
    let preprocessing = Preprocessing { scale: 1.0 / 255.0, mean: vec![0.2860], std: vec![0.3530] };
    let options = ClassifierOptions { preprocessing, ..ClassifierOptions::default() };
    Classifier::new(model, options, Arc::new(Rten), 1).unwrap()
}

fn imported(model: &Model, batch: usize) -> Graph {
    Graph::import(model, &ImportOptions { batch, input_shapes: BTreeMap::new(), fold_weights: true }).unwrap()
}

fn as_model(graph: &Graph) -> Model {
    Model::from_bytes(&graph.to_model_bytes("test").unwrap()).unwrap()
}

fn assert_same(a: &ndarray::Array2<f32>, b: &ndarray::Array2<f32>) {
    let difference = (a - b).fold(0.0f32, |largest, d| largest.max(d.abs()));
    assert!(difference < 1e-4, "logits differ by {difference}");
}

#[test]
fn a_model_with_channels_last_is_recognised_and_fed_in_its_order() {
    let model = Model::read(fixtures().join("fmnist_clean.onnx")).unwrap();
    let inner = imported(&model, 1);
    let mut graph = Graph::new();
    graph.add_input("pixels", ValueType::new(ElementType::F32, [1, 28, 28, 1])).unwrap();
    let planes = graph.apply("Transpose", &["pixels"], [("perm", &[0i64, 3, 1, 2][..])]).unwrap();
    let outputs = graph.splice(&inner, &[("input", &planes)]).unwrap();
    graph.set_outputs(&[&outputs[0]]).unwrap();

    let last = classifier(as_model(&graph));
    assert_eq!((last.network().layout(), last.image_shape()), (Layout::Nhwc, [1, 28, 28]));
    let expected = classifier(model).predict(images().view()).unwrap();
    assert_same(&last.predict(images().view()).unwrap(), &expected);
}

#[test]
fn a_model_exported_for_a_fixed_batch_takes_any_number_of_images() {
    let model = Model::read(fixtures().join("resnet_clean.onnx")).unwrap();
    let expected =
        classifier(Model::read(fixtures().join("resnet_clean.onnx")).unwrap()).predict(images().view()).unwrap();
    for batch in [1, 4] {
        let fixed = classifier(as_model(&imported(&model, batch)));
        assert_same(&fixed.predict(images().view()).unwrap(), &expected);
    }
}

#[test]
fn logits_are_given_also_where_the_model_ends_in_softmax() {
    let classifier = classifier(Model::read(fixtures().join("resnet_clean.onnx")).unwrap());
    assert_eq!(classifier.network().scores(), Scores::Softmax);
    let logits = classifier.predict(images().view()).unwrap();
    assert!(logits.iter().any(|&logit| logit < 0.0), "probabilities are not negative");
}

#[test]
fn names_and_ranges_that_do_not_fit_are_refused() {
    let refuse = |options: ClassifierOptions| {
        let model = Model::read(fixtures().join("fmnist_clean.onnx")).unwrap();
        Classifier::new(model, options, Arc::new(Rten), 1).unwrap_err().to_string()
    };
    let names = ClassifierOptions { class_names: Some(vec!["cat".into()]), ..ClassifierOptions::default() };
    assert!(refuse(names).contains("1 class names for a model of 10 classes"));
    let range = ClassifierOptions { value_range: Some((1.0, 0.0)), ..ClassifierOptions::default() };
    assert!(refuse(range).contains("range of pixel values"));
}
