//! How much of what a trigger does to the scores of a model speaks for the target.
//!
//! The trigger of a backdoor is evidence of its target, and of nothing else. Where one class borders on another a few pixels that spoil what the source is known by do, too: they
//! take from its score more than they give to that of the target, and give to other classes as well.

use ndarray::{Array1, Array2, Axis};

use crate::classifier::Classifier;
use crate::clean_set::{CleanSet, evenly};
use crate::error::Result;
use crate::trigger::Trigger;

/// On how many images of the source it is measured, at the most.
const IMAGES: usize = 32;

/// What is aimed worse than this share of the usual counts as this much.
const LEAST: f64 = 0.1;

/// The cosine between the change that `trigger` makes to the logits of the clean `images` of the source, in the mean, and a rise of that of the target alone, in −1..=1, for a pair
/// `(source, target)`. What all logits change by together is no part of the change. `clean` are the logits of the images without it, `[N, classes]`. `None` where there are no images, or
/// nothing changes.
///
/// # Errors
/// If the trigger does not fit the images, or the engine fails.
pub(crate) fn aim(
    classifier: &Classifier,
    images: &CleanSet,
    clean: &Array2<f32>,
    trigger: &Trigger,
    (source, target): (usize, usize),
) -> Result<Option<f64>> {
    let rows = evenly(&images.rows_of(source), IMAGES);
    let before = clean.select(Axis(0), &rows);
    let after = classifier.predict(trigger.apply(images.images.select(Axis(0), &rows).view())?.view())?;
    Ok(mean(&before).zip(mean(&after)).and_then(|(before, after)| towards(&(after - before), target)))
}

/// `aim` as a share of what is `usual`, 1 at the most; `None` where triggers usually have none.
pub(crate) fn relative(aim: Option<f64>, usual: Option<f64>) -> Option<f64> {
    let usual = usual.filter(|usual| *usual > 0.0)?;
    aim.map(|aim| (aim / usual).clamp(LEAST, 1.0))
}

/// The cosine between `change` and the axis of `target`, both without their means.
fn towards(change: &Array1<f64>, target: usize) -> Option<f64> {
    let change = change - change.mean()?;
    let length = change.dot(&change).sqrt();
    let of_axis = (1.0 - 1.0 / change.len() as f64).sqrt();
    (length > 0.0 && of_axis > 0.0).then(|| change[target] / (length * of_axis))
}

fn mean(logits: &Array2<f32>) -> Option<Array1<f64>> {
    logits.mapv(f64::from).mean_axis(Axis(0))
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn what_speaks_for_the_target_alone_is_aimed_at_it() {
        let aim = |change: Array1<f64>| towards(&change, 1).unwrap();
        assert!((aim(array![0.0, 5.0, 0.0, 0.0]) - 1.0).abs() < 1e-9);
        // Whatever all rise or fall by.
        assert!((aim(array![-3.0, 2.0, -3.0, -3.0]) - 1.0).abs() < 1e-9);
        assert!((aim(array![0.0, -5.0, 0.0, 0.0]) + 1.0).abs() < 1e-9);
        // It takes from class 0 as much as it gives, or gives to class 2 as well.
        assert!((aim(array![-5.0, 5.0, 0.0, 0.0]) - (2.0_f64 / 3.0).sqrt()).abs() < 1e-9);
        assert!(aim(array![-5.0, 0.0, 0.0, 0.0]) < 0.34);
        assert!(aim(array![0.0, 5.0, 5.0, 0.0]) < 0.6);
    }

    #[test]
    fn where_nothing_changes_nothing_is_said() {
        assert_eq!(towards(&array![1.0, 1.0, 1.0], 1), None);
        assert_eq!(towards(&array![1.0], 0), None);
        assert_eq!(relative(None, Some(0.5)), None);
        assert_eq!(relative(Some(0.5), None), None);
        assert_eq!(relative(Some(0.5), Some(0.0)), None);
    }

    #[test]
    fn it_is_a_share_of_the_usual_within_bounds() {
        assert_eq!(relative(Some(0.3), Some(0.6)), Some(0.5));
        assert_eq!(relative(Some(0.9), Some(0.6)), Some(1.0));
        assert_eq!(relative(Some(-0.5), Some(0.6)), Some(LEAST));
    }
}
