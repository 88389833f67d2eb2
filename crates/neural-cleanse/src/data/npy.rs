//! NumPy's `.npy` arrays and `.npz` archives of them.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::path::Path;

use ndarray::ArrayD;
use ndarray_npy::npy::header::Header;
use ndarray_npy::{ReadNpyExt, ReadableElement};
use zip::ZipArchive;

use super::{DataError, Samples, Wanted, bounded, labels, layout, pixels};
use crate::files;

/// An array of any numeric type, its values as floats.
pub(super) struct Numbers {
    pub(super) array: ArrayD<f32>,
    /// Whether the file has floats.
    pub(super) is_float: bool,
}

/// Reads images without labels from an `.npy` file.
pub(super) fn load_npy(path: &Path, wanted: &Wanted) -> Result<Samples, DataError> {
    images(read_npy(path)?, wanted, path)
}

/// Reads the arrays `x` and, if it is there, `y` from an `.npz` file.
pub(super) fn load_npz(path: &Path, wanted: &Wanted) -> Result<Samples, DataError> {
    let file = open(path)?;
    let mut archive = ZipArchive::new(file).map_err(|error| malformed(path, error.to_string()))?;
    let Some(x) = member(&mut archive, "x", path)? else {
        return Err(no_images(&archive, path));
    };
    let mut samples = images(x, wanted, path)?;
    if let Some(y) = member(&mut archive, "y", path)? {
        samples.labels = Some(labels::from_numbers(y, samples.len(), path)?);
    }
    Ok(samples)
}

/// Reads the array of an `.npy` file.
pub(super) fn read_npy(path: &Path) -> Result<Numbers, DataError> {
    read_array(open(path)?).map_err(|reason| malformed(path, reason))
}

/// The shape of the array of an `.npy` file.
pub(super) fn npy_shape(path: &Path) -> Result<Vec<usize>, DataError> {
    shape_of(open(path)?).map_err(|reason| malformed(path, reason))
}

/// The shape of the array `x` of an `.npz` file.
pub(super) fn npz_shape(path: &Path) -> Result<Vec<usize>, DataError> {
    let mut archive = ZipArchive::new(open(path)?).map_err(|error| malformed(path, error.to_string()))?;
    let index = index_of(&archive, "x").ok_or_else(|| no_images(&archive, path))?;
    let file = archive.by_index(index).map_err(|error| malformed(path, error.to_string()))?;
    shape_of(file).map_err(|reason| malformed(path, reason))
}

fn shape_of(mut reader: impl Read) -> Result<Vec<usize>, String> {
    let head = head(&mut reader).map_err(|error| error.to_string())?;
    Ok(Header::from_reader(&mut head.as_slice()).map_err(|error| error.to_string())?.shape)
}

fn index_of(archive: &ZipArchive<BufReader<File>>, name: &str) -> Option<usize> {
    archive.index_for_name(&format!("{name}.npy")).or_else(|| archive.index_for_name(name))
}

fn no_images(archive: &ZipArchive<BufReader<File>>, path: &Path) -> DataError {
    let names: Vec<String> =
        archive.file_names().flatten().map(|name| name.trim_end_matches(".npy").to_owned()).collect();
    malformed(path, format!("there is no array `x`; the arrays are: {}", names.join(", ")))
}

fn open(path: &Path) -> Result<BufReader<File>, DataError> {
    let file = files::open(path).map_err(|source| DataError::Read { path: path.to_owned(), source })?;
    Ok(BufReader::new(file))
}

fn member(archive: &mut ZipArchive<BufReader<File>>, name: &str, path: &Path) -> Result<Option<Numbers>, DataError> {
    let Some(index) = index_of(archive, name) else { return Ok(None) };
    let in_member = |reason: String| malformed(path, format!("array `{name}`: {reason}"));
    let file = archive.by_index(index).map_err(|error| in_member(error.to_string()))?;
    read_array(file).map(Some).map_err(in_member)
}

fn images(numbers: Numbers, wanted: &Wanted, path: &Path) -> Result<Samples, DataError> {
    if numbers.array.ndim() == 0 {
        return Err(malformed(path, "a single number is not an array of images".to_owned()));
    }
    let (pixels, notes) = pixels::from_values(numbers.array, numbers.is_float, wanted, path)?;
    let images = layout::channels_first(pixels, wanted, path)?;
    Ok(Samples { images, labels: None, class_names: None, notes })
}

