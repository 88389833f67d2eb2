//! Average pooling.

use super::Pullback;
use super::conv::scattered;
use crate::window::Window;
use crate::{Attributes, ElementType, Result, Tensor};

pub(super) fn average(p: &mut Pullback) -> Result<()> {
    let window = p.window()?;
    p.room(&window.output)?;
    p.room(&window.kernel)?;
    let counts = counts(&window, p.node().int("count_include_pad", 0) != 0);
    let g = p.cotangent()?;
    let share = if counts.windows(2).all(|pair| pair[0] == pair[1]) {
        p.scaled(g, 1.0 / counts.first().copied().unwrap_or(1.0))?
    } else {
        let inverse: Vec<f64> = counts.iter().map(|count| 1.0 / count).collect();
        let inverse = p.constant(Tensor::floats(p.element(g)?, window.output.clone(), &inverse));
        p.mul(g, &inverse)?
    };
    let dx = if tiles(&window) {
        let windows = repeated(p, &share, &window.kernel)?;
        fitted(p, &windows, &window)?
    } else {
        spread(p, &share, &window)?
    };
    p.give(0, &dx)
}

pub(super) fn global_average(p: &mut Pullback) -> Result<()> {
    let shape = p.shape(p.input(0)?)?;
    let count: usize = shape[2..].iter().product();
    let share = p.scaled(p.cotangent()?, 1.0 / count as f64)?;
    let dx = p.expanded(&share, &shape)?;
    p.give(0, &dx)
}

/// How many elements each window averages, in row-major order. Padding counts only if
/// `count_padding` says so; what a window of `ceil_mode` reaches beyond the padding never does.
fn counts(window: &Window, count_padding: bool) -> Vec<f64> {
    (0..window.rank()).fold(vec![1.0], |outer, axis| {
        let begin = window.pads_begin[axis];
        let end = begin + window.input[axis];
        let (first, last) = if count_padding { (0, end + window.pads_end[axis]) } else { (begin, end) };
        let inner = (0..window.output[axis]).map(|position| {
            let start = position * window.strides[axis];
            let taps = (0..window.kernel[axis]).map(|tap| start + tap * window.dilations[axis]);
            taps.filter(|element| (first..last).contains(element)).count() as f64
        });
        let inner: Vec<f64> = inner.collect();
        outer.iter().flat_map(|rows| inner.iter().map(move |columns| rows * columns)).collect()
    })
}

/// Whether the windows lie side by side, from the first element on.
pub(super) fn tiles(window: &Window) -> bool {
    window.kernel == window.strides
        && window.pads_begin.iter().all(|&pad| pad == 0)
        && window.dilations.iter().all(|&dilation| dilation == 1)
}

/// `a`, the windows of a tiled input side by side, cropped or padded with zeros to the input's extents.
pub(super) fn fitted(p: &mut Pullback, a: &str, window: &Window) -> Result<String> {
    let covered = p.shape(a)?;
    let whole = [&covered[..2], window.input.as_slice()].concat();
    let ends: Vec<usize> = covered.iter().zip(&whole).map(|(&have, &want)| have.min(want)).collect();
    let within = p.cropped(a, &vec![0; ends.len()], &ends)?;
    let missing: Vec<usize> = whole.iter().zip(&ends).map(|(want, have)| want - have).collect();
    p.zero_padded(&within, &vec![0; missing.len()], &missing)
}

/// Each element of `a` repeated along the spatial axes.
pub(super) fn repeated(p: &mut Pullback, a: &str, factors: &[usize]) -> Result<String> {
    let shape = p.shape(a)?;
    if factors.len() == 2 {
        let scales: Vec<f64> = [1, 1].iter().chain(factors).map(|&factor| factor as f64).collect();
        let scales = p.constant(Tensor::floats(ElementType::F32, [4], &scales));
        let attributes = Attributes::new()
            .with("mode", "nearest")
            .with("coordinate_transformation_mode", "asymmetric")
            .with("nearest_mode", "floor");
        return p.apply("Resize", &[a, "", &scales], attributes);
    }
    let (mut apart, mut wide, mut joined) = (shape[..2].to_vec(), shape[..2].to_vec(), shape[..2].to_vec());
    for (&extent, &factor) in shape[2..].iter().zip(factors) {
        apart.extend([extent, 1]);
        wide.extend([extent, factor]);
        joined.push(extent * factor);
    }
    let apart = p.reshaped(a, &apart)?;
    let wide = p.expanded(&apart, &wide)?;
    p.reshaped(&wide, &joined)
}

/// Each element of `a` added to all of its window, for windows of any geometry.
fn spread(p: &mut Pullback, a: &str, window: &Window) -> Result<String> {
    let shape = p.shape(a)?;
    let images = shape[0] * shape[1];
    let planes = p.reshaped(a, &[&[images, 1], window.output.as_slice()].concat())?;
    let taps: usize = window.kernel.iter().product();
    let kernel = Tensor::floats(p.element(a)?, [&[1, 1], window.kernel.as_slice()].concat(), &vec![1.0; taps]);
    let kernel = p.constant(kernel);
    let sum = scattered(p, &planes, &kernel, window, 1)?;
    p.reshaped(&sum, &[&shape[..2], window.input.as_slice()].concat())
}
