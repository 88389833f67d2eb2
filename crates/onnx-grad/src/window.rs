//! The geometry of windows that slide over the spatial axes: convolution and pooling.

use crate::infer::{Call, check};
use crate::{Graph, Node, Result};

/// The largest kernel, stride, dilation or padding: small enough that no product of two overflows.
const LARGEST: i64 = 1 << 30;

/// A window that slides over spatial axes, `auto_pad` and `ceil_mode` resolved. Each field has
/// one entry per spatial axis.
///
/// The window at position `o` of an axis covers the elements
/// `o * stride - pad_begin + k * dilation` for `k` in `0..kernel`; those outside `0..input` are
/// padding. For ConvTranspose the roles are exchanged: `o` counts over `input`, and the elements
/// are those of `output`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) kernel: Vec<usize>,
    pub(crate) strides: Vec<usize>,
    pub(crate) dilations: Vec<usize>,
    /// Padding before the first element.
    pub(crate) pads_begin: Vec<usize>,
    /// Padding after the last element. With `ceil_mode` a window may reach beyond it.
    pub(crate) pads_end: Vec<usize>,
    /// Extents of the node's input.
    pub(crate) input: Vec<usize>,
    /// Extents of the node's output.
    pub(crate) output: Vec<usize>,
}

#[derive(Clone, Copy, PartialEq)]
enum AutoPad {
    Explicit,
    SameUpper,
    SameLower,
    Valid,
}

impl AutoPad {
    fn of(call: &Call) -> Result<Self> {
        Ok(match call.choice("auto_pad", &["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"])? {
            "SAME_UPPER" => AutoPad::SameUpper,
            "SAME_LOWER" => AutoPad::SameLower,
            "VALID" => AutoPad::Valid,
            _ => AutoPad::Explicit,
        })
    }

    /// What comes before and after out of a padding of `total`: an odd element goes to the side
    /// that the name says.
    fn split(self, total: i64) -> (i64, i64) {
        let half = total / 2;
        if self == AutoPad::SameUpper { (half, total - half) } else { (total - half, half) }
    }
}

impl Window {
    /// The window of a Conv, AveragePool, MaxPool or ConvTranspose of `graph`.
    pub(crate) fn of(graph: &Graph, node: &Node) -> Result<Self> {
        let call = &Call { graph, node };
        let input = spatial(call, 0)?;
        match node.op.as_str() {
            "Conv" => Window::sliding(call, input, &kernel_of_weights(call)?),
            "ConvTranspose" => Window::transposed(call, input, &kernel_of_weights(call)?),
            _ => {
                let kernel = call.ints("kernel_shape")?.ok_or_else(|| call.error("lacks `kernel_shape`"))?;
                let kernel = positive(call, "kernel_shape", kernel, input.len())?;
                let window = Window::sliding(call, input, &kernel)?;
                window.check_pool_padding(call)?;
                Ok(window)
            }
        }
    }

    /// The window of one element, over an input of the given extents.
    pub(crate) fn pointwise(extents: &[usize]) -> Self {
        let (ones, zeros) = (vec![1; extents.len()], vec![0; extents.len()]);
        Window {
            kernel: ones.clone(),
            strides: ones.clone(),
            dilations: ones,
            pads_begin: zeros.clone(),
            pads_end: zeros,
            input: extents.to_vec(),
            output: extents.to_vec(),
        }
    }

    /// The number of spatial axes.
    pub(crate) fn rank(&self) -> usize {
        self.kernel.len()
    }

    /// How many elements the window spans on `axis`, dilation included.
    pub(crate) fn span(&self, axis: usize) -> usize {
        (self.kernel[axis] - 1) * self.dilations[axis] + 1
    }

    fn sliding(call: &Call, input: &[usize], kernel: &[i64]) -> Result<Self> {
        let rank = input.len();
        let strides = list(call, "strides", rank, 1)?;
        let dilations = list(call, "dilations", rank, 1)?;
        let pads = pads(call, rank)?;
        let auto_pad = AutoPad::of(call)?;
        let ceil_mode = call.flag("ceil_mode", false)?;

        let mut window = Window::new(input, kernel, &strides, &dilations);
        for axis in 0..rank {
            let extent = input[axis] as i64;
            let (stride, span) = (strides[axis], (kernel[axis] - 1) * dilations[axis] + 1);
            let (output, begin, end) = match auto_pad {
                AutoPad::SameUpper | AutoPad::SameLower => {
                    let output = (extent + stride - 1) / stride;
                    let total = ((output - 1) * stride + span - extent).max(0);
                    let (begin, end) = auto_pad.split(total);
                    (output, begin, end)
                }
                AutoPad::Explicit | AutoPad::Valid => {
                    let explicit = auto_pad == AutoPad::Explicit;
                    let (begin, end) = if explicit { (pads[axis], pads[rank + axis]) } else { (0, 0) };
                    let room = extent + begin + end - span;
                    let mut output = room.div_euclid(stride) + 1;
                    // The last window starts within the input or the padding before it, not after.
                    let partial = ceil_mode && explicit && room % stride != 0;
                    if partial && output * stride < extent + begin {
                        output += 1;
                    }
                    check!(
                        call,
                        output > 0,
                        "has a window of {span} over axis {} of {extent} elements padded by {begin} and {end}",
                        axis + 2
                    );
                    (output, begin, end)
                }
            };
            window.push_axis(call, output, begin, end)?;
        }
        Ok(window)
    }