fn malformed(path: &Path, reason: String) -> DataError {
    DataError::Malformed { path: path.to_owned(), reason }
}

/// Reads one array of unsigned or signed integers or floats, of either byte order.
///
/// The header is held against the number of bytes that follow before the array is made.
fn read_array(mut reader: impl Read) -> Result<Numbers, String> {
    let head = head(&mut reader).map_err(|error| error.to_string())?;
    let header = Header::from_reader(&mut head.as_slice()).map_err(|error| error.to_string())?;
    let descriptor = header.type_descriptor.to_string();
    let kind = descriptor.trim_matches(['\'', '"']).trim_start_matches(['<', '>', '|', '=']);
    let bytes_each = match kind {
        "u1" | "i1" => 1,
        "u2" | "i2" => 2,
        "u4" | "i4" | "f4" => 4,
        "u8" | "i8" | "f8" => 8,
        _ => {
            return Err(format!("values of the type {descriptor} are neither integers nor 32- or 64-bit floats"));
        }
    };
    let length = bounded::values(&header.shape)? * bytes_each;
    let data = bounded::rest(reader, length).map_err(|error| error.to_string())?;
    let file = Cursor::new(head).chain(Cursor::new(data));
    let array = match kind {
        "u1" => floats(file, |value: u8| f32::from(value)),
        "i1" => floats(file, |value: i8| f32::from(value)),
        "u2" => floats(file, |value: u16| f32::from(value)),
        "i2" => floats(file, |value: i16| f32::from(value)),
        "u4" => floats(file, |value: u32| value as f32),
        "i4" => floats(file, |value: i32| value as f32),
        "u8" => floats(file, |value: u64| value as f32),
        "i8" => floats(file, |value: i64| value as f32),
        "f4" => floats(file, |value: f32| value),
        _ => floats(file, |value: f64| value as f32),
    }?;
    Ok(Numbers { array, is_float: kind.starts_with('f') })
}

/// Reads an array of `T`, in C or Fortran order, and makes it one of floats in C order.
fn floats<T: ReadableElement + Copy>(file: impl Read, to_float: impl Fn(T) -> f32) -> Result<ArrayD<f32>, String> {
    let array = ArrayD::<T>::read_npy(file).map_err(|error| error.to_string())?;
    let values: Vec<f32> = array.iter().map(|value| to_float(*value)).collect();
    ArrayD::from_shape_vec(array.raw_dim(), values).map_err(|error| error.to_string())
}

/// The longest header that is read; NumPy's own for an array of images has 118 bytes.
const MAX_HEADER: usize = 4096;

