"""A model of any kind, as the library sees it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _arrays, _native
from ._models import to_onnx


class Classifier:
    """A model with its preprocessing, its range of pixel values and the engine that runs it.

    Parameters
    ----------
    model : path, bytes, onnx.ModelProto, torch.nn.Module or keras.Model
        An ONNX file, its bytes or what they mean, or a model of PyTorch or Keras, which is exported in memory as it is
        now (in evaluation mode) and left as it was.
    input_shape : tuple of int, optional
        The shape of an image in the order of the model's axes, where the model leaves its size open or takes flat
        rows. A PyTorch model does not know it.
    sample_shape : tuple of int, optional
        The shape ``(C, H, W)`` of the samples, for what neither the model nor `input_shape` says.
    input, output : str, optional
        The input that takes the images and the value that has the scores of the classes, if the model has several.
    input_value : dict of str and float, optional
        The values of other inputs that the scores depend on; those of type bool are false unless they are given.
    scale, mean, std : float or sequence of float
        The model sees ``(pixel · scale − mean) / std``, with one mean and deviation or one for each channel.
    layout : {"nchw", "nhwc"}, optional
        The order of the axes of the model's input. Its shape tells it, most of the time.
    value_range : tuple of float
        The pixel values that are black and white.
    class_names : sequence of str, optional
        One for each class.
    engine : {"auto", "onnxruntime", "openvino", "rten"}
        What runs the model; ``auto`` is the fastest that is installed.
    engine_library : path, optional
        Its shared library, where it is not found by itself.
    precision : {"f32", "bf16"}
        What triggers are searched for in; bfloat16 is faster where engine and processor have it. All that is reported
        is measured in float32.
    threads : int, optional
        As many as there are processors, unless given.

    Raises
    ------
    neural_cleanse.Error
        If the model is not a classifier of images, or does not go with the options.
    """

    def __init__(
        self,
        model: Any,
        *,
        input_shape: Sequence[int] | None = None,
        sample_shape: Sequence[int] | None = None,
        input: str | None = None,
        output: str | None = None,
        input_value: Mapping[str, float] | None = None,
        scale: float = 1.0,
        mean: ArrayLike = 0.0,
        std: ArrayLike = 1.0,
        layout: str | None = None,
        value_range: tuple[float, float] = (0.0, 255.0),
        class_names: Sequence[str] | None = None,
        engine: str = "auto",
        engine_library: str | PathLike[str] | None = None,
        precision: str = "f32",
        threads: int | None = None,
    ) -> None:
        exported = to_onnx(model, input_shape, sample_shape, layout)
        self.name = exported.name
        self._model = exported.model
        self._native = _native.Classifier(
            exported.model,
            scale=float(scale),
            mean=np.atleast_1d(mean).astype(float).tolist(),
            std=np.atleast_1d(std).astype(float).tolist(),
            interface={
                "input": input,
                "output": output,
                "layout": layout or exported.layout,
                "input_shape": None if input_shape is None else list(input_shape),
                "sample_shape": None if sample_shape is None else tuple(sample_shape),
                "input_value": {name: float(value) for name, value in (input_value or {}).items()},
            },
            value_range=value_range,
            class_names=None if class_names is None else list(class_names),
            engine=engine,
            engine_library=engine_library,
            precision=precision,
            threads=threads,
        )

    @classmethod
    def _of(cls, native: _native.Classifier, name: str) -> Classifier:
        classifier = cls.__new__(cls)
        classifier.name, classifier._native, classifier._model = name, native, native.model_bytes()
        return classifier

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape of an image, ``(C, H, W)``."""
        return self._native.image_shape

    @property
    def classes(self) -> int:
        """The number of classes."""
        return self._native.classes

    @property
    def class_names(self) -> list[str]:
        """One name for each class."""
        return self._native.class_names

    @property
    def layout(self) -> str:
        """The order of the axes of the model's input, ``"nchw"`` or ``"nhwc"``."""
        return self._native.layout

    @property
    def value_range(self) -> tuple[float, float]:
        """The smallest and the largest pixel value."""
        return self._native.value_range

    @property
    def engine(self) -> str:
        """What runs the model, and why it."""
        return self._native.engine_note

    @property
    def precision(self) -> str:
        """What triggers are searched for in, ``"f32"`` or ``"bf16"``."""
        return self._native.precision

    @property
    def gives_probabilities(self) -> bool:
        """Whether the model gives probabilities; what `predict` gives are logits all the same."""
        return self._native.gives_probabilities

    @property
    def sha256(self) -> str:
        """The hash of the ONNX file, or of what the model was exported to, in hexadecimal."""
        if isinstance(self._model, bytes):
            return hashlib.sha256(self._model).hexdigest()
        return hashlib.sha256(Path(self._model).read_bytes()).hexdigest()

    def images(self, x: ArrayLike) -> NDArray[Any]:
        """Give a view of `x` as ``[N, C, H, W]``, whichever layout it has."""
        return _arrays.images(x, self.image_shape, self.layout)

    def predict(self, x: ArrayLike) -> NDArray[np.float32]:
        """Classify images.

        Parameters
        ----------
        x : array_like
            Pixel values ``[N, C, H, W]`` or ``[N, H, W, C]``, of float32, float64 or uint8.

        Returns
        -------
        ndarray
            Logits ``[N, classes]``.
        """
        return self._native.predict(self.images(x))

    def loss_gradient(self, x: ArrayLike, y: ArrayLike) -> NDArray[np.float32]:
        """Give the gradient ``[N, C, H, W]``, by pixel value, of each image's cross-entropy towards its label."""
        labels = _arrays.labels(y)
        assert labels is not None
        return self._native.loss_gradient(self.images(x), labels)

    def class_gradient(self, x: ArrayLike, label: int) -> NDArray[np.float32]:
        """Give the gradient ``[N, C, H, W]``, by pixel value, of each image's logit of the class `label`."""
        return self._native.class_gradient(self.images(x), label)

    def to_bytes(self) -> bytes:
        """Give the model as the bytes of an ONNX file."""
        return self._native.model_bytes()

    def save(self, path: str | PathLike[str]) -> None:
        """Write the model to an ONNX file, whole or not at all."""
        self._native.write_model(path)

    def __repr__(self) -> str:
        channels, height, width = self.image_shape
        return f"<Classifier {self.name}: {channels}×{height}×{width}, {self.classes} classes, {self.engine}>"


def classifier_for(model: Any, x: ArrayLike | None, options: dict[str, Any]) -> Classifier:
    """Give `model`, which may be a classifier already, as a classifier of images such as `x`."""
    if isinstance(model, Classifier):
        if options:
            raise TypeError(f"{', '.join(options)}: say this when the Classifier is made")
        if x is not None:
            _arrays.value_range(x, model.value_range)
        return model
    if x is None:
        return Classifier(model, **options)
    value_range = _arrays.value_range(x, options.pop("value_range", None))
    sample_shape = _arrays.sample_shape(x, options.get("layout"))
    return Classifier(model, sample_shape=sample_shape, value_range=value_range, **options)
