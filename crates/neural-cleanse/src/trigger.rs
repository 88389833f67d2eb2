use std::path::Path;

use ndarray::{Array1, Array2, Array3, Array4, ArrayView4, Axis, s};
use ndarray_npy::{NpzReader, NpzWriter};

use crate::error::{Error, Result};
use crate::files::write_beside;
use crate::window::Window;

/// The array in a trigger's file that says that its pattern is added.
const RANGE: &str = "range";

/// How a trigger changes an image `x` of raw pixel values.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Stamp {
    /// `(1 − mask)·x + mask·pattern`: a patch, or a picture that is blended in.
    Blend,
    /// `x + pattern`, cut off at the smallest and largest pixel value. The mask says how much of this range a pixel is changed by.
    Add {
        /// The smallest pixel value.
        low: f32,
        /// The largest pixel value.
        high: f32,
    },
}

/// A trigger: where an image is changed, and to what.
///
/// ```
/// use ndarray::{Array4, array};
/// use neural_cleanse::Trigger;
///
/// # fn main() -> neural_cleanse::Result<()> {
/// let trigger = Trigger::new(array![[[1.0, 0.5, 0.0]]], array![[[255.0, 255.0, 255.0]]])?;
/// let stamped = trigger.apply(Array4::zeros((1, 1, 1, 3)).view())?;
/// assert_eq!(stamped, array![[[[255.0, 127.5, 0.0]]]]);
/// assert_eq!(trigger.norm_l1(), 1.5);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Trigger {
    /// Opacity, `[1, H, W]` (shared by the channels) or `[C, H, W]`, in 0..=1.
    pub mask: Array3<f32>,
    /// `[C, H, W]`, in raw pixel values: colours or, where they are added, differences.
    pub pattern: Array3<f32>,
    /// How the two change an image.
    pub stamp: Stamp,
}

impl Trigger {
    /// A trigger that is blended in, from its parts.
    ///
    /// # Errors
    /// If the shapes do not belong together, or values are not finite or (of the mask) not in 0..=1.
    pub fn new(mask: Array3<f32>, pattern: Array3<f32>) -> Result<Self> {
        let (m, p) = (mask.shape(), pattern.shape());
        if (m[0] != 1 && m[0] != p[0]) || m[1..] != p[1..] {
            return Err(Error::Trigger(format!("a mask of shape {m:?} does not belong to a pattern of shape {p:?}")));
        }
        if !mask.iter().all(|value| (0.0..=1.0).contains(value)) {
            return Err(Error::Trigger("the mask has values outside 0..1".into()));
        }
        if !pattern.iter().all(|value| value.is_finite()) {
            return Err(Error::Trigger("the pattern has values that are not finite".into()));
        }
        Ok(Trigger { mask, pattern, stamp: Stamp::Blend })
    }

    /// A trigger that is added: `change` `[C, H, W]`, cut off at the pixel values `(low, high)`. The mask is the largest change among the
    /// channels of a pixel as a share of the range, or that of each where `mask_per_channel` is set.
    ///
    /// ```
    /// use ndarray::{Array4, array};
    /// use neural_cleanse::Trigger;
    ///
    /// # fn main() -> neural_cleanse::Result<()> {
    /// let trigger = Trigger::additive(array![[[51.0, -51.0]]], (0.0, 255.0), false)?;
    /// assert_eq!(trigger.mask, array![[[0.2, 0.2]]]);
    /// let stamped = trigger.apply(Array4::from_elem((1, 1, 1, 2), 230.0).view())?;
    /// assert_eq!(stamped, array![[[[255.0, 179.0]]]]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the range is empty, or a change is not finite or exceeds it.
    pub fn additive(change: Array3<f32>, (low, high): (f32, f32), mask_per_channel: bool) -> Result<Self> {
        if !(low.is_finite() && high.is_finite() && low < high) {
            return Err(Error::Trigger(format!("{low} to {high} is no range of pixel values")));
        }
        if !change.iter().all(|value| value.abs() <= high - low) {
            return Err(Error::Trigger("the pattern changes pixels by more than the range of their values".into()));
        }
        Ok(Trigger::added(change, (low, high), mask_per_channel))
    }