/// The bytes of a file up to its data: magic, version, the header's length, and the header.
fn head(reader: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = vec![0; 8];
    reader.read_exact(&mut head)?;
    let length_bytes = if head[6] == 1 { 2 } else { 4 };
    let mut length = [0; 4];
    reader.read_exact(&mut length[..length_bytes])?;
    head.extend(&length[..length_bytes]);
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_HEADER {
        let words = format!("the header has {length} bytes, more than the limit of {MAX_HEADER}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, words));
    }
    let start = head.len();
    head.resize(start + length, 0);
    reader.read_exact(&mut head[start..])?;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use ndarray::{Array, Array4, ArrayView, Dimension, ShapeBuilder};
    use ndarray_npy::{WritableElement, WriteNpyExt};
    use tempfile::NamedTempFile;
    use zip::write::{SimpleFileOptions, ZipWriter};

    use super::*;

    fn npy<T: WritableElement, D: Dimension>(array: ArrayView<'_, T, D>) -> Vec<u8> {
        let mut bytes = Vec::new();
        array.write_npy(&mut bytes).expect("memory");
        bytes
    }

    /// A file with this header text, padded as NumPy does, and `length` zero bytes.
    fn npy_with_header(header: &str, length: usize) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16 + 1).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.push(b'\n');
        bytes.resize(bytes.len() + length, 0);
        bytes
    }

    fn npz(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in members {
            writer.start_file(*name, SimpleFileOptions::default()).expect("memory");
            writer.write_all(bytes).expect("memory");
        }
        writer.finish().expect("memory").into_inner()
    }

    fn file(bytes: &[u8]) -> NamedTempFile {
        let mut file = NamedTempFile::new().expect("a temporary file");
        file.write_all(bytes).expect("a file");
        file
    }

    const WANTED: fn() -> Wanted = || Wanted::new(1, 2, 3);

    #[test]
    fn every_numeric_type_is_read() {
        macro_rules! check {
            ($($type:ty),*) => {$(
                let array = Array::from_shape_fn((2, 2, 3), |(n, y, x)| (n * 6 + y * 3 + x) as $type);
                let samples = load_npy(file(&npy(array.view())).path(), &WANTED()).expect("images");
                assert_eq!(samples.images.shape(), [2, 1, 2, 3]);
                assert_eq!(samples.images[[1, 0, 1, 2]], 11.0, stringify!($type));
            )*};
        }
        check!(u8, i8, u16, i16, u32, i32, u64, i64, f32, f64);
    }

    #[test]
    fn fortran_order_is_read() {
        let mut array = Array4::<u8>::zeros((2, 1, 2, 3).f());
        array[[1, 0, 0, 2]] = 7;
        let samples = load_npy(file(&npy(array.view())).path(), &WANTED()).expect("images");
        assert_eq!(samples.images, array.mapv(f32::from));
        assert!(samples.images.is_standard_layout());
    }

    #[test]
    fn an_archive_has_images_and_perhaps_labels() {
        let x = npy(Array4::<u8>::zeros((2, 1, 2, 3)).view());
        let y = npy(ndarray::arr1(&[4_i64, 2]).view());
        let with_labels = npz(&[("x.npy", x.clone()), ("y.npy", y)]);
        let samples = load_npz(file(&with_labels).path(), &WANTED()).expect("images");
        assert_eq!(samples.labels, Some(vec![4, 2]));
        let samples = load_npz(file(&npz(&[("x.npy", x)])).path(), &WANTED()).expect("images");
        assert_eq!(samples.labels, None);
    }

    #[test]
    fn hostile_arrays_are_errors_that_say_why() {
        let nested = format!("{}{}", "(".repeat(2000), ")".repeat(2000));
        let header =
            |descr: &str, shape: &str| format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
        let cases = [
            (npy_with_header(&header("|u1", "(2, 2, 3)"), 11), "and 11 follow"),
            (npy_with_header(&header("|u1", "(2, 2, 3)"), 13), "and more follow"),
            (npy_with_header(&header("<f8", "(1000000, 2, 3)"), 12), "and 12 follow"),
            (npy_with_header(&header("<f8", "(10000000000, 2, 3)"), 12), "limit"),
            (npy_with_header(&header("<f8", "(4294967296, 4294967296, 2)"), 12), "limit"),
            (npy_with_header(&header("|O", "(2, 2, 3)"), 12), "neither integers"),
            (npy_with_header(&header("<f2", "(2, 2, 3)"), 24), "neither integers"),
            (npy_with_header(&header("|u1", "()"), 1), "a single number"),
            (npy_with_header(&header("|u1", "(-1, 2, 3)"), 12), ""),
            (npy_with_header(&nested, 0), ""),
            (npy_with_header(&" ".repeat(60_000), 0), "more than the limit of 4096"),
            (npy_with_header("", 0), ""),
            (b"\x93NUMPY".to_vec(), ""),
            (b"\x93NUMPY\x03\x00\xff\xff\xff\xff".to_vec(), "more than the limit of 4096"),
        ];
        for (bytes, words) in cases {
            let file = file(&bytes);
            let error = load_npy(file.path(), &WANTED()).expect_err(words).to_string();
            let names_file = error.contains(&file.path().display().to_string());
            assert!(error.contains(words) && names_file, "{error}");
        }
    }

    #[test]
    fn hostile_archives_are_errors_that_say_why() {
        let array = npy(Array4::<u8>::zeros((2, 1, 2, 3)).view());
        let one_label = npy(ndarray::arr1(&[4_i64]).view());
        let whole = npz(&[("x.npy", array.clone())]);
        let cases = [
            (npz(&[("images.npy", array.clone())]), "there is no array `x`; the arrays are: images"),
            (npz(&[("x.npy", array.clone()), ("y.npy", one_label)]), "only 1 for 2 images"),
            (npz(&[("x.npy", array[..array.len() - 1].to_vec())]), "array `x`: the header announces"),
            (npz(&[("x.npy", b"none".to_vec())]), "array `x`"),
            (whole[..whole.len() / 2].to_vec(), ""),
            (b"PK\x03\x04".to_vec(), ""),
        ];
        for (bytes, words) in cases {
            let error = load_npz(file(&bytes).path(), &WANTED()).expect_err(words).to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
