//! Backward convolution with a stride, to few channels, without a transposed convolution.
//!
//! The pixels of the gradient whose row and column leave the same remainders when divided by the stride, one
//! *phase* of it, are a stride-1 convolution of the cotangent with every so many taps of the kernel. All phases are one
//! convolution, and `DepthToSpace` interleaves them.

use super::Pullback;
use super::conv::attributes;
use crate::window::Window;
use crate::{Result, Tensor};

/// The most channels for which this pays. Engines compute 8 to 32 channels at a time, and the taps that some phases lack
/// cost less than channels that nobody wants; with many channels a transposed convolution is as fast or faster.
const FEW_CHANNELS: usize = 4;

/// The cotangent of the input of the convolution of `window` with constant `weights`, `[M, C, kh, kw]`; `None` where that
/// is not worth it, or the strides of rows and columns differ.
pub(super) fn conv(p: &mut Pullback, g: &str, weights: &Tensor, window: &Window) -> Result<Option<String>> {
    let &[filters, channels, height, width] = weights.shape() else { return Ok(None) };
    let stride = window.strides[0];
    let dense = window.dilations.iter().all(|&dilation| dilation == 1);
    // A stride beyond the kernel leaves phases without taps, and there may be any number of them.
    let worthwhile = (2..=height.min(width)).contains(&stride) && channels <= FEW_CHANNELS;
    if !worthwhile || window.strides[1] != stride || !dense {
        return Ok(None);
    }
    let phases: Vec<Phase> = (0..stride * stride).map(|i| Phase::new(window, [i / stride, i % stride])).collect();
    // The outputs that pixel q of any phase sees lie between q + low and q + high.
    let seen = || phases.iter().filter(|phase| !phase.count.contains(&0));
    let low = [0, 1].map(|i| seen().map(|phase| phase.reach[i] + 1 - phase.count[i] as i64).min().unwrap_or(0));
    let high = [0, 1].map(|i| seen().map(|phase| phase.reach[i]).max().unwrap_or(0));
    let kernel = [0, 1].map(|i| (high[i] - low[i] + 1) as usize);

    // What lies before and after the outputs is padding where pixels see it, and cropped where none does.
    let (mut starts, mut ends) = (vec![0; 4], p.shape(g)?);
    let (mut pads_begin, mut pads_end) = (vec![0; 2], vec![0; 2]);
    for i in 0..2 {
        let after = window.input[i].div_ceil(stride) as i64 + high[i] - ends[2 + i] as i64;
        pads_begin[i] = (-low[i]).max(0) as usize;
        starts[2 + i] = low[i].max(0) as usize;
        pads_end[i] = after.max(0) as usize;
        ends[2 + i] -= (-after).max(0) as usize;
    }
    if (0..2).any(|i| starts[2 + i] >= ends[2 + i]) {
        // No pixel sees any output.
        return Ok(None);
    }

    let values = weights.to_f64();
    let mut taps = Vec::with_capacity(phases.len() * channels * filters * kernel[0] * kernel[1]);
    for phase in &phases {
        for (channel, filter) in (0..channels * filters).map(|i| (i / filters, i % filters)) {
            for place in (0..kernel[0] * kernel[1]).map(|i| [i / kernel[1], i % kernel[1]]) {
                let tap = |i: usize| phase.tap(i, low[i] + place[i] as i64, stride);
                let at = |(row, column)| ((filter * channels + channel) * height + row) * width + column;
                taps.push(tap(0).zip(tap(1)).map_or(0.0, |tap| values[at(tap)]));
            }
        }
    }
    let shape = [phases.len() * channels, filters, kernel[0], kernel[1]];
    let taps = p.constant(Tensor::floats(weights.element(), shape, &taps));

    let g = p.cropped(g, &starts, &ends)?;
    let backward = Window { kernel: kernel.to_vec(), strides: vec![1; 2], pads_begin, ..window.clone() };
    let packed = p.apply("Conv", &[&g, &taps], attributes(&backward, &pads_end, 1))?;
    let pixels = p.apply("DepthToSpace", &[&packed], [("blocksize", stride as i64)])?;
    let whole = [&p.shape(&pixels)?[..2], window.input.as_slice()].concat();
    p.cropped(&pixels, &[0; 4], &whole).map(Some)
}

/// The pixels `stride · q + remainder`, of rows and of columns. They see the taps `stride · t + first`, with
/// `t < count`, of the output `q + reach - t`.
struct Phase {
    first: [usize; 2],
    count: [usize; 2],
    reach: [i64; 2],
}

impl Phase {
    fn new(window: &Window, remainder: [usize; 2]) -> Self {
        let shifted = [0, 1].map(|i| remainder[i] + window.pads_begin[i]);
        let first = [0, 1].map(|i| shifted[i] % window.strides[i]);
        Phase {
            first,
            count: [0, 1].map(|i| window.kernel[i].saturating_sub(first[i]).div_ceil(window.strides[i])),
            reach: [0, 1].map(|i| (shifted[i] / window.strides[i]) as i64),
        }
    }

    /// The tap through which pixel `q` sees output `q + distance` along axis `i`, if there is one.
    fn tap(&self, i: usize, distance: i64, stride: usize) -> Option<usize> {
        let t = usize::try_from(self.reach[i] - distance).ok().filter(|&t| t < self.count[i])?;
        Some(stride * t + self.first[i])
    }
}
