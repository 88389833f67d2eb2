//! Labels: the number of a class for every image.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use super::npy::{self, Numbers};
use super::{DataError, Format, idx};
use crate::files;

/// Reads the labels of `count` images from an `.npy` file, an IDX file, or a text
/// with one number a line.
pub(super) fn load(path: &Path, count: usize) -> Result<Vec<usize>, DataError> {
    match Format::of(path)? {
        Format::Npy => from_numbers(npy::read_npy(path)?, count, path),
        Format::Idx => counted(idx::labels(path)?, count, path),
        Format::Npz | Format::Parquet => {
            Err(wrong(path, "an .npz or Parquet file cannot be read as labels".to_owned()))
        }
        Format::Other => from_text(path, count),
    }
}

/// Takes an array `[N]` or `[N, 1]` of whole numbers for labels.
pub(super) fn from_numbers(numbers: Numbers, count: usize, path: &Path) -> Result<Vec<usize>, DataError> {
    let shape = numbers.array.shape();
    if !matches!(shape, [_] | [_, 1]) {
        return Err(wrong(path, format!("they have the shape {shape:?}, and [N] is expected")));
    }
    let mut labels = Vec::with_capacity(numbers.array.len());
    for (index, value) in numbers.array.iter().enumerate() {
        let label = whole(*value)
            .ok_or_else(|| wrong(path, format!("label {index} is {value}, which is not the number of a class")))?;
        labels.push(label);
    }
    counted(labels, count, path)
}

/// Every whole number up to this one is exact as `f32`.
const MAX_EXACT: f32 = 16_777_216.0;

fn whole(value: f32) -> Option<usize> {
    (value.fract() == 0.0 && (0.0..MAX_EXACT).contains(&value)).then_some(value as usize)
}

/// The longest line that is read.
const MAX_LINE: u64 = 64;

fn from_text(path: &Path, count: usize) -> Result<Vec<usize>, DataError> {
    let unreadable = |source| DataError::Read { path: path.to_owned(), source };
    let mut reader = BufReader::new(files::open(path).map_err(unreadable)?);
    let mut labels = Vec::new();
    for number in 1_usize.. {
        let mut line = Vec::new();
        reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line).map_err(unreadable)?;
        if line.is_empty() || labels.len() > count {
            break;
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim();
        if text.is_empty() {
            continue;
        }
        let label = text.parse().map_err(|_| {
            let shown = text.escape_debug();
            wrong(path, format!("line {number}, `{shown}`, is not the number of a class"))
        })?;
        labels.push(label);
    }
    counted(labels, count, path)
}

fn counted(labels: Vec<usize>, count: usize, path: &Path) -> Result<Vec<usize>, DataError> {
    let found = match labels.len() {
        found if found == count => return Ok(labels),
        found if found < count => format!("only {found}"),
        _ => "more".to_owned(),
    };
    Err(wrong(path, format!("there are {found} for {count} images")))
}

fn wrong(path: &Path, reason: String) -> DataError {
    DataError::Labels { path: path.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use ndarray::{ArrayD, arr1, arr2};

    use super::*;

    #[test]
    fn a_text_has_one_number_a_line() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("labels.csv");
        type Case = (&'static [u8], Result<Vec<usize>, &'static str>);
        let cases: [Case; 7] = [
            (b"3\n1\n4\n", Ok(vec![3, 1, 4])),
            (b"3\r\n1\r\n4", Ok(vec![3, 1, 4])),
            (b" 3 \n\n1\n4\n", Ok(vec![3, 1, 4])),
            (b"3\n1\n", Err("only 2 for 3 images")),
            (b"3\n1\n4\n1\n", Err("more for 3 images")),
            (b"label\n3\n1\n4\n", Err("line 1, `label`, is not the number of a class")),
            (b"3\n-1\n4\n", Err("line 2, `-1`, is not the number of a class")),
        ];
        for (text, expected) in cases {
            fs::write(&path, text).expect("a file");
            match (load(&path, 3), expected) {
                (Ok(labels), Ok(expected)) => assert_eq!(labels, expected),
                (Err(error), Err(words)) => {
                    let error = error.to_string();
                    assert!(error.contains(words) && error.contains("labels.csv"), "{error}");
                }
                (result, expected) => panic!("{result:?} for {expected:?}"),
            }
        }
        fs::write(&path, vec![b'1'; 1 << 20]).expect("a file");
        assert!(load(&path, 3).is_err(), "one endless line");
    }

    #[test]
    fn an_array_has_whole_numbers() {
        let labels = |array: ArrayD<f32>| from_numbers(Numbers { array, is_float: true }, 3, Path::new("y.npy"));
        assert_eq!(labels(arr1(&[3.0, 1.0, 4.0]).into_dyn()).expect("labels"), [3, 1, 4]);
        assert_eq!(labels(arr2(&[[3.0], [1.0], [4.0]]).into_dyn()).expect("labels"), [3, 1, 4]);
        for bad in [-1.0, 0.5, f32::NAN, 1e20] {
            let error = labels(arr1(&[0.0, bad, 1.0]).into_dyn()).expect_err("no label").to_string();
            assert!(error.contains("y.npy") && error.contains("label 1"), "{error}");
        }
        assert!(labels(ArrayD::zeros(vec![3, 10])).is_err(), "one-hot rows");
        assert!(labels(ArrayD::zeros(vec![4])).is_err(), "too many");
    }
}
