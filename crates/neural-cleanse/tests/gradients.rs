//! The gradients of a classifier: against finite differences, and from one engine to the other.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ndarray::{Array1, Array4, ArrayView4, Axis, s};
use neural_cleanse::data::{self, Picked, Samples, Wanted};
use neural_cleanse::engine::{Engine, EngineChoice, Precision, Rten, select};
use neural_cleanse::{Classifier, ClassifierOptions, Model, Preprocessing};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn classifier(model: &str, engine: Arc<dyn Engine>) -> Classifier {
    classifier_with_threads(model, engine, 2)
}

fn classifier_with_threads(model: &str, engine: Arc<dyn Engine>, threads: usize) -> Classifier {
    let preprocessing = Preprocessing { scale: 1.0 / 255.0, mean: vec![0.2860], std: vec![0.3530] };
    let options = ClassifierOptions { preprocessing, ..ClassifierOptions::default() };
    let model = Model::read(fixtures().join(model)).unwrap();
    Classifier::new(model, options, engine, threads).unwrap()
}

fn samples(count: usize) -> Samples {
    let at_most = Some(Picked { samples: count, seed: 3 });
    let wanted = Wanted { at_most, ..Wanted::new(1, 28, 28) };
    data::load(&fixtures().join("fashion-mnist-400.npz"), None, &wanted).unwrap()
}

/// The mean cross-entropy of one image, in nats, in double precision from the logits on.
fn cross_entropy(classifier: &Classifier, image: ArrayView4<'_, f32>, label: usize) -> f64 {
    let logits = classifier.predict(image).unwrap().index_axis_move(Axis(0), 0).mapv(f64::from);
    let largest = logits.fold(f64::NEG_INFINITY, |a, &b| a.max(b));
    let total: f64 = logits.iter().map(|z| (z - largest).exp()).sum();
    largest + total.ln() - logits[label]
}

#[test]
fn the_loss_gradient_is_the_slope_of_the_cross_entropy() {
    for model in ["fmnist_clean.onnx", "resnet_clean.onnx"] {
        let classifier = classifier(model, Arc::new(Rten));
        let mut samples = samples(40);
        // Black backgrounds tie the windows of max-pools, where there is no slope: texture breaks the ties.
        for ((n, _, y, x), pixel) in samples.images.indexed_iter_mut() {
            *pixel = 0.9 * *pixel + ((n * 31 + y * 17 + x * 29 + y * x * 7) % 23) as f32;
        }
        let labels: Vec<usize> = samples.labels.unwrap().iter().map(|label| (label + 1) % 10).collect();
        let gradient = classifier.loss_gradient(samples.images.view(), &labels).unwrap();
        let mut smooth = 0;
        for (i, &label) in labels.iter().enumerate() {
            // Along the gradient itself the slope is its length.
            let image = samples.images.slice(s![i..i + 1, .., .., ..]);
            let direction = gradient.slice(s![i..i + 1, .., .., ..]);
            let length = direction.mapv(|g| f64::from(g).powi(2)).sum().sqrt();
            let slope = |step: f64| {
                let unit: Array4<f32> = direction.mapv(|g| (f64::from(g) / length * step) as f32);
                let above = cross_entropy(&classifier, (&image + &unit).view(), label);
                let below = cross_entropy(&classifier, (&image - &unit).view(), label);
                (above - below) / (2.0 * step)
            };
            // Where a ReLU or a pool tips over between the two points, the slope depends on their distance.
            let (far, near) = (slope(0.2), slope(0.1));
            if (far - near).abs() < 0.01 * length {
                smooth += 1;
                assert!((near - length).abs() < 0.03 * length, "{model}, image {i}: {near} is not {length}");
            }
        }
        assert!(smooth >= 20, "{model}: only {smooth} of 40 images tell");
    }
}

