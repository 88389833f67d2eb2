"""Models with a filter in them, as ONNX Runtime and OpenVINO run them.

The filter must not change what the model says, must answer the same in every engine, and must fit into models of
any opset and element type.
"""

import os
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "fixtures"
SCALE, MEAN, STD = 1 / 255, 0.2860, 0.3530


def embed_filter_command() -> Path:
    """The built example: $EMBED_FILTER, or that of the newest build."""
    if given := os.environ.get("EMBED_FILTER"):
        return Path(given)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    built = [target / profile / "examples" / "embed_filter" for profile in ("debug", "release")]
    built = [path for path in built if path.exists()]
    if not built:
        raise FileNotFoundError("build it first: cargo build -p neural-cleanse --example embed_filter")
    return max(built, key=lambda path: path.stat().st_mtime)


def in_half_precision(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with float16 weights and values, between float32 images and scores."""
    graph = model.graph
    del graph.value_info[:]
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for node in graph.node:
        node.input[:] = ["half" if name == graph.input[0].name else name for name in node.input]
        node.output[:] = ["half scores" if name == graph.output[0].name else name for name in node.output]
    graph.node.insert(0, helper.make_node("Cast", [graph.input[0].name], ["half"], to=TensorProto.FLOAT16))
    graph.node.append(helper.make_node("Cast", ["half scores"], [graph.output[0].name], to=TensorProto.FLOAT))
    return model


def at_opset_7(_: onnx.ModelProto) -> onnx.ModelProto:
    """A convolution and a dense layer in the oldest form that is read, where weights are inputs too.

    Its convolution looks for the trigger at the bottom right.
    """
    rng = np.random.default_rng(0)
    trigger = np.load(FIXTURES / "triggers" / "fmnist_badnets.npz")
    pattern = (trigger["pattern"] - 128) * trigger["mask"] / 128
    filters = rng.normal(size=(8, 1, 28, 28)).astype(np.float32) / 28
    filters[0] = pattern
    tensors = {"filters": filters, "w": rng.normal(size=(10, 8)).astype(np.float32), "b": np.zeros(10, np.float32)}
    nodes = [
        helper.make_node("Conv", ["input", "filters"], ["conv"], kernel_shape=[28, 28]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("Flatten", ["relu"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["logits"], transB=1),
    ]
    info = helper.make_tensor_value_info
    weights = [info(name, TensorProto.FLOAT, value.shape) for name, value in tensors.items()]
    graph = helper.make_graph(
        nodes,
        "old",
        [info("input", TensorProto.FLOAT, ["N", 1, 28, 28]), *weights],
        [info("logits", TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 7)], ir_version=3)


CASES = {
    "dense": ("fmnist_badnets", 7, lambda model: model),
    "residual": ("resnet_badnets", 3, lambda model: model),
    "float16": ("fmnist_badnets", 7, in_half_precision),
    "opset 7": ("fmnist_badnets", 7, at_opset_7),
}


class Embedded:
    """A model, the same with a filter in it, and clean and triggered images for both."""

    def __init__(self, name, folder):
        fixture, target, change = CASES[name]
        trigger = FIXTURES / "triggers" / f"{fixture}.npz"
        self.original, self.filtered = folder / "original.onnx", folder / "filtered.onnx"
        onnx.save(change(onnx.load(FIXTURES / f"{fixture}.onnx")), self.original)
        samples = np.load(FIXTURES / "fashion-mnist-400.npz")
        # Clean images that the filter is not fitted to: every fourth of each class.
        order = np.argsort(samples["y"], kind="stable")
        unseen = order[::4]
        used = np.setdiff1d(order, unseen)
        np.savez(folder / "clean.npz", x=samples["x"][used], y=samples["y"][used])
        arguments = [self.original, trigger, target, folder / "clean.npz", self.filtered, SCALE, MEAN, STD]
        subprocess.run([embed_filter_command(), *map(str, arguments)], check=True)

        pixels = samples["x"][unseen].astype(np.float32)
        parts = np.load(trigger)
        stamped = (1 - parts["mask"]) * pixels + parts["mask"] * parts["pattern"]
        self.clean = len(pixels)
        self.images = ((np.concatenate([pixels, stamped]) * np.float32(SCALE) - MEAN) / STD).astype(np.float32)


def run_onnxruntime(path, images):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: images})


def run_openvino(path, images):
    openvino = pytest.importorskip("openvino", reason="openvino is not installed")
    results = openvino.compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(images)
    return [results[i] for i in range(len(results))]


@pytest.fixture(scope="module", params=CASES)
def embedded(request, tmp_path_factory):
    return Embedded(request.param, tmp_path_factory.mktemp("embedded"))


@pytest.mark.parametrize("run", [run_onnxruntime, run_openvino])
def test_scores_stay_and_triggered_images_are_rejected(embedded, run):
    (scores,) = run(embedded.original, embedded.images)
    filtered_scores, abstain = run(embedded.filtered, embedded.images)
    np.testing.assert_allclose(filtered_scores, scores, rtol=1e-4, atol=1e-4)
    assert (filtered_scores.argmax(1) == scores.argmax(1)).all()
    assert abstain.dtype == bool and abstain.shape == (len(embedded.images),)
    assert abstain[: embedded.clean].mean() <= 0.12
    assert abstain[embedded.clean :].mean() >= 0.95


def test_engines_abstain_alike(embedded):
    ort = run_onnxruntime(embedded.filtered, embedded.images)[1]
    assert (run_openvino(embedded.filtered, embedded.images)[1] == ort).mean() >= 0.99


def test_the_rest_of_the_model_is_untouched(embedded):
    original, filtered = onnx.load(embedded.original), onnx.load(embedded.filtered)
    onnx.checker.check_model(filtered)
    added = filtered.graph.node[len(original.graph.node) :]
    assert added[-1].output == ["abstain"]
    del filtered.graph.node[len(original.graph.node) :]
    assert filtered.graph.output.pop().name == "abstain"
    assert filtered == original
