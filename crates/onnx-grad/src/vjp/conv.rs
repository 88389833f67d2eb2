//! Convolution and its transpose, over one, two or three spatial axes.

use super::pullback::signed;
use super::{Pullback, conv_block, sub_pixel};
use crate::window::Window;
use crate::{Attributes, Result, Tensor};

/// Input `[N, C, ...]`, weights `[M, C / group, ...]`, bias `[M]`.
pub(super) fn conv(p: &mut Pullback) -> Result<()> {
    let (x, weights, g) = (p.input(0)?, p.input(1)?, p.cotangent()?);
    let window = p.window()?;
    let group = group(p, weights)?;
    if p.needs(0) {
        let dx = input_cotangent(p, g, weights, &window, group)?;
        p.give(0, &dx)?;
    }
    if p.needs(1) {
        let dweights = weight_cotangent(p, x, g, &window, group)?;
        p.give(1, &dweights)?;
    }
    give_bias(p, g)
}

/// The cotangent of the input of the convolution over `window`, in the form that engines run fastest.
fn input_cotangent(p: &mut Pullback, g: &str, weights: &str, window: &Window, group: usize) -> Result<String> {
    if let Some(constant) = p.constant_value(weights) {
        if window.strides.iter().all(|&stride| stride == 1) {
            return flipped(p, g, &constant, window, group);
        }
        if group == 1
            && let Some(dx) = sub_pixel::conv(p, g, &constant, window)?
        {
            return Ok(dx);
        }
    }
    let weights = of_its_own(p, weights);
    scattered(p, g, &weights, window, group)
}

/// `weights`, under another name if they are a constant: OpenVINO 2026.4 keeps them packed for one of the two kinds of
/// convolution that share a constant, and where channels and filters are as many takes that for the other kind, too.
fn of_its_own(p: &mut Pullback, weights: &str) -> String {
    match p.constant_value(weights) {
        Some(constant) => p.constant(constant),
        None => weights.to_owned(),
    }
}

/// Input `[N, C, ...]`, weights `[C, M / group, ...]`, bias `[M]`.
pub(super) fn conv_transpose(p: &mut Pullback) -> Result<()> {
    let (x, weights, g) = (p.input(0)?, p.input(1)?, p.cotangent()?);
    let window = adjoint(p.window()?);
    let group = group(p, weights)?;
    if p.needs(0) {
        let attributes = attributes(&window, &window.pads_end, group);
        let weights = of_its_own(p, weights);
        let gathered = p.apply("Conv", &[g, &weights], attributes)?;
        // Output padding of a stride or more leaves room for windows that the input does not have.
        let shape = p.shape(x)?;
        let dx = p.cropped(&gathered, &vec![0; shape.len()], &shape)?;
        p.give(0, &dx)?;
    }
    if p.needs(1) {
        let dweights = weight_cotangent(p, g, x, &window, group)?;
        p.give(1, &dweights)?;
    }
    give_bias(p, g)
}

/// The window of the convolution that a transposed convolution is the adjoint of.
fn adjoint(window: Window) -> Window {
    Window { input: window.output, output: window.input, ..window }
}

/// The number of groups, which divides the filters (or the channels of a transposed convolution).
fn group(p: &Pullback, weights: &str) -> Result<usize> {
    let filters = p.shape(weights)?[0];
    match usize::try_from(p.node().int("group", 1)) {
        Ok(group) if group > 0 && filters % group == 0 => Ok(group),
        _ => Err(p.error("has a `group` that does not divide its filters")),
    }
}

fn give_bias(p: &mut Pullback, g: &str) -> Result<()> {
    if !p.needs(2) {
        return Ok(());
    }
    let axes: Vec<usize> = (0..p.shape(g)?.len()).filter(|&axis| axis != 1).collect();
    let dbias = p.summed(g, &axes, false)?;
    p.give(2, &dbias)
}

/// The attributes of a `Conv` or `ConvTranspose` over `window`, all of them spelt out since
/// engines differ in what they assume.
pub(super) fn attributes(window: &Window, pads_end: &[usize], group: usize) -> Attributes {
    Attributes::new()
        .with("kernel_shape", signed(&window.kernel))
        .with("strides", signed(&window.strides))
        .with("dilations", signed(&window.dilations))
        .with("pads", signed(&[window.pads_begin.as_slice(), pads_end].concat()))
        .with("group", group as i64)
}

/// The cotangent of the input of a convolution over `window`: every element of `g` is scattered
/// over the window that it came from. `weights` are those of the convolution.
pub(super) fn scattered(p: &mut Pullback, g: &str, weights: &str, window: &Window, group: usize) -> Result<String> {
    let axes = 0..window.rank();
    // How far the windows reach into the input, and what of it they leave out at its end.
    let reach = |i: usize| (window.output[i] - 1) * window.strides[i] + window.span(i);
    let covered: Vec<usize> = axes.clone().map(|i| reach(i).saturating_sub(window.pads_begin[i])).collect();
    let missing: Vec<usize> = axes.clone().map(|i| window.input[i].saturating_sub(covered[i])).collect();
    let pads_end: Vec<usize> = axes.clone().map(|i| covered[i].saturating_sub(window.input[i])).collect();

    let whole = [&[p.shape(g)?[0], p.shape(weights)?[1] * group], window.input.as_slice()].concat();
    if covered.contains(&0) {
        return p.filled(p.element(g)?, &whole, 0.0);
    }
    let mut attributes = attributes(window, &pads_end, group);
    // Engines want the output padding to be less than the stride.
    if axes.clone().all(|i| missing[i] < window.strides[i]) {
        attributes.set("output_padding", signed(&missing));
        return p.apply("ConvTranspose", &[g, weights], attributes);
    }
    let part = p.apply("ConvTranspose", &[g, weights], attributes)?;
    let after = [&[0, 0], missing.as_slice()].concat();
    p.zero_padded(&part, &vec![0; after.len()], &after)
}

