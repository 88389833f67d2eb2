//! How foreign to its target a trigger is, by what the layers of the model see of it.
//!
//! A natural trigger makes the layers see what they see in images of the target. The trigger of a backdoor reaches the target by features of its own, that were learned for it.
//! (What a trigger changes and what tells two classes apart were first compared by Liu et al., "Complex Backdoor Detection by Symmetric Feature
//! Differencing", CVPR 2022.)

use std::collections::HashMap;
use std::ops::Range;

use ndarray::{Array1, Array2, ArrayView1, Axis, s};
use onnx_grad::{Graph, Tensor};

use crate::classifier::{BATCH, Classifier, Predictor};
use crate::clean_set::{CleanSet, evenly};
use crate::detection::median;
use crate::error::Result;
use crate::inversion::Inversion;
use crate::logits::classes_of;
use crate::look;
use crate::trigger::Trigger;

/// How many images a trigger is applied to, at the most.
const IMAGES: usize = 150;

/// How many clean images are seen, at the most.
const CLEAN_IMAGES: usize = 2000;

/// How many features of an image are looked at, at the most: where there are more, those of the last layers that are no more.
const FEATURES: usize = 1 << 16;

/// With fewer images of a kind than this, their mean says little.
const FEWEST_IMAGES: usize = 3;

/// By how much the distance in one layer can differ from the usual, as a factor.
const MOST_IN_A_LAYER: f64 = 20.0;

/// What the layers of a model see of triggers, each of which is measured once.
pub(crate) struct Distances<'a> {
    classifier: &'a Classifier,
    images: &'a CleanSet,
    /// `None` before the first trigger, and again when they are not needed for now.
    layers: Option<Option<Layers>>,
    /// By class and look.
    known: HashMap<(usize, u64), Option<Vec<f64>>>,
}

impl<'a> Distances<'a> {
    pub fn new(classifier: &'a Classifier, images: &'a CleanSet) -> Self {
        Distances { classifier, images, layers: None, known: HashMap::new() }
    }

    /// How far the trigger that a look at its class found is from what is natural ([`Layers::distances`]); `None` where it cannot be told.
    ///
    /// # Errors
    /// If the engine fails.
    pub fn of(&mut self, look: u64, inversion: &Inversion) -> Result<Option<Vec<f64>>> {
        let Inversion { target_class, ref trigger, converged, .. } = *inversion;
        if let Some(known) = self.known.get(&(target_class, look)) {
            return Ok(known.clone());
        }
        if self.layers.is_none() {
            self.layers = Some(Layers::new(self.classifier, self.images)?);
        }
        let layers = self.layers.as_mut().and_then(Option::as_mut).filter(|_| converged);
        let measured = layers.map(|layers| layers.distances(trigger, target_class)).transpose()?.flatten();
        self.known.insert((target_class, look), measured.clone());
        Ok(measured)
    }

    /// Frees the memory that takes while other things are done.
    pub fn rest(&mut self) {
        self.layers = None;
    }
}

/// What the second half of the layers of a model see of clean images.
struct Layers {
    images: CleanSet,
    predictor: Predictor,
    /// Where the features of each layer are in a row, and after them the logits.
    layers: Vec<Range<usize>>,
    /// A row for each image.
    clean: Array2<f32>,
    predicted: Vec<usize>,
}

impl Layers {
    /// Sends all `images` through the model of `classifier`. `None` where it has no linear layer that sees more than the pixels, or this would take more memory than the
    /// classifier may use: a scan that has come so far is not to end without a verdict.
    ///
    /// The features of a layer are what goes into a Gemm, a MatMul or a convolution with constant weights: of each channel, the mean over its positions.
    ///
    /// # Errors
    /// If the engine fails.
    pub fn new(classifier: &Classifier, images: &CleanSet) -> Result<Option<Self>> {
        let network = classifier.network();
        let mut graph = Graph::new();
        let batch = network.batch(BATCH);
        let input = network.add_images(&mut graph, batch)?;
        let (values, logits) = network.append_layers(&mut graph, &input)?;
        let (mut rows, mut layers, mut end) = (Vec::new(), Vec::new(), 0);
        for value in values[values.len() / 2..].iter().rev() {
            let width = graph.shape(&value.name)?[value.axis];
            if end + width <= FEATURES {
                rows.push(channels(&mut graph, &value.name, value.axis)?);
                layers.push(end..end + width);
                end += width;
            }
        }
        rows.push(logits);
        let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
        let output = graph.apply("Concat", &rows, [("axis", 1)])?;
        if layers.is_empty() || classifier.memory_for(&graph).is_err() {
            return Ok(None);
        }
        let mut predictor = Predictor::compile(&**classifier.engine(), graph, &input, &output, classifier.threads())?;
        let all: Vec<usize> = (0..images.labels.len()).collect();
        let images = images.select(&evenly(&all, CLEAN_IMAGES));
        let clean = predictor.predict(images.images.view())?;
        let predicted = classes_of(&clean.slice(s![.., end..]).to_owned());
        Ok(Some(Layers { images, predictor, layers, clean, predicted }))
    }