    /// [`additive`](Trigger::additive), where it is known that the change is within the range.
    pub(crate) fn added(change: Array3<f32>, (low, high): (f32, f32), mask_per_channel: bool) -> Self {
        let shares = change.mapv(|value| value.abs() / (high - low));
        let mask = if mask_per_channel {
            shares
        } else {
            shares.fold_axis(Axis(0), 0.0f32, |&a, &b| a.max(b)).insert_axis(Axis(0))
        };
        Trigger { mask, pattern: change, stamp: Stamp::Add { low, high } }
    }

    /// `images` `[N, C, H, W]` (raw pixel values) with the trigger on each.
    ///
    /// # Errors
    /// If the images are not of the trigger's size.
    pub fn apply(&self, images: ArrayView4<'_, f32>) -> Result<Array4<f32>> {
        if images.shape()[1..] != *self.pattern.shape() {
            return Err(Error::Trigger(format!(
                "a trigger of shape {:?} does not fit images of shape {:?}",
                self.pattern.shape(),
                &images.shape()[1..]
            )));
        }
        let mask = self.mask.view().insert_axis(Axis(0));
        let pattern = self.pattern.view().insert_axis(Axis(0));
        let mut stamped = images.to_owned();
        let pixels = ndarray::Zip::from(&mut stamped).and_broadcast(&mask).and_broadcast(&pattern);
        match self.stamp {
            Stamp::Blend => pixels.for_each(|x, &m, &p| *x = (1.0 - m) * *x + m * p),
            Stamp::Add { low, high } => pixels.for_each(|x, _, &p| *x = (*x + p).max(low).min(high)),
        }
        Ok(stamped)
    }

    /// Σ|mask|: the number of pixels that the trigger covers, each weighted by its opacity. A mask
    /// with channels of its own counts the mean of the channels.
    pub fn norm_l1(&self) -> f64 {
        self.mask.iter().map(|&m| f64::from(m)).sum::<f64>() / self.mask.shape()[0] as f64
    }

    /// Σm²/Σm of the mask: its mean opacity, weighed by itself. It is 1 for an opaque patch of any size and of an empty mask, and little for
    /// a faint overlay. A mask with channels of its own counts the mean of the channels.
    pub fn opacity(&self) -> f64 {
        let mask = self.pixel_opacities();
        let sum = mask.sum();
        if sum > 0.0 { mask.mapv(|m| m * m).sum() / sum } else { 1.0 }
    }

