//! Clean images that methods work on and are measured with.

use ndarray::{Array4, Axis};

use crate::classifier::Classifier;
use crate::data::Samples;
use crate::error::Result;
use crate::logits::classes_of;
use crate::trigger::Trigger;

/// Clean images with the classes that they belong to.
#[derive(Debug, Clone)]
pub struct CleanSet {
    /// `[N, C, H, W]`, raw pixel values.
    pub images: Array4<f32>,
    /// One class for each image: its label or, where there are none, what the model says of it.
    pub labels: Vec<usize>,
}

impl CleanSet {
    /// `samples` with the model's own predictions where there are no labels.
    ///
    /// # Errors
    /// If the images are not of the model's size, or the engine fails.
    pub fn new(classifier: &Classifier, samples: Samples) -> Result<Self> {
        let labels = match samples.labels {
            Some(labels) => labels,
            None => classes_of(&classifier.predict(samples.images.view())?),
        };
        Ok(CleanSet { images: samples.images, labels })
    }

    /// The rows of the images of `class`.
    pub fn rows_of(&self, class: usize) -> Vec<usize> {
        (0..self.labels.len()).filter(|&row| self.labels[row] == class).collect()
    }

    /// The rows of the images which are not of class `target`.
    pub fn rows_outside(&self, target: usize) -> Vec<usize> {
        (0..self.labels.len()).filter(|&row| self.labels[row] != target).collect()
    }

    /// The rows of the images which a trigger is to send to class `target`: those of class `source`, or all which are not
    /// of class `target`.
    pub fn rows_to_send(&self, source: Option<usize>, target: usize) -> Vec<usize> {
        match source {
            Some(source) => self.rows_of(source),
            None => self.rows_outside(target),
        }
    }

    /// The images of `rows` or, where they are more than `most` (at least 1), so many at the most, evenly spread over all.
    pub(crate) fn some_of(&self, rows: &[usize], most: usize) -> Array4<f32> {
        self.images.select(Axis(0), &evenly(rows, most))
    }

    /// The images of `rows` with their labels.
    pub(crate) fn select(&self, rows: &[usize]) -> CleanSet {
        CleanSet {
            images: self.images.select(Axis(0), rows),
            labels: rows.iter().map(|&row| self.labels[row]).collect(),
        }
    }

    /// The images which are not of class `target`.
    pub fn images_outside(&self, target: usize) -> Array4<f32> {
        self.images.select(Axis(0), &self.rows_outside(target))
    }

    /// The share of the images outside `target` that `trigger` sends to `target`, in 0..=1; 0 if there are none outside.
    ///
    /// # Errors
    /// If the trigger does not fit the images, or the engine fails.
    pub fn attack_success_rate(&self, classifier: &Classifier, trigger: &Trigger, target: usize) -> Result<f64> {
        self.success_rate_from(classifier, trigger, None, target)
    }

    /// The share of the images of class `source` (of all outside `target`, where there is none) that `trigger` sends to
    /// `target`, in 0..=1; 0 if there are none.
    ///
    /// # Errors
    /// If the trigger does not fit the images, or the engine fails.
    pub fn success_rate_from(
        &self,
        classifier: &Classifier,
        trigger: &Trigger,
        source: Option<usize>,
        target: usize,
    ) -> Result<f64> {
        let images = self.images.select(Axis(0), &self.rows_to_send(source, target));
        let stamped = trigger.apply(images.view())?;
        let predicted = classes_of(&classifier.predict(stamped.view())?);
        let successes = predicted.iter().filter(|&&class| class == target).count();
        Ok(successes as f64 / predicted.len().max(1) as f64)
    }
}

/// Of `rows`, so many at the most (at least 1), evenly spread over all.
pub(crate) fn evenly(rows: &[usize], most: usize) -> Vec<usize> {
    rows.iter().copied().step_by(rows.len().div_ceil(most).max(1)).collect()
}
