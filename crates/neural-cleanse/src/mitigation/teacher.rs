//! The model before the training, which is asked what it is to go on answering.

use ndarray::{Array2, ArrayView4};

use crate::classifier::Classifier;
use crate::error::Result;

/// The mean entropy of the answers, as a share of the greatest that is possible, to which a temperature is chosen.
const ENTROPY: f64 = 0.5;

/// A temperature beyond which all answers are alike.
const HOTTEST: f64 = 1e3;

/// A classifier whose answers are probabilities at a temperature, `softmax(logits / temperature)` (Hinton et al., "Distilling the Knowledge
/// in a Neural Network", 2015).
///
/// A model that is sure of everything says little at the temperature 1: only what it holds for second and third best tells one
/// image of a class from another, and holds a model that is trained on few images to what it was.
pub struct Teacher<'a> {
    classifier: &'a Classifier,
    temperature: f64,
}

impl<'a> Teacher<'a> {
    pub fn new(classifier: &'a Classifier, temperature: f64) -> Self {
        Teacher { classifier, temperature }
    }

    pub fn temperature(&self) -> f64 {
        self.temperature
    }

    pub fn classes(&self) -> usize {
        self.classifier.classes()
    }

    /// The probabilities `[N, classes]` of `images` `[N, C, H, W]`.
    ///
    /// # Errors
    /// If the engine fails.
    pub fn answers(&self, images: ArrayView4<'_, f32>) -> Result<Array2<f32>> {
        Ok(softmax(self.classifier.predict(images)?, self.temperature))
    }
}

/// The lowest temperature, 1 or more, at which answers from `logits` have on average half the entropy that they could have.
pub fn temperature_for(logits: &Array2<f32>) -> f64 {
    let wanted = ENTROPY * (logits.ncols() as f64).ln();
    let (mut low, mut high) = (1.0, HOTTEST);
    if mean_entropy(logits, low) >= wanted {
        return low;
    }
    // Until the two are the same number but for rounding.
    for _ in 0..40 {
        let middle = f64::sqrt(low * high);
        if mean_entropy(logits, middle) < wanted { low = middle } else { high = middle }
    }
    high
}

/// Of each row of `logits` as probabilities, in nats.
fn mean_entropy(logits: &Array2<f32>, temperature: f64) -> f64 {
    let probabilities = softmax(logits.clone(), temperature);
    let sum: f64 = probabilities.iter().filter(|&&p| p > 0.0).map(|&p| -f64::from(p) * f64::from(p).ln()).sum();
    sum / logits.nrows().max(1) as f64
}

/// Each row of `logits` as probabilities.
fn softmax(mut logits: Array2<f32>, temperature: f64) -> Array2<f32> {
    for mut row in logits.outer_iter_mut() {
        let largest = row.fold(f32::NEG_INFINITY, |largest, &logit| largest.max(logit));
        row.mapv_inplace(|logit| ((logit - largest) / temperature as f32).exp());
        let sum = row.sum();
        row /= sum;
    }
    logits
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn probabilities_follow_from_logits_of_any_size() {
        let probabilities = softmax(array![[0.0, 3f32.ln()], [1000.0, 1000.0], [f32::NEG_INFINITY, -1000.0]], 1.0);
        let error =
            (&probabilities - &array![[0.25, 0.75], [0.5, 0.5], [0.0, 1.0]]).fold(0.0, |e: f32, d| e.max(d.abs()));
        assert!(error < 1e-6, "{probabilities}");
        let colder = softmax(array![[0.0, 2.0 * 3f32.ln()]], 2.0);
        assert!((colder[[0, 1]] - 0.75).abs() < 1e-6, "{colder}");
    }

    #[test]
    fn the_temperature_leaves_half_the_entropy() {
        // Sure of everything, the more so the higher the scale, which the temperature makes up for.
        let logits = array![[1.0f32, 0.2, -1.0], [-0.5, 0.0, 2.0]];
        let sure = temperature_for(&(&logits * 20.0));
        assert!((mean_entropy(&(&logits * 20.0), sure) / 3f64.ln() - 0.5).abs() < 1e-5);
        assert!((temperature_for(&(&logits * 40.0)) / sure - 2.0).abs() < 1e-5);
        // Never colder than the model is of itself, however unsure it is.
        assert_eq!(temperature_for(&(&logits * 0.1)), 1.0);
        // Nor does a model without any opinion, or one whose scores are infinite, keep it from ending.
        assert_eq!(temperature_for(&Array2::zeros((2, 3))), 1.0);
        assert_eq!(temperature_for(&array![[0.0, f32::NEG_INFINITY]]), HOTTEST);
    }
}
