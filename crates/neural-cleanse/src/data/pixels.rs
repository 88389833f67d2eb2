use std::path::Path;

use ndarray::{ArrayD, Axis};

use super::{DataError, Wanted};

/// Maps the values of an array `[N, ..]` to pixels of 0..255 as [`Wanted::range`]
/// says, and notes what looks wrong.
///
/// Nothing is guessed: values are taken to be in the range that was given.
///
/// # Errors
///
/// A value that is not finite, with the sample that has it.
pub(super) fn from_values(
    mut array: ArrayD<f32>,
    is_float: bool,
    wanted: &Wanted,
    path: &Path,
) -> Result<(ArrayD<f32>, Vec<String>), DataError> {
    let mut samples = array.axis_iter(Axis(0));
    if let Some(sample) = samples.position(|sample| sample.iter().any(|value| !value.is_finite())) {
        let reason = format!("image {sample} has a value that is not a finite number");
        return Err(DataError::Malformed { path: path.to_owned(), reason });
    }
    let low = array.iter().copied().fold(f32::INFINITY, f32::min);
    let high = array.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (black, white) = wanted.range;
    let mut notes = Vec::new();
    if is_float && white > 1.0 && low >= 0.0 && high <= 1.0 {
        notes.push(format!(
            "the values of {} lie within 0..1, where {black}..{white} is expected: they look \
             scaled to 0..1, and if they are, the range of the data must be given as 0..1",
            path.display()
        ));
    } else if low < black || high > white {
        notes.push(format!(
            "the values of {} go from {low} to {high}, outside the range {black}..{white}",
            path.display()
        ));
    }
    if wanted.range != (0.0, 255.0) {
        array.mapv_inplace(|value| (value - black) / (white - black) * 255.0);
    }
    Ok((array, notes))
}

#[cfg(test)]
mod tests {
    use ndarray::arr1;

    use super::*;

    #[test]
    fn values_are_mapped_as_told_and_never_guessed() {
        struct Case {
            values: [f32; 3],
            is_float: bool,
            range: (f32, f32),
            pixels: [f32; 3],
            note: Option<&'static str>,
        }
        let case = |values, is_float, range, pixels, note| Case { values, is_float, range, pixels, note };
        let bytes = (0.0, 255.0);
        let outside = "from -1 to 300, outside the range 0..255";
        let cases = [
            case([0.0, 7.0, 255.0], false, bytes, [0.0, 7.0, 255.0], None),
            case([0.0, 0.5, 1.0], true, bytes, [0.0, 0.5, 1.0], Some("scaled to 0..1")),
            case([0.0, 1.0, 1.0], false, bytes, [0.0, 1.0, 1.0], None),
            case([0.0, 0.5, 1.0], true, (0.0, 1.0), [0.0, 127.5, 255.0], None),
            case([-1.0, 0.0, 1.0], true, (-1.0, 1.0), [0.0, 127.5, 255.0], None),
            case([-1.0, 0.0, 300.0], true, bytes, [-1.0, 0.0, 300.0], Some(outside)),
        ];
        for Case { values, is_float, range, pixels, note } in cases {
            let wanted = Wanted { range, ..Wanted::new(1, 1, 1) };
            let array = arr1(&values).into_dyn();
            let (array, notes) = from_values(array, is_float, &wanted, Path::new("x.npy")).expect("pixels");
            assert_eq!(array, arr1(&pixels).into_dyn(), "{values:?}");
            assert_eq!(notes.len(), usize::from(note.is_some()), "{notes:?}");
            assert!(note.is_none_or(|words| notes[0].contains(words)), "{notes:?}");
        }
    }

    #[test]
    fn a_value_that_is_no_number_is_an_error() {
        for bad in [f32::NAN, f32::INFINITY] {
            let array = arr1(&[0.0, bad]).into_dyn();
            let result = from_values(array, true, &Wanted::new(1, 1, 1), Path::new("x.npy"));
            let error = result.expect_err("no number").to_string();
            assert_eq!(error, "x.npy: image 1 has a value that is not a finite number");
        }
    }
}
