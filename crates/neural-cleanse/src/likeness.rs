//! How much more like the images of its target a trigger makes those of its source, whatever the model says of them.
//!
//! A natural trigger adds what the classes differ in: the bar that makes a seven of a one. Images with it are nearer to the clean ones of the target, in
//! plain sight. The trigger of a backdoor is foreign to both classes, and changes nothing about which of them an image is nearer to.

use ndarray::{Array4, ArrayView3, ArrayView4, Axis};

use crate::clean_set::CleanSet;
use crate::error::Result;
use crate::trigger::Trigger;

/// How many of the nearest images of a class an image is compared with.
const NEAREST: usize = 5;

/// On how many images of a class likeness is measured, at the most.
const IMAGES: usize = 100;

/// Where the usual trigger takes images less than this share of the way, pixels do not tell the classes apart.
const MEASURABLE_FROM: f64 = 0.02;

/// What likeness is uncertain by. It tells less where the usual one is small, too: in networks that look for details anywhere in the image, whose natural
/// triggers make nothing alike.
const NOISE: f64 = 0.01;

/// The share of the way from class `source` to class `target` that `trigger` takes the clean `images` of the source: 0 where it makes them no more like
/// those of the target, and 1 where they are as much nearer to it than to the source as its own are.
///
/// How near an image is to a class is the mean Euclidean distance in raw pixel values to its [`NEAREST`] nearest of that class, without the
/// very nearest, which may be the image itself. `None` where a class has fewer than two images, or the two cannot be told apart so.
///
/// # Errors
/// If the trigger does not fit the images.
pub(crate) fn likeness(images: &CleanSet, trigger: &Trigger, source: usize, target: usize) -> Result<Option<f64>> {
    let [of_source, of_target] = [source, target].map(|class| images.some_of(&images.rows_of(class), IMAGES));
    if of_source.len_of(Axis(0)) < 2 || of_target.len_of(Axis(0)) < 2 {
        return Ok(None);
    }
    // How much nearer to the target than to the source.
    let nearer = |images: ArrayView4<'_, f32>| distance(images, &of_source) - distance(images, &of_target);
    let before = nearer(of_source.view());
    let way = nearer(of_target.view()) - before;
    let taken = nearer(trigger.apply(of_source.view())?.view()) - before;
    Ok((way > 0.0).then(|| taken / way))
}

/// `likeness` as a share of what is `usual`, where both count as [`NOISE`] more; `None` where pixels tell nothing.
pub(crate) fn relative(likeness: Option<f64>, usual: Option<f64>) -> Option<f64> {
    let usual = usual.filter(|usual| *usual >= MEASURABLE_FROM)?;
    likeness.map(|likeness| (likeness + NOISE) / (usual + NOISE))
}

/// The mean over `images` of how far each is from `class`.
fn distance(images: ArrayView4<'_, f32>, class: &Array4<f32>) -> f64 {
    let mut total = 0.0;
    for image in images.outer_iter() {
        let squared = |other: ArrayView3<'_, f32>| {
            ndarray::Zip::from(image).and(other).fold(0.0_f32, |sum, a, b| sum + (a - b) * (a - b))
        };
        let mut distances: Vec<f32> = class.outer_iter().map(squared).collect();
        distances.sort_by(f32::total_cmp);
        let nearest = distances.iter().skip(1).take(NEAREST);
        let count = nearest.len();
        total += nearest.map(|squared| f64::from(*squared).sqrt()).sum::<f64>() / count as f64;
    }
    total / images.len_of(Axis(0)) as f64
}

#[cfg(test)]
mod tests {
    use ndarray::{Array3, s};

    use super::*;

    const SIDE: usize = 8;

    /// Class 1 has two bright rows at the bottom, and each image noise of its own.
    fn rows() -> CleanSet {
        let noise = |i: usize, y: usize, x: usize| (((i + 3) * (y + 5) * (x + 7) * 2_654_435_761) >> 7 & 127) as f32;
        let mut images = Array4::from_shape_fn((20, 1, SIDE, SIDE), |(i, _, y, x)| noise(i, y, x));
        images.slice_mut(s![10.., .., SIDE - 2.., ..]).fill(250.0);
        CleanSet { images, labels: (0..20).map(|i| i / 10).collect() }
    }

    fn white(rows: impl Fn(usize, usize) -> bool) -> Trigger {
        let mask = Array3::from_shape_fn((1, SIDE, SIDE), |(_, y, x)| if rows(y, x) { 1.0 } else { 0.0 });
        Trigger::new(mask, Array3::from_elem((1, SIDE, SIDE), 250.0)).unwrap()
    }

    fn measured(trigger: &Trigger) -> f64 {
        likeness(&rows(), trigger, 0, 1).unwrap().unwrap()
    }

    #[test]
    fn what_the_classes_differ_in_takes_images_all_the_way() {
        assert!((measured(&white(|y, _| y >= SIDE - 2)) - 1.0).abs() < 0.1);
        let half = measured(&white(|y, x| y >= SIDE - 2 && x < SIDE / 2));
        assert!((0.2..0.8).contains(&half), "{half}");
    }

    #[test]
    fn what_neither_class_has_takes_them_nowhere() {
        let patch = measured(&white(|y, x| (2..4).contains(&y) && x < 2));
        assert!(patch.abs() < 0.1, "{patch}");
        assert_eq!(measured(&white(|_, _| false)), 0.0);
    }

    #[test]
    fn without_images_or_a_usual_likeness_nothing_is_said() {
        let trigger = white(|y, _| y >= SIDE - 2);
        assert_eq!(likeness(&rows(), &trigger, 0, 2).unwrap(), None);
        assert_eq!(likeness(&rows(), &trigger, 2, 1).unwrap(), None);
        assert_eq!(relative(Some(0.1), None), None);
        assert_eq!(relative(Some(0.1), Some(0.001)), None);
        assert!((relative(Some(0.09), Some(0.19)).unwrap() - 0.5).abs() < 1e-9);
        assert!((relative(Some(0.01), Some(0.03)).unwrap() - 0.5).abs() < 1e-9);
    }
}
