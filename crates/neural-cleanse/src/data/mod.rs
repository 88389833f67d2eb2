//! Clean samples from image folders, NumPy arrays, IDX and Parquet files.
//!
//! All are brought to one form, the raw domain: pixels of 0..255 as `f32`, `[N, C, H, W]`.
//! What a file is, its content says and not its name. Sizes that a file states are
//! checked before memory is taken for them.

mod bounded;
mod error;
mod idx;
mod images;
mod labels;
mod layout;
mod npy;
mod parquet;
mod pixels;
mod subset;

use std::io::Read;
use std::path::Path;

use ndarray::{Array4, Axis};

use crate::files;

pub use error::DataError;
pub use images::{Filter, Resizing, Size};
pub use parquet::Columns;

/// Images and what is known of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Samples {
    /// `[N, C, H, W]`, pixels of 0..255.
    pub images: Array4<f32>,
    /// The class of every image, `[N]`; `None` if the data has no labels.
    pub labels: Option<Vec<usize>>,
    /// The folder names of a tree with one folder a class, by class; `None` if the
    /// names are the class numbers themselves, and for all other data.
    pub class_names: Option<Vec<String>>,
    /// What the user should know of how the data was read, one sentence each.
    pub notes: Vec<String>,
}

/// The form that samples must have, and how many of them are wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// The number of channels: 1 is grey, 3 is red, green and blue.
    pub channels: usize,
    /// The height in pixels.
    pub height: usize,
    /// The width in pixels.
    pub width: usize,
    /// The values of NumPy arrays that stand for black and white; they are mapped
    /// linearly to 0 and 255. Image and IDX files always have 0..255.
    pub range: (f32, f32),
    /// How image files are brought to this size.
    pub resizing: Resizing,
    /// Where a Parquet file has images and labels.
    pub columns: Columns,
    /// If there are more samples, only the ones that [`Samples::subset`] would pick are read.
    pub at_most: Option<Picked>,
}

/// The size and the seed of a subset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picked {
    /// The number of samples.
    pub samples: usize,
    /// Seeds the choice.
    pub seed: u64,
}

impl Wanted {
    /// All samples, with values of 0..255.
    pub fn new(channels: usize, height: usize, width: usize) -> Self {
        Self {
            channels,
            height,
            width,
            range: (0.0, 255.0),
            resizing: Resizing::default(),
            columns: Columns::default(),
            at_most: None,
        }
    }
}

/// Reads the samples at `path`: a folder of images (one sub-folder a class, or
/// flat), an `.npz` file with the arrays `x` and perhaps `y`, an `.npy` file, an
/// IDX file, gzipped or not, or a Parquet file, or a folder of them, in the layout of Hugging Face.
///
/// `labels` names a file with the labels: `.npy`, IDX, or text with one number a
/// line. Without it, a labels file that stands beside an IDX file and is named
/// alike is used, as in `t10k-images-idx3-ubyte.gz` and `t10k-labels-idx1-ubyte.gz`.
///
/// Images of a folder are converted to grey or RGB and resized to the wanted size;
/// arrays must have it, as `[N, C, H, W]`, `[N, H, W, C]` or, with one channel, `[N, H, W]`.
///
/// ```
/// use std::path::Path;
///
/// use neural_cleanse::data::{self, Wanted};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let samples = data::load(Path::new("../../fixtures/fashion-mnist-400.npz"), None, &Wanted::new(1, 28, 28))?;
/// assert_eq!(samples.images.shape(), [400, 1, 28, 28]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`DataError`], which names the file at fault.
pub fn load(path: &Path, labels: Option<&Path>, wanted: &Wanted) -> Result<Samples, DataError> {
    let (low, high) = wanted.range;
    if !(low.is_finite() && high.is_finite() && low < high) {
        return Err(DataError::Range { low, high });
    }
    if path.is_dir() {
        let shards = parquet::shards(path)?;
        return if shards.is_empty() {
            images::load(path, labels, wanted)
        } else {
            parquet::load(&shards, labels, wanted)
        };
    }
    let mut samples = match Format::of(path)? {
        Format::Parquet => return parquet::load(&[path.to_owned()], labels, wanted),
        Format::Npy => npy::load_npy(path, wanted)?,
        Format::Npz => npy::load_npz(path, wanted)?,
        Format::Idx => idx::load(path, wanted, labels.is_none())?,
        Format::Other => return Err(DataError::Unrecognised { path: path.to_owned() }),
    };
    if let Some(labels) = labels {
        samples.labels = Some(labels::load(labels, samples.len())?);
    }
    Ok(match wanted.at_most {
        Some(picked) if picked.samples < samples.len() => samples.subset(picked.samples, picked.seed),
        _ => samples,
    })
}

/// The shape `[C, H, W]` of the first image at `path`, of which no more is read than that takes; `None` for arrays that are
/// not images, such as flat rows.
///
/// # Errors
///
/// [`DataError`], which names the file at fault.
pub fn image_shape(path: &Path, columns: &Columns) -> Result<Option<[usize; 3]>, DataError> {
    if path.is_dir() {
        let shape = match parquet::shards(path)?.first() {
            Some(shard) => parquet::first_shape(shard, columns),
            None => images::first_shape(path),
        };
        return shape.map(Some);
    }
    let shape = match Format::of(path)? {
        Format::Parquet => return parquet::first_shape(path, columns).map(Some),
        Format::Npy => npy::npy_shape(path)?,
        Format::Npz => npy::npz_shape(path)?,
        Format::Idx => idx::shape(path)?,
        Format::Other => return Err(DataError::Unrecognised { path: path.to_owned() }),
    };
    Ok(layout::image_shape(&shape))
}

