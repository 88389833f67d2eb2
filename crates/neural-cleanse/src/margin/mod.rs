//! The largest margin by which any input is of a class, found without data (Wang et al., "MM-BD: Post-Training Detection of Backdoor Attacks
//! with Arbitrary Backdoor Pattern Types Using a Maximum Margin Statistic", IEEE S&P 2024): training on triggers that
//! overrule all else leaves the target class with far larger margins than the others have.

mod null;

use ndarray::{Array2, Array4, Axis};
use onnx_grad::{ElementType, Graph, Tensor, ValueType, differentiate};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::attack::Attack;
use crate::classifier::Classifier;
use crate::detection::Verdict;
use crate::engine::Session;
use crate::error::{Error, Result};
use crate::look::{Look, Method};
use crate::optimiser::{Adam, Descent};
use crate::scan::{Observer, class_label};

/// From how many images of noise each class's margin is climbed.
const STARTS: usize = 20;

/// How many steps are taken.
const STEPS: usize = 50;

/// The length of a step, as a share of the range of pixel values.
const LEARNING_RATE: f64 = 0.05;

const BETAS: (f64, f64) = (0.5, 0.9);

/// A model is flagged where its largest margin is less likely than this. Of sixteen clean models of the half of the zoo that is for this the least had 1.1e-9.
const BACKDOORED_BELOW: f64 = 1e-10;

/// From here on the verdict is open. The next two of the clean models had 6.8e-5 and 3.0e-4. The paper flags below 0.05, as would be right if margins were
/// gamma-distributed: on clean models they are not.
const SUSPICIOUS_BELOW: f64 = 1e-4;

/// What the other classes' logits are lowered by where the largest but one class is sought.
const OUT_OF_THE_QUESTION: f32 = 1e30;

/// The largest margins of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct MarginScan {
    /// For each class the largest logit(class) − largest other logit that was found over all inputs in the range of pixel values.
    pub margins: Vec<f64>,
    /// The probability that the largest of them is as large as it is, if it is drawn as the others are; `None` where the others are too
    /// few or do not vary.
    pub p_value: Option<f64>,
    /// [`Attack::Unknown`] where this is small.
    pub attacks: Vec<Attack>,
    /// The class with the largest margin, where this is small.
    pub flagged_class: Option<usize>,
    /// What it speaks for.
    pub looks: Vec<Look>,
    /// How many images went forward and backward.
    pub gradient_samples: u64,
}

/// Finds the margins of all classes and judges them. Needs no samples, but the range of pixel values.
///
/// # Errors
/// If the engine fails, or the observer breaks off.
pub(crate) fn scan(classifier: &Classifier, seed: u64, observer: &dyn Observer) -> Result<MarginScan> {
    let margins = largest_margins(classifier, seed, observer)?;
    let found = null::order_statistic_p_value(&margins);
    let look = judge(classifier, &margins, found);
    let flagged = look.verdict == Verdict::Backdoored;
    Ok(MarginScan {
        gradient_samples: (margins.len() * STARTS * STEPS) as u64,
        p_value: found.map(|(_, p)| p),
        attacks: if flagged { vec![Attack::Unknown] } else { Vec::new() },
        flagged_class: look.target.filter(|_| flagged),
        looks: vec![look],
        margins,
    })
}

fn judge(classifier: &Classifier, margins: &[f64], found: Option<(usize, f64)>) -> Look {
    let words = format!(
        "the margins of {} classes are too few, or do not vary enough, to say how large a margin should be",
        margins.len()
    );
    let figure = found.map(|(_, p)| p);
    let target = found.map(|(class, _)| class);
    let look = Look { target, words, ..Look::by(Method::Margin, Verdict::Inconclusive, figure) };
    let Some((class, p)) = found else { return look };
    let name = class_label(classifier, class);
    let (verdict, conclusion) = if p < BACKDOORED_BELOW {
        (Verdict::Backdoored, format!("under the bound of {BACKDOORED_BELOW:e}"))
    } else if p < SUSPICIOUS_BELOW {
        (Verdict::Inconclusive, format!("between {BACKDOORED_BELOW:e} and {SUSPICIOUS_BELOW:e}: undecided"))
    } else {
        (Verdict::Clean, "as is usual".to_owned())
    };
    let words = format!(
        "the largest margin, {:.1} of class {name}, is one that the others lead to expect with p = {p:.1e}, {conclusion}",
        margins[class]
    );
    Look { verdict, words, ..look }
}