    /// The trigger without its faintest pixels, as many as make up no more than `share` of its [L1 norm](Trigger::norm_l1). A pixel of a mask with channels
    /// of its own is as faint as their mean.
    ///
    /// ```
    /// use ndarray::array;
    /// use neural_cleanse::Trigger;
    ///
    /// # fn main() -> neural_cleanse::Result<()> {
    /// let trigger = Trigger::new(array![[[0.9, 0.05, 0.05]]], array![[[255.0, 255.0, 255.0]]])?;
    /// assert_eq!(trigger.trimmed(0.2).mask, array![[[0.9, 0.0, 0.0]]]);
    /// assert_eq!(trigger.trimmed(0.07).mask, array![[[0.9, 0.0, 0.05]]]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn trimmed(&self, share: f64) -> Self {
        let opacities = self.pixel_opacities();
        let width = opacities.len_of(Axis(1));
        let mut faintest_first: Vec<(f64, usize)> = opacities.iter().copied().zip(0..).collect();
        faintest_first.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let mut left = share * opacities.sum();
        let mut trimmed = self.clone();
        for (opacity, pixel) in faintest_first {
            left -= opacity;
            if left < 0.0 {
                break;
            }
            trimmed.clear(pixel / width, pixel % width);
        }
        trimmed
    }

    /// The trigger without what is outside `window`.
    pub(crate) fn within(&self, window: Window) -> Self {
        let mut within = self.clone();
        let (_, rows, columns) = self.mask.dim();
        for (row, column) in ndarray::indices((rows, columns)) {
            if !window.contains(row, column) {
                within.clear(row, column);
            }
        }
        within
    }

    /// Takes a pixel from the trigger.
    fn clear(&mut self, row: usize, column: usize) {
        self.mask.slice_mut(s![.., row, column]).fill(0.0);
        if matches!(self.stamp, Stamp::Add { .. }) {
            self.pattern.slice_mut(s![.., row, column]).fill(0.0);
        }
    }

    /// The mean of the mask's channels, `[H, W]`.
    pub(crate) fn pixel_opacities(&self) -> Array2<f64> {
        self.mask.mapv(f64::from).mean_axis(Axis(0)).unwrap_or_default()
    }

    /// max|mask|: how opaque the trigger is where it is most opaque.
    pub fn norm_inf(&self) -> f64 {
        self.mask.iter().map(|&m| f64::from(m)).fold(0.0, f64::max)
    }

    /// Reads a trigger for images of `[C, H, W]`: from PNG, whose alpha is the mask and whose colours (for one channel, their
    /// luminance) are the pattern, of pixel values 0..255; or else from `.npz`.
    ///
    /// # Errors
    /// If the file is neither, or is not of that size.
    pub fn read(path: &Path, image_shape: [usize; 3]) -> Result<Self> {
        let is_png = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png"));
        let trigger = if is_png { Trigger::read_png(path, image_shape[0])? } else { Trigger::read_npz(path)? };
        if trigger.pattern.shape() != image_shape {
            let shape = trigger.pattern.shape();
            let message = format!("{} is a trigger of {shape:?} for images of {image_shape:?}", path.display());
            return Err(Error::Trigger(message));
        }
        Ok(trigger)
    }

    fn read_png(path: &Path, channels: usize) -> Result<Self> {
        let fail = |problem: String| Error::Trigger(format!("{}: {problem}", path.display()));
        let image = image::open(path).map_err(|e| fail(e.to_string()))?;
        if !image.color().has_alpha() {
            return Err(fail("has no alpha channel to tell where the trigger is".into()));
        }
        let (width, height) = (image.width() as usize, image.height() as usize);
        let (grey, colours) = (image.to_luma8(), image.to_rgba8());
        let at = |y: usize, x: usize| (x as u32, y as u32);
        let mask = Array3::from_shape_fn((1, height, width), |(_, y, x)| {
            let (x, y) = at(y, x);
            f32::from(colours.get_pixel(x, y).0[3]) / 255.0
        });
        let pattern = Array3::from_shape_fn((channels, height, width), |(c, y, x)| {
            let (x, y) = at(y, x);
            f32::from(if channels == 1 { grey.get_pixel(x, y).0[0] } else { colours.get_pixel(x, y).0[c.min(2)] })
        });
        Trigger::new(mask, pattern)
    }

    /// Reads `mask` and `pattern` from a `.npz` file; with `range`, the smallest and largest pixel value, the pattern is to be added.
    pub fn read_npz(path: &Path) -> Result<Self> {
        let fail = |problem: String| Error::Trigger(format!("{}: {problem}", path.display()));
        let file = crate::files::open(path).map_err(|e| fail(e.to_string()))?;
        let mut archive = NpzReader::new(file).map_err(|e| fail(e.to_string()))?;
        let is_added =
            archive.names().is_ok_and(|names| names.iter().any(|name| name.trim_end_matches(".npy") == RANGE));
        let mut array = |name: &str| -> Result<Array3<f32>> {
            archive.by_name(name).map_err(|e| fail(format!("`{name}` is not a float32 array of three axes: {e}")))
        };
        let (mask, pattern) = (array("mask")?, array("pattern")?);
        if !is_added {
            return Trigger::new(mask, pattern).map_err(|e| fail(e.to_string()));
        }
        let range: Array1<f32> =
            (archive.by_name(RANGE)).map_err(|e| fail(format!("`{RANGE}` is not a float32 array of one axis: {e}")))?;
        let &[low, high] = range.as_slice().unwrap_or_default() else {
            return Err(fail(format!("`{RANGE}` is not the smallest and the largest pixel value")));
        };
        let mask_per_channel = mask.len_of(Axis(0)) > 1;
        Trigger::additive(pattern, (low, high), mask_per_channel).map_err(|e| fail(e.to_string()))
    }

    /// Writes `mask`, `pattern` and, if it is to be added, `range` to a `.npz` file, whole or not at all.
    pub fn write_npz(&self, path: &Path) -> Result<()> {
        write_beside(path, |file| {
            let mut archive = NpzWriter::new_compressed(file);
            archive.add_array("mask", &self.mask).map_err(std::io::Error::other)?;
            archive.add_array("pattern", &self.pattern).map_err(std::io::Error::other)?;
            if let Stamp::Add { low, high } = self.stamp {
                archive.add_array(RANGE, &ndarray::arr1(&[low, high])).map_err(std::io::Error::other)?;
            }
            archive.finish().map(|_| ()).map_err(std::io::Error::other)
        })
    }
}

