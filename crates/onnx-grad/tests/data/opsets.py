"""Writes opset_*.onnx and the others below: the same kind of small classifier in every style of export.

Run with `onnx` and `onnxruntime` to make them again. Each model carries an input and the output that
ONNX Runtime computed for it, in row-major order, in its metadata (`input`, `expected`).
"""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

FOLDER = Path(__file__).parent
SHAPE = (2, 6, 6)
CLASSES = 5


class Builder:
    """Nodes and constants of a model for one opset."""

    def __init__(self, opset, float_type=np.float32):
        self.opset = opset
        self.random = np.random.default_rng(opset)
        self.float_type = float_type
        self.nodes = []
        self.initializers = []
        self.names = 0

    def weights(self, *shape, positive=False):
        values = self.random.standard_normal(shape) * 0.4
        return self.constant((np.abs(values) + 0.5 if positive else values).astype(self.float_type))

    def constant(self, values):
        name = f"const.{len(self.initializers) + 1}"
        self.initializers.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def ints(self, *values):
        return self.constant(np.array(values, np.int64))

    def node(self, op, *inputs, outputs=1, **attributes):
        names = [f"{op}.{self.names + i}" for i in range(outputs)]
        self.names += outputs
        self.nodes.append(helper.make_node(op, inputs, names, name=f"{op} {self.names}", **attributes))
        return names[0] if outputs == 1 else names

    def axes(self, op, data, *axes, since=13, **attributes):
        """An operator whose axes became an input at opset `since`."""
        if self.opset < since:
            return self.node(op, data, axes=axes, **attributes)
        return self.node(op, data, self.ints(*axes), **attributes)


def body(b, x, fixed_batch):
    """Every operator whose form depends on the opset, one after the other."""
    x = b.node("Conv", x, b.weights(4, 2, 3, 3), b.weights(4), pads=[1, 1, 1, 1])
    x = b.node("BatchNormalization", x, *(b.weights(4, positive=True) for _ in range(4)))
    if b.opset < 11:
        x = b.node("Clip", x, min=0.0, max=6.0)
        x = b.node("Pad", x, pads=[0, 0, 1, 0, 0, 0, 1, 0], value=0.25)
    else:
        zero, six, quarter = (b.constant(np.array(v, b.float_type)) for v in (0, 6, 0.25))
        x = b.node("Clip", x, zero, six)
        x = b.node("Pad", x, b.ints(0, 0, 1, 0, 0, 0, 1, 0), quarter)
    if b.opset < 10:
        x = b.node("Slice", x, starts=[1, 0], ends=[7, 100], axes=[2, 3])
    else:
        x = b.node("Slice", x, b.ints(1, 0), b.ints(7, 100), b.ints(2, 3))
    if b.opset < 13:
        halves = b.node("Split", x, outputs=2, axis=1, split=[1, 3])
    elif b.opset < 18:
        halves = b.node("Split", x, outputs=2, axis=1)
    else:
        halves = b.node("Split", x, outputs=2, axis=1, num_outputs=2)
    x = b.node("Concat", halves[1], halves[0], axis=1)
    x = b.node("Softmax", x) if b.opset < 13 else b.node("Softmax", x, axis=1)
    x = b.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    scales = np.array([1, 1, 2, 2], np.float32)
    if b.opset < 9:
        x = b.node("Upsample", x, scales=scales.tolist(), mode="nearest")
    elif b.opset < 10:
        x = b.node("Upsample", x, b.constant(scales), mode="nearest")
    elif b.opset < 11:
        x = b.node("Resize", x, b.constant(scales), mode="nearest")
    elif b.opset < 13:
        x = b.node("Resize", x, b.constant(np.zeros(0, np.float32)), b.constant(scales), mode="linear")
    else:
        x = b.node("Resize", x, "", b.constant(scales), mode="linear")
    if b.opset >= 21:
        x = b.node("GroupNormalization", x, b.weights(4), b.weights(4), num_groups=2)
    if b.opset >= 20:
        x = b.node("Gelu", x)
        x = b.node("Gelu", x, approximate="tanh")
    mean = b.axes("ReduceMean", x, 2, 3, since=18, keepdims=1)
    x = b.node("Sub", x, mean)
    x = b.axes("ReduceSum", b.axes("Unsqueeze", x, 0), 0, keepdims=0)
    x = b.axes("Squeeze", b.axes("Unsqueeze", x, 2), 2)
    x = b.node("Dropout", x)
    if fixed_batch:
        shape = b.ints(fixed_batch, 4 * 6 * 6)
    else:
        batch = b.axes("Unsqueeze", b.node("Gather", b.node("Shape", x), b.constant(np.int64(0))), 0)
        minus_one = b.node("Constant", value=numpy_helper.from_array(np.array([-1], np.int64)))
        shape = b.node("Concat", batch, minus_one, axis=0)
    x = b.node("Reshape", x, shape)
    return b.node("Gemm", x, b.weights(CLASSES, 4 * 6 * 6), b.weights(CLASSES), transB=1)


def branch(b, x, name):
    """A branch of `If` that reads `x` from the graph around it."""
    output = f"{name} output"
    node = helper.make_node({"then": "Relu", "else": "Neg"}[name], [x], [output])
    return helper.make_graph([node], name, [], [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)])


def write(name, opset, fixed_batch=None, float_type=np.float32, constant_condition=False, external=False, shuffled=False):
    """Builds the model called `name`, runs it on a random input, and writes both."""
    b = Builder(opset, float_type)
    tensor_type = helper.np_dtype_to_tensor_dtype(np.dtype(float_type))
    output = body(b, "images", fixed_batch)
    if constant_condition:
        branches = {f"{side}_branch": branch(b, output, side) for side in ("then", "else")}
        output = b.node("If", b.constant(np.array(True)), **branches)
    b.nodes.append(helper.make_node("Identity", [output], ["logits"]))
    batch = fixed_batch or "batch"
    inputs = [helper.make_tensor_value_info("images", tensor_type, [batch, *SHAPE])]
    outputs = [helper.make_tensor_value_info("logits", tensor_type, [batch, CLASSES])]
    if opset < 9:
        # Until IR version 4 constants are inputs too.
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in b.initializers]
    graph = helper.make_graph(b.nodes, name, inputs, outputs, b.initializers)
    ir_version = 3 if opset < 9 else helper.find_min_ir_version_for([helper.make_opsetid("", opset)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
    onnx.checker.check_model(model)

    images = b.random.standard_normal((fixed_batch or 2, *SHAPE)).astype(float_type)
    expected = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"images": images})[0]
    numbers = lambda array: " ".join(repr(float(value)) for value in array.ravel())
    helper.set_model_props(model, {"input": numbers(images), "expected": numbers(expected)})
    if shuffled:
        nodes = [model.graph.node[i] for i in b.random.permutation(len(model.graph.node))]
        del model.graph.node[:]
        model.graph.node.extend(nodes)
    path = FOLDER / f"{name}.onnx"
    path.unlink(missing_ok=True)
    if external:
        data = path.with_suffix(".data")
        data.unlink(missing_ok=True)
        onnx.save_model(model, path, save_as_external_data=True, location=data.name, size_threshold=64)
    else:
        onnx.save_model(model, path)


for opset in (7, 9, 10, 11, 13, 18, 21):
    write(f"opset_{opset}", opset)
write("fixed_batch", 13, fixed_batch=1)
write("float16", 13, float_type=np.float16)
write("constant_condition", 13, constant_condition=True)
write("external_data", 18, external=True)
write("not_in_order", 11, shuffled=True)
