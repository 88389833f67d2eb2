use std::io::{self, Write};
use std::path::Path;

use image::{Rgb, RgbImage, imageops};
use ndarray::{Array3, ArrayView3, Axis};

use crate::error::{Error, Result};
use crate::files::write_beside;
use crate::trigger::{Stamp, Trigger};

/// Pictures are enlarged so that the side of each panel has at least this many pixels.
const PANEL: u32 = 160;

/// The width of the white line between panels.
const GAP: u32 = 4;

/// Mask, pattern, the trigger on a plain ground, and `sample` (`[C, H, W]`, raw pixel values) with the trigger on it, side by side.
/// `range` is that of the pixel values. A pattern that is added is grey where it changes nothing.
pub fn trigger_picture(trigger: &Trigger, sample: ArrayView3<'_, f32>, range: (f32, f32)) -> Result<RgbImage> {
    let stamped = trigger.apply(sample.insert_axis(Axis(0)))?.index_axis_move(Axis(0), 0);
    let panels = [
        panel(trigger.mask.view(), (0.0, 1.0)),
        panel(trigger.pattern.view(), pattern_range(trigger, range)),
        panel(on_plain_ground(trigger, range)?.view(), range),
        panel(stamped.view(), range),
    ];
    let (width, height) = panels[0].dimensions();
    let mut picture =
        RgbImage::from_pixel(width * panels.len() as u32 + GAP * (panels.len() as u32 - 1), height, Rgb([255; 3]));
    for (i, panel) in panels.iter().enumerate() {
        imageops::replace(&mut picture, panel, i64::from((width + GAP) * i as u32), 0);
    }
    Ok(picture)
}

/// [`trigger_picture`] as the bytes of a PNG file.
pub fn trigger_png(trigger: &Trigger, sample: ArrayView3<'_, f32>, range: (f32, f32)) -> Result<Vec<u8>> {
    png(&trigger_picture(trigger, sample, range)?)
        .map_err(|e| Error::Trigger(format!("its picture cannot be encoded: {e}")))
}

/// Writes [`trigger_picture`] as PNG, whole or not at all.
pub fn write_trigger_picture(
    path: &Path,
    trigger: &Trigger,
    sample: ArrayView3<'_, f32>,
    range: (f32, f32),
) -> Result<()> {
    let bytes = trigger_png(trigger, sample, range)?;
    write_beside(path, |mut file| file.write_all(&bytes))
}

/// `picture` as a PNG file.
pub(super) fn png(picture: &RgbImage) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    picture.write_to(&mut io::Cursor::new(&mut bytes), image::ImageFormat::Png).map_err(io::Error::other)?;
    Ok(bytes)
}

/// `trigger` on black, which shows the pattern where the mask does; on grey, if it is added.
pub(super) fn on_plain_ground(trigger: &Trigger, range: (f32, f32)) -> Result<Array3<f32>> {
    let value = match trigger.stamp {
        Stamp::Blend => range.0,
        Stamp::Add { .. } => f32::midpoint(range.0, range.1),
    };
    let ground = Array3::from_elem(trigger.pattern.raw_dim(), value);
    Ok(trigger.apply(ground.view().insert_axis(Axis(0)))?.index_axis_move(Axis(0), 0))
}

/// What is black and what is white in a picture of the pattern.
pub(super) fn pattern_range(trigger: &Trigger, range: (f32, f32)) -> (f32, f32) {
    match trigger.stamp {
        Stamp::Blend => range,
        Stamp::Add { low, high } => (low - high, high - low),
    }
}

/// One image `[C, H, W]`, grey if it has one channel and otherwise its first three as red, green and blue.
pub(super) fn rgb(values: ArrayView3<'_, f32>, (low, high): (f32, f32)) -> RgbImage {
    let [channels, height, width] = [0, 1, 2].map(|axis| values.len_of(Axis(axis)));
    let byte = |value: f32| ((value - low) / (high - low) * 255.0).round().clamp(0.0, 255.0) as u8;
    let pixel = |x: u32, y: u32| {
        let channel = |c: usize| byte(values[[if channels < 3 { 0 } else { c }, y as usize, x as usize]]);
        Rgb([channel(0), channel(1), channel(2)])
    };
    RgbImage::from_fn(width as u32, height as u32, pixel)
}

/// [`rgb`], enlarged by a whole factor.
fn panel(values: ArrayView3<'_, f32>, range: (f32, f32)) -> RgbImage {
    let image = rgb(values, range);
    let (width, height) = image.dimensions();
    let factor = PANEL.div_ceil(width.max(height).max(1));
    imageops::resize(&image, width * factor, height * factor, imageops::FilterType::Nearest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn mask_pattern_trigger_and_stamped_sample_stand_side_by_side() {
        let trigger = Trigger::new(array![[[1.0, 0.0]]], array![[[255.0, 51.0]]]).unwrap();
        let picture = trigger_picture(&trigger, array![[[0.0, 102.0]]].view(), (0.0, 255.0)).unwrap();
        assert_eq!(picture.dimensions(), (4 * 160 + 3 * 4, 80));
        let left_and_right = |i: u32| [0, 120].map(|x| picture.get_pixel(i * 164 + x, 40).0[0]);
        assert_eq!(left_and_right(0), [255, 0]);
        assert_eq!(left_and_right(1), [255, 51]);
        assert_eq!(left_and_right(2), [255, 0]);
        assert_eq!(left_and_right(3), [255, 102]);
    }

    #[test]
    fn a_pattern_that_is_added_is_shown_on_grey() {
        let trigger = Trigger::additive(array![[[-51.0, 0.0]]], (0.0, 255.0), false).unwrap();
        let picture = trigger_picture(&trigger, array![[[255.0, 102.0]]].view(), (0.0, 255.0)).unwrap();
        let left_and_right = |i: u32| [0, 120].map(|x| picture.get_pixel(i * 164 + x, 40).0[0]);
        assert_eq!([0, 1, 2, 3].map(left_and_right), [[51, 0], [102, 128], [77, 128], [204, 102]]);
    }
}
