//! What unlearning shows the model, and what it asks of it.

use std::collections::BTreeSet;

use ndarray::{Array2, Array4, ArrayViewMut1, ArrayViewMut3, Axis};
use rand::seq::SliceRandom;
use rand::{Rng, RngExt};

use super::Backdoor;
use super::teacher::{Teacher, temperature_for};
use super::unlearning::Unlearning;
use crate::classifier::Classifier;
use crate::clean_set::CleanSet;
use crate::error::Result;
use crate::logits::{classes_of, one_hot, share_right};

/// The part of an image's side by which it is shifted at the most: two pixels of 28 or 32.
const FARTHEST: usize = 16;

/// How much of what is asked is the teacher's answer at the most, however often it is right.
const MOST_TRUSTED: f64 = 0.9;

/// The samples to train on, shifted, mixed with one another, and some with a trigger on.
pub struct Lessons<'a> {
    teacher: Teacher<'a>,
    train: &'a CleanSet,
    options: &'a Unlearning,
    /// How much of what is asked of a sample is the teacher's answer.
    share: f64,
    /// For each sample the backdoor, by its number, whose trigger it carries in this epoch, if it carries one.
    stamps: Vec<Option<usize>>,
}

/// A minibatch of images `[N, C, H, W]` with the probabilities `[N, classes]` that are asked of them.
pub struct Lesson {
    pub images: Array4<f32>,
    pub wanted: Array2<f32>,
}

impl<'a> Lessons<'a> {
    /// Lessons by `classifier`, about the samples of `train`.
    pub fn new(classifier: &'a Classifier, train: &'a CleanSet, options: &'a Unlearning) -> Result<Self> {
        let logits = classifier.predict(train.images.view())?;
        let as_often_as_right = || share_right(&classes_of(&logits), &train.labels).min(MOST_TRUSTED);
        let share = options.distillation.unwrap_or_else(as_often_as_right);
        let teacher = Teacher::new(classifier, options.temperature.unwrap_or_else(|| temperature_for(&logits)));
        Ok(Lessons { teacher, train, options, share, stamps: vec![None; train.labels.len()] })
    }

    /// The temperature at which the probabilities are asked for.
    pub fn temperature(&self) -> f64 {
        self.teacher.temperature()
    }

    /// The rows of an epoch: every sample, and those of target classes again and again, until there are as many of a class as there
    /// are with its triggers. A model that is taught what is *not* of a class forgets the class, above all a rare one, if it does not see
    /// as much of what is.
    pub fn rows(&self, backdoors: &[Backdoor]) -> Vec<usize> {
        let samples = self.train.labels.len();
        let targets: BTreeSet<usize> = backdoors.iter().map(|backdoor| backdoor.target_class).collect();
        let stamped = (self.options.stamped_share * samples as f64).round() as usize;
        let mut rows: Vec<usize> = (0..samples).collect();
        for target in &targets {
            let of_target = self.train.rows_of(*target);
            let missing = (stamped / targets.len()).saturating_sub(of_target.len());
            rows.extend(of_target.iter().cycle().take(missing));
        }
        rows
    }

    /// Chooses anew which samples carry which trigger of so many `backdoors`.
    pub fn start_epoch(&mut self, backdoors: usize, rng: &mut impl Rng) {
        self.stamps = stamps(self.train.labels.len(), self.options.stamped_share, backdoors, rng);
    }

    /// The lesson about the samples at `rows`: some are shifted, some without a trigger mixed, and what is asked of them is the
    /// teacher's answer to what they have become, and their labels. A trigger of `backdoors` is put on last and stays where it
    /// belongs.
    pub fn lesson(&self, rows: &[usize], backdoors: &[Backdoor], rng: &mut impl Rng) -> Result<Lesson> {
        let mut images = self.train.images.select(Axis(0), rows);
        let labels: Vec<usize> = rows.iter().map(|&row| self.train.labels[row]).collect();
        let mut labels = one_hot(&labels, self.teacher.classes());
        for (k, &row) in rows.iter().enumerate() {
            if rng.random::<f64>() < self.options.shifting {
                shift(images.index_axis_mut(Axis(0), k), rng);
            }
            if self.stamps[row].is_none() && rng.random::<f64>() < self.options.mixing {
                self.mix(images.index_axis_mut(Axis(0), k), labels.row_mut(k), rng);
            }
        }
        let answers = self.teacher.answers(images.view())?;
        let wanted = answers * self.share as f32 + labels * (1.0 - self.share) as f32;
        stamp(&mut images, rows.iter().map(|&row| self.stamps[row].map(|k| &backdoors[k])))?;
        Ok(Lesson { images, wanted })
    }

