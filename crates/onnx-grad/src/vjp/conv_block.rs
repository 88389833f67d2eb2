//! Convolution to few channels, several pixels at a time.

use super::Pullback;
use super::conv::attributes;
use crate::window::Window;
use crate::{Result, Tensor};

/// The most channels for which computing a block of pixels at once pays.
const FEW_CHANNELS: usize = 4;

/// The edge of a block. 4·4·1 and 2·2·3 channels were fastest for the first convolutions of small
/// and large networks, by 1.5 to 2.3 times with rten and about 1.3 times with ONNX Runtime.
fn block_edge(channels: usize) -> usize {
    if channels == 1 { 4 } else { 2 }
}

/// The stride-1 convolution of `g` with the constant `kernel` `[C, O, k, k]`, if it has so few
/// output channels `C` that engines, which compute 8 to 32 of them at a time, would waste most of
/// their work.
///
/// A block of b×b pixels then becomes b²·C channels of a convolution with the stride b. Its kernel
/// has the extent k + b - 1: that of k, moved to where each pixel of the block has it.
pub(super) fn conv(p: &mut Pullback, g: &str, kernel: &Tensor, window: &Window) -> Result<Option<String>> {
    let &[channels, filters, height, width] = kernel.shape() else { return Ok(None) };
    let block = block_edge(channels);
    let dense = window.dilations.iter().all(|&dilation| dilation == 1);
    let large = window.output.iter().all(|&extent| extent >= 2 * block) && height * width > 1;
    if channels > FEW_CHANNELS || !dense || !large {
        return Ok(None);
    }

    let (tall, wide) = (height + block - 1, width + block - 1);
    let mut taps = vec![0.0; block * block * channels * filters * tall * wide];
    for (i, value) in kernel.to_f64().into_iter().enumerate() {
        let (row, column) = (i / width % height, i % width);
        let (filter, channel) = (i / (height * width) % filters, i / (height * width * filters));
        for (down, right) in (0..block * block).map(|pixel| (pixel / block, pixel % block)) {
            let output = (down * block + right) * channels + channel;
            taps[((output * filters + filter) * tall + row + down) * wide + column + right] = value;
        }
    }
    let shape = [block * block * channels, filters, tall, wide];
    let taps = p.constant(Tensor::floats(kernel.element(), shape, &taps));

    // Where blocks do not fill the image the last ones reach beyond it and are cropped.
    let blocks: Vec<usize> = window.output.iter().map(|extent| extent.div_ceil(block)).collect();
    let beyond = |i: usize| blocks[i] * block - window.output[i];
    let pads_end: Vec<usize> = (0..2).map(|i| window.pads_end[i] + beyond(i)).collect();
    let blockwise = Window { kernel: vec![tall, wide], strides: vec![block; 2], ..window.clone() };
    let packed = p.apply("Conv", &[g, &taps], attributes(&blockwise, &pads_end, 1))?;
    let pixels = p.apply("DepthToSpace", &[&packed], [("blocksize", block as i64)])?;
    let whole = [&p.shape(&pixels)?[..2], window.output.as_slice()].concat();
    p.cropped(&pixels, &[0; 4], &whole).map(Some)
}
