//! IDX, the format of MNIST: <http://yann.lecun.com/exdb/mnist/>, perhaps gzipped.

use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use ndarray::ArrayD;

use super::{DataError, Samples, Wanted, bounded, labels, layout};
use crate::files;

/// Reads images of three or four axes, and with `find_labels` the labels of the file
/// that belongs to them.
pub(super) fn load(path: &Path, wanted: &Wanted, find_labels: bool) -> Result<Samples, DataError> {
    let Idx { shape, bytes } = read(path)?;
    let pixels = bytes.into_iter().map(f32::from).collect();
    let array = ArrayD::from_shape_vec(shape, pixels).map_err(|error| malformed(path, error.to_string()))?;
    let images = layout::channels_first(array, wanted, path)?;
    let mut samples = Samples { images, labels: None, class_names: None, notes: Vec::new() };
    if let Some(beside) = find_labels.then(|| labels_beside(path)).flatten() {
        samples.labels = Some(labels::load(&beside, samples.len())?);
        let note = format!("labels were read from {}, beside the images", beside.display());
        samples.notes.push(note);
    }
    Ok(samples)
}

/// The shape of the array.
pub(super) fn shape(path: &Path) -> Result<Vec<usize>, DataError> {
    shape_in(&mut *open(path)?, path)
}

/// Reads labels, one byte each.
pub(super) fn labels(path: &Path) -> Result<Vec<usize>, DataError> {
    let Idx { shape, bytes } = read(path)?;
    if shape.len() != 1 {
        let reason = format!("labels have one axis, and this file has the shape {shape:?}");
        return Err(malformed(path, reason));
    }
    Ok(bytes.into_iter().map(usize::from).collect())
}

/// The labels file that MNIST's naming gives to an images file, if it exists, gzipped or not.
fn labels_beside(images: &Path) -> Option<PathBuf> {
    let name = images.file_name()?.to_str()?;
    if !name.contains("images") {
        return None;
    }
    let name = name.replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1");
    let other = name.strip_suffix(".gz").map_or_else(|| format!("{name}.gz"), str::to_owned);
    let beside = [name, other].map(|name| images.with_file_name(name));
    beside.into_iter().find(|path| path.is_file())
}

struct Idx {
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

fn read(path: &Path) -> Result<Idx, DataError> {
    parse(open(path)?, path)
}

/// The file's bytes, decompressed where they have to be.
fn open(path: &Path) -> Result<Box<dyn Read>, DataError> {
    let unreadable = |source| DataError::Read { path: path.to_owned(), source };
    let mut magic = Vec::new();
    let open = || files::open(path).map_err(unreadable);
    open()?.take(2).read_to_end(&mut magic).map_err(unreadable)?;
    let file = BufReader::new(open()?);
    Ok(if magic == [0x1f, 0x8b] { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) })
}

fn parse(mut reader: impl Read, path: &Path) -> Result<Idx, DataError> {
    let shape = shape_in(&mut reader, path)?;
    let length = bounded::values(&shape).map_err(|reason| malformed(path, reason))?;
    let bytes = bounded::rest(reader, length).map_err(|source| DataError::Read { path: path.to_owned(), source })?;
    Ok(Idx { shape, bytes })
}

/// The header.
fn shape_in(reader: &mut (impl Read + ?Sized), path: &Path) -> Result<Vec<usize>, DataError> {
    let unreadable = |source| DataError::Read { path: path.to_owned(), source };
    let mut word = [0; 4];
    reader.read_exact(&mut word).map_err(unreadable)?;
    let axes = match word {
        [0, 0, 8, axes @ 1..=4] => axes,
        [0, 0, 8, axes] => {
            let reason = format!("an IDX file of {axes} axes has no images or labels");
            return Err(malformed(path, reason));
        }
        [0, 0, 9..=14, _] => {
            return Err(malformed(path, "only IDX files of unsigned bytes are read".to_owned()));
        }
        _ => return Err(malformed(path, "this is not an IDX file".to_owned())),
    };
    let mut shape = Vec::new();
    for _ in 0..axes {
        reader.read_exact(&mut word).map_err(unreadable)?;
        shape.push(u32::from_be_bytes(word) as usize);
    }
    Ok(shape)
}