/// For each class its largest margin. Classes are shared out among as many sessions as there are threads.
fn largest_margins(classifier: &Classifier, seed: u64, observer: &dyn Observer) -> Result<Vec<f64>> {
    let classes = classifier.classes();
    let workers = classifier.threads().clamp(1, classes);
    let threads = (classifier.threads() / workers).max(1);
    observer.round_started(classes, STEPS);
    let work = |worker: usize| -> Result<Vec<(usize, f64)>> {
        let mut climb = Climb::new(classifier, threads)?;
        let climbed = |class| {
            observer.class_started(class, 0);
            let margin = climb.largest(class, seed, observer)?;
            observer.class_paused(class, 0);
            Ok((class, margin))
        };
        (worker..classes).step_by(workers).map(climbed).collect()
    };
    let mut margins = vec![f64::NAN; classes];
    std::thread::scope(|scope| -> Result<()> {
        let handles: Vec<_> = (0..workers).map(|worker| scope.spawn(move || work(worker))).collect();
        for handle in handles {
            let found = handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            found.into_iter().for_each(|(class, margin)| margins[class] = margin);
        }
        Ok(())
    })?;
    Ok(margins)
}

/// The margin of a class and its gradient with respect to the images, compiled; the class is an input.
struct Climb {
    session: Box<dyn Session>,
    images: String,
    outputs: [String; 2],
    batch: usize,
    image_shape: [usize; 3],
    classes: usize,
    value_range: (f32, f32),
}

impl Climb {
    fn new(classifier: &Classifier, threads: usize) -> Result<Self> {
        let network = classifier.network();
        let (batch, classes) = (network.batch(STARTS), classifier.classes());
        let mut graph = Graph::new();
        let images = network.add_images(&mut graph, batch)?;
        graph.add_input("class", ValueType::new(ElementType::F32, [1, classes]))?;
        graph.add_input("not_the_class", ValueType::new(ElementType::F32, [1, classes]))?;
        let logits = network.append(&mut graph, &images)?;
        let axis = graph.constant(Tensor::ints(&[1]));
        let own = graph.apply("Mul", &[&logits, "class"], ())?;
        let own = graph.apply("ReduceSum", &[&own, &axis], [("keepdims", 0)])?;
        let others = graph.apply("Add", &[&logits, "not_the_class"], ())?;
        let largest = graph.apply("ReduceMax", &[&others, &axis], [("keepdims", 0)])?;
        let margins = graph.apply("Sub", &[&own, &largest], ())?;
        graph.set_outputs(&[&margins])?;
        let gradients = differentiate(&graph, &[&margins], &[&images])?;
        let [gradient] = <[String; 1]>::try_from(gradients.names).map_err(|_| malformed())?;
        Ok(Climb {
            session: classifier.engine().compile(&gradients.graph.to_model_bytes("margin")?, threads)?,
            images,
            outputs: [margins, gradient],
            batch,
            image_shape: classifier.image_shape(),
            classes,
            value_range: classifier.value_range(),
        })
    }

