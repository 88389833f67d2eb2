//! Images as Pillow resizes them, which `tests/data/resizing.py` has written down.

use std::path::{Path, PathBuf};

use ndarray::Array3;
use ndarray_npy::NpzReader;
use neural_cleanse::data::{self, Filter, Resizing, Size, Wanted};

fn data_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

/// The image of the folder, `[C, H, W]`, made `height` by `width`.
fn resized(resizing: Resizing, height: usize, width: usize) -> Array3<f32> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(data_folder().join("resizing.png"), folder.path().join("image.png")).unwrap();
    let wanted = Wanted { resizing, ..Wanted::new(3, height, width) };
    let samples = data::load(folder.path(), None, &wanted).unwrap();
    samples.images.index_axis_move(ndarray::Axis(0), 0)
}

#[test]
fn pixels_differ_from_those_of_pillow_by_one_level_at_most() {
    let mut expected = NpzReader::new(std::fs::File::open(data_folder().join("resizing.npz")).unwrap()).unwrap();
    let smaller = Some(Size::Exact { height: 20, width: 24 });
    let larger = Some(Size::Exact { height: 80, width: 90 });
    let (edge, crop) = (Some(Size::ShortestEdge(32)), Some((28, 28)));
    for (filter, name) in [(Filter::Bilinear, "bilinear"), (Filter::Bicubic, "bicubic"), (Filter::Lanczos, "lanczos")] {
        for (kind, size, centre_crop, height, width) in
            [("smaller", smaller, None, 20, 24), ("larger", larger, None, 80, 90), ("cropped", edge, crop, 28, 28)]
        {
            let name = format!("{name}_{kind}");
            let theirs: Array3<u8> = expected.by_name(&name).unwrap();
            let ours = resized(Resizing { size, filter, centre_crop }, height, width);
            let theirs = theirs.permuted_axes([2, 0, 1]).mapv(f32::from);
            let difference = (&ours - &theirs).mapv(f32::abs);
            let largest = difference.fold(0.0f32, |largest, &d| largest.max(d));
            let share = difference.iter().filter(|&&d| d > 0.0).count() as f64 / difference.len() as f64;
            println!("{name}: at most {largest}, {:.1} % of the values differ", 100.0 * share);
            assert!(largest <= 1.0 && share < 0.01, "{name}: at most {largest}, {share} differ");
        }
    }
}

#[test]
fn what_is_still_of_another_size_is_brought_to_that_of_the_model() {
    let images = resized(Resizing { size: None, filter: Filter::Bilinear, centre_crop: Some((70, 70)) }, 70, 70);
    assert_eq!(images.index_axis(ndarray::Axis(1), 0).sum(), 0.0, "black is added around a smaller image");
    assert!(images.index_axis(ndarray::Axis(1), 35).sum() > 0.0);
    let images = resized(Resizing { size: Some(Size::ShortestEdge(40)), ..Resizing::default() }, 16, 20);
    assert_eq!(images.shape(), [3, 16, 20]);
}

#[test]
fn a_size_beyond_all_bounds_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(data_folder().join("resizing.png"), folder.path().join("image.png")).unwrap();
    let resizing = Resizing { size: Some(Size::ShortestEdge(1 << 40)), ..Resizing::default() };
    let error = data::load(folder.path(), None, &Wanted { resizing, ..Wanted::new(3, 8, 8) }).unwrap_err().to_string();
    assert!(error.contains("image.png") && error.contains("pixels"), "{error}");
}