/// A backdoor that was found: the trigger and the class that it leads to.
#[derive(Debug, Clone, PartialEq)]
pub struct Backdoor {
    /// The class that triggered images are sent to.
    pub target_class: usize,
    /// The trigger, reversed or true.
    pub trigger: Trigger,
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    fn trigger() -> Trigger {
        Trigger::new(array![[[0.0, 1.0], [0.25, 0.0]]], array![[[9.0, 255.0], [100.0, 9.0]]]).unwrap()
    }

    #[test]
    fn a_trimmed_trigger_has_lost_its_faintest_pixels_and_what_they_add() {
        let change = ndarray::array![[[100.0, 5.0], [0.0, -40.0]], [[0.0, 5.0], [-10.0, 40.0]]];
        let shares =
            [(0.0, vec![0, 1, 2, 3]), (0.06, vec![0, 2, 3]), (0.2, vec![0, 3]), (0.55, vec![0]), (1.0, vec![])];
        for per_channel in [false, true] {
            let trigger = Trigger::additive(change.clone(), (0.0, 255.0), per_channel).unwrap();
            for (share, left) in &shares {
                let trimmed = trigger.trimmed(*share);
                let is_left = |(_, y, x): (usize, usize, usize)| left.contains(&(2 * y + x));
                for (index, value) in trimmed.pattern.indexed_iter() {
                    assert_eq!(*value, if is_left(index) { change[index] } else { 0.0 }, "{per_channel}, {share}");
                }
                for (index, value) in trimmed.mask.indexed_iter() {
                    assert_eq!(*value, if is_left(index) { trigger.mask[index] } else { 0.0 });
                }
                assert!(trimmed.norm_l1() >= (1.0 - share) * trigger.norm_l1() - 1e-6);
            }
        }
    }

    #[test]
    fn within_a_window_a_trigger_changes_what_it_did_and_nothing_beside_it() {
        let window = Window { top: 0, left: 1, height: 1, width: 1 };
        let change = array![[[8.0, -8.0], [4.0, 2.0]], [[1.0, 3.0], [-2.0, 5.0]]];
        let blended = Trigger::new(array![[[0.9, 0.5], [0.3, 0.2]]], Array3::zeros((2, 2, 2))).unwrap();
        assert_eq!(blended.within(window).mask, array![[[0.0, 0.5], [0.0, 0.0]]]);
        let added = Trigger::additive(change, (0.0, 255.0), false).unwrap();
        assert_eq!(added.within(window).pattern, array![[[0.0, -8.0], [0.0, 0.0]], [[0.0, 3.0], [0.0, 0.0]]]);
        assert_eq!(added.within(window).mask.mapv(|m| m > 0.0), array![[[false, true], [false, false]]]);
    }

    #[test]
    fn applying_blends_each_pixel_by_the_mask() {
        let images = Array4::from_elem((2, 1, 2, 2), 8.0);
        let stamped = trigger().apply(images.view()).unwrap();
        for image in stamped.outer_iter() {
            assert_eq!(image, array![[[8.0, 255.0], [31.0, 8.0]]]);
        }
    }

