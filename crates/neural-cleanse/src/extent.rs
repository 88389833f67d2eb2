//! How much of an image a trigger needs, whatever a search has left beside it.
//!
//! A search ends with dust: hundreds of pixels of a few percent opacity each, which add up to much of the norm and to little of the effect. Without them the
//! triggers of backdoors shrink to a few opaque pixels, and those of clean models, which live of small changes everywhere, do not.

use serde::{Deserialize, Serialize};

use crate::classifier::Classifier;
use crate::clean_set::CleanSet;
use crate::error::Result;
use crate::logits::classes_of;
use crate::trigger::Trigger;

/// The share of a trigger's success that what is left of it must have.
const SUCCESS_KEPT: f64 = 0.9;

/// The faintest pixels are taken away in parts of the norm of this size, 1 / `PARTS`.
const PARTS: usize = 32;

/// On how many images success is measured, at the most.
const IMAGES: usize = 256;

/// What is left of a trigger that was trimmed as far as it keeps nine tenths of its success.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Extent {
    /// Σ|mask|.
    pub norm_l1: f64,
    /// [Σm²/Σm](Trigger::opacity).
    pub opacity: f64,
}

impl Extent {
    /// Of `trigger`, which sends images of class `source` (of all others, where there is none) to `target`.
    ///
    /// # Errors
    /// If the engine fails.
    pub(crate) fn measure(
        classifier: &Classifier,
        images: &CleanSet,
        trigger: &Trigger,
        source: Option<usize>,
        target: usize,
    ) -> Result<Self> {
        let images = images.some_of(&images.rows_to_send(source, target), IMAGES);
        let successes = |trigger: &Trigger| -> Result<usize> {
            let predicted = classes_of(&classifier.predict(trigger.apply(images.view())?.view())?);
            Ok(predicted.into_iter().filter(|&class| class == target).count())
        };
        let enough = SUCCESS_KEPT * successes(trigger)? as f64;
        // So many parts can go, and so many cannot.
        let (mut can, mut cannot) = (0, PARTS);
        let mut left = trigger.clone();
        while cannot - can > 1 {
            let parts = can.midpoint(cannot);
            let trimmed = trigger.trimmed(parts as f64 / PARTS as f64);
            if successes(&trimmed)? as f64 >= enough {
                (can, left) = (parts, trimmed);
            } else {
                cannot = parts;
            }
        }
        Ok(Extent { norm_l1: left.norm_l1(), opacity: left.opacity() })
    }

    /// In pixels: √(Σm · (Σm)²/Σm²), the geometric mean of the norm and the effective area of the mask. So many opaque pixels have it; of a faint overlay it
    /// is larger than the norm.
    pub fn pixels(&self) -> f64 {
        self.norm_l1 / self.opacity.sqrt()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ndarray::{Array3, Array4, s};
    use onnx_grad::{ElementType, Graph, Model, Tensor, ValueType};

    use super::*;
    use crate::classifier::ClassifierOptions;
    use crate::engine::Rten;

    const SIDE: usize = 8;

    /// Two classes of 8x8 pixels: the second where the four pixels of the corner are bright enough.
    fn corner() -> Classifier {
        let mut weights = vec![0.0; 2 * SIDE * SIDE];
        [0, 1, SIDE, SIDE + 1].iter().for_each(|pixel| weights[2 * pixel + 1] = 1.0 / 255.0);
        let mut graph = Graph::new();
        graph.add_input("images", ValueType::new(ElementType::F32, [4, 1, SIDE, SIDE])).unwrap();
        let flat = graph.apply("Flatten", &["images"], ()).unwrap();
        let weights = graph.constant(Tensor::floats(ElementType::F32, [SIDE * SIDE, 2], &weights));
        let scores = graph.apply("MatMul", &[&flat, &weights], ()).unwrap();
        let bias = graph.constant(Tensor::floats(ElementType::F32, [2], &[0.0, -3.0]));
        let logits = graph.apply("Add", &[&scores, &bias], ()).unwrap();
        graph.set_outputs(&[&logits]).unwrap();
        let model = Model::from_bytes(&graph.to_model_bytes("corner").unwrap()).unwrap();
        Classifier::new(model, ClassifierOptions::default(), Arc::new(Rten), 1).unwrap()
    }

    fn black() -> CleanSet {
        CleanSet { images: Array4::zeros((10, 1, SIDE, SIDE)), labels: vec![0; 10] }
    }

    /// An opaque corner in a mask that is otherwise of this opacity.
    fn dusty(dust: f32) -> Trigger {
        let mut mask = Array3::from_elem((1, SIDE, SIDE), dust);
        mask.slice_mut(s![.., ..2, ..2]).fill(1.0);
        Trigger::new(mask, Array3::from_elem((1, SIDE, SIDE), 255.0)).unwrap()
    }

    #[test]
    fn dust_does_not_count() {
        for dust in [0.0, 0.02, 0.05, 0.1] {
            let extent = Extent::measure(&corner(), &black(), &dusty(dust), None, 1).unwrap();
            // Of what can go, up to a part may be left.
            let (least, most) = (4.0, 4.0 + f64::from(dust) * 60.0 / 8.0 + 0.5);
            assert!((least..=most).contains(&extent.norm_l1), "{dust}: {extent:?}");
            assert!(extent.pixels() < 1.5 * most, "{dust}: {extent:?}");
        }
    }

    #[test]
    fn what_a_trigger_needs_counts() {
        let mask = Array3::from_elem((1, SIDE, SIDE), 0.8);
        let overlay = Trigger::new(mask, Array3::from_elem((1, SIDE, SIDE), 255.0)).unwrap();
        let extent = Extent::measure(&corner(), &black(), &overlay, None, 1).unwrap();
        // Equally faint pixels go from the first one on, which here is in the corner: none can.
        assert_eq!((extent.norm_l1 * 10.0).round(), 512.0);
        assert_eq!(extent.pixels().round(), (51.2 / 0.8_f64.sqrt()).round());
    }

    #[test]
    fn a_trigger_for_one_source_is_measured_on_its_images() {
        let mut images = black();
        images.labels[7] = 1;
        let measured = |source| Extent::measure(&corner(), &images, &dusty(0.05), Some(source), 1).unwrap();
        assert_eq!(measured(0), Extent::measure(&corner(), &black(), &dusty(0.05), None, 1).unwrap());
    }
}
