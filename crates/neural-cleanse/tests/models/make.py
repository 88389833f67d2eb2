"""Writes the models beside it, for the engines' conformance tests.

Run with `python make.py`; needs the package `onnx`.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent


def save(name, nodes, inputs, outputs, weights=()):
    """Writes a checked opset-18 model; inputs and outputs map names to shapes."""

    def declare(values):
        return [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in values.items()]

    initializers = [numpy_helper.from_array(array, n) for n, array in weights]
    graph = helper.make_graph(nodes, name, declare(inputs), declare(outputs), initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, HERE / f"{name}.onnx")


def arithmetic():
    """sum = a + b, difference = a - b (a and b of different shapes), same = a, mean of a as a scalar."""
    nodes = [
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("Sub", ["a", "b"], ["difference"]),
        helper.make_node("Identity", ["a"], ["same"]),
        helper.make_node("ReduceMean", ["a"], ["mean"], keepdims=0),
    ]
    inputs = {"a": [2, 3], "b": [1, 3]}
    save("arithmetic", nodes, inputs, {"sum": [2, 3], "difference": [2, 3], "same": [2, 3], "mean": []})


def network():
    """A convolution, ReLU, max-pool and a dense layer: [4, 3, 16, 16] images to [4, 10] logits.

    rten 0.27 needs the kernel_shape of a convolution, which ONNX would infer.
    """
    random = np.random.default_rng(1)

    def weight(*shape):
        return random.normal(0, 0.2, shape).astype(np.float32)

    nodes = [
        helper.make_node("Conv", ["images", "kernel", "bias"], ["convolved"], kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("Relu", ["convolved"], ["active"]),
        helper.make_node("MaxPool", ["active"], ["pooled"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("Gemm", ["features", "dense"], ["logits"], transB=1),
    ]
    weights = [("kernel", weight(8, 3, 3, 3)), ("bias", weight(8)), ("dense", weight(10, 32))]
    save("network", nodes, {"images": [4, 3, 16, 16]}, {"logits": [4, 10]}, weights)


if __name__ == "__main__":
    arithmetic()
    network()