    /// How far, in each layer, what `trigger` changes about the images of other classes is from what tells those of class `target` from them: the cosine distance, in 0..=2, of the
    /// two differences of mean features. Images of other classes count where the trigger sends them to the target, and the model does not without it; images of the target where the
    /// model takes them for that. `None` where either are too few.
    ///
    /// # Errors
    /// If the trigger does not fit the images, or the engine fails.
    pub fn distances(&mut self, trigger: &Trigger, target: usize) -> Result<Option<Vec<f64>>> {
        let mut rows = self.images.rows_outside(target);
        rows.retain(|&row| self.predicted[row] != target);
        let rows = evenly(&rows, IMAGES);
        let stamped = trigger.apply(self.images.images.select(Axis(0), &rows).view())?;
        let seen = self.predictor.predict(stamped.view())?;
        let end = self.layers.last().map_or(0, |layer| layer.end);
        let reached = classes_of(&seen.slice(s![.., end..]).to_owned());
        let sent: Vec<usize> = (0..rows.len()).filter(|&i| reached[i] == target).collect();
        let mut own = self.images.rows_of(target);
        own.retain(|&row| self.predicted[row] == target);
        if sent.len() < FEWEST_IMAGES || own.len() < FEWEST_IMAGES {
            return Ok(None);
        }
        let before: Vec<usize> = sent.iter().map(|&i| rows[i]).collect();
        let before = mean(&self.clean, &before);
        let changed = mean(&seen, &sent) - &before;
        let natural = mean(&self.clean, &own) - &before;
        let distance = |layer: &Range<usize>| {
            let layer = s![layer.clone()];
            1.0 - cosine(changed.slice(layer), natural.slice(layer))
        };
        Ok(Some(self.layers.iter().map(distance).collect()))
    }
}

/// What is usual in each layer: the median of the `distances` of several triggers.
pub(crate) fn usual<'a>(distances: impl Iterator<Item = &'a Vec<f64>>) -> Option<Vec<f64>> {
    let distances: Vec<&Vec<f64>> = distances.collect();
    let of_layer = |layer: usize| median(&distances.iter().map(|distances| distances[layer]).collect::<Vec<_>>());
    (0..distances.first()?.len()).map(of_layer).collect()
}

/// The distances of one trigger as a multiple of the `usual` ones: the geometric mean over the layers.
pub(crate) fn relative(distances: &[f64], usual: &[f64]) -> f64 {
    let in_a_layer = |(distance, usual): (&f64, &f64)| {
        let multiple = distance.max(f64::MIN_POSITIVE) / usual.max(f64::MIN_POSITIVE);
        multiple.clamp(1.0 / MOST_IN_A_LAYER, MOST_IN_A_LAYER)
    };
    look::geometric_mean(distances.iter().zip(usual).map(in_a_layer))
}

/// The mean of each channel of `value` over its positions, `[batch, channels]`; the channels are along `axis`.
fn channels(graph: &mut Graph, value: &str, axis: usize) -> Result<String> {
    let positions: Vec<i64> = (1..graph.shape(value)?.len()).filter(|&i| i != axis).map(|i| i as i64).collect();
    if positions.is_empty() {
        return Ok(value.to_owned());
    }
    let positions = graph.constant(Tensor::ints(&positions));
    Ok(graph.apply("ReduceMean", &[value, &positions], [("keepdims", 0)])?)
}

fn mean(rows: &Array2<f32>, of: &[usize]) -> Array1<f64> {
    let mut sum = Array1::zeros(rows.len_of(Axis(1)));
    for &row in of {
        sum.zip_mut_with(&rows.row(row), |sum, &value| *sum += f64::from(value));
    }
    sum / of.len() as f64
}

