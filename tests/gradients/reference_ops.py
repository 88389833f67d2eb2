"""Operators as the ONNX specification has them, where onnx's reference implementation (1.23) has not.

What it gets wrong, in float64:
- Conv: groups whose channels differ in number from the filters.
- ConvTranspose: groups, and `output_shape`.
- MaxPool: `SAME_LOWER`, and pads at the beginning that exceed those at the end.
- GlobalMaxPool: any number of spatial axes but two.
- Erf: computes in float32.
- Pad: negative pads.
- LRN: channels beyond the number of samples, and any number of spatial axes but two.
- GatherElements: indices that leave out elements of the other axes.
"""

import itertools
import math

import numpy as np
from onnx.reference.op_run import OpRun


def taps(kernel):
    return itertools.product(*map(range, kernel))


def strided(array, starts, counts, strides):
    """The elements of the trailing axes at start + i * stride for i below count."""
    return array[(..., *(slice(s, s + (c - 1) * step + 1, step) for s, c, step in zip(starts, counts, strides)))]


def spatial_pads(extents, spans, strides, pads, auto_pad):
    """Padding at the beginning and at the end of each axis."""
    if auto_pad in (None, "NOTSET"):
        rank = len(extents)
        return pads[:rank], pads[rank:]
    if auto_pad == "VALID":
        return [0] * len(extents), [0] * len(extents)
    totals = [max((-(-x // s) - 1) * s + span - x, 0) for x, s, span in zip(extents, strides, spans)]
    less, more = [total // 2 for total in totals], [total - total // 2 for total in totals]
    return (less, more) if auto_pad == "SAME_UPPER" else (more, less)


class Conv(OpRun):
    op_domain = ""

    def _run(self, x, w, b=None, auto_pad=None, dilations=None, group=1, kernel_shape=None, pads=None, strides=None):
        kernel, extents = w.shape[2:], x.shape[2:]
        strides, dilations = strides or [1] * len(kernel), dilations or [1] * len(kernel)
        spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations)]
        begin, end = spatial_pads(extents, spans, strides, pads or [0] * 2 * len(kernel), auto_pad)
        padded = np.pad(x, [(0, 0), (0, 0), *zip(begin, end)])
        counts = [(p - span) // s + 1 for p, span, s in zip(padded.shape[2:], spans, strides)]
        padded = padded.reshape(x.shape[0], group, w.shape[1], *padded.shape[2:])
        filters = w.reshape(group, -1, *w.shape[1:])
        y = np.zeros((x.shape[0], group, filters.shape[1], *counts), x.dtype)
        for tap in taps(kernel):
            part = strided(padded, [t * d for t, d in zip(tap, dilations)], counts, strides)
            y += np.einsum("ngc...,gfc->ngf...", part, filters[(..., *tap)])
        y = y.reshape(x.shape[0], -1, *counts)
        return (y if b is None else y + b.reshape(-1, *[1] * len(kernel)),)


class ConvTranspose(OpRun):
    op_domain = ""

    def _run(self, x, w, b=None, auto_pad=None, dilations=None, group=1, kernel_shape=None,
             output_padding=None, output_shape=None, pads=None, strides=None):  # fmt: skip
        kernel, extents = w.shape[2:], x.shape[2:]
        rank = len(kernel)
        strides, dilations = strides or [1] * rank, dilations or [1] * rank
        full = [(e - 1) * s + (k - 1) * d + 1 + o
                for e, s, k, d, o in zip(extents, strides, kernel, dilations, output_padding or [0] * rank)]  # fmt: skip
        begin, end = (pads or [0] * 2 * rank)[:rank], (pads or [0] * 2 * rank)[rank:]
        if output_shape:
            totals = [f - o for f, o in zip(full, output_shape)]
            begin, end = [t - t // 2 for t in totals], [t // 2 for t in totals]
        images = x.reshape(x.shape[0], group, -1, *extents)
        filters = w.reshape(group, -1, *w.shape[1:])
        y = np.zeros((x.shape[0], group, w.shape[1], *full), x.dtype)
        for tap in taps(kernel):
            target = strided(y, [t * d for t, d in zip(tap, dilations)], extents, strides)
            target += np.einsum("ngc...,gcf->ngf...", images, filters[(..., *tap)])
        y = y.reshape(x.shape[0], -1, *full)
        y = y[(..., *(slice(lo, size - hi) for lo, hi, size in zip(begin, end, full)))]
        return (y if b is None else y + b.reshape(-1, *[1] * rank),)


class MaxPool(OpRun):
    op_domain = ""

    def _run(self, x, auto_pad=None, ceil_mode=0, dilations=None, kernel_shape=None, pads=None, storage_order=0, strides=None):
        rank = len(kernel_shape)
        strides, dilations = strides or [1] * rank, dilations or [1] * rank
        spans = [(k - 1) * d + 1 for k, d in zip(kernel_shape, dilations)]
        begin, end = spatial_pads(x.shape[2:], spans, strides, pads or [0] * 2 * rank, auto_pad)
        counts = []
        for extent, span, stride, lo, hi in zip(x.shape[2:], spans, strides, begin, end):
            room = extent + lo + hi - span
            count = (-(-room // stride) if ceil_mode else room // stride) + 1
            counts.append(count - 1 if (count - 1) * stride >= extent + lo else count)
        reach = [(c - 1) * s + span for c, s, span in zip(counts, strides, spans)]
        after = [max(r - lo - extent, 0) for r, lo, extent in zip(reach, begin, x.shape[2:])]
        padded = np.pad(x, [(0, 0), (0, 0), *zip(begin, after)], constant_values=-np.inf)
        parts = [strided(padded, [t * d for t, d in zip(tap, dilations)], counts, strides) for tap in taps(kernel_shape)]
        return (np.max(parts, axis=0),)


class GlobalMaxPool(OpRun):
    op_domain = ""

    def _run(self, x):
        return (x.max(axis=tuple(range(2, x.ndim)), keepdims=True),)


class Erf(OpRun):
    op_domain = ""

    def _run(self, x):
        return (np.vectorize(math.erf, otypes=[x.dtype])(x),)


class Pad(OpRun):
    op_domain = ""

    def _run(self, x, pads, value=None, axes=None, mode="constant"):
        axes = range(x.ndim) if axes is None else [axis % x.ndim for axis in axes]
        amounts = [(0, 0)] * x.ndim
        for i, axis in enumerate(axes):
            amounts[axis] = (int(pads[i]), int(pads[len(pads) // 2 + i]))
        kept = x[tuple(slice(max(-lo, 0), size - max(-hi, 0)) for (lo, hi), size in zip(amounts, x.shape))]
        added = [(max(lo, 0), max(hi, 0)) for lo, hi in amounts]
        fill = {"constant_values": 0 if value is None else value.item()} if mode == "constant" else {}
        return (np.pad(kept, added, mode=mode, **fill),)


class LRN(OpRun):
    op_domain = ""

    def _run(self, x, alpha=None, beta=None, bias=None, size=None):
        padded = np.pad(x**2, [(0, 0), ((size - 1) // 2, size // 2), *[(0, 0)] * (x.ndim - 2)])
        sums = sum(padded[:, i : i + x.shape[1]] for i in range(size))
        return (x / (bias + alpha / size * sums) ** beta,)


class GatherElements(OpRun):
    op_domain = ""

    def _run(self, x, indices, axis=0):
        covered = [slice(extent) for extent in indices.shape]
        covered[axis] = slice(None)
        return (np.take_along_axis(x[tuple(covered)], indices, axis),)


CORRECTED = [Conv, ConvTranspose, MaxPool, GlobalMaxPool, Erf, Pad, LRN, GatherElements]