    fn transposed(call: &Call, input: &[usize], kernel: &[i64]) -> Result<Self> {
        let rank = input.len();
        let strides = list(call, "strides", rank, 1)?;
        let dilations = list(call, "dilations", rank, 1)?;
        let pads = pads(call, rank)?;
        let auto_pad = AutoPad::of(call)?;
        let output_padding = match call.ints("output_padding")? {
            Some(values) => not_negative(call, "output_padding", values, rank)?,
            None => vec![0; rank],
        };
        let output_shape = match call.ints("output_shape")? {
            // Some exporters put batch and channels in front.
            Some(values) if values.len() == rank + 2 => Some(positive(call, "output_shape", &values[2..], rank)?),
            Some(values) => Some(positive(call, "output_shape", values, rank)?),
            None => None,
        };

        let mut window = Window::new(input, kernel, &strides, &dilations);
        for axis in 0..rank {
            let (stride, span) = (strides[axis], (kernel[axis] - 1) * dilations[axis] + 1);
            let extent = input[axis] as i64;
            let full = (extent - 1) * stride + span + output_padding[axis];
            let wanted = match (&output_shape, auto_pad) {
                (Some(shape), _) => Some(shape[axis]),
                (None, AutoPad::SameUpper | AutoPad::SameLower) => Some(extent * stride),
                (None, AutoPad::Explicit | AutoPad::Valid) => None,
            };
            let (output, begin, end) = match wanted {
                Some(output) => {
                    // Engines disagree about the elements beyond, and the specification is silent.
                    check!(call, output <= full, "wants {output} elements on axis {}, but reaches {full}", axis + 2);
                    let (begin, end) = auto_pad.split(full - output);
                    (output, begin, end)
                }
                None => {
                    let explicit = auto_pad == AutoPad::Explicit;
                    let (begin, end) = if explicit { (pads[axis], pads[rank + axis]) } else { (0, 0) };
                    (full - begin - end, begin, end)
                }
            };
            check!(call, output > 0, "crops axis {} of {full} elements by {begin} and {end}", axis + 2);
            window.push_axis(call, output, begin, end)?;
        }
        Ok(window)
    }

    fn new(input: &[usize], kernel: &[i64], strides: &[i64], dilations: &[i64]) -> Self {
        let extents = |values: &[i64]| values.iter().map(|&value| value as usize).collect::<Vec<_>>();
        Window {
            kernel: extents(kernel),
            strides: extents(strides),
            dilations: extents(dilations),
            pads_begin: Vec::new(),
            pads_end: Vec::new(),
            input: input.to_vec(),
            output: Vec::new(),
        }
    }

    fn push_axis(&mut self, call: &Call, output: i64, begin: i64, end: i64) -> Result<()> {
        self.output.push(call.extent(output)?);
        self.pads_begin.push(call.extent(begin)?);
        self.pads_end.push(call.extent(end)?);
        Ok(())
    }

    /// A pooling window in the padding alone would have nothing to take the maximum or mean of.
    fn check_pool_padding(&self, call: &Call) -> Result<()> {
        for axis in 0..self.rank() {
            let (begin, end, span) = (self.pads_begin[axis], self.pads_end[axis], self.span(axis));
            check!(call, begin.max(end) < span, "pads by {begin} and {end}, no less than its window of {span}");
        }
        Ok(())
    }
}

/// The extents of input `i` beyond batch and channels: one to three.
pub(crate) fn spatial<'a>(call: &Call<'a>, i: usize) -> Result<&'a [usize]> {
    let ty = call.input(i)?;
    check!(call, (3..=5).contains(&ty.rank()), "needs one to three spatial axes, but input {i} is {ty}");
    check!(call, !ty.shape.contains(&0), "has an input {i} without elements, {ty}");
    Ok(&ty.shape[2..])
}

/// The kernel's extents according to the weights, which `kernel_shape` has to agree with.
fn kernel_of_weights(call: &Call) -> Result<Vec<i64>> {
    let (input, weights) = (call.input(0)?, call.input(1)?);
    check!(call, input.rank() == weights.rank(), "has weights {weights} for an input {input}");
    let shape: Vec<i64> = spatial(call, 1)?.iter().map(|&extent| extent as i64).collect();
    let kernel = positive(call, "kernel_shape", &shape, shape.len())?;
    if let Some(given) = call.ints("kernel_shape")? {
        check!(call, given == kernel, "has `kernel_shape` = {given:?} beside weights {weights}");
    }
    Ok(kernel)
}

fn list(call: &Call, name: &str, rank: usize, default: i64) -> Result<Vec<i64>> {
    match call.ints(name)? {
        Some(values) => positive(call, name, values, rank),
        None => Ok(vec![default; rank]),
    }
}

fn pads(call: &Call, rank: usize) -> Result<Vec<i64>> {
    match call.ints("pads")? {
        Some(values) => not_negative(call, "pads", values, 2 * rank),
        None => Ok(vec![0; 2 * rank]),
    }
}

fn positive(call: &Call, name: &str, values: &[i64], len: usize) -> Result<Vec<i64>> {
    check!(call, !values.contains(&0), "has a 0 in `{name}` = {values:?}");
    not_negative(call, name, values, len)
}

fn not_negative(call: &Call, name: &str, values: &[i64], len: usize) -> Result<Vec<i64>> {
    check!(call, values.len() == len, "has `{name}` = {values:?}, which should have {len} entries");
    let fine = values.iter().all(|value| (0..=LARGEST).contains(value));
    check!(call, fine, "has `{name}` = {values:?}, beyond 0 to {LARGEST}");
    Ok(values.to_vec())
}
