//! Folders of image files.

mod decode;
mod listing;
mod resizing;

use std::path::Path;

use ndarray::{Array4, Axis};
use rayon::prelude::*;

use super::{DataError, Samples, Wanted, bounded, labels, subset};
use decode::decode;
pub(super) use decode::{Decoded, decode_bytes, shape_of_bytes};
use listing::Listing;
pub use resizing::{Filter, Resizing, Size};

/// Reads a folder: one sub-folder a class, or flat and without labels of its own.
pub(super) fn load(folder: &Path, labels: Option<&Path>, wanted: &Wanted) -> Result<Samples, DataError> {
    let mut listing = Listing::of(folder)?;
    let count = listing.images.len();
    if count == 0 {
        return Err(DataError::Empty { path: folder.to_owned() });
    }
    if !matches!(wanted.channels, 1 | 3) {
        return Err(DataError::Channels { path: folder.to_owned(), channels: wanted.channels });
    }
    if let Some(path) = labels {
        listing.labels = Some(labels::load(path, count)?);
    }
    if let Some(picked) = wanted.at_most.filter(|picked| picked.samples < count) {
        let mut order = subset::order(listing.labels.as_deref(), count, picked.seed);
        order.truncate(picked.samples);
        listing.keep(&order);
    }
    let shape = [listing.images.len(), wanted.channels, wanted.height, wanted.width];
    bounded::values(&shape).map_err(|reason| DataError::Malformed { path: folder.to_owned(), reason })?;
    let images: Vec<Decoded> = listing.images.par_iter().map(|path| decode(path, wanted)).collect::<Result<_, _>>()?;
    let name = |image: usize| listing.images[image].display().to_string();
    listing.notes.extend(resized_note(&images, name, wanted));
    Ok(Samples {
        images: stack(&images, shape),
        labels: listing.labels,
        class_names: listing.class_names,
        notes: listing.notes,
    })
}

/// The shape of the first image of a folder.
pub(super) fn first_shape(folder: &Path) -> Result<[usize; 3], DataError> {
    let listing = Listing::of(folder)?;
    let first = listing.images.first().ok_or_else(|| DataError::Empty { path: folder.to_owned() })?;
    decode::shape(first)
}

/// What to tell the user if some of the images, which are called `name`, had another size.
pub(super) fn resized_note(images: &[Decoded], name: impl Fn(usize) -> String, wanted: &Wanted) -> Option<String> {
    let resized = images.iter().filter(|image| image.resized_from.is_some()).count();
    let mut numbered = images.iter().enumerate();
    let (first, (height, width)) = numbered.find_map(|(i, image)| Some((i, image.resized_from?)))?;
    Some(format!(
        "{resized} of {} images were resized to {}x{} (height x width); {} was {height}x{width}",
        images.len(),
        wanted.height,
        wanted.width,
        name(first)
    ))
}

/// Images `[H, W, C]` of bytes as one array `[N, C, H, W]` of floats.
pub(super) fn stack(images: &[Decoded], shape: [usize; 4]) -> Array4<f32> {
    let mut stacked = Array4::zeros(shape);
    for (mut sample, image) in stacked.axis_iter_mut(Axis(0)).zip(images) {
        let channels_first = image.pixels.view().permuted_axes([2, 0, 1]);
        sample.zip_mut_with(&channels_first, |pixel, byte| *pixel = f32::from(*byte));
    }
    stacked
}

#[cfg(test)]
mod tests {
    use std::fs;

    use image::{GrayImage, Luma, Rgb, RgbImage};

    use super::super::Picked;
    use super::*;

    fn grey(path: &Path, value: u8, side: u32) {
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        GrayImage::from_pixel(side, side, Luma([value])).save(path).expect("an image");
    }

    fn firsts(samples: &Samples) -> Vec<f32> {
        samples.images.axis_iter(Axis(0)).map(|image| image[[0, 0, 0]]).collect()
    }

    #[test]
    fn folders_are_classes_by_name() {
        let root = tempfile::tempdir().expect("a temporary directory");
        grey(&root.path().join("stop/b.png"), 20, 4);
        grey(&root.path().join("stop/a.png"), 10, 4);
        grey(&root.path().join("go/c.BMP"), 30, 4);
        fs::write(root.path().join("stop/readme.txt"), "text").expect("a file");
        fs::write(root.path().join("stop/.hidden.png"), "no image").expect("a file");
        let samples = load(root.path(), None, &Wanted::new(1, 4, 4)).expect("images");
        assert_eq!(firsts(&samples), [30.0, 10.0, 20.0]);
        assert_eq!(samples.labels, Some(vec![0, 1, 1]));
        assert_eq!(samples.class_names, Some(vec!["go".to_owned(), "stop".to_owned()]));
        assert_eq!(samples.notes.len(), 1);
        assert!(samples.notes[0].starts_with("1 file is no image by name"), "{:?}", samples.notes);
    }

