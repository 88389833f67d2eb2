//! A part of the image that a search is confined to.

use ndarray::{Array2, Axis, s};
use serde::{Deserialize, Serialize};

use crate::trigger::Trigger;

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
mod tests {
    use ndarray::Array3;

    use super::*;

    #[test]
    fn small_images_and_empty_masks_have_a_window_too() {
        for shape in [(1, 1, 1), (1, 2, 5), (3, 1, 4)] {
            let trigger = Trigger::new(Array3::zeros(shape), Array3::zeros(shape)).unwrap();
            let window = Window::densest(&trigger, 3);
            assert_eq!((window.top, window.left), (0, 0));
            assert!((1..=shape.1).contains(&window.height) && (1..=shape.2).contains(&window.width), "{window:?}");
        }
    }
}