impl Samples {
    /// The number of images.
    pub fn len(&self) -> usize {
        self.images.len_of(Axis(0))
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `n` samples, or all if there are fewer, in an order that the seed decides.
    ///
    /// With labels, the classes take turns, so every beginning of the subset is
    /// balanced as far as the data allows. The order is the same on every platform.
    #[must_use]
    pub fn subset(&self, n: usize, seed: u64) -> Self {
        let mut order = subset::order(self.labels.as_deref(), self.len(), seed);
        order.truncate(n);
        self.select(&order)
    }

    /// Splits off `held_out` samples, balanced over the classes as far as no class gives more than its share, and returns the
    /// rest and them: the working set and the held-out set. A class of two samples or more is in both, unless there are too few others.
    #[must_use]
    pub fn split(&self, held_out: usize, seed: u64) -> (Self, Self) {
        let order = subset::order(self.labels.as_deref(), self.len(), seed);
        let (held_out, working) = subset::part(order, self.labels.as_deref(), held_out);
        (self.select(&working), self.select(&held_out))
    }

    fn select(&self, indices: &[usize]) -> Self {
        let labels = self.labels.as_ref();
        Self {
            images: self.images.select(Axis(0), indices),
            labels: labels.map(|labels| indices.iter().map(|index| labels[*index]).collect()),
            class_names: self.class_names.clone(),
            notes: self.notes.clone(),
        }
    }
}

/// What the first bytes of a file say that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Npy,
    Npz,
    /// Gzipped or not.
    Idx,
    Parquet,
    Other,
}

impl Format {
    fn of(path: &Path) -> Result<Self, DataError> {
        let unreadable = |source| DataError::Read { path: path.to_owned(), source };
        let mut start = Vec::new();
        let file = files::open(path).map_err(unreadable)?;
        file.take(6).read_to_end(&mut start).map_err(unreadable)?;
        Ok(match start.as_slice() {
            [0x93, b'N', b'U', b'M', b'P', b'Y'] => Self::Npy,
            [b'P', b'K', 3 | 5, 4 | 6, ..] => Self::Npz,
            [b'P', b'A', b'R', b'1', ..] => Self::Parquet,
            [0x1f, 0x8b, ..] | [0, 0, 8..=14, ..] => Self::Idx,
            _ => Self::Other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `n` one-pixel images, the value of each its index, with the class `index % classes`.
    fn numbered(n: usize, classes: Option<usize>) -> Samples {
        Samples {
            images: Array4::from_shape_fn((n, 1, 1, 1), |(index, ..)| index as f32),
            labels: classes.map(|classes| (0..n).map(|index| index % classes).collect()),
            class_names: None,
            notes: Vec::new(),
        }
    }

    fn indices(samples: &Samples) -> Vec<usize> {
        samples.images.iter().map(|pixel| *pixel as usize).collect()
    }

    #[test]
    fn a_subset_keeps_images_and_labels_together_and_classes_balanced() {
        let all = numbered(100, Some(10));
        let picked = all.subset(30, 7);
        let labels = picked.labels.clone().expect("labels");
        for (index, label) in indices(&picked).iter().zip(&labels) {
            assert_eq!(index % 10, *label);
        }
        for class in 0..10 {
            assert_eq!(labels.iter().filter(|label| **label == class).count(), 3);
        }
        assert_eq!(picked, all.subset(30, 7));
        assert_ne!(picked, all.subset(30, 8));
        assert_eq!(indices(&all.subset(1000, 7)).len(), 100);
    }

    #[test]
    fn a_split_loses_and_repeats_nothing() {
        for classes in [None, Some(10)] {
            let (working, held_out) = numbered(100, classes).split(20, 3);
            let mut both = [indices(&working), indices(&held_out)].concat();
            both.sort_unstable();
            assert_eq!(both, (0..100).collect::<Vec<_>>());
            assert_eq!(held_out.len(), 20);
            if let Some(labels) = held_out.labels {
                let count = |class| labels.iter().filter(|label| **label == class).count();
                assert!((0..10).all(|class| count(class) == 2));
            }
        }
        let (working, held_out) = numbered(5, None).split(9, 3);
        assert_eq!((working.len(), held_out.len()), (0, 5));
    }

    #[test]
    fn what_is_no_data_is_refused_by_name() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let text = directory.path().join("notes.txt");
        std::fs::write(&text, "hello").expect("a file");
        let wanted = Wanted::new(1, 28, 28);
        let refused = |path: &Path| load(path, None, &wanted).expect_err("no data").to_string();
        let error = refused(&text);
        assert!(error.contains("notes.txt is neither a folder"), "{error}");
        let error = refused(&directory.path().join("missing.npy"));
        assert!(error.contains("cannot read") && error.contains("missing.npy"), "{error}");
        for range in [(1.0, 0.0), (0.0, 0.0), (f32::NAN, 1.0)] {
            let wanted = Wanted { range, ..wanted.clone() };
            assert!(matches!(load(&text, None, &wanted), Err(DataError::Range { .. })));
        }
    }
}
