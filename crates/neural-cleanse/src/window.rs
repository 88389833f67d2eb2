//! A part of the image that a search is confined to.

use ndarray::{Array2, Axis, s};
use serde::{Deserialize, Serialize};

use crate::classifier::Classifier;
use crate::clean_set::CleanSet;
use crate::error::Result;
use crate::logits::cross_entropy;
use crate::trigger::Trigger;

/// On how many images the effect of a part of a trigger is measured, at the most.
const IMAGES: usize = 256;

/// A rectangle of pixels.
///
/// A patch fits into one, and a search that is confined to it finds the patch again, smaller than before. A natural trigger lives of small changes all over the
/// image: within a window it grows, or there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Window {
    /// The first row.
    pub top: usize,
    /// The first column.
    pub left: usize,
    /// How many rows.
    pub height: usize,
    /// How many columns.
    pub width: usize,
}

impl Window {
    /// The `part`-th part as high and as wide as the image (rounded up), where the trigger is most opaque: where Σm² of the mask is largest, the first of several.
    ///
    /// # Panics
    /// If `part` is 0.
    ///
    /// ```
    /// use ndarray::{Array3, s};
    /// use neural_cleanse::{Trigger, Window};
    ///
    /// # fn main() -> neural_cleanse::Result<()> {
    /// let mut mask = Array3::from_elem((1, 9, 12), 0.1);
    /// mask.slice_mut(s![.., 5..7, 8..11]).fill(1.0);
    /// let window = Window::densest(&Trigger::new(mask, Array3::zeros((1, 9, 12)))?, 3);
    /// assert_eq!(window, Window { top: 4, left: 7, height: 3, width: 4 });
    /// # Ok(())
    /// # }
    /// ```
    pub fn densest(trigger: &Trigger, part: usize) -> Self {
        Window::of_most(squares(trigger), part)
    }

    /// Likewise for several `triggers` of one size together; `None` if there are none.
    pub(crate) fn densest_of<'a>(triggers: impl IntoIterator<Item = &'a Trigger>, part: usize) -> Option<Self> {
        let sum = triggers.into_iter().map(squares).reduce(|sum, squares| sum + squares)?;
        Some(Window::of_most(sum, part))
    }

    /// The [densest](Window::densest) window of that one of `triggers` which does most of what it is for within it: which, [cut down to it](Trigger::within), has the least
    /// cross-entropy towards the target on `images` of the source (of all classes but the target, where there is none), the first of several. `None` if there are no triggers.
    ///
    /// How opaque a trigger is somewhere does not say what that is good for: one that is scattered over strokes of the class can be as opaque there as another on the patch.
    ///
    /// # Errors
    /// If the triggers do not fit the images, or the engine fails.
    pub(crate) fn of_most_effect<'a>(
        classifier: &Classifier,
        images: &CleanSet,
        (source, target): (Option<usize>, usize),
        triggers: impl IntoIterator<Item = &'a Trigger>,
        part: usize,
    ) -> Result<Option<Self>> {
        let triggers: Vec<&Trigger> = triggers.into_iter().collect();
        if let [trigger] = triggers[..] {
            return Ok(Some(Window::densest(trigger, part)));
        }
        let images = images.some_of(&images.rows_to_send(source, target), IMAGES);
        let mut best: Option<(f64, Self)> = None;
        for trigger in triggers {
            let window = Window::densest(trigger, part);
            let logits = classifier.predict(trigger.within(window).apply(images.view())?.view())?;
            let left = cross_entropy(&logits, target);
            if best.is_none_or(|(least, _)| left < least) {
                best = Some((left, window));
            }
        }
        Ok(best.map(|(_, window)| window))
    }

    fn of_most(squares: Array2<f64>, part: usize) -> Self {
        let (rows, columns) = squares.dim();
        let (height, width) = (rows.div_ceil(part), columns.div_ceil(part));
        // What is above and to the left of each corner.
        let mut above = Array2::zeros((rows + 1, columns + 1));
        above.slice_mut(s![1.., 1..]).assign(&squares);
        (0..2).for_each(|axis| above.accumulate_axis_inplace(Axis(axis), |before, sum| *sum += before));
        let mut densest = Window { top: 0, left: 0, height, width };
        let mut most = f64::NEG_INFINITY;
        for top in 0..=rows - height {
            for left in 0..=columns - width {
                let (bottom, right) = (top + height, left + width);
                let sum = above[[bottom, right]] - above[[top, right]] - above[[bottom, left]] + above[[top, left]];
                // Sums of the same pixels in another order are not more.
                if sum > most + 1e-9 {
                    (most, densest) = (sum, Window { top, left, height, width });
                }
            }
        }
        densest
    }

    /// Whether the pixel of this row and column belongs to it.
    pub fn contains(&self, row: usize, column: usize) -> bool {
        (self.top..self.top + self.height).contains(&row) && (self.left..self.left + self.width).contains(&column)
    }
}

