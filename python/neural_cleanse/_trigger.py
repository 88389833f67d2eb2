"""A trigger: where an image is changed, and to what."""

from __future__ import annotations

import os
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _arrays, _native
from .errors import DataError, FileError


@dataclass(frozen=True, eq=False)
class Trigger:
    """A trigger, applied to an image `x` as ``(1 − mask)·x + mask·pattern`` or, with a `range`, ``clip(x + pattern, *range)``.

    Parameters
    ----------
    mask : ndarray
        Opacity, ``[1, H, W]`` (shared by the channels) or ``[C, H, W]``, 0 to 1.
    pattern : ndarray
        Pixel values ``[C, H, W]``, to be blended in or added.
    range : tuple of float, optional
        The smallest and the largest pixel value, if the pattern is to be added. The mask is then how much of this range a
        pixel is changed by.

    Raises
    ------
    DataError
        If the shapes do not belong together or a value is out of its range.
    """

    mask: NDArray[np.float32]
    pattern: NDArray[np.float32]
    range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        mask, pattern = (np.ascontiguousarray(a, np.float32) for a in (self.mask, self.pattern))
        if (
            mask.ndim != 3
            or pattern.ndim != 3
            or mask.shape[1:] != pattern.shape[1:]
            or len(mask) not in (1, len(pattern))
        ):
            raise DataError(
                f"a mask of shape {list(mask.shape)} does not belong to a pattern of shape {list(pattern.shape)}"
            )
        if not ((mask >= 0) & (mask <= 1)).all():
            raise DataError("the mask has values outside 0..1")
        if not np.isfinite(pattern).all():
            raise DataError("the pattern has values that are not finite")
        if self.range is not None:
            low, high = (float(np.float32(bound)) for bound in self.range)
            if not low < high or (np.abs(pattern) > high - low).any():
                raise DataError(f"the pattern changes pixels by more than their range, {low:g} to {high:g}")
            object.__setattr__(self, "range", (low, high))
        object.__setattr__(self, "mask", mask)
        object.__setattr__(self, "pattern", pattern)

    @property
    def norm_l1(self) -> float:
        """The number of pixels that the trigger covers, each weighted by its opacity."""
        return float(self.mask.sum(dtype=np.float64) / len(self.mask))

    def apply(self, x: ArrayLike) -> NDArray[Any]:
        """Put the trigger on images.

        Parameters
        ----------
        x : array_like
            ``[N, C, H, W]`` or ``[N, H, W, C]``.

        Returns
        -------
        ndarray
            The same with the trigger, of the shape and the type of `x`; integers are rounded.
        """
        x = np.asarray(x)
        images = _arrays.images(x, self.pattern.shape, "nchw")
        stamped = np.empty(x.shape, x.dtype if x.dtype.kind != "f" else np.result_type(x, np.float32))
        view = _arrays.images(stamped, self.pattern.shape, "nchw")
        if self.range is None:
            changed = images + self.mask * (self.pattern - images)
        else:
            changed = np.clip(images + self.pattern, *self.range)
        np.copyto(view, changed if x.dtype.kind == "f" else np.rint(changed), casting="unsafe")
        return stamped

    @property
    def arrays(self) -> _native.TriggerArrays:
        """Mask, pattern and range."""
        return self.mask, self.pattern, self.range

    def save(self, path: str | PathLike[str]) -> None:
        """Write `mask`, `pattern` and, if there is one, `range` to a ``.npz`` file, whole or not at all."""
        beside = f"{os.fspath(path)}.part"
        with open(beside, "wb") as file:
            added = {} if self.range is None else {"range": np.asarray(self.range, np.float32)}
            np.savez_compressed(file, mask=self.mask, pattern=self.pattern, **added)
        os.replace(beside, path)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Trigger:
        """Read a ``.npz`` file with `mask`, `pattern` and perhaps `range`."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                bounds = arrays["range"].tolist() if "range" in arrays else None
                return cls(arrays["mask"], arrays["pattern"], None if bounds is None else (bounds[0], bounds[1]))
        except DataError as error:
            raise DataError(f"{os.fspath(path)}: {error}") from None
        except Exception as error:
            raise FileError(f"{os.fspath(path)} is not a .npz file with mask and pattern: {error}") from error

    def __repr__(self) -> str:
        return f"<Trigger {list(self.pattern.shape)}, L1 norm {self.norm_l1:.2f}>"