    /// Mixes `image` with another sample, `share · one + (1 − share) · other`, with `share` even in 0..1, and its `label` in the
    /// same shares.
    fn mix(&self, mut image: ArrayViewMut3<'_, f32>, mut label: ArrayViewMut1<'_, f32>, rng: &mut impl Rng) {
        let (other, share) = (rng.random_range(0..self.train.labels.len()), rng.random::<f32>());
        image.zip_mut_with(&self.train.images.index_axis(Axis(0), other), |one, other| {
            *one = share * *one + (1.0 - share) * other;
        });
        label *= share;
        label[self.train.labels[other]] += 1.0 - share;
    }
}

/// Moves an image `[C, H, W]` by up to a sixteenth of its sides, evenly at random. What is laid bare has the pixels of the border.
fn shift(mut image: ArrayViewMut3<'_, f32>, rng: &mut impl Rng) {
    let original = image.to_owned();
    let (_, height, width) = original.dim();
    let mut source = |side: usize| {
        let farthest = side.div_ceil(FARTHEST);
        let by = rng.random_range(0..=2 * farthest);
        move |to: usize| (to + by).saturating_sub(farthest).min(side - 1)
    };
    let (from_row, from_column) = (source(height), source(width));
    for ((channel, row, column), pixel) in image.indexed_iter_mut() {
        *pixel = original[[channel, from_row(row), from_column(column)]];
    }
}

/// For each sample the backdoor whose trigger it carries, if it carries one; the backdoors take turns.
fn stamps(samples: usize, share: f64, backdoors: usize, rng: &mut impl Rng) -> Vec<Option<usize>> {
    let count = (share * samples as f64).round() as usize;
    let mut stamps: Vec<Option<usize>> = (0..backdoors).cycle().take(count).map(Some).collect();
    stamps.resize(samples, None);
    stamps.shuffle(rng);
    stamps
}