#[test]
fn the_class_gradients_of_all_classes_make_up_the_loss_gradient() {
    // ∂CE/∂x = Σ softmax(z)_k ∂z_k/∂x − ∂z_label/∂x.
    let classifier = classifier("resnet_clean.onnx", Arc::new(Rten));
    let samples = samples(10);
    let labels = samples.labels.unwrap();
    let logits = classifier.predict(samples.images.view()).unwrap();
    let expected = classifier.loss_gradient(samples.images.view(), &labels).unwrap();
    let mut sum = Array4::<f32>::zeros(expected.raw_dim());
    for class in 0..10 {
        let gradient = classifier.class_gradient(samples.images.view(), class).unwrap();
        for (i, &label) in labels.iter().enumerate() {
            let row = logits.index_axis(Axis(0), i).mapv(|z| z - logits[[i, label]]);
            let probability = row[class].exp() / row.mapv(f32::exp).sum();
            let weight = probability - f32::from(u8::from(class == label));
            sum.index_axis_mut(Axis(0), i).scaled_add(weight, &gradient.index_axis(Axis(0), i));
        }
    }
    let scale = expected.fold(0.0f32, |a, &b| a.max(b.abs()));
    let difference = (&sum - &expected).fold(0.0f32, |a, &b| a.max(b.abs()));
    assert!(difference < 1e-4 * scale, "{difference} of {scale}");
}

#[test]
fn engines_give_the_same_gradients() {
    for (choice, model) in [EngineChoice::OnnxRuntime, EngineChoice::OpenVino]
        .into_iter()
        .flat_map(|choice| ["fmnist_badnets.onnx", "resnet_badnets.onnx"].map(|model| (choice, model)))
    {
        let engine = match select(choice, None) {
            Ok(selected) => selected.engine,
            Err(reason) => {
                eprintln!("skipped: {reason}");
                continue;
            }
        };
        let samples = samples(100);
        let labels = samples.labels.clone().unwrap();
        let gradient =
            |engine: Arc<dyn Engine>| classifier(model, engine).loss_gradient(samples.images.view(), &labels).unwrap();
        let (ours, theirs) = (gradient(Arc::new(Rten)), gradient(engine));
        let error = |i: usize| {
            let (a, b): (Array1<f32>, Array1<f32>) =
                (ours.index_axis(Axis(0), i).flatten().to_owned(), theirs.index_axis(Axis(0), i).flatten().to_owned());
            (&a - &b).mapv(|d| d * d).sum().sqrt() / b.mapv(|g| g * g).sum().sqrt().max(1e-12)
        };
        let outliers = (0..100).filter(|&i| error(i) > 1e-4).count();
        eprintln!("{choice}, {model}: {outliers} of 100 gradients differ by more than 1e-4");
        // Where rounding tips a ReLU or a pool the other way, a gradient differs visibly.
        assert!(outliers <= 3, "{choice}, {model}: {outliers} of 100 gradients differ");
    }
}

#[test]
fn gradients_are_the_same_to_the_bit_whatever_the_threads() {
    let cases = [
        (EngineChoice::Rten, Precision::F32),
        (EngineChoice::OnnxRuntime, Precision::F32),
        (EngineChoice::OpenVino, Precision::F32),
        (EngineChoice::OpenVino, Precision::Bf16),
    ];
    let samples = samples(32);
    let labels = samples.labels.clone().unwrap();
    for (choice, precision) in cases {
        let engine = match select(choice, None).and_then(|selected| selected.engine.with_precision(precision)) {
            Ok(engine) => engine,
            Err(reason) => {
                eprintln!("skipped: {reason}");
                continue;
            }
        };
        for model in ["fmnist_badnets.onnx", "resnet_badnets.onnx"] {
            let gradient = |threads: usize| {
                let classifier = classifier_with_threads(model, engine.clone(), threads);
                classifier.loss_gradient(samples.images.view(), &labels).unwrap()
            };
            let one = gradient(1);
            assert!(one.iter().any(|&g| g != 0.0));
            for threads in [2, 3] {
                assert!(gradient(threads) == one, "{choice} {precision}, {model}: {threads} threads differ from one");
            }
        }
    }
}

#[test]
fn labels_and_shapes_that_do_not_fit_are_refused() {
    let classifier = classifier("fmnist_clean.onnx", Arc::new(Rten));
    let images = Array4::zeros((2, 1, 28, 28));
    assert!(classifier.loss_gradient(images.view(), &[0]).unwrap_err().to_string().contains("1 labels for 2 images"));
    assert!(classifier.loss_gradient(images.view(), &[0, 10]).unwrap_err().to_string().contains("label 10"));
    assert!(classifier.class_gradient(images.view(), 12).is_err());
    assert!(classifier.predict(Array4::zeros((1, 3, 28, 28)).view()).is_err());
    assert_eq!(classifier.predict(Array4::zeros((0, 1, 28, 28)).view()).unwrap().shape(), [0, 10]);
}
