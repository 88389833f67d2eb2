use std::path::Path;

use ndarray::{Array4, ArrayD, Axis, Ix3, Ix4};

use super::{DataError, Wanted};

/// The shape `[C, H, W]` of the images in an array of `shape`.
pub(super) fn image_shape(shape: &[usize]) -> Option<[usize; 3]> {
    match *shape {
        [_, height, width] => Some([1, height, width]),
        [_, height, width, channels @ (1 | 3)] => Some([channels, height, width]),
        [_, channels, height, width] => Some([channels, height, width]),
        _ => None,
    }
}

/// Brings `[N, C, H, W]`, `[N, H, W, C]`, flat rows `[N, C·H·W]` or, with one channel, `[N, H, W]` to `[N, C, H, W]`.
///
/// An array that is of the wanted size either way is taken as `[N, C, H, W]`.
pub(super) fn channels_first(array: ArrayD<f32>, wanted: &Wanted, path: &Path) -> Result<Array4<f32>, DataError> {
    let &Wanted { channels, height, width, .. } = wanted;
    let found = array.shape().to_vec();
    if found.first() == Some(&0) {
        return Err(DataError::Empty { path: path.to_owned() });
    }
    let wrong = || DataError::Shape { path: path.to_owned(), found: found.clone(), wanted: [channels, height, width] };
    let [_, size @ ..] = found.as_slice() else { return Err(wrong()) };
    if size == [channels, height, width] {
        array.into_dimensionality::<Ix4>().map_err(|_| wrong())
    } else if size == [height, width, channels] {
        let array = array.into_dimensionality::<Ix4>().map_err(|_| wrong())?;
        Ok(array.permuted_axes([0, 3, 1, 2]).as_standard_layout().into_owned())
    } else if size == [channels * height * width] {
        let shape = (found[0], channels, height, width);
        Ok(array.as_standard_layout().into_owned().into_shape_with_order(shape).map_err(|_| wrong())?)
    } else if channels == 1 && size == [height, width] {
        let array = array.into_dimensionality::<Ix3>().map_err(|_| wrong())?;
        Ok(array.insert_axis(Axis(1)))
    } else {
        Err(wrong())
    }
}

#[cfg(test)]
mod tests {
    use ndarray::IxDyn;

    use super::*;

    fn counting(shape: &[usize]) -> ArrayD<f32> {
        let mut next = -1.0;
        ArrayD::from_shape_simple_fn(IxDyn(shape), || {
            next += 1.0;
            next
        })
    }

    #[test]
    fn the_layout_is_the_one_that_fits() {
        struct Case {
            shape: &'static [usize],
            wanted: [usize; 3],
            /// The value expected at `[0, 1, 0, 1]`, or `[0, 0, 0, 1]` with one channel.
            at: Option<f32>,
        }
        let cases = [
            Case { shape: &[2, 3, 4, 5], wanted: [3, 4, 5], at: Some(21.0) },
            Case { shape: &[2, 4, 5, 3], wanted: [3, 4, 5], at: Some(4.0) },
            Case { shape: &[2, 4, 5], wanted: [1, 4, 5], at: Some(1.0) },
            Case { shape: &[2, 1, 4, 5], wanted: [1, 4, 5], at: Some(1.0) },
            Case { shape: &[2, 4, 5, 1], wanted: [1, 4, 5], at: Some(1.0) },
            Case { shape: &[2, 3, 3, 3], wanted: [3, 3, 3], at: Some(10.0) },
            Case { shape: &[2, 20], wanted: [1, 4, 5], at: Some(1.0) },
            Case { shape: &[2, 60], wanted: [3, 4, 5], at: Some(21.0) },
            Case { shape: &[2, 61], wanted: [3, 4, 5], at: None },
            Case { shape: &[2, 4, 5], wanted: [3, 4, 5], at: None },
            Case { shape: &[2, 5, 4, 3], wanted: [3, 4, 5], at: None },
            Case { shape: &[0, 3, 4, 5], wanted: [3, 4, 5], at: None },
            Case { shape: &[20], wanted: [1, 4, 5], at: None },
            Case { shape: &[], wanted: [1, 1, 1], at: None },
        ];
        for Case { shape, wanted: [channels, height, width], at } in cases {
            let wanted = Wanted::new(channels, height, width);
            let result = channels_first(counting(shape), &wanted, Path::new("x.npy"));
            match (result, at) {
                (Ok(images), Some(at)) => {
                    assert_eq!(images.shape(), [2, channels, height, width], "{shape:?}");
                    assert_eq!(images[[0, 1.min(channels - 1), 0, 1]], at, "{shape:?}");
                    assert!(images.is_standard_layout(), "{shape:?}");
                }
                (Err(error), None) => assert!(error.to_string().contains("x.npy"), "{error}"),
                (result, _) => panic!("{shape:?}: {result:?}"),
            }
        }
    }

    #[test]
    fn the_shape_of_an_image_is_told_from_that_of_the_array() {
        let cases: [(&[usize], _); 5] = [
            (&[9, 28, 28], Some([1, 28, 28])),
            (&[9, 3, 8, 6], Some([3, 8, 6])),
            (&[9, 8, 6, 3], Some([3, 8, 6])),
            (&[9, 784], None),
            (&[], None),
        ];
        for (shape, expected) in cases {
            assert_eq!(image_shape(shape), expected, "{shape:?}");
        }
    }

    #[test]
    fn a_wrong_shape_is_told_with_the_right_one() {
        let wanted = Wanted::new(1, 4, 4);
        let error = channels_first(counting(&[2, 5, 5]), &wanted, Path::new("x.npy"));
        assert_eq!(
            error.expect_err("a wrong shape").to_string(),
            "x.npy: the images have the shape [2, 5, 5], and the model takes [N, 1, 4, 4] \
             (or [N, 4, 4, 1], [N, 4, 4])"
        );
    }
}