    #[test]
    fn one_mask_is_shared_by_the_channels() {
        let trigger = Trigger::new(array![[[1.0, 0.0]]], array![[[1.0, 1.0]], [[2.0, 2.0]]]).unwrap();
        let stamped = trigger.apply(Array4::zeros((1, 2, 1, 2)).view()).unwrap();
        assert_eq!(stamped, array![[[[1.0, 0.0]], [[2.0, 0.0]]]]);
        assert_eq!(trigger.norm_l1(), 1.0);
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        assert!(Trigger::new(Array3::zeros((2, 4, 4)), Array3::zeros((3, 4, 4))).is_err());
        assert!(Trigger::new(Array3::zeros((1, 4, 5)), Array3::zeros((3, 4, 4))).is_err());
        assert!(Trigger::new(Array3::from_elem((1, 4, 4), 1.5), Array3::zeros((3, 4, 4))).is_err());
        assert!(Trigger::new(Array3::zeros((1, 4, 4)), Array3::from_elem((3, 4, 4), f32::NAN)).is_err());
        assert!(trigger().apply(Array4::zeros((1, 1, 3, 3)).view()).is_err());
    }

    #[test]
    fn what_is_added_is_cut_off_and_its_mask_is_the_share_of_the_range() {
        let change = array![[[0.5, -1.0]], [[-2.0, 0.0]]];
        let trigger = Trigger::additive(change.clone(), (-1.0, 3.0), false).unwrap();
        assert_eq!(trigger.mask, array![[[0.5, 0.25]]]);
        let stamped = trigger.apply(Array4::zeros((1, 2, 1, 2)).view()).unwrap();
        assert_eq!(stamped, array![[[[0.5, -1.0]], [[-1.0, 0.0]]]]);
        let per_channel = Trigger::additive(change, (-1.0, 3.0), true).unwrap();
        assert_eq!(per_channel.mask, array![[[0.125, 0.25]], [[0.5, 0.0]]]);
        for (change, range) in [(5.0, (-1.0, 3.0)), (f32::NAN, (-1.0, 3.0)), (0.0, (3.0, 3.0)), (0.0, (0.0, f32::NAN))]
        {
            assert!(
                Trigger::additive(Array3::from_elem((1, 1, 1), change), range, false).is_err(),
                "{change} {range:?}"
            );
        }
    }

    #[test]
    fn a_png_with_alpha_is_a_trigger() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trigger.png");
        let pixel = |x: u32, _: u32| image::Rgba(if x == 0 { [255, 0, 51, 255] } else { [0, 0, 0, 0] });
        image::RgbaImage::from_fn(2, 1, pixel).save(&path).unwrap();
        let trigger = Trigger::read(&path, [3, 1, 2]).unwrap();
        assert_eq!(trigger.mask, array![[[1.0, 0.0]]]);
        assert_eq!(trigger.pattern, array![[[255.0, 0.0]], [[0.0, 0.0]], [[51.0, 0.0]]]);
        assert!(Trigger::read(&path, [3, 2, 2]).unwrap_err().to_string().contains("trigger.png"));
        image::RgbImage::new(2, 1).save(&path).unwrap();
        assert!(Trigger::read(&path, [3, 1, 2]).unwrap_err().to_string().contains("no alpha"));
    }

    #[test]
    fn a_file_gives_back_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trigger.npz");
        trigger().write_npz(&path).unwrap();
        assert_eq!(Trigger::read_npz(&path).unwrap(), trigger());
        let added = Trigger::additive(array![[[-4.0, 2.0]], [[1.0, 0.5]]], (0.0, 8.0), true).unwrap();
        added.write_npz(&path).unwrap();
        assert_eq!(Trigger::read_npz(&path).unwrap(), added);
        std::fs::write(&path, b"PK\x03\x04 not an archive").unwrap();
        assert!(Trigger::read_npz(&path).unwrap_err().to_string().contains("trigger.npz"));
    }
}
