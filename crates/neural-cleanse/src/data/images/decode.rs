use std::io::{BufRead, BufReader, Cursor, Seek};
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageReader, Limits};
use ndarray::Array3;

use super::super::{DataError, Wanted};
use super::resizing::fit;
use crate::files;

/// The largest height or width of an image file.
const MAX_SIDE: u32 = 16_384;

/// The memory that decoding one image file may take, in bytes.
const MAX_DECODED: u64 = 512 << 20;

/// An image file's pixels in the wanted form.
pub(in super::super) struct Decoded {
    /// `[H, W, C]`
    pub(in super::super) pixels: Array3<u8>,
    /// The height and width that the file has, if it was resized.
    pub(in super::super) resized_from: Option<(u32, u32)>,
}

/// Decodes an image file, of whatever format its content is, to grey or RGB of the wanted size.
pub(super) fn decode(path: &Path, wanted: &Wanted) -> Result<Decoded, DataError> {
    decoded(open(path)?, wanted).map_err(|reason| malformed(path, reason))
}

/// As [`decode`], for a file that is in memory; or what is wrong with it.
pub(in super::super) fn decode_bytes(bytes: &[u8], wanted: &Wanted) -> Result<Decoded, String> {
    decoded(Cursor::new(bytes), wanted)
}

/// The shape `[C, H, W]` of an image file.
pub(super) fn shape(path: &Path) -> Result<[usize; 3], DataError> {
    shape_in(open(path)?).map_err(|reason| malformed(path, reason))
}

/// As [`shape`], for a file that is in memory.
pub(in super::super) fn shape_of_bytes(bytes: &[u8]) -> Result<[usize; 3], String> {
    shape_in(Cursor::new(bytes))
}

fn open(path: &Path) -> Result<BufReader<std::fs::File>, DataError> {
    let file = files::open(path).map_err(|source| DataError::Read { path: path.to_owned(), source })?;
    Ok(BufReader::new(file))
}

fn malformed(path: &Path, reason: String) -> DataError {
    DataError::Malformed { path: path.to_owned(), reason }
}

fn reader<R: BufRead + Seek>(file: R) -> Result<ImageReader<R>, String> {
    let mut reader = ImageReader::new(file).with_guessed_format().map_err(|error| error.to_string())?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_DECODED);
    reader.limits(limits);
    Ok(reader)
}

fn undecodable(error: impl std::fmt::Display) -> String {
    format!("the image cannot be decoded: {}", error.to_string().trim_end())
}

fn shape_in(file: impl BufRead + Seek) -> Result<[usize; 3], String> {
    let decoder = reader(file)?.into_decoder().map_err(undecodable)?;
    let (width, height) = decoder.dimensions();
    let channels = if decoder.color_type().has_color() { 3 } else { 1 };
    Ok([channels, height as usize, width as usize])
}

fn decoded(file: impl BufRead + Seek, wanted: &Wanted) -> Result<Decoded, String> {
    let image = reader(file)?.decode().map_err(undecodable)?;
    let (height, width) = (image.height(), image.width());
    let fits = (height as usize, width as usize) == (wanted.height, wanted.width);
    let coloured = if wanted.channels == 1 {
        DynamicImage::ImageLuma8(image.to_luma8())
    } else {
        DynamicImage::ImageRgb8(image.to_rgb8())
    };
    let pixels = fit(coloured, wanted)?.into_bytes();
    let shape = (wanted.height, wanted.width, wanted.channels);
    Ok(Decoded {
        pixels: Array3::from_shape_vec(shape, pixels).map_err(undecodable)?,
        resized_from: (!fits).then_some((height, width)),
    })
}
