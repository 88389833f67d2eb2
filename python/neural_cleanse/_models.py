"""Models of any framework as ONNX, and repaired weights back into them."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import ModelError


class Exported(NamedTuple):
    """A model as ONNX."""

    model: bytes | str
    """The bytes, or the path of the file that they are in."""
    name: str
    layout: str | None = None


def to_onnx(
    model: Any,
    input_shape: Sequence[int] | None = None,
    sample_shape: Sequence[int] | None = None,
    layout: str | None = None,
) -> Exported:
    """Give `model` as ONNX; it stays as it was.

    A PyTorch model is exported for images of `input_shape` or, without it, for samples of `sample_shape` ``(C, H, W)``
    in the `layout` of the model's axes.

    The initializers of an exported model are its weights, by their own names and in their own shapes: nothing is
    folded.
    """
    if isinstance(model, (str, os.PathLike)):
        return Exported(os.fspath(model), os.fspath(model))
    if isinstance(model, (bytes, bytearray)):
        return Exported(bytes(model), "ONNX bytes")
    if hasattr(model, "graph") and hasattr(model, "SerializeToString"):
        return Exported(model.SerializeToString(), model.graph.name or "onnx.ModelProto")
    try:
        if _is_keras(model):
            return _from_keras(model)
        if _is_torch(model):
            return _from_torch(model, input_shape or _in_layout(sample_shape, layout))
    except ModelError:
        raise
    except ImportError as error:
        raise ModelError(
            f"a {_kind(model)} cannot be exported to ONNX without the package {error.name}: install it"
        ) from error
    except Exception as error:
        raise ModelError(f"the {_kind(model)} cannot be exported to ONNX: {error}") from error
    raise ModelError(
        f"a {_kind(model)} is not a model: give the path or the bytes of an ONNX file, an onnx.ModelProto, a "
        "torch.nn.Module or a Keras model"
    )


def load_weights(model: Any, before: bytes, after: bytes) -> None:
    """Give `model`, which was exported as `before`, the weights in which `after` differs.

    Raises
    ------
    ModelError
        If a weight has no place in the model, which is then as it was.
    """
    places = _places(model)
    changed = _changed(before, after)
    if missing := sorted(changed.keys() - places.keys()):
        raise ModelError(f"the {_kind(model)} has no weight called {', '.join(missing)}, which the repair changed")
    if _is_keras(model):
        for name, value in changed.items():
            places[name].assign(value)
        return
    import torch

    with torch.no_grad():
        for name, value in changed.items():
            places[name].copy_(torch.from_numpy(value.copy()))


def weights(model: Any) -> list[NDArray[Any]]:
    """Give copies of all weights of a PyTorch or Keras model."""
    if _is_keras(model):
        return [_value(place) for place in _places(model).values()]
    return [place.detach().clone() for place in _places(model).values()]


def restore(model: Any, saved: list[Any]) -> None:
    """Give `model` the weights that `weights` saved."""
    if _is_keras(model):
        for place, value in zip(_places(model).values(), saved, strict=True):
            place.assign(value)
        return
    import torch

    with torch.no_grad():
        for place, value in zip(_places(model).values(), saved, strict=True):
            place.copy_(value)


def _in_layout(sample_shape: Sequence[int] | None, layout: str | None) -> Sequence[int] | None:
    return [*sample_shape[1:], sample_shape[0]] if sample_shape and layout == "nhwc" else sample_shape


def _from_torch(model: Any, input_shape: Sequence[int] | None) -> Exported:
    if input_shape is None:
        raise ModelError("a PyTorch model does not know the shape of its images: give input_shape")
    # A copy, so that modes, device, types and hooks of the user's model stay untouched.
    return Exported(_torch_program(copy.deepcopy(model).cpu().float().eval(), input_shape), _kind(model))


def _torch_program(module: Any, input_shape: Sequence[int]) -> bytes:
    import onnxscript  # noqa: F401, which the exporter needs but does not say well
    import torch

    # A batch of one would be taken for a constant.
    sample = torch.zeros(2, *input_shape)
    shapes = ({0: torch.export.Dim.AUTO},)
    program = torch.onnx.export(
        module, (sample,), dynamo=True, optimize=False, dynamic_shapes=shapes, external_data=False, verbose=False
    )
    return program.model_proto.SerializeToString()


def _from_keras(model: Any) -> Exported:
    import keras

    if not getattr(model, "built", True) or len(model.inputs) != 1:
        raise ModelError("the Keras model must be built and have one input")
    layout = "nhwc" if keras.config.image_data_format() == "channels_last" else "nchw"
    export = {"tensorflow": _keras_on_tensorflow, "torch": _keras_on_torch}.get(keras.backend.backend())
    if export is None:
        raise ModelError(
            f"Keras models cannot be exported from its backend {keras.backend.backend()}: give an ONNX file"
        )
    return Exported(export(model), model.name, layout)


def _keras_on_tensorflow(model: Any) -> bytes:
    """Weights are inputs of the function that is converted, so that nothing can be folded into them."""
    import tensorflow as tf
    import tf2onnx
    from onnx import numpy_helper

    places = _places(model)
    names = {f"weight_{i}": name for i, name in enumerate(places)}

    def call(images: Any, *values: Any) -> Any:
        return _keras_call(model, images, values)

    specs = [tf.TensorSpec(v.shape, v.dtype, name=name) for name, v in zip(names, places.values(), strict=True)]
    images = tf.TensorSpec([None, *model.inputs[0].shape[1:]], tf.float32, name="images")
    proto, _ = tf2onnx.convert.from_function(tf.function(call), input_signature=[images, *specs], opset=17)
    inputs = [value for value in proto.graph.input if value.name not in names]
    used = {value.name for value in proto.graph.input} & names.keys()
    del proto.graph.input[:]
    proto.graph.input.extend(inputs)
    for i, place in enumerate(places.values()):
        if f"weight_{i}" in used:
            proto.graph.initializer.append(numpy_helper.from_array(_value(place), f"weight_{i}"))
    return _renamed(proto, names)


def _keras_on_torch(model: Any) -> bytes:
    import onnx
    import torch

    places = _places(model)
    names = {f"values.{i}": name for i, name in enumerate(places)}

    class Stateless(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            copies = [torch.from_numpy(_value(place).copy()) for place in places.values()]
            self.values = torch.nn.ParameterList([torch.nn.Parameter(c, requires_grad=False) for c in copies])

        def forward(self, images: Any) -> Any:
            return _keras_call(model, images, list(self.values))

    proto = onnx.load_from_string(_torch_program(Stateless().eval(), model.inputs[0].shape[1:]))
    return _renamed(proto, names)


def _keras_call(model: Any, images: Any, values: Sequence[Any]) -> Any:
    """What `model` says of `images` with `values` for its weights."""
    by_variable = {id(place): value for place, value in zip(_places(model).values(), values, strict=True)}

    def given(variables: Any) -> list[Any]:
        return [by_variable.get(id(variable), variable.value) for variable in variables]

    outputs, _ = model.stateless_call(
        given(model.trainable_variables), given(model.non_trainable_variables), images, training=False
    )
    return outputs


def _renamed(proto: Any, names: dict[str, str]) -> bytes:
    """Give the model with values called as `names` says."""
    for node in proto.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
    for tensor in proto.graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    return proto.SerializeToString()


def _places(model: Any) -> dict[str, Any]:
    """Give the variables that hold weights, under the names that initializers have in an export."""
    if _is_keras(model):
        floats = [variable for variable in model.variables if "float" in str(variable.dtype)]
        return {f"{i}/{variable.path}": variable for i, variable in enumerate(floats)}
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _value(variable: Any) -> NDArray[Any]:
    """Give the value of a Keras variable."""
    import keras

    return keras.ops.convert_to_numpy(variable)


def _changed(before: bytes, after: bytes) -> dict[str, NDArray[Any]]:
    import onnx
    from onnx import numpy_helper

    old, new = ({t.name: t for t in onnx.load_from_string(m).graph.initializer} for m in (before, after))
    # Equal bytes would do, but a tensor may be stored in another field.
    arrays = {
        name: (numpy_helper.to_array(old[name]), numpy_helper.to_array(new[name])) for name in old.keys() & new.keys()
    }
    return {name: b for name, (a, b) in arrays.items() if not np.array_equal(a, b)}


def _is_torch(model: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def _is_keras(model: Any) -> bool:
    keras = sys.modules.get("keras")
    return keras is not None and isinstance(model, keras.Model)


def _kind(model: Any) -> str:
    return f"{type(model).__module__.split('.')[0]}.{type(model).__qualname__}"
