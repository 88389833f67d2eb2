//! Bringing an image to the size that a model takes, as it was done in training.

use image::imageops::FilterType;
use image::{DynamicImage, GenericImage};

use super::super::Wanted;

/// How images are brought to the size that the model takes: resized first, then cropped.
///
/// The default resizes them straight to the model's size. What is then still of another size is resized to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resizing {
    /// The size to resize to.
    pub size: Option<Size>,
    /// How pixels are weighed. Where an image shrinks, over as many pixels as fall on one, as Pillow does.
    pub filter: Filter,
    /// The height and width to cut out of the middle; where the image is smaller, black is added around it.
    pub centre_crop: Option<(usize, usize)>,
}

/// The size of an image after it was resized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// So high and so wide, whatever that does to its proportions.
    Exact {
        /// In pixels.
        height: usize,
        /// In pixels.
        width: usize,
    },
    /// Its shorter side is so long, and its proportions stay.
    ShortestEdge(usize),
}

/// How the pixels of a resized image are made from those of the original.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Filter {
    /// The pixel that is nearest.
    Nearest,
    /// Weights that fall linearly.
    #[default]
    Bilinear,
    /// A cubic with a = -1/2.
    Bicubic,
    /// Lanczos' kernel of three lobes.
    Lanczos,
}

/// The most pixels that an image may have before it is cropped.
const MAX_PIXELS: usize = 1 << 26;

/// The image at the size that is wanted, or why that cannot be.
pub(super) fn fit(image: DynamicImage, wanted: &Wanted) -> Result<DynamicImage, String> {
    let Resizing { size, filter, centre_crop } = wanted.resizing;
    let (height, width) = (image.height() as usize, image.width() as usize);
    let mut image = match size {
        Some(size) => resized(image, size.of(height, width), filter)?,
        None if centre_crop.is_some() => image,
        None => resized(image, (wanted.height, wanted.width), filter)?,
    };
    if let Some((height, width)) = centre_crop {
        image = cropped(&image, height, width)?;
    }
    resized(image, (wanted.height, wanted.width), filter)
}

impl Resizing {
    /// The height and width of all images afterwards, if that does not depend on what they were.
    pub fn result(&self) -> Option<(usize, usize)> {
        let exact = match self.size {
            Some(Size::Exact { height, width }) => Some((height, width)),
            _ => None,
        };
        self.centre_crop.or(exact)
    }
}

impl Size {
    /// Height and width of an image that was so high and so wide. The longer side is rounded down.
    fn of(self, height: usize, width: usize) -> (usize, usize) {
        match self {
            Size::Exact { height, width } => (height, width),
            Size::ShortestEdge(side) if height <= width => (side, side.saturating_mul(width) / height.max(1)),
            Size::ShortestEdge(side) => (side.saturating_mul(height) / width.max(1), side),
        }
    }
}

fn resized(image: DynamicImage, (height, width): (usize, usize), filter: Filter) -> Result<DynamicImage, String> {
    if (image.height() as usize, image.width() as usize) == (height, width) {
        return Ok(image);
    }
    let (h, w) = bounded(height, width)?;
    bounded(image.height() as usize, width)?;
    let filter = match filter {
        Filter::Nearest => FilterType::Nearest,
        Filter::Bilinear => FilterType::Triangle,
        Filter::Bicubic => FilterType::CatmullRom,
        Filter::Lanczos => FilterType::Lanczos3,
    };
    // As Pillow does it: rows first, and whole levels in between, so that overshoot at edges is cut off twice.
    let rows = image.resize_exact(w, image.height(), filter);
    Ok(rows.resize_exact(w, h, filter))
}

fn cropped(image: &DynamicImage, height: usize, width: usize) -> Result<DynamicImage, String> {
    let (h, w) = bounded(height, width)?;
    let mut result = DynamicImage::new(w, h, image.color());
    let (high, wide) = (h.min(image.height()), w.min(image.width()));
    let part = image.crop_imm((image.width() - wide) / 2, (image.height() - high) / 2, wide, high);
    if (wide, high) == (w, h) {
        return Ok(part);
    }
    let failed = |error: image::ImageError| error.to_string();
    result.copy_from(&part, (w - wide).div_ceil(2), (h - high).div_ceil(2)).map_err(failed)?;
    Ok(result)
}

fn bounded(height: usize, width: usize) -> Result<(u32, u32), String> {
    match height.checked_mul(width) {
        Some(1..=MAX_PIXELS) => Ok((height as u32, width as u32)),
        _ => Err(format!("it would be resized to {height}x{width}, which is not between 1 and {MAX_PIXELS} pixels")),
    }
}
