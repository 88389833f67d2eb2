"""The gradient graph of an exported model in float64, where no rounding moves a value across the kink of a ReLU.

The model's float32 constants become float64, `differentiate` writes the gradient graph of that, and onnx's reference implementation,
with PyTorch's convolutions and pools, evaluates it.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import AttributeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from torch.nn import functional as F

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests/gradients"))
from reference_ops import CORRECTED  # noqa: E402


def gradient(model_file: Path, images, labels, batch: int, differentiate: Path):
    """The gradient of each image's cross-entropy to its label, images and gradient being [N, C, H, W]."""
    model = in_float64(onnx.load(model_file))
    classes, source = append_loss(model), model.graph.input[0]
    extents = [dim.dim_value for dim in source.type.tensor_type.shape.dim][1:]
    channels_last = len(extents) == 3 and extents[2] == images.shape[1] != extents[0]
    with tempfile.TemporaryDirectory() as folder:
        given, written = Path(folder, "model.onnx"), Path(folder, "gradient.onnx")
        onnx.save(model, given)
        shapes = ["--shape", f"chosen={batch},{classes}", "--batch", str(batch)]
        command = [differentiate, given, written, "--of", "loss", "--wrt", source.name, "--simplify", *shapes]
        process = subprocess.run(command, capture_output=True, text=True)
        if process.returncode != 0:
            raise RuntimeError(process.stderr.strip())
        evaluator = ReferenceEvaluator(str(written), new_ops=[*CORRECTED, Conv, ConvTranspose, MaxPool, Clip])
    gradients = []
    for start in range(0, len(images), batch):
        x = images[start : start + batch].astype(np.float64)
        x = x.transpose(0, 2, 3, 1) if channels_last else x
        chosen = -np.eye(classes)[labels[start : start + batch]]
        [result] = evaluator.run([process.stdout.strip()], {source.name: x.reshape(batch, *extents), "chosen": chosen})
        gradients.append(result.transpose(0, 3, 1, 2) if channels_last else result.reshape(batch, *images.shape[1:]))
    return np.concatenate(gradients)


def append_loss(model) -> int:
    """Appends the cross-entropy to what `chosen` has -1 for; the number of classes."""
    graph = model.graph
    scores = next(output for output in graph.output if output.type.tensor_type.elem_type == TensorProto.DOUBLE)
    classes = scores.type.tensor_type.shape.dim[1].dim_value
    probabilities = any(node.op_type == "Softmax" and scores.name in node.output for node in graph.node)
    operator = helper.make_node("Log", [scores.name], ["likelihood"])
    if not probabilities:
        operator = helper.make_node("LogSoftmax", [scores.name], ["likelihood"], axis=1)
    graph.node.extend([operator, helper.make_node("Mul", ["likelihood", "chosen"], ["loss"])])
    del graph.output[:]
    graph.input.append(helper.make_tensor_value_info("chosen", TensorProto.DOUBLE, ["batch", classes]))
    graph.output.append(helper.make_tensor_value_info("loss", TensorProto.DOUBLE, ["batch", classes]))
    return classes


def in_float64(model):
    bodies = [model.graph, *model.functions]
    # The scales of Resize are float32 whatever its input.
    kept = {name for body in bodies for node in body.node if node.op_type == "Resize" for name in node.input[1:3]}
    for body in bodies:
        for node in body.node:
            convert_attributes(node, kept)
        del body.value_info[:]
    for tensor in model.graph.initializer:
        if tensor.name not in kept:
            widen(tensor)
    for value in [*model.graph.input, *model.graph.output]:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    return model


def convert_attributes(node, kept):
    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.DOUBLE
        elif node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
            numbers = attribute.f if attribute.name == "value_float" else list(attribute.floats)
            attribute.CopyFrom(helper.make_attribute("value", numpy_helper.from_array(np.array(numbers, np.float64))))
        elif attribute.type == AttributeProto.TENSOR and not kept.intersection(node.output):
            widen(attribute.t)


def widen(tensor):
    if tensor.data_type == TensorProto.FLOAT:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))


def padded(x, pads, value=0.0):
    """`x` with the pads of ONNX, all at the beginning and then all at the end, which PyTorch has from the last axis on."""
    rank = len(pads) // 2
    pairs = [(pads[axis], pads[rank + axis]) for axis in reversed(range(rank))]
    return F.pad(torch.from_numpy(np.ascontiguousarray(x)), [int(pad) for pair in pairs for pad in pair], value=value)


def operand(array):
    return None if array is None else torch.from_numpy(np.ascontiguousarray(array))


class Conv(OpRun):
    op_domain = ""

    def _run(self, x, w, b=None, auto_pad=None, dilations=None, group=1, kernel_shape=None, pads=None, strides=None):
        rank = x.ndim - 2
        convolve = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
        x = padded(x, pads or [0] * 2 * rank)
        return (convolve(x, operand(w), operand(b), strides or 1, 0, dilations or 1, group).numpy(),)


class ConvTranspose(OpRun):
    op_domain = ""

    def _run(self, x, w, b=None, auto_pad=None, dilations=None, group=1, kernel_shape=None,
             output_padding=None, output_shape=None, pads=None, strides=None):  # fmt: skip
        rank = x.ndim - 2
        convolve = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
        whole = convolve(operand(x), operand(w), None, strides or 1, 0, 0, group, dilations or 1)
        pads, extra = pads or [0] * 2 * rank, output_padding or [0] * rank
        after = [more - pad for more, pad in zip(extra, pads[rank:])]
        result = padded(whole.numpy(), [*(-pad for pad in pads[:rank]), *after]).numpy()
        return (result if b is None else result + b.reshape(-1, *[1] * rank),)


class MaxPool(OpRun):
    op_domain = ""

    def _run(self, x, auto_pad=None, ceil_mode=0, dilations=None, kernel_shape=None, pads=None, storage_order=0, strides=None):
        rank = x.ndim - 2
        pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[rank - 1]
        x = padded(x, pads or [0] * 2 * rank, -np.inf)
        return (pool(x, kernel_shape, strides or 1, 0, dilations or 1, bool(ceil_mode)).numpy(),)


class Clip(OpRun):
    op_domain = ""

    def _run(self, x, low=None, high=None):
        return (np.clip(x, -np.inf if low is None else low, np.inf if high is None else high).astype(x.dtype),)
