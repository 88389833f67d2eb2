"""Arrays as the library wants them, without a copy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import DataError


def images(x: ArrayLike, image_shape: tuple[int, int, int], layout: str) -> NDArray[Any]:
    """Give a view of `x` as ``[N, C, H, W]``.

    Parameters
    ----------
    x : array_like
        ``[N, C, H, W]``, ``[N, H, W, C]`` or, with one channel, ``[N, H, W]``.
    image_shape : tuple of int
        ``(C, H, W)``.
    layout : {"nchw", "nhwc"}
        What is meant where the shape does not tell.
    """
    x = np.asarray(x)
    channels, height, width = image_shape
    first, last = (channels, height, width), (height, width, channels)
    if channels == 1 and x.shape[1:] == (height, width):
        return x[:, None]
    fits = {"nchw": x.shape[1:] == first, "nhwc": x.shape[1:] == last}
    if fits["nhwc"] and (layout == "nhwc" or not fits["nchw"]):
        return x.transpose(0, 3, 1, 2)
    if fits["nchw"]:
        return x
    raise DataError(f"x has the shape {list(x.shape)}, but the model takes [N, {channels}, {height}, {width}] images")


def sample_shape(x: ArrayLike, layout: str | None) -> tuple[int, int, int]:
    """Give the shape ``(C, H, W)`` of the images of `x`; `layout` is what is meant where the shape does not tell."""
    shape = np.shape(x)[1:]
    if len(shape) == 2:
        return (1, *shape)
    if len(shape) != 3:
        raise DataError(f"x has the shape {list(np.shape(x))}; images are [N, C, H, W], [N, H, W, C] or [N, H, W]")
    colours = (1, 3, 4)
    last = shape[2] in colours and (layout == "nhwc" or shape[0] not in colours)
    return (shape[2], *shape[:2]) if last else shape


def labels(y: ArrayLike | None) -> NDArray[np.int64] | None:
    """Give the classes ``[N]`` of `y`, which are class numbers or one-hot rows."""
    if y is None:
        return None
    given = np.asarray(y)
    if given.ndim == 2 and given.shape[1] > 1:
        if not np.isin(given, (0, 1)).all() or not (given.sum(axis=1) == 1).all():
            raise DataError("y has two axes, but its rows are not one-hot")
        return given.argmax(axis=1)
    if given.size != len(given) or not (given == np.floor(given)).all():
        raise DataError("y must be one class number, or one one-hot row, for each image")
    return given.ravel().astype(np.int64)


def value_range(x: ArrayLike, given: tuple[float, float] | None) -> tuple[float, float]:
    """Give the range of pixel values of `x`: the `given` one, or 0 to 255 where `x` is of 8-bit integers."""
    x = np.asarray(x)
    if given is None:
        if x.dtype != np.uint8:
            raise DataError(
                f"x is of {x.dtype}: say which values are black and white, such as value_range=(0, 1) or (0, 255)"
            )
        given = (0.0, 255.0)
    low, high = given
    if x.size and not (low <= x.min() and x.max() <= high):
        raise DataError(f"x has values from {x.min():g} to {x.max():g}, outside the value range of {low:g} to {high:g}")
    return float(low), float(high)