/// 0 where either is.
fn cosine(a: ArrayView1<'_, f64>, b: ArrayView1<'_, f64>) -> f64 {
    let lengths = (a.dot(&a) * b.dot(&b)).sqrt();
    if lengths > 0.0 { a.dot(&b) / lengths } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ndarray::{Array3, Array4};
    use onnx_grad::{ElementType, Model, ValueType};

    use super::*;
    use crate::ClassifierOptions;
    use crate::engine::Rten;

    /// Class 0 is what is bright in channel 0, class 1 what is bright in channel 1 or, which no clean image is, in channel 2.
    fn classifier(batch: usize) -> Classifier {
        limited(batch, None).unwrap()
    }

    fn limited(batch: usize, max_memory: Option<u64>) -> Result<Classifier> {
        let mut graph = Graph::new();
        graph.add_input("x", ValueType::new(ElementType::F32, [batch, 3, 4, 4])).unwrap();
        let mut weights = |name: &str, shape: &[usize], values: &[f64]| {
            graph.add_initializer(name, Tensor::floats(ElementType::F32, shape, values)).unwrap();
        };
        for conv in ["conv1", "conv2", "conv3"] {
            weights(conv, &[3, 3, 1, 1], &[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
        }
        weights("dense", &[3, 2], &[1.0, 0.0, 0.0, 1.0, 0.0, 1.0]);
        let mut value = "x".to_owned();
        for weights in ["conv1", "conv2", "conv3"] {
            let conv = graph.apply("Conv", &[&value, weights], ()).unwrap();
            value = graph.apply("Relu", &[&conv], ()).unwrap();
        }
        let pooled = graph.apply("GlobalAveragePool", &[&value], ()).unwrap();
        let flat = graph.apply("Flatten", &[&pooled], ()).unwrap();
        let logits = graph.apply("MatMul", &[&flat, "dense"], ()).unwrap();
        graph.add_output(&logits).unwrap();
        let model = Model::from_bytes(&graph.to_model_bytes("channels").unwrap()).unwrap();
        Classifier::new(model, ClassifierOptions { max_memory, ..ClassifierOptions::default() }, Arc::new(Rten), 1)
    }

    fn images(of_each: usize) -> CleanSet {
        let pixel = |(i, c, y, x): (usize, usize, usize, usize)| {
            let brightness = if c == i / of_each { 200.0 } else { 20.0 } + ((i * 31 + y * 7 + x * 3) % 11) as f32;
            if c == 2 { 0.0 } else { brightness }
        };
        CleanSet {
            images: Array4::from_shape_fn((2 * of_each, 3, 4, 4), pixel),
            labels: (0..2 * of_each).map(|i| i / of_each).collect(),
        }
    }

    fn bright(channel: usize) -> Trigger {
        let pattern = Array3::from_shape_fn((3, 4, 4), |(c, _, _)| if c == channel { 255.0 } else { 0.0 });
        Trigger::new(Array3::ones((1, 4, 4)), pattern).unwrap()
    }

    #[test]
    fn what_the_target_has_is_near_and_what_it_has_not_is_far() {
        for batch in [1, 5] {
            let mut layers = Layers::new(&classifier(batch), &images(10)).unwrap().unwrap();
            let mut distances = |channel| layers.distances(&bright(channel), 1).unwrap().unwrap();
            let (natural, foreign) = (distances(1), distances(2));
            // Of what goes into the third convolution and into the dense layer: that which goes into the second is of the first half, and the images are no layer's.
            assert_eq!((natural.len(), foreign.len()), (2, 2));
            assert!(natural.iter().all(|distance| (0.0..0.02).contains(distance)), "{natural:?}");
            assert!(foreign.iter().all(|distance| *distance > 0.3), "{foreign:?}");
        }
    }

    #[test]
    fn too_few_images_or_a_trigger_that_does_not_work_tell_nothing() {
        let mut layers = Layers::new(&classifier(1), &images(2)).unwrap().unwrap();
        assert_eq!(layers.distances(&bright(1), 1).unwrap(), None);
        let mut layers = Layers::new(&classifier(1), &images(10)).unwrap().unwrap();
        assert_eq!(layers.distances(&bright(0), 1).unwrap(), None);
    }

    #[test]
    fn what_would_take_more_memory_than_may_be_used_is_not_measured() {
        // The least with which the model itself runs.
        let (mut too_little, mut enough) = (0, 1 << 30);
        while enough - too_little > 1 {
            let middle = (too_little + enough) / 2;
            let bound = if limited(1, Some(middle)).is_ok() { &mut enough } else { &mut too_little };
            *bound = middle;
        }
        assert!(Layers::new(&limited(1, Some(enough)).unwrap(), &images(10)).unwrap().is_none());
        assert!(Layers::new(&limited(1, Some(2 * enough)).unwrap(), &images(10)).unwrap().is_some());
    }

    #[test]
    fn a_layer_counts_as_much_as_another_and_no_more_than_a_bound() {
        let distances = [vec![0.1, 0.2], vec![0.2, 0.4], vec![0.4, 0.1]];
        let usual = usual(distances.iter()).unwrap();
        assert_eq!(usual, [0.2, 0.2]);
        assert!((relative(&distances[0], &usual) - 0.5_f64.sqrt()).abs() < 1e-12);
        assert!((relative(&[0.2, 0.0], &usual) - (1.0 / MOST_IN_A_LAYER).sqrt()).abs() < 1e-12);
        assert!((relative(&[0.2, 2.0], &[0.2, 0.0]) - MOST_IN_A_LAYER.sqrt()).abs() < 1e-12);
        assert_eq!(super::usual(std::iter::empty()), None);
    }
}
