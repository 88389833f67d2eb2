//! The documented API of `NeuralCleanse`, in Rust.

use std::ops::ControlFlow;

use ndarray::{Array2, Array4, ArrayView4, Axis};

use crate::classifier::Classifier;
use crate::clean_set::CleanSet;
use crate::data::Samples;
use crate::error::{Error, Result};
use crate::inversion::{Config, Inversion, Objective, invert};
use crate::logits::classes_of;
use crate::mitigation::{Backdoor, Filter, Mitigation, Repair, mitigate};
use crate::scan::{HELD_OUT_PART, Observer, Scan, ScanOptions, scan};

/// The defence before it has its parameters.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use neural_cleanse::{Classifier, ClassifierOptions, Config, Model, NeuralCleanse, engine::Rten};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (x_val, y_val) = (ndarray::Array4::zeros((1, 1, 28, 28)), vec![0]);
/// let model = Model::read("model.onnx")?;
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
        config.validate().map_err(Error::Config)?;
        Ok(CleansedClassifier { classifier: self.classifier, config, filter: None })
    }

    /// Does nothing: the defence has no parameters to learn.
    pub fn fit(&self, _x: ArrayView4<'_, f32>, _y: Option<&[usize]>) {}
}

/// A classifier with the methods of Neural Cleanse.
#[derive(Debug)]
pub struct CleansedClassifier {
    classifier: Classifier,
    config: Config,
    filter: Option<Filter>,
}

/// What a [`CleansedClassifier`] says of some images.
#[derive(Debug, Clone, PartialEq)]
pub struct Predictions {
    /// The logits, `[N, classes]`, also of images that are abstained on.
    pub logits: Array2<f32>,
    /// Whether the filter abstains on an image, `[N]`; never without a filter.
    pub abstains: Vec<bool>,
}

impl Predictions {
    /// The class of each image; `None` where the classifier abstains.
    pub fn classes(&self) -> Vec<Option<usize>> {
        let class = |(class, &abstains): (usize, &bool)| (!abstains).then_some(class);
        classes_of(&self.logits).into_iter().zip(&self.abstains).map(class).collect()
    }
}

/// Clean images and the same with the triggers of the backdoors on them.
#[derive(Debug, Clone, PartialEq)]
pub struct BackdoorExamples {
    /// Images that are not of the target class, `[N, C, H, W]`.
    pub clean: Array4<f32>,
    /// The same with the trigger, `[N, C, H, W]`.
    pub backdoored: Array4<f32>,
    /// The class that the trigger leads to, for each image.
    pub targets: Vec<usize>,
    /// The true class of each image (without labels, what the model says of the clean one).
    pub labels: Vec<usize>,
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

    /// Classifies the images `x` `[N, C, H, W]`; with a filter, abstains on those that it rejects.
    pub fn predict(&self, x: ArrayView4<'_, f32>) -> Result<Predictions> {
        Ok(Predictions { logits: self.classifier.predict(x)?, abstains: self.abstain(x)? })
    }

    /// Whether the filter rejects each of the images `x` `[N, C, H, W]`; no image without a filter.
    pub fn abstain(&self, x: ArrayView4<'_, f32>) -> Result<Vec<bool>> {
        match &self.filter {
            Some(filter) => filter.abstains(&self.classifier, x),
            None => Ok(vec![false; x.len_of(Axis(0))]),
        }
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
        let threads = self.classifier.threads();
        let mut objective = Objective::new(&self.classifier, &self.config, working.labels.len(), threads)?;
        let range = self.classifier.value_range();
        invert(&mut objective, &working, &self.config, range, target, 0, &mut |_| ControlFlow::Continue(()))
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

    /// Clean images outside the target class of each backdoor, and the same with its trigger.
    ///
    /// # Errors
    /// If a trigger does not fit the images.
    pub fn backdoor_examples(
        &self,
        x_val: ArrayView4<'_, f32>,
        y_val: Option<&[usize]>,
        backdoors: &[Backdoor],
    ) -> Result<BackdoorExamples> {
        let clean_set = self.clean_set(x_val, y_val)?;
        let mut rows = Vec::new();
        let mut targets = Vec::new();
        let mut backdoored = Array4::zeros((0, x_val.shape()[1], x_val.shape()[2], x_val.shape()[3]));
        for backdoor in backdoors {
            let outside = clean_set.rows_outside(backdoor.target_class);
            let stamped = backdoor.trigger.apply(clean_set.images.select(Axis(0), &outside).view())?;
            backdoored.append(Axis(0), stamped.view()).map_err(|e| Error::Trigger(e.to_string()))?;
            targets.extend(std::iter::repeat_n(backdoor.target_class, outside.len()));
            rows.extend(outside);
        }
        Ok(BackdoorExamples {
            clean: clean_set.images.select(Axis(0), &rows),
            labels: rows.iter().map(|&row| clean_set.labels[row]).collect(),
            backdoored,
            targets,
        })
    }

    /// Whether the backdoors work: at least the configured share of the examples goes to its target, and is not
    /// abstained on.
    pub fn check_backdoor_effective(&self, examples: &BackdoorExamples) -> Result<bool> {
        let classes = self.predict(examples.backdoored.view())?.classes();
        let successes =
            classes.iter().zip(&examples.targets).filter(|(class, target)| **class == Some(**target)).count();
        let rate = successes as f64 / classes.len().max(1) as f64;
        Ok(!classes.is_empty() && rate >= self.config.attack_success_threshold)
    }

    /// Looks for backdoors and removes those that are flagged, by `methods` in their order: from then on the classifier is
    /// the repaired one, with a filter if [`Mitigation::Filtering`] is among them. A fifth of the images is held out to
    /// measure the result on.
    ///
    /// Gives the repair, or `None` where no class is flagged and nothing is done.
    ///
    /// # Errors
    /// As [`scan`] and [`mitigate`] have them.
    pub fn mitigate(
        &mut self,
        x_val: ArrayView4<'_, f32>,
        y_val: &[usize],
        methods: &[Mitigation],
    ) -> Result<Option<Repair>> {
        let scan = self.outlier_detection(x_val, Some(y_val))?;
        let backdoors = scan.backdoors();
        if backdoors.is_empty() {
            return Ok(None);
        }
        let samples = samples(x_val, Some(y_val))?;
        let (working, unseen) = samples.split(samples.len() / HELD_OUT_PART, self.config.seed);
        let (working, unseen) = (CleanSet::new(&self.classifier, working)?, CleanSet::new(&self.classifier, unseen)?);
        let mut go_on = |_: &Mitigation, _: f64| ControlFlow::Continue(());
        let repair = mitigate(&self.classifier, &backdoors, None, &working, &unseen, methods, &mut go_on)?;
        self.classifier = self.classifier.with_model(repair.model.clone())?;
        self.filter.clone_from(&repair.filter);
        Ok(Some(repair))
    }

    fn clean_set(&self, x: ArrayView4<'_, f32>, y: Option<&[usize]>) -> Result<CleanSet> {
        CleanSet::new(&self.classifier, samples(x, y)?)
    }
}

fn samples(x: ArrayView4<'_, f32>, y: Option<&[usize]>) -> Result<Samples> {
    let images: Array4<f32> = x.to_owned();
    if let Some(labels) = y.filter(|labels| labels.len() != images.len_of(Axis(0))) {
        let message = format!("{} labels for {} images", labels.len(), images.len_of(Axis(0)));
        return Err(Error::Classifier(message));
    }
    Ok(Samples { images, labels: y.map(<[usize]>::to_vec), class_names: None, notes: Vec::new() })
}
