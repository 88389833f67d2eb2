//! The documented API of `NeuralCleanse`, in Rust.

use ndarray::{Array2, Array4, ArrayView4, Axis};

use crate::classifier::Classifier;
use crate::data::Samples;
use crate::error::Result;
use crate::inversion::{CleanSet, Config, Inversion, Objective, invert};
use crate::scan::{Observer, Scan, ScanOptions, clean_set, scan};

/// The defence before it has its parameters.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use neural_cleanse::{Classifier, ClassifierOptions, Config, Model, NeuralCleanse, engine::Rten};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (x_val, y_val) = (ndarray::Array4::zeros((1, 1, 28, 28)), vec![0]);
/// let model = Model::read("model.onnx".as_ref())?;
/// let classifier = Classifier::new(model, ClassifierOptions::default(), Arc::new(Rten), 2)?;
/// let cleanse = NeuralCleanse::new(classifier).transform(Config { steps: 200, ..Config::default() })?;
/// let scan = cleanse.outlier_detection(x_val.view(), Some(&y_val))?;
/// println!("{}: {}", scan.detection.verdict, scan.detection.reason);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct NeuralCleanse {
    classifier: Classifier,
}

impl NeuralCleanse {
    /// The defence of a trained classifier.
    pub fn new(classifier: Classifier) -> Self {
        NeuralCleanse { classifier }
    }

    /// The classifier with the defence's methods.
    ///
    /// # Errors
    /// If a parameter is out of its range.
    pub fn transform(self, config: Config) -> Result<CleansedClassifier> {
        config.validate().map_err(crate::Error::Config)?;
        Ok(CleansedClassifier { classifier: self.classifier, config })
    }
}

/// A classifier with the methods of Neural Cleanse.
#[derive(Debug)]
pub struct CleansedClassifier {
    classifier: Classifier,
    config: Config,
}

impl CleansedClassifier {
    /// The classifier.
    pub fn classifier(&self) -> &Classifier {
        &self.classifier
    }

    /// The parameters.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The logits `[N, classes]` of the images `x` `[N, C, H, W]`.
    pub fn predict(&self, x: ArrayView4<'_, f32>) -> Result<Array2<f32>> {
        self.classifier.predict(x)
    }

    /// Inverts the trigger that sends the clean images `x_val` `[N, C, H, W]` to `target`. Images of that class, by their
    /// labels `y_val` or, without labels, by what the model says, are left out.
    ///
    /// # Errors
    /// If no image is outside the class, shapes do not fit, or the engine fails.
    pub fn generate_backdoor(
        &self,
        x_val: ArrayView4<'_, f32>,
        y_val: Option<&[usize]>,
        target: usize,
    ) -> Result<Inversion> {
        let working = self.clean_set(x_val, y_val)?;
        let batch = self.config.batch_size.min(working.labels.len()).max(1);
        let mask_channels = if self.config.mask_per_channel { self.classifier.image_shape()[0] } else { 1 };
        let mut objective = Objective::new(&self.classifier, batch, mask_channels, self.classifier.threads())?;
        let range = self.classifier.value_range();
        invert(&mut objective, &working, &self.config, range, target, 0, &mut |_| std::ops::ControlFlow::Continue(()))
    }

    /// Inverts the triggers of all classes and judges them.
    ///
    /// # Errors
    /// As [`scan`] has them.
    pub fn outlier_detection(&self, x_val: ArrayView4<'_, f32>, y_val: Option<&[usize]>) -> Result<Scan> {
        self.outlier_detection_with(x_val, y_val, &())
    }

    /// [`outlier_detection`](Self::outlier_detection) with someone watching.
    pub fn outlier_detection_with(
        &self,
        x_val: ArrayView4<'_, f32>,
        y_val: Option<&[usize]>,
        observer: &dyn Observer,
    ) -> Result<Scan> {
        scan(&self.classifier, &samples(x_val, y_val)?, &ScanOptions::new(self.config.clone()), observer)
    }

    fn clean_set(&self, x: ArrayView4<'_, f32>, y: Option<&[usize]>) -> Result<CleanSet> {
        clean_set(&self.classifier, samples(x, y)?)
    }
}

fn samples(x: ArrayView4<'_, f32>, y: Option<&[usize]>) -> Result<Samples> {
    let images: Array4<f32> = x.to_owned();
    if let Some(labels) = y.filter(|labels| labels.len() != images.len_of(Axis(0))) {
        let message = format!("{} labels for {} images", labels.len(), images.len_of(Axis(0)));
        return Err(crate::Error::Classifier(message));
    }
    Ok(Samples { images, labels: y.map(<[usize]>::to_vec), class_names: None, notes: Vec::new() })
}