fn malformed(path: &Path, reason: String) -> DataError {
    DataError::Malformed { path: path.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    /// A header of these sizes and `length` bytes that count from 0.
    fn idx(sizes: &[u32], length: usize) -> Vec<u8> {
        let mut file = vec![0, 0, 8, sizes.len() as u8];
        file.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
        file.extend((0..length).map(|index| index as u8));
        file
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).expect("memory");
        encoder.finish().expect("memory")
    }

    #[test]
    fn images_are_read_plain_and_gzipped_with_the_labels_beside_them() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let images = directory.path().join("t10k-images-idx3-ubyte.gz");
        fs::write(&images, gzip(&idx(&[2, 3, 4], 24))).expect("a file");
        let wanted = Wanted::new(1, 3, 4);
        let samples = load(&images, &wanted, true).expect("images");
        assert_eq!((samples.labels, samples.notes.len()), (None, 0));

        let labels = directory.path().join("t10k-labels-idx1-ubyte");
        fs::write(&labels, [0, 0, 8, 1, 0, 0, 0, 2, 7, 9]).expect("a file");
        let samples = load(&images, &wanted, true).expect("images");
        assert_eq!(samples.images.shape(), [2, 1, 3, 4]);
        assert_eq!(samples.images[[1, 0, 2, 3]], 23.0);
        assert_eq!(samples.labels, Some(vec![7, 9]));
        assert!(samples.notes[0].contains("t10k-labels-idx1-ubyte"), "{:?}", samples.notes);

        let plain = directory.path().join("plain");
        fs::write(&plain, idx(&[2, 3, 4], 24)).expect("a file");
        assert_eq!(load(&plain, &wanted, true).expect("images").images, samples.images);
    }

    #[test]
    fn four_axes_are_read_in_either_order() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("images");
        let wanted = Wanted::new(3, 2, 4);
        for (sizes, at) in [([1, 3, 2, 4], 8.0), ([1, 2, 4, 3], 1.0)] {
            fs::write(&path, idx(&sizes, 24)).expect("a file");
            let samples = load(&path, &wanted, false).expect("images");
            assert_eq!(samples.images[[0, 1, 0, 0]], at, "{sizes:?}");
        }
    }

    #[test]
    fn hostile_files_are_errors_that_name_the_file() {
        let mut floats = idx(&[1, 2, 2], 4);
        floats[2] = 13;
        let huge = idx(&[u32::MAX, u32::MAX, u32::MAX], 4);
        let cases = [
            (vec![0, 0, 8], ""),
            (idx(&[2, 2, 2], 7), "announces 8 bytes of data, and 7 follow"),
            (idx(&[2, 2, 2], 9), "and more follow"),
            (idx(&[1 << 19, 1 << 10, 1], 4), "4 follow"),
            (idx(&[0, 2, 2], 0), "no images"),
            (idx(&[2, 2, 3], 12), "shape [2, 2, 3]"),
            (idx(&[1, 1, 1, 1, 1], 1), "5 axes"),
            (floats, "unsigned bytes"),
            (huge.clone(), "limit"),
            (gzip(&huge), "limit"),
            (gzip(&idx(&[2, 2, 2], 7)), "7 follow"),
            (gzip(&idx(&[2, 2, 2], 8))[..20].to_vec(), ""),
            (gzip(b"nothing of the kind"), "not an IDX file"),
        ];
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("data");
        for (bytes, words) in cases {
            fs::write(&path, &bytes).expect("a file");
            let error = load(&path, &Wanted::new(1, 2, 2), false).expect_err(words).to_string();
            let names_file = error.contains(&path.display().to_string());
            assert!(error.contains(words) && names_file, "{error}");
        }
    }
}