/// Puts on each of `images` the trigger that `stamps` has for it.
fn stamp<'a>(images: &mut Array4<f32>, stamps: impl Iterator<Item = Option<&'a Backdoor>>) -> Result<()> {
    for (mut image, backdoor) in images.axis_chunks_iter_mut(Axis(0), 1).zip(stamps) {
        if let Some(backdoor) = backdoor {
            let stamped = backdoor.trigger.apply(image.view())?;
            image.assign(&stamped);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trigger::Trigger;
    use ndarray::Array3;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    fn backdoor(target_class: usize) -> Backdoor {
        let trigger =
            Trigger::new(Array3::ones((1, 1, 1)), Array3::from_elem((1, 1, 1), 100.0 + target_class as f32)).unwrap();
        Backdoor { target_class, trigger }
    }

    fn teacher() -> Classifier {
        let model = onnx_grad::Model::read("../../fixtures/fmnist_clean.onnx").unwrap();
        Classifier::new(model, Default::default(), std::sync::Arc::new(crate::engine::Rten), 1).unwrap()
    }

    #[test]
    fn a_share_of_the_samples_carries_one_of_the_triggers_each() {
        let backdoors = [backdoor(0), backdoor(1), backdoor(2)];
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let stamps = stamps(100, 0.2, 3, &mut rng);
        let carrying = |backdoor| stamps.iter().flatten().filter(|&&carried| carried == backdoor).count();
        assert_eq!([carrying(0), carrying(1), carrying(2), stamps.len()], [7, 7, 6, 100]);
        assert_ne!(stamps, super::stamps(100, 0.2, 3, &mut rng), "the choice is made anew");

        let mut images = Array4::from_shape_fn((100, 1, 1, 1), |(row, ..)| row as f32);
        stamp(&mut images, stamps.iter().map(|stamp| stamp.map(|k| &backdoors[k]))).unwrap();
        for (row, &pixel) in images.iter().enumerate() {
            let expected = stamps[row].map_or(row as f32, |k| 100.0 + k as f32);
            assert_eq!(pixel, expected);
        }
    }

    #[test]
    fn of_a_target_class_there_are_as_many_samples_as_with_its_triggers() {
        let teacher = teacher();
        let labels: Vec<usize> = [4, 9].into_iter().cycle().take(38).chain([7, 7]).collect();
        let train = CleanSet { images: Array4::zeros((40, 1, 28, 28)), labels };
        let options = Unlearning { stamped_share: 0.2, ..Unlearning::default() };
        let lessons = Lessons::new(&teacher, &train, &options).unwrap();
        let again = |backdoors: &[Backdoor]| {
            let rows = lessons.rows(backdoors);
            assert_eq!(rows[..40], (0..40).collect::<Vec<_>>());
            rows[40..].to_vec()
        };
        assert_eq!(again(&[backdoor(7), backdoor(7)]), [38, 39, 38, 39, 38, 39], "eight with a trigger");
        assert_eq!(again(&[backdoor(7), backdoor(4)]), [38, 39], "four of each class");
        assert_eq!(again(&[backdoor(9)]), [0; 0]);
        assert_eq!(again(&[backdoor(5)]), [0; 0], "there is none");
    }

    #[test]
    fn answers_are_trusted_as_far_as_they_are_right() {
        let teacher = teacher();
        let images = Array4::from_shape_fn((8, 1, 28, 28), |(row, ..)| 30.0 * row as f32);
        let answers = classes_of(&teacher.predict(images.view()).unwrap());
        let share = |wrong: usize, distillation| {
            let labels =
                answers.iter().enumerate().map(|(row, class)| (class + usize::from(row < wrong)) % 10).collect();
            let train = CleanSet { images: images.clone(), labels };
            Lessons::new(&teacher, &train, &Unlearning { distillation, ..Unlearning::default() }).unwrap().share
        };
        assert_eq!([share(8, None), share(2, None), share(0, None)], [0.0, 0.75, MOST_TRUSTED]);
        assert_eq!(share(8, Some(1.0)), 1.0);
    }

    #[test]
    fn a_shifted_image_is_the_image_elsewhere() {
        let image =
            Array3::from_shape_fn((2, 9, 40), |(channel, row, column)| (1000 * channel + 100 * row + column) as f32);
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let mut shifted = image.clone();
            shift(shifted.view_mut(), &mut rng);
            // In the middle, by so many rows and columns.
            let by = shifted[[0, 4, 20]] - image[[0, 4, 20]];
            let (rows, columns) = ((by / 100.0).round(), by - 100.0 * (by / 100.0).round());
            assert_eq!(shifted[[1, 5, 7]] - image[[1, 5, 7]], by, "all pixels and channels alike");
            assert!(shifted.iter().all(|pixel| image.iter().any(|other| other == pixel)), "no other pixels");
            seen.insert((rows as i32, columns as i32));
        }
        let farthest = (-1..=1).flat_map(|rows| (-3..=3).map(move |columns| (rows, columns)));
        assert_eq!(seen, farthest.collect());
    }

    #[test]
    fn mixtures_are_asked_for_what_they_are_mixed_of() {
        let teacher = teacher();
        // Images of one colour, the label's number: what a mixture is mixed of shows.
        let images = Array4::from_shape_fn((10, 1, 28, 28), |(row, ..)| row as f32);
        let train = CleanSet { images, labels: (0..10).collect() };
        let options = Unlearning { mixing: 1.0, distillation: Some(0.0), shifting: 1.0, ..Unlearning::default() };
        let mut lessons = Lessons::new(&teacher, &train, &options).unwrap();
        let lesson = lessons.lesson(&[3, 5, 7], &[], &mut ChaCha8Rng::seed_from_u64(1)).unwrap();
        let mut mixtures = 0;
        for (image, wanted) in lesson.images.outer_iter().zip(lesson.wanted.outer_iter()) {
            let expected: f32 = wanted.iter().enumerate().map(|(class, share)| class as f32 * share).sum();
            assert!(image.iter().all(|pixel| (pixel - expected).abs() < 1e-5), "{wanted}: {}", image[[0, 0, 0]]);
            assert!((wanted.sum() - 1.0).abs() < 1e-6, "{wanted}");
            mixtures += usize::from(wanted.iter().filter(|&&share| share > 0.0).count() == 2);
        }
        assert!(mixtures > 0);

        let trigger = Trigger::new(Array3::zeros((1, 28, 28)), Array3::zeros((1, 28, 28))).unwrap();
        let backdoor = Backdoor { target_class: 0, trigger };
        lessons.stamps = vec![Some(0); 10];
        let lesson = lessons.lesson(&[3], &[backdoor], &mut ChaCha8Rng::seed_from_u64(1)).unwrap();
        assert_eq!(lesson.wanted[[0, 3]], 1.0, "what carries a trigger is not mixed");
    }
}
