use ndarray::{Array3, Array4, ArrayView4, Axis, Zip};
use neural_cleanse::data::Samples;
use neural_cleanse::{Stamp, Trigger};
use numpy::{Element, IntoPyArray, PyArray3, PyArray4, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray3};
use pyo3::prelude::*;

use crate::errors::{data_error, exception};

/// The images `x` `[N, C, H, W]`, in the one copy that the library works on.
pub fn images(x: &Bound<'_, PyAny>) -> PyResult<Array4<f32>> {
    if let Ok(x) = x.cast::<PyArray4<f32>>() {
        return copied(x, |value| value);
    }
    if let Ok(x) = x.cast::<PyArray4<u8>>() {
        return copied(x, f32::from);
    }
    if let Ok(x) = x.cast::<PyArray4<f64>>() {
        return copied(x, |value| value as f32);
    }
    Err(data_error("images must be an array of four axes and of float32, float64 or uint8"))
}

fn copied<T: Element + Copy>(x: &Bound<'_, PyArray4<T>>, convert: impl Fn(T) -> f32) -> PyResult<Array4<f32>> {
    let x = x.try_readonly().map_err(data_error)?;
    let view: ArrayView4<'_, T> = x.as_array();
    let mut images = Array4::zeros(view.raw_dim());
    Zip::from(&mut images).and(&view).for_each(|image, &value| *image = convert(value));
    Ok(images)
}

/// Samples of the images `x` and, if they are there, their labels `y` `[N]`.
pub fn samples(x: &Bound<'_, PyAny>, y: Option<PyReadonlyArray1<'_, i64>>) -> PyResult<Samples> {
    let images = images(x)?;
    let labels = y.map(|y| labels(&y)).transpose()?;
    if let Some(labels) = labels.as_ref().filter(|labels| labels.len() != images.dim().0) {
        return Err(data_error(format!("{} labels for {} images", labels.len(), images.dim().0)));
    }
    Ok(Samples { images, labels, class_names: None, notes: Vec::new() })
}

pub fn labels(y: &PyReadonlyArray1<'_, i64>) -> PyResult<Vec<usize>> {
    let label = |&label: &i64| usize::try_from(label).map_err(|_| data_error(format!("{label} is not a class")));
    y.as_array().iter().map(label).collect()
}

/// Mask `[1 or C, H, W]` and pattern `[C, H, W]` of a trigger and, where the pattern is added, the range of pixel values.
pub type TriggerArrays<'py> = (Bound<'py, PyArray3<f32>>, Bound<'py, PyArray3<f32>>, Option<(f32, f32)>);

/// The same as it comes from Python.
pub type GivenTrigger<'py> = (PyReadonlyArray3<'py, f32>, PyReadonlyArray3<'py, f32>, Option<(f32, f32)>);

pub fn of_trigger(py: Python<'_>, trigger: Trigger) -> TriggerArrays<'_> {
    let range = match trigger.stamp {
        Stamp::Blend => None,
        Stamp::Add { low, high } => Some((low, high)),
    };
    (trigger.mask.into_pyarray(py), trigger.pattern.into_pyarray(py), range)
}

pub fn trigger((mask, pattern, range): GivenTrigger<'_>) -> PyResult<Trigger> {
    let owned = |array: PyReadonlyArray3<'_, f32>| -> Array3<f32> { array.as_array().to_owned() };
    let (mask, pattern) = (owned(mask), owned(pattern));
    match range {
        None => Trigger::new(mask, pattern),
        Some(range) => Trigger::additive(pattern, range, mask.len_of(Axis(0)) > 1),
    }
    .map_err(exception)
}