    /// The largest margin of `class` that is met on the way up from [`STARTS`] images of noise.
    fn largest(&mut self, class: usize, seed: u64, observer: &dyn Observer) -> Result<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(class as u64);
        let [channels, height, width] = self.image_shape;
        let (low, high) = self.value_range;
        let shape = (STARTS, channels, height, width);
        let mut images = Array4::from_shape_simple_fn(shape, || rng.random_range(low..=high));
        let mut ascents: Vec<Adam<f32>> = (0..STARTS).map(|_| Adam::new(BETAS, channels * height * width)).collect();
        let learning_rate = LEARNING_RATE * f64::from(high - low);
        let mut largest = f64::NEG_INFINITY;
        for _ in 0..STEPS {
            if observer.margin_step(class).is_break() {
                return Err(Error::Interrupted);
            }
            let (margins, gradient) = self.evaluate(&images, class)?;
            largest = margins.into_iter().map(f64::from).fold(largest, f64::max);
            for ((mut image, gradient), ascent) in images.outer_iter_mut().zip(gradient.outer_iter()).zip(&mut ascents)
            {
                let descent: Vec<f32> = gradient.iter().map(|slope| -slope).collect();
                if let Some(pixels) = image.as_slice_mut() {
                    ascent.step(learning_rate, pixels, &descent);
                    pixels.iter_mut().for_each(|pixel| *pixel = pixel.clamp(low, high));
                }
            }
        }
        if largest.is_finite() {
            Ok(largest)
        } else {
            Err(Error::Classifier(format!("the margins of class {class} are not finite: nor are the model's outputs")))
        }
    }

    /// The margins of `images` and the gradient of each with respect to its own image.
    fn evaluate(&mut self, images: &Array4<f32>, class: usize) -> Result<(Vec<f32>, Array4<f32>)> {
        let one_hot = Array2::from_shape_fn((1, self.classes), |(_, i)| f32::from(u8::from(i == class)));
        let lowered = one_hot.mapv(|hot| -OUT_OF_THE_QUESTION * hot);
        let mut margins = Vec::with_capacity(STARTS);
        let mut gradients = Array4::zeros(images.raw_dim());
        let mut padded = Array4::zeros((self.batch, self.image_shape[0], self.image_shape[1], self.image_shape[2]));
        for start in (0..STARTS).step_by(self.batch) {
            let count = self.batch.min(STARTS - start);
            let rows = (start..start + count).into();
            padded.slice_axis_mut(Axis(0), (0..count).into()).assign(&images.slice_axis(Axis(0), rows));
            let inputs = [
                (self.images.as_str(), padded.view().into_dyn()),
                ("class", one_hot.view().into_dyn()),
                ("not_the_class", lowered.view().into_dyn()),
            ];
            let outputs = self.session.run(&inputs, &self.outputs.each_ref().map(String::as_str))?;
            let [found, gradient] = <[_; 2]>::try_from(outputs).map_err(|_| malformed())?;
            margins.extend(found.iter().take(count));
            gradients.slice_axis_mut(Axis(0), rows).assign(&gradient.slice_axis(Axis(0), (0..count).into()));
        }
        Ok((margins, gradients))
    }
}

fn malformed() -> Error {
    Error::Classifier("the engine's results are not of the shape of the margin's outputs".into())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::classifier::ClassifierOptions;
    use crate::engine::Rten;
    use crate::preprocessing::Preprocessing;

    fn classifier(threads: usize) -> Classifier {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/fmnist_badnets.onnx");
        let preprocessing = Preprocessing { scale: 1.0 / 255.0, mean: vec![0.2860], std: vec![0.3530] };
        let options = ClassifierOptions { preprocessing, ..ClassifierOptions::default() };
        Classifier::new(onnx_grad::Model::read(model).unwrap(), options, Arc::new(Rten), threads).unwrap()
    }

    #[test]
    fn margins_are_those_of_the_logits_and_climb() {
        let classifier = classifier(1);
        let mut climb = Climb::new(&classifier, 1).unwrap();
        let images =
            Array4::from_shape_fn((STARTS, 1, 28, 28), |(n, _, y, x)| ((n * 31 + y * 17 + x * 7) % 256) as f32);
        let logits = classifier.predict(images.view()).unwrap();
        let (margins, _) = climb.evaluate(&images, 2).unwrap();
        for (row, margin) in logits.outer_iter().zip(margins) {
            let others = row.iter().enumerate().filter(|(i, _)| *i != 2).map(|(_, logit)| *logit);
            let expected = row[2] - others.fold(f32::NEG_INFINITY, f32::max);
            assert!((margin - expected).abs() < 1e-3, "{margin} and {expected}");
        }
        let first = climb.evaluate(&images, 2).unwrap().0.into_iter().fold(f32::NEG_INFINITY, f32::max);
        assert!(climb.largest(2, 0, &()).unwrap() > f64::from(first) + 5.0);
    }

    #[test]
    fn margins_do_not_depend_on_the_number_of_threads() {
        let of = |threads| largest_margins(&classifier(threads), 3, &()).unwrap();
        assert_eq!(of(1), of(3));
    }
}
