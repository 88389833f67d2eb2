//! Reading no more than was announced, and announcing no more than is allowed.

use std::io::{self, Read};

/// The most values that one array may have: 2 GiB of floats.
pub(super) const MAX_VALUES: usize = 1 << 29;

/// The number of values of an array.
///
/// # Errors
///
/// A sentence, if they are more than [`MAX_VALUES`].
pub(super) fn values(shape: &[usize]) -> Result<usize, String> {
    let product = shape.iter().try_fold(1_usize, |product, size| product.checked_mul(*size));
    match product {
        Some(values) if values <= MAX_VALUES => Ok(values),
        _ => Err(format!("an array of the shape {shape:?} is larger than the limit of {MAX_VALUES} values")),
    }
}

/// Reads the `length` bytes that are left of a stream. Memory grows with what
/// arrives, not with what was announced.
///
/// # Errors
///
/// [`io::ErrorKind::InvalidData`], with a sentence, if fewer or more bytes are left.
pub(super) fn rest(reader: impl Read, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(length as u64 + 1).read_to_end(&mut bytes)?;
    let found = match bytes.len() {
        found if found == length => return Ok(bytes),
        found if found < length => format!("{found} follow"),
        _ => "more follow".to_owned(),
    };
    let words = format!("the header announces {length} bytes of data, and {found}");
    Err(io::Error::new(io::ErrorKind::InvalidData, words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bounded_without_overflow() {
        assert_eq!(values(&[2, 3, 4]), Ok(24));
        assert_eq!(values(&[]), Ok(1));
        assert_eq!(values(&[MAX_VALUES]), Ok(MAX_VALUES));
        for shape in [vec![MAX_VALUES, 2], vec![usize::MAX, usize::MAX, 2], vec![1 << 32, 1 << 32]] {
            assert!(values(&shape).is_err(), "{shape:?}");
        }
    }

    #[test]
    fn the_rest_is_exactly_what_was_announced() {
        assert_eq!(rest(&[1_u8, 2, 3][..], 3).expect("three bytes"), [1, 2, 3]);
        let cases = [(4, "announces 4 bytes of data, and 3 follow"), (2, "and more follow")];
        for (length, words) in cases {
            let error = rest(&[1_u8, 2, 3][..], length).expect_err(words).to_string();
            assert!(error.contains(words), "{error}");
        }
        assert!(rest(&[1_u8][..], MAX_VALUES * 8).is_err());
    }
}
