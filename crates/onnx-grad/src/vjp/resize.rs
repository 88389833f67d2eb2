//! Resizing, which is a constant linear map along each axis.

use super::Pullback;
use crate::infer::resize_scales;
use crate::{Node, Result};

/// What an element of the output is made of: elements of the input and their weights.
type Taps = Vec<(usize, f64)>;

/// Repetition by a whole factor is undone by sums over blocks, every other map by a product with its matrix.
pub(super) fn resize(p: &mut Pullback) -> Result<()> {
    if p.node().int("antialias", 0) != 0 {
        return Err(p.error("is antialiased, which has no derivative in this program"));
    }
    let shape = p.shape(p.input(0)?)?;
    let resized = p.shape(p.cotangent()?)?;
    let scales = resize_scales(p.graph(), p.node())?;
    if resized.contains(&0) {
        let zeros = p.filled(p.element(p.input(0)?)?, &shape, 0.0)?;
        return p.give(0, &zeros);
    }
    let (mut factors, mut maps) = (vec![1; shape.len()], Vec::new());
    for (axis, &scale) in scales.iter().enumerate() {
        let (from, to) = (shape[axis], resized[axis]);
        if from == to && scale == 1.0 {
            continue;
        }
        p.room(&[to])?;
        let taps = Sampling { node: p.node(), from, to, scale }.taps();
        match repetition(&taps, from) {
            Some(factor) => factors[axis] = factor,
            None => {
                p.room(&[from, to])?;
                maps.push((axis, taps));
            }
        }
    }
    let mut dx = p.cotangent()?.to_owned();
    for (axis, taps) in maps {
        let from = shape[axis];
        let mut weights = vec![0.0; taps.len() * from];
        for (row, taps) in weights.chunks_exact_mut(from).zip(&taps) {
            taps.iter().for_each(|&(source, weight)| row[source] += weight);
        }
        dx = p.mapped(&dx, axis, from, &weights)?;
    }
    let dx = block_sums(p, &dx, &factors)?;
    p.give(0, &dx)
}

/// The sums of blocks of `factors` elements along the axes.
fn block_sums(p: &mut Pullback, a: &str, factors: &[usize]) -> Result<String> {
    let (mut split, mut blocks, mut joined) = (Vec::new(), Vec::new(), Vec::new());
    for (&extent, &factor) in p.shape(a)?.iter().zip(factors) {
        split.push(extent / factor);
        joined.push(extent / factor);
        if factor > 1 {
            blocks.push(split.len());
            split.push(factor);
        }
    }
    let apart = p.reshaped(a, &split)?;
    let sums = p.summed(&apart, &blocks, false)?;
    p.reshaped(&sums, &joined)
}

/// The whole factor by which each of `from` elements is repeated, if that is what `taps` do.
fn repetition(taps: &[Taps], from: usize) -> Option<usize> {
    let factor = taps.len() / from;
    let repeats = |(i, taps): (usize, &Taps)| taps[..] == [(i / factor, 1.0)];
    (factor * from == taps.len() && taps.iter().enumerate().all(repeats)).then_some(factor)
}

/// How a Resize samples one axis.
struct Sampling<'a> {
    node: &'a Node,
    from: usize,
    to: usize,
    scale: f64,
}

impl Sampling<'_> {
    /// The taps of each element of the output.
    fn taps(&self) -> Vec<Taps> {
        let taps_at = |position| match self.node.string("mode", "nearest") {
            "linear" => self.linear(self.coordinate(position)),
            "cubic" => self.cubic(self.coordinate(position)),
            _ => vec![(self.nearest(position), 1.0)],
        };
        (0..self.to).map(taps_at).collect()
    }

    /// Where in the input `position` of the output lies, as `coordinate_transformation_mode` says.
    fn coordinate(&self, position: usize) -> f64 {
        let position = position as f64;
        match self.node.string("coordinate_transformation_mode", "half_pixel") {
            "align_corners" if self.to == 1 => 0.0,
            "align_corners" => position * (self.from - 1) as f64 / (self.to - 1) as f64,
            "asymmetric" => position / self.scale,
            "pytorch_half_pixel" if self.to == 1 => 0.0,
            _ => (position + 0.5) / self.scale - 0.5,
        }
    }

    /// Computed in float32, as ONNX Runtime does. Where a coordinate is exactly on the border between two elements
    /// and the scale is not a power of two, it is up to an engine's rounding which of them it takes.
    fn nearest(&self, position: usize) -> usize {
        let coordinate = self.coordinate(position) as f32;
        let index = match self.node.string("nearest_mode", "round_prefer_floor") {
            "floor" => coordinate.floor(),
            "ceil" => coordinate.ceil(),
            "round_prefer_ceil" => (coordinate + 0.5).floor(),
            _ => (coordinate - 0.5).ceil(),
        };
        self.clamped(f64::from(index))
    }

    fn linear(&self, coordinate: f64) -> Taps {
        let coordinate = coordinate.clamp(0.0, (self.from - 1) as f64);
        let (below, part) = (coordinate.floor(), coordinate.fract());
        vec![(self.clamped(below), 1.0 - part), (self.clamped(below + 1.0), part)]
    }

    /// R. Keys, "Cubic convolution interpolation for digital image processing", 1981.
    fn cubic(&self, coordinate: f64) -> Taps {
        let a = f64::from(self.node.float("cubic_coeff_a", -0.75));
        let below = coordinate.floor();
        let weight = |offset: f64| {
            let distance = (coordinate - below - offset).abs();
            if distance <= 1.0 {
                ((a + 2.0) * distance - (a + 3.0)) * distance * distance + 1.0
            } else {
                ((a * distance - 5.0 * a) * distance + 8.0 * a) * distance - 4.0 * a
            }
        };
        let mut taps: Vec<(f64, f64)> =
            [-1.0, 0.0, 1.0, 2.0].map(|offset| (below + offset, weight(offset))).into_iter().collect();
        if self.node.int("exclude_outside", 0) != 0 {
            taps.retain(|&(index, _)| (0.0..self.from as f64).contains(&index));
            let total: f64 = taps.iter().map(|(_, weight)| weight).sum();
            taps.iter_mut().for_each(|(_, weight)| *weight /= total);
        }
        taps.into_iter().map(|(index, weight)| (self.clamped(index), weight)).collect()
    }

    /// The element at `index`, or the one at the end that `index` is beyond.
    fn clamped(&self, index: f64) -> usize {
        index.clamp(0.0, (self.from - 1) as f64) as usize
    }
}