    #[test]
    fn folders_named_by_numbers_are_those_classes() {
        let root = tempfile::tempdir().expect("a temporary directory");
        for (folder, value) in [("10", 100), ("00009", 90), ("2", 20)] {
            grey(&root.path().join(folder).join("a.png"), value, 4);
        }
        let samples = load(root.path(), None, &Wanted::new(1, 4, 4)).expect("images");
        assert_eq!(samples.labels, Some(vec![2, 9, 10]));
        assert_eq!(firsts(&samples), [20.0, 90.0, 100.0]);
        assert_eq!(samples.class_names, None);

        grey(&root.path().join("09/a.png"), 0, 4);
        let error = load(root.path(), None, &Wanted::new(1, 4, 4)).expect_err("one class twice");
        assert!(error.to_string().contains("two folders have the number of class 9"), "{error}");
    }

    #[test]
    fn a_flat_folder_takes_its_labels_from_a_file() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let wanted = Wanted::new(1, 4, 4);
        grey(&root.path().join("a.png"), 1, 4);
        grey(&root.path().join("b.png"), 2, 4);
        assert_eq!(load(root.path(), None, &wanted).expect("images").labels, None);
        let labels = tempfile::NamedTempFile::new().expect("a temporary file");
        fs::write(labels.path(), "5\n3\n").expect("a file");
        let samples = load(root.path(), Some(labels.path()), &wanted).expect("images");
        assert_eq!(samples.labels, Some(vec![5, 3]));
    }

    #[test]
    fn images_are_resized_and_recoloured_as_wanted_and_it_is_told() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let red = RgbImage::from_pixel(8, 6, Rgb([255, 0, 0]));
        red.save(root.path().join("red.png")).expect("an image");
        grey(&root.path().join("white.jpg"), 255, 4);
        let samples = load(root.path(), None, &Wanted::new(3, 4, 4)).expect("images");
        assert_eq!(samples.images.shape(), [2, 3, 4, 4]);
        assert_eq!(samples.images[[0, 0, 3, 3]], 255.0);
        assert_eq!(samples.images[[0, 1, 3, 3]], 0.0);
        assert_eq!(samples.images[[1, 2, 0, 0]], 255.0);
        assert_eq!(samples.notes.len(), 1);
        let note = &samples.notes[0];
        assert!(note.starts_with("1 of 2 images were resized to 4x4"), "{note}");
        assert!(note.contains("red.png was 6x8"), "{note}");
        let grey = load(root.path(), None, &Wanted::new(1, 4, 4)).expect("images");
        assert_eq!(grey.images[[0, 0, 0, 0]].round(), 54.0, "the luminance of red");
    }

    #[test]
    fn picking_before_decoding_is_the_subset() {
        let root = tempfile::tempdir().expect("a temporary directory");
        for index in 0..12_u8 {
            let folder = if index % 3 == 0 { "a" } else { "b" };
            grey(&root.path().join(folder).join(format!("{index:02}.png")), index, 4);
        }
        let wanted = Wanted::new(1, 4, 4);
        let all = load(root.path(), None, &wanted).expect("images");
        let wanted = Wanted { at_most: Some(Picked { samples: 5, seed: 11 }), ..wanted };
        assert_eq!(load(root.path(), None, &wanted).expect("images"), all.subset(5, 11));
    }

    #[test]
    fn what_cannot_be_read_is_an_error_that_names_it() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let wanted = Wanted::new(1, 4, 4);
        let error = load(root.path(), None, &wanted).expect_err("an empty folder");
        assert!(matches!(error, DataError::Empty { .. }), "{error}");

        grey(&root.path().join("a.png"), 1, 4);
        let error = load(root.path(), None, &Wanted::new(4, 4, 4)).expect_err("four channels");
        assert!(error.to_string().contains("the model takes 4"), "{error}");

        // A PNG that announces 60000 x 60000 pixels.
        let mut huge = fs::read(root.path().join("a.png")).expect("an image");
        huge[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
        let broken: [&[u8]; 3] = [b"no image", b"", &huge];
        for bytes in broken {
            fs::write(root.path().join("broken.png"), bytes).expect("a file");
            let error = load(root.path(), None, &wanted).expect_err("no image").to_string();
            assert!(error.contains("broken.png: the image cannot be decoded"), "{error}");
        }

        fs::remove_file(root.path().join("broken.png")).expect("the file");
        grey(&root.path().join("folder/b.png"), 1, 4);
        let error = load(root.path(), None, &wanted).expect_err("neither flat nor a tree");
        assert!(error.to_string().contains("both images and sub-folders"), "{error}");
    }
}