/// m² of each pixel.
fn squares(trigger: &Trigger) -> Array2<f64> {
    trigger.pixel_opacities().mapv(|opacity| opacity * opacity)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use ndarray::{Array3, Array4};
    use onnx_grad::{ElementType, Graph, Model, Tensor, ValueType};

    use super::*;
    use crate::classifier::ClassifierOptions;
    use crate::engine::Rten;

    #[test]
    fn small_images_and_empty_masks_have_a_window_too() {
        for shape in [(1, 1, 1), (1, 2, 5), (3, 1, 4)] {
            let trigger = Trigger::new(Array3::zeros(shape), Array3::zeros(shape)).unwrap();
            let window = Window::densest(&trigger, 3);
            assert_eq!((window.top, window.left), (0, 0));
            assert!((1..=shape.1).contains(&window.height) && (1..=shape.2).contains(&window.width), "{window:?}");
        }
    }

    /// Of images of 6×6 pixels and two classes: each step of brightness of the pixel in the last corner counts for the second, of that in the first corner a tenth as much.
    pub(crate) fn corner() -> Classifier {
        let mut weights = vec![0.0; 36 * 2];
        (weights[1], weights[35 * 2 + 1]) = (0.001, 0.01);
        let mut graph = Graph::new();
        graph.add_input("images", ValueType::new(ElementType::F32, [4, 1, 6, 6])).unwrap();
        let flat = graph.apply("Flatten", &["images"], ()).unwrap();
        let weights = graph.constant(Tensor::floats(ElementType::F32, [36, 2], &weights));
        let logits = graph.apply("MatMul", &[&flat, &weights], ()).unwrap();
        graph.set_outputs(&[&logits]).unwrap();
        let model = Model::from_bytes(&graph.to_model_bytes("corner").unwrap()).unwrap();
        Classifier::new(model, ClassifierOptions::default(), Arc::new(Rten), 1).unwrap()
    }

    /// White, of this opacity in the first corner and in the last.
    pub(crate) fn in_corners(first: f32, last: f32) -> Trigger {
        let mut mask = Array3::zeros((1, 6, 6));
        (mask[[0, 0, 0]], mask[[0, 5, 5]]) = (first, last);
        Trigger::new(mask, Array3::from_elem((1, 6, 6), 255.0)).unwrap()
    }

    #[test]
    fn of_several_places_it_is_that_where_the_trigger_does_most() {
        let classifier = corner();
        let images = CleanSet { images: Array4::zeros((5, 1, 6, 6)), labels: vec![0, 0, 0, 1, 1] };
        let window = |triggers: &[Trigger]| {
            Window::of_most_effect(&classifier, &images, (None, 1), triggers, 3).unwrap().map(|w| (w.top, w.left))
        };
        let (opaque, effective) = (in_corners(1.0, 0.9), in_corners(0.0, 0.5));
        assert_eq!(window(&[opaque.clone(), effective.clone()]), Some((4, 4)));
        assert_eq!(window(&[effective.clone(), opaque.clone()]), Some((4, 4)));
        // What a trigger does elsewhere does not count: cut down to its own densest window it does less.
        assert_eq!(window(&[opaque.clone(), in_corners(0.0, 0.05)]), Some((0, 0)));
        assert_eq!(window(&[opaque]), Some((0, 0)));
        assert_eq!(window(&[]), None);
    }
}
