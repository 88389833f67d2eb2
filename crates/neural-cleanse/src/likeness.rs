//! How much more like the images of its target a trigger makes those of its source, whatever the model says of them.
//!
//! A natural trigger adds what the classes differ in: the bar that makes a seven of a one. Images with it are nearer to the clean ones of the target, in
//! plain sight. The trigger of a backdoor is foreign to both classes, and changes nothing about which of them an image is nearer to.
//! A trigger that may change a small part of the image alone makes little difference to that either way: of it, what counts is how direct it is.

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

/// What a trigger does to how alike the images of two classes are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Likeness {
    /// The share of the way from the one class to the other that it takes images: 0 where it makes them no more like those of the target, and 1 where they are as
    /// much nearer to it than to the source as its own are.
    pub taken: f64,
    /// How far it moves them, as a multiple of how far they are from others of their class.
    pub moved: f64,
}

/// What is usual for a model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usual {
    /// Of [`Likeness::taken`].
    pub taken: Option<f64>,
    /// Of [`Likeness::directness`].
    pub directness: Option<f64>,
}

impl Likeness {
    /// How much of the way the trigger takes images for how far it moves them. `None` where it moves none.
    pub fn directness(self) -> Option<f64> {
        (self.moved > 0.0).then(|| self.taken / self.moved)
    }
}

impl Usual {
    /// The way that is taken as a share of the usual, where both count as [`NOISE`] more; `None` where pixels tell nothing.
    pub fn likeness(self, likeness: Likeness) -> Option<f64> {
        self.measurable().map(|usual| (likeness.taken + NOISE) / (usual + NOISE))
    }

    /// How directly images are taken there, as a share of the usual; `None` where pixels tell nothing.
    pub fn directness(self, likeness: Likeness) -> Option<f64> {
        let usual = self.measurable().and(self.directness).filter(|usual| *usual > 0.0)?;
        likeness.directness().map(|directness| directness / usual)
    }

    fn measurable(self) -> Option<f64> {
        self.taken.filter(|taken| *taken >= MEASURABLE_FROM)
    }
}

/// What `trigger` does to how alike the clean `images` of class `source` are to those of class `target`.
///
/// How near an image is to a class is the mean Euclidean distance in raw pixel values to its [`NEAREST`] nearest of that class, without the
/// very nearest, which may be the image itself. `None` where a class has fewer than two images, or the two cannot be told apart so.
///
/// # Errors
/// If the trigger does not fit the images.
pub(crate) fn likeness(images: &CleanSet, trigger: &Trigger, source: usize, target: usize) -> Result<Option<Likeness>> {
    let [of_source, of_target] = [source, target].map(|class| images.some_of(&images.rows_of(class), IMAGES));
    if of_source.len_of(Axis(0)) < 2 || of_target.len_of(Axis(0)) < 2 {
        return Ok(None);
    }
    let spread = distance(of_source.view(), &of_source);
    // How much nearer to the target than to the source.
    let nearer = |images: ArrayView4<'_, f32>| distance(images, &of_source) - distance(images, &of_target);
    let before = spread - distance(of_source.view(), &of_target);
    let way = nearer(of_target.view()) - before;
    let stamped = trigger.apply(of_source.view())?;
    let taken = nearer(stamped.view()) - before;
    let lengths = stamped.outer_iter().zip(of_source.outer_iter()).map(|(a, b)| f64::from(squared(a, b)).sqrt());
    let moved = lengths.sum::<f64>() / of_source.len_of(Axis(0)) as f64;
    Ok((way > 0.0 && spread > 0.0).then(|| Likeness { taken: taken / way, moved: moved / spread }))
}

/// The mean over `images` of how far each is from `class`.
fn distance(images: ArrayView4<'_, f32>, class: &Array4<f32>) -> f64 {
    let mut total = 0.0;
    for image in images.outer_iter() {
        let mut distances: Vec<f32> = class.outer_iter().map(|other| squared(image, other)).collect();
        distances.sort_by(f32::total_cmp);
        let nearest = distances.iter().skip(1).take(NEAREST);
        let count = nearest.len();
        total += nearest.map(|squared| f64::from(*squared).sqrt()).sum::<f64>() / count as f64;
    }
    total / images.len_of(Axis(0)) as f64
}

/// The square of the distance of two images.
fn squared(image: ArrayView3<'_, f32>, other: ArrayView3<'_, f32>) -> f32 {
    ndarray::Zip::from(image).and(other).fold(0.0_f32, |sum, a, b| sum + (a - b) * (a - b))
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
        likeness(&rows(), trigger, 0, 1).unwrap().unwrap().taken
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
    fn what_takes_images_the_same_way_by_a_longer_one_is_less_direct() {
        let directness = |trigger: &Trigger| likeness(&rows(), trigger, 0, 1).unwrap().unwrap().directness().unwrap();
        let straight = directness(&white(|y, _| y >= SIDE - 2));
        let by_a_detour = directness(&white(|y, _| !(2..SIDE - 2).contains(&y)));
        // It is √2 times as long, and what is beside the way keeps them from both classes.
        assert!((0.4..0.7).contains(&(by_a_detour / straight)), "{by_a_detour} and {straight}");
        assert!(directness(&white(|y, _| y < 2)).abs() < 0.25 * straight);
        assert_eq!(likeness(&rows(), &white(|_, _| false), 0, 1).unwrap().unwrap().directness(), None);
    }

    #[test]
    fn without_images_or_a_usual_likeness_nothing_is_said() {
        let trigger = white(|y, _| y >= SIDE - 2);
        assert_eq!(likeness(&rows(), &trigger, 0, 2).unwrap(), None);
        assert_eq!(likeness(&rows(), &trigger, 2, 1).unwrap(), None);
        let usual = |taken| Usual { taken, directness: Some(0.4) };
        let of = |taken| Likeness { taken, moved: 0.5 };
        assert_eq!([usual(None), usual(Some(0.001))].map(|usual| usual.likeness(of(0.1))), [None; 2]);
        assert_eq!([usual(None), usual(Some(0.001))].map(|usual| usual.directness(of(0.1))), [None; 2]);
        assert!((usual(Some(0.19)).likeness(of(0.09)).unwrap() - 0.5).abs() < 1e-9);
        assert!((usual(Some(0.03)).likeness(of(0.01)).unwrap() - 0.5).abs() < 1e-9);
        assert!((usual(Some(0.19)).directness(of(0.1)).unwrap() - 0.5).abs() < 1e-9);
    }
}
