use std::path::Path;

use image::imageops::{FilterType, resize};
use image::{DynamicImage, ImageReader, Limits};
use ndarray::Array3;

use super::{DataError, Wanted};

/// The largest height or width of an image file.
const MAX_SIDE: u32 = 16_384;

/// The memory that decoding one image file may take, in bytes.
const MAX_DECODED: u64 = 512 << 20;

/// An image file's pixels in the wanted form.
pub(super) struct Decoded {
    /// `[H, W, C]`
    pub(super) pixels: Array3<u8>,
    /// The height and width that the file has, if it was resized.
    pub(super) resized_from: Option<(u32, u32)>,
}

/// Decodes an image file, of whatever format its content is, to grey or RGB of the wanted size.
pub(super) fn decode(path: &Path, wanted: &Wanted) -> Result<Decoded, DataError> {
    let mut reader = ImageReader::open(path)
        .and_then(ImageReader::with_guessed_format)
        .map_err(|source| DataError::Read { path: path.to_owned(), source })?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_DECODED);
    reader.limits(limits);
    let broken = |error: &dyn std::error::Error| DataError::Malformed {
        path: path.to_owned(),
        reason: format!("the image cannot be decoded: {error}"),
    };
    let image = reader.decode().map_err(|error| broken(&error))?;

    let (height, width) = (image.height(), image.width());
    let fits = (height as usize, width as usize) == (wanted.height, wanted.width);
    let pixels = if fits { bytes(&image, wanted) } else { resized_bytes(&image, wanted) };
    let shape = (wanted.height, wanted.width, wanted.channels);
    Ok(Decoded {
        pixels: Array3::from_shape_vec(shape, pixels).map_err(|error| broken(&error))?,
        resized_from: (!fits).then_some((height, width)),
    })
}

fn bytes(image: &DynamicImage, wanted: &Wanted) -> Vec<u8> {
    if wanted.channels == 1 { image.to_luma8().into_raw() } else { image.to_rgb8().into_raw() }
}

/// Bilinear; where the image shrinks, over as many pixels as fall on one.
fn resized_bytes(image: &DynamicImage, wanted: &Wanted) -> Vec<u8> {
    let (width, height) = (wanted.width as u32, wanted.height as u32);
    if wanted.channels == 1 {
        resize(&image.to_luma8(), width, height, FilterType::Triangle).into_raw()
    } else {
        resize(&image.to_rgb8(), width, height, FilterType::Triangle).into_raw()
    }
}
