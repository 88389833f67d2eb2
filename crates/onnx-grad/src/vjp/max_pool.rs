//! Max pooling. Of several equal maxima in a window the first in row-major order has the
//! gradient, as in the frameworks. It is found by ranking: the elements of a window which attain its maximum get
//! distinct scores, the first the highest, and the one with the highest score is the chosen one.

use super::Pullback;
use super::conv::{attributes, scattered};
use super::pool::{tiles, upsampled};
use crate::window::Window;
use crate::{Attributes, Result, Tensor};

pub(super) fn max_pool(p: &mut Pullback) -> Result<()> {
    let window = p.window()?;
    if p.node().int("storage_order", 0) != 0 && p.node().outputs.len() > 1 {
        return Err(p.error("has a column-major `storage_order`"));
    }
    let dx = if tiles(&window) { tiled(p, &window)? } else { general(p, &window)? };
    p.give(0, &dx)
}

/// The whole image is one window.
pub(super) fn global(p: &mut Pullback) -> Result<()> {
    let x = p.input(0)?;
    let extents = p.shape(x)?[2..].to_vec();
    let count: usize = extents.iter().product();
    let ranks: Vec<f64> = (0..count).map(|i| (count - i) as f64).collect();
    let ranks = p.constant(Tensor::floats(p.element(x)?, extents, &ranks));
    let score = score(p, x, p.output()?, &ranks)?;
    let best = p.apply("GlobalMaxPool", &[&score], ())?;
    let chosen = p.apply("Equal", &[&score, &best], ())?;
    let dx = p.only_where(&chosen, p.cotangent()?)?;
    p.give(0, &dx)
}

/// `ranks` where `x` attains the maximum `y` and 0 elsewhere.
fn score(p: &mut Pullback, x: &str, y: &str, ranks: &str) -> Result<String> {
    let attains = p.apply("Equal", &[x, y], ())?;
    p.only_where(&attains, ranks)
}

/// Windows side by side: maxima and cotangents are spread over their windows and compared there.
fn tiled(p: &mut Pullback, window: &Window) -> Result<String> {
    let x = p.input(0)?;
    let spread_y = upsampled(p, p.output()?, window)?;
    let ranks = p.constant(Tensor::floats(p.element(x)?, window.input.clone(), &tiled_ranks(window)));
    let score = score(p, x, &spread_y, &ranks)?;
    let pads_end: Vec<usize> =
        (0..window.rank()).map(|i| (window.output[i] * window.strides[i]).saturating_sub(window.input[i])).collect();
    let attributes = Attributes::new()
        .with("kernel_shape", super::pullback::signed(&window.kernel))
        .with("strides", super::pullback::signed(&window.strides))
        .with("pads", super::pullback::signed(&[window.pads_begin.as_slice(), &pads_end].concat()));
    let best = p.apply("MaxPool", &[&score], attributes)?;
    let spread_best = upsampled(p, &best, window)?;
    let chosen = p.apply("Equal", &[&score, &spread_best], ())?;
    let spread_g = upsampled(p, p.cotangent()?, window)?;
    p.only_where(&chosen, &spread_g)
}

/// For every element of the input its rank within its window, from the window's size down to 1.
fn tiled_ranks(window: &Window) -> Vec<f64> {
    let size: usize = window.kernel.iter().product();
    let places = (0..window.rank()).fold(vec![0], |outer, axis| {
        let inner: Vec<usize> = (0..window.input[axis]).map(|i| i % window.kernel[axis]).collect();
        outer.iter().flat_map(|place| inner.iter().map(move |i| place * window.kernel[axis] + i)).collect::<Vec<_>>()
    });
    places.into_iter().map(|place| (size - place) as f64).collect()
}

/// Windows of any geometry: the elements of each window are laid side by side as channels by a
/// convolution with one-hot kernels, and its transpose brings the cotangents back.
fn general(p: &mut Pullback, window: &Window) -> Result<String> {
    let (x, y, g) = (p.input(0)?, p.output()?, p.cotangent()?);
    let (shape, element) = (p.shape(x)?, p.element(x)?);
    let images = shape[0] * shape[1];
    let size: usize = window.kernel.iter().product();

    let one_hot: Vec<f64> = (0..size * size).map(|i| f64::from(i / size == i % size)).collect();
    let one_hot = Tensor::floats(element, [&[size, 1], window.kernel.as_slice()].concat(), &one_hot);
    let one_hot = p.constant(one_hot);
    let planes = p.reshaped(x, &[&[images, 1], window.input.as_slice()].concat())?;
    let pads_end: Vec<usize> = (0..window.rank())
        .map(|i| (window.output[i] - 1) * window.strides[i] + window.span(i))
        .zip(window.pads_begin.iter().zip(&window.input))
        .map(|(reach, (begin, extent))| reach.saturating_sub(begin + extent))
        .collect();
    let elements = p.apply("Conv", &[&planes, &one_hot], attributes(window, &pads_end, 1))?;

    let positions = [&[images, 1], window.output.as_slice()].concat();
    let y = p.reshaped(y, &positions)?;
    let g = p.reshaped(g, &positions)?;
    let ranks = Tensor::floats(element, [&[size], window.output.as_slice()].concat(), &general_ranks(window));
    let ranks = p.constant(ranks);
    let score = score(p, &elements, &y, &ranks)?;
    let best = p.reduced("ReduceMax", &score, &[1], true)?;
    let chosen = p.apply("Equal", &[&score, &best], ())?;
    let cotangents = p.only_where(&chosen, &g)?;
    let dx = scattered(p, &cotangents, &one_hot, window, 1)?;
    p.reshaped(&dx, &shape)
}

/// For every place in a window, and every window, the rank of the element: from the window's size
/// down to 1, and 0 for padding, which is never a maximum.
fn general_ranks(window: &Window) -> Vec<f64> {
    let size: usize = window.kernel.iter().product();
    let positions: usize = window.output.iter().product();
    let mut ranks = Vec::with_capacity(size * positions);
    for place in 0..size {
        for position in 0..positions {
            let inside = is_inside(window, place, position);
            ranks.push(if inside { (size - place) as f64 } else { 0.0 });
        }
    }
    ranks
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