/// As [`scattered`] for a stride of 1: a plain convolution with the kernel turned around and
/// inputs and outputs exchanged, which engines run faster than a transposed one.
fn flipped(p: &mut Pullback, g: &str, weights: &Tensor, window: &Window, group: usize) -> Result<String> {
    let axes = 0..window.rank();
    let border = |pads: &[usize], i: usize| (window.span(i) - 1).checked_sub(pads[i]);
    let pads = |pads: &[usize]| axes.clone().map(|i| border(pads, i).unwrap_or(0)).collect::<Vec<_>>();
    let (pads_begin, pads_end) = (pads(&window.pads_begin), pads(&window.pads_end));

    // Where the padding exceeds the kernel the outermost outputs saw nothing but padding.
    let excess = |pads: &[usize], i: usize| pads[i].saturating_sub(window.span(i) - 1);
    let shape = p.shape(g)?;
    let (mut starts, mut ends) = (vec![0; shape.len()], shape);
    for i in axes.clone() {
        starts[2 + i] = excess(&window.pads_begin, i);
        ends[2 + i] -= excess(&window.pads_end, i);
    }
    let g = p.cropped(g, &starts, &ends)?;

    let backward = Window {
        pads_begin,
        pads_end,
        input: ends[2..].iter().zip(&starts[2..]).map(|(end, start)| end - start).collect(),
        output: window.input.clone(),
        ..window.clone()
    };
    let kernel = flipped_kernel(weights, group);
    if group == 1
        && let Some(dx) = conv_block::conv(p, &g, &kernel, &backward)?
    {
        return Ok(dx);
    }
    let kernel = p.constant(kernel);
    p.apply("Conv", &[&g, &kernel], attributes(&backward, &backward.pads_end, group))
}

/// `[M, C / group, ...]` to `[C, M / group, ...]`, with the spatial axes reversed.
fn flipped_kernel(weights: &Tensor, group: usize) -> Tensor {
    let shape = weights.shape();
    let (filters, channels) = (shape[0] / group, shape[1]);
    let taps: usize = shape[2..].iter().product();
    let mut sources = Vec::with_capacity(group * channels * filters * taps);
    for g in 0..group {
        for channel in 0..channels {
            for filter in 0..filters {
                let start = ((g * filters + filter) * channels + channel) * taps;
                sources.extend((start..start + taps).rev());
            }
        }
    }
    let shape = [&[group * channels, filters], &shape[2..]].concat();
    weights.gathered(shape, &sources)
}

/// The cotangent of the weights of the convolution over `window` that takes `x` to what `g` is
/// the cotangent of: again a convolution, with batch and channels exchanged, `g` as the kernel,
/// and strides and dilations exchanged.
fn weight_cotangent(p: &mut Pullback, x: &str, g: &str, window: &Window, group: usize) -> Result<String> {
    let (x_shape, g_shape) = (p.shape(x)?, p.shape(g)?);
    let (batch, channels, filters) = (x_shape[0], x_shape[1] / group, g_shape[1]);
    let (extents, positions) = (&x_shape[2..], &g_shape[2..]);

    let grouped = p.reshaped(x, &[&[batch, group, channels], extents].concat())?;
    let exchanged = p.transposed(&grouped, &swapped(x_shape.len() + 1, 0, 2))?;
    let images = p.reshaped(&exchanged, &[&[channels, group * batch], extents].concat())?;
    let kernel = p.transposed(g, &swapped(g_shape.len(), 0, 1))?;

    // The padding at the end is made to fit the kernel's extent; where that would be negative
    // there is more than the kernel, which is cropped.
    let axes = 0..window.rank();
    let needed = |i: usize| (window.output[i] - 1) * window.strides[i] + window.span(i);
    let pads_end: Vec<usize> = axes.map(|i| needed(i).saturating_sub(window.pads_begin[i] + window.input[i])).collect();
    let backward = Window {
        kernel: positions.to_vec(),
        strides: window.dilations.clone(),
        dilations: window.strides.clone(),
        ..window.clone()
    };
    let correlation = p.apply("Conv", &[&images, &kernel], attributes(&backward, &pads_end, group))?;
    let whole = [&[channels, filters], window.kernel.as_slice()].concat();
    let correlation = p.cropped(&correlation, &vec![0; whole.len()], &whole)?;
    p.transposed(&correlation, &swapped(whole.len(), 0, 1))
}

/// The permutation of `rank` axes that exchanges two of them.
fn swapped(rank: usize, a: usize, b: usize) -> Vec<usize> {
    let mut permutation: Vec<usize> = (0..rank).collect();
    permutation.swap(a, b);
    permutation
}
