//! Max pooling. Of several equal maxima in a window the first in row-major order has the
//! gradient, as in the frameworks: a flat background makes such ties all the time.

use super::conv::{attributes, scattered};
use super::layout::cast_to;
use super::pullback::signed;
use super::{Pullback, pool};
use crate::window::Window;
use crate::{Attributes, Result, Tensor};

pub(super) fn max_pool(p: &mut Pullback) -> Result<()> {
    let window = p.window()?;
    let dx = if pool::tiles(&window) && window.rank() == 2 { tiled(p, &window)? } else { general(p, &window)? };
    p.give(0, &dx)
}

/// Windows side by side: the elements that attain their window's maximum get distinct ranks, the first the highest; the
/// one with the highest has the gradient.
fn tiled(p: &mut Pullback, window: &Window) -> Result<String> {
    let (x, y, g) = (p.input(0)?, p.output()?, p.cotangent()?);
    let size: usize = window.kernel.iter().product();
    p.room(&window.input)?;
    let maximum = spread(p, y, window)?;
    let attains = p.apply("Equal", &[x, &maximum], ())?;
    let place = |i: usize| {
        let (row, column) = (i / window.input[1], i % window.input[1]);
        row % window.kernel[0] * window.kernel[1] + column % window.kernel[1]
    };
    let ranks: Vec<f64> = (0..window.input.iter().product()).map(|i| (size - place(i)) as f64).collect();
    let ranks = p.constant(Tensor::floats(p.element(x)?, window.input.clone(), &ranks));
    let score = p.masked(&attains, &ranks)?;
    let pooling = Attributes::new()
        .with("kernel_shape", signed(&window.kernel))
        .with("strides", signed(&window.strides))
        .with("pads", signed(&[window.pads_begin.as_slice(), &reached_padding(window)].concat()));
    let best = p.apply("MaxPool", &[&score], pooling)?;
    let best = spread(p, &best, window)?;
    let chosen = p.apply("Equal", &[&score, &best], ())?;
    let g = spread(p, g, window)?;
    p.masked(&chosen, &g)
}

/// What belongs to each window at all of its places, and zeros where there is no window.
fn spread(p: &mut Pullback, a: &str, window: &Window) -> Result<String> {
    let spread = pool::repeated(p, a, &window.kernel)?;
    pool::fitted(p, &spread, window)
}

/// Windows of any geometry: the elements of each are laid side by side as channels by a
/// convolution with one-hot kernels, and its transpose brings the cotangents back.
fn general(p: &mut Pullback, window: &Window) -> Result<String> {
    let (x, y, g) = (p.input(0)?, p.output()?, p.cotangent()?);
    let (shape, element) = (p.shape(x)?, p.element(x)?);
    let images = shape[0] * shape[1];
    let size: usize = window.kernel.iter().product();

    p.room(&[size, size])?;
    p.room(&[&[size], window.output.as_slice()].concat())?;
    let one_hot = Tensor::floats(element, [&[size, 1], window.kernel.as_slice()].concat(), &identity(size));
    let one_hot = p.constant(one_hot);
    let planes = p.reshaped(x, &[&[images, 1], window.input.as_slice()].concat())?;
    let elements = p.apply("Conv", &[&planes, &one_hot], attributes(window, &reached_padding(window), 1))?;

    let positions = [&[images, 1], window.output.as_slice()].concat();
    let y = p.reshaped(y, &positions)?;
    let attains = p.apply("Equal", &[&elements, &y], ())?;
    let mut attains = cast_to(p, &attains, element)?;
    if let Some(inside) = padding_mask(window) {
        let inside = Tensor::floats(element, [&[size], window.output.as_slice()].concat(), &inside);
        let inside = p.constant(inside);
        attains = p.mul(&attains, &inside)?;
    }
    let first = firsts(p, &attains, size)?;

    let g = p.reshaped(g, &positions)?;
    let cotangents = p.mul(&first, &g)?;
    let dx = scattered(p, &cotangents, &one_hot, window, 1)?;
    p.reshaped(&dx, &shape)
}

/// The whole image is one window. The elements that attain its maximum get distinct scores, the
/// first the highest, and the one with the highest score is chosen.
pub(super) fn global(p: &mut Pullback) -> Result<()> {
    let x = p.input(0)?;
    let extents = p.shape(x)?[2..].to_vec();
    let count: usize = extents.iter().product();
    p.room(&extents)?;
    let ranks: Vec<f64> = (0..count).map(|i| (count - i) as f64).collect();
    let ranks = p.constant(Tensor::floats(p.element(x)?, extents, &ranks));
    let attains = p.apply("Equal", &[x, p.output()?], ())?;
    let score = p.masked(&attains, &ranks)?;
    let best = p.apply("GlobalMaxPool", &[&score], ())?;
    let chosen = p.apply("Equal", &[&score, &best], ())?;
    let dx = p.masked(&chosen, p.cotangent()?)?;
    p.give(0, &dx)
}

/// 1 for the first channel that is 1 and 0 for all others, `channels` being 0 or 1: each less
/// the sum of those before it, as far as that is positive.
fn firsts(p: &mut Pullback, channels: &str, count: usize) -> Result<String> {
    let rank = p.shape(channels)?.len();
    let taps: Vec<f64> = (0..count * count)
        .map(|i| match (i / count).cmp(&(i % count)) {
            std::cmp::Ordering::Less => 0.0,
            std::cmp::Ordering::Equal => 1.0,
            std::cmp::Ordering::Greater => -1.0,
        })
        .collect();
    let mut shape = vec![count, count];
    shape.resize(rank, 1);
    let taps = p.constant(Tensor::floats(p.element(channels)?, shape, &taps));
    let pointwise = Window::pointwise(&p.shape(channels)?[2..]);
    let differences = p.apply("Conv", &[channels, &taps], attributes(&pointwise, &pointwise.pads_end, 1))?;
    p.apply("Relu", &[&differences], ())
}

/// The identity matrix.
fn identity(size: usize) -> Vec<f64> {
    (0..size * size).map(|i| f64::from(i / size == i % size)).collect()
}

/// The padding at the end that windows reach into, `ceil_mode` included.
fn reached_padding(window: &Window) -> Vec<usize> {
    (0..window.rank())
        .map(|i| {
            let reach = (window.output[i] - 1) * window.strides[i] + window.span(i);
            reach.saturating_sub(window.pads_begin[i] + window.input[i])
        })
        .collect()
}

/// For every place in a window, and every window, 1 if the element is one of the input's and 0 if it is
/// padding, which is never a maximum. `None` if no window reaches into padding.
fn padding_mask(window: &Window) -> Option<Vec<f64>> {
    if window.pads_begin.iter().chain(&reached_padding(window)).all(|&pad| pad == 0) {
        return None;
    }
    let size: usize = window.kernel.iter().product();
    let positions: usize = window.output.iter().product();
    let inside =
        (0..size).flat_map(|place| (0..positions).map(move |position| f64::from(is_inside(window, place, position))));
    Some(inside.collect())
}

/// Whether the element at `place` of the window at `position`, both row-major indices, is one of
/// the input's.
fn is_inside(window: &Window, mut place: usize, mut position: usize) -> bool {
    (0..window.rank()).rev().all(|axis| {
        let (tap, start) = (place % window.kernel[axis], position % window.output[axis]);
        place /= window.kernel[axis];
        position /= window.output[axis];
        let padded = start * window.strides[axis] + tap * window.dilations[axis];
        let begin = window.pads_begin[axis];
        (begin..begin + window.input[axis]).contains(&padded)
    })
}
