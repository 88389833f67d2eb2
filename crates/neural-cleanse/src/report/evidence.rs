use ndarray::{Array3, Axis};

use crate::classifier::Classifier;
use crate::clean_set::CleanSet;
use crate::error::Result;
use crate::inversion::Step;
use crate::logits::classes_of;
use crate::scan::{ClassScan, Scan};
use crate::trigger::Trigger;

/// The most classes of which a report shows pictures, so that its size is bounded.
pub const MOST_PICTURED: usize = 48;

/// The most classes whose triggers are shown at work.
const MOST_AT_WORK: usize = 6;

/// The number of images that are shown with a trigger at work.
const STAMPED_SAMPLES: usize = 6;

/// What a report shows of one class beside its figures.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// The class.
    pub target_class: usize,
    /// Its reversed trigger.
    pub trigger: Trigger,
    /// Every step of the inversion.
    pub steps: Vec<Step>,
    /// Images that carry the trigger. One, of which the model was not asked, unless [`Evidence::effects`] are measured.
    pub samples: Vec<StampedSample>,
    /// Where the trigger sends the images of each other class; empty where it was not measured.
    pub effects: Vec<Effect>,
}

/// A clean image and the same with a trigger, both `[C, H, W]` of raw pixel values.
#[derive(Debug, Clone)]
pub struct StampedSample {
    /// Without the trigger.
    pub clean: Array3<f32>,
    /// With it.
    pub stamped: Array3<f32>,
    /// What the model says of the two, if it was asked.
    pub predictions: Option<[usize; 2]>,
}

/// What a trigger does to the clean images of one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effect {
    /// The class of the images.
    pub class: usize,
    /// How many there are.
    pub images: usize,
    /// How many of them go to the trigger's target class.
    pub to_target: usize,
    /// How many are still taken for their own class.
    pub kept: usize,
}

impl Evidence {
    /// Of the classes with the smallest triggers, [`MOST_PICTURED`] at the most, the smallest first. The triggers of
    /// flagged classes, or of the smallest where none is flagged, are tried on all images of `clean`.
    ///
    /// # Errors
    /// If the images are not of the model's size, or the engine fails.
    pub fn gather(scan: &Scan, classifier: &Classifier, clean: &CleanSet) -> Result<Vec<Evidence>> {
        let flagged = |class: &ClassScan| scan.flagged_classes.contains(&class.inversion.target_class);
        let mut classes: Vec<&ClassScan> = scan.classes.iter().collect();
        classes.sort_by(|a, b| {
            let key = |class| (!flagged(class), !class.inversion.converged);
            key(a).cmp(&key(b)).then(a.statistic.total_cmp(&b.statistic))
        });
        let at_work = scan.flagged_classes.len().clamp(1, MOST_AT_WORK);
        let evidence = |(position, class): (usize, &&ClassScan)| {
            if position < at_work { Self::at_work(class, classifier, clean) } else { Self::of(class, clean) }
        };
        classes.iter().take(MOST_PICTURED).enumerate().map(evidence).collect()
    }

    fn of(class: &ClassScan, clean: &CleanSet) -> Result<Self> {
        let inversion = &class.inversion;
        let row = clean.rows_outside(inversion.target_class).first().copied();
        let sample = |row| {
            let image = clean.images.index_axis(Axis(0), row);
            let stamped = inversion.trigger.apply(image.insert_axis(Axis(0)))?.index_axis_move(Axis(0), 0);
            Ok(StampedSample { clean: image.to_owned(), stamped, predictions: None })
        };
        Ok(Evidence {
            target_class: inversion.target_class,
            trigger: inversion.trigger.clone(),
            steps: inversion.steps.clone(),
            samples: row.map(sample).into_iter().collect::<Result<_>>()?,
            effects: Vec::new(),
        })
    }

    fn at_work(class: &ClassScan, classifier: &Classifier, clean: &CleanSet) -> Result<Self> {
        let target = class.inversion.target_class;
        let rows = clean.rows_outside(target);
        let images = clean.images_outside(target);
        let stamped = class.inversion.trigger.apply(images.view())?;
        let before = classes_of(&classifier.predict(images.view())?);
        let after = classes_of(&classifier.predict(stamped.view())?);
        let labels: Vec<usize> = rows.iter().map(|&row| clean.labels[row]).collect();
        let sample = |i: usize| StampedSample {
            clean: images.index_axis(Axis(0), i).to_owned(),
            stamped: stamped.index_axis(Axis(0), i).to_owned(),
            predictions: Some([before[i], after[i]]),
        };
        Ok(Evidence {
            samples: of_different_classes(&labels, STAMPED_SAMPLES).into_iter().map(sample).collect(),
            effects: effects(&labels, &after, target),
            ..Self::of(class, clean)?
        })
    }
}

/// The positions of `count` labels, of as many classes as there are: the first of each class, then the second.
fn of_different_classes(labels: &[usize], count: usize) -> Vec<usize> {
    let mut seen = std::collections::HashMap::new();
    let mut positions: Vec<(usize, usize)> = Vec::with_capacity(labels.len());
    for (position, label) in labels.iter().enumerate() {
        let round = seen.entry(label).or_insert(0);
        positions.push((*round, position));
        *round += 1;
    }
    positions.sort_unstable();
    positions.into_iter().take(count).map(|(_, position)| position).collect()
}

fn effects(labels: &[usize], predicted: &[usize], target: usize) -> Vec<Effect> {
    let mut by_class = std::collections::BTreeMap::new();
    for (&class, &prediction) in labels.iter().zip(predicted) {
        let effect = by_class.entry(class).or_insert(Effect { class, images: 0, to_target: 0, kept: 0 });
        effect.images += 1;
        effect.to_target += usize::from(prediction == target);
        effect.kept += usize::from(prediction == class);
    }
    by_class.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_of_as_many_classes_as_there_are() {
        assert_eq!(of_different_classes(&[4, 4, 4, 1, 0, 1], 4), [0, 3, 4, 1]);
        assert_eq!(of_different_classes(&[4, 4], 6), [0, 1]);
    }

    #[test]
    fn effects_count_where_the_images_of_each_class_go() {
        let effects = effects(&[2, 0, 2, 2, 0], &[7, 0, 2, 5, 7], 7);
        let expected = [
            Effect { class: 0, images: 2, to_target: 1, kept: 1 },
            Effect { class: 2, images: 3, to_target: 1, kept: 1 },
        ];
        assert_eq!(effects, expected);
    }
}
