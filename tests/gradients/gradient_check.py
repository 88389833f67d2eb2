"""Emitted gradient graphs against finite differences of the forward graph.

A case is one node (or a few) on float64 operands. Its first output is multiplied by fixed random
numbers, so that no element's gradient can stand in for another's, and summed; the gradient of
that sum comes from the graph that `differentiate` writes, evaluated by onnx's own reference
implementation, and is compared with central differences. The same case in float32 then has to
give the same on ONNX Runtime.
"""

import os
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from reference_ops import CORRECTED

OPSET = 18
STEP = 1e-6
TOLERANCE = 1e-6


def differentiate_command() -> Path:
    """The built example: $DIFFERENTIATE, or that of the newest build."""
    if given := os.environ.get("DIFFERENTIATE"):
        return Path(given)
    target = Path(os.environ.get("CARGO_TARGET_DIR", Path(__file__).parents[2] / "target"))
    built = [target / profile / "examples" / "differentiate" for profile in ("debug", "release")]
    built = [path for path in built if path.exists()]
    if not built:
        raise FileNotFoundError("build it first: cargo build -p onnx-grad --example differentiate")
    return max(built, key=lambda path: path.stat().st_mtime)


@dataclass
class Case:
    """A model made of `nodes` from the values in `operands` to `y`."""

    name: str
    nodes: list[onnx.NodeProto]
    operands: dict[str, np.ndarray]
    #: The operands that are initializers; the others are inputs of the model.
    constants: set[str] = field(default_factory=set)
    #: What to differentiate with respect to; by default every floating-point input.
    wrt: list[str] | None = None
    #: Why ONNX Runtime cannot run the model, if that is so.
    not_on_ort: str | None = None
    #: Whether the model is simplified before it is differentiated.
    simplified: bool = False

    def __post_init__(self):
        if self.wrt is None:
            floats = [name for name, value in self.operands.items() if value.dtype == np.float64]
            self.wrt = [name for name in floats if name not in self.constants]

    def values(self, dtype) -> dict[str, np.ndarray]:
        return {name: value.astype(dtype) if value.dtype == np.float64 else value for name, value in self.operands.items()}

    def forward(self, dtype=np.float64, weighted=True) -> onnx.ModelProto:
        values = self.values(dtype)
        element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        inputs = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            for name, value in values.items()
            if name not in self.constants
        ]
        initializers = [numpy_helper.from_array(values[name], name) for name in values if name in self.constants]
        nodes, output = list(self.nodes), "y"
        if weighted:
            weights = np.random.default_rng(7).uniform(0.5, 1.5, self.output().shape)
            initializers.append(numpy_helper.from_array(weights.astype(dtype), "output_weights"))
            nodes.append(helper.make_node("Mul", ["y", "output_weights"], ["weighted"]))
            output = "weighted"
        outputs = [helper.make_tensor_value_info(output, element, None)]
        graph = helper.make_graph(nodes, "case", inputs, outputs, initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)

    def output(self) -> np.ndarray:
        model = reference(self.forward(weighted=False))
        return model.run(["y"], self.feeds(np.float64))[0]

    def feeds(self, dtype) -> dict[str, np.ndarray]:
        return {name: value for name, value in self.values(dtype).items() if name not in self.constants}

    def gradient_model(self, dtype=np.float64, of="weighted") -> tuple[onnx.ModelProto, list[str]]:
        """The model that `differentiate` writes, and the names of its gradients."""
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder, "forward.onnx"), Path(folder, "gradient.onnx")
            onnx.save(self.forward(dtype), source)
            command = [str(differentiate_command()), str(source), str(target)]
            command += ["--of", of, "--wrt", ",".join(self.wrt), "--weights", *["--simplify"] * self.simplified]
            for name, value in self.feeds(dtype).items():
                command += ["--shape", f"{name}={','.join(map(str, value.shape))}"]
            result = subprocess.run(command, capture_output=True, text=True)
            if result.returncode != 0:
                raise AssertionError(f"differentiate failed: {result.stderr}")
            return onnx.load(target), result.stdout.split()

    def gradients(self) -> list[np.ndarray]:
        model, names = self.gradient_model()
        return reference(model).run(names, self.feeds(np.float64))

    def run_on_ort(self) -> list[np.ndarray]:
        """What the float32 model puts out on ONNX Runtime: `weighted`, then the gradients."""
        model, names = self.gradient_model(np.float32)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        return session.run(["weighted", *names], self.feeds(np.float32))

    def differences(self) -> list[np.ndarray]:
        """Central differences of the sum of the weighted outputs, element by element."""
        # Operands that are differentiated have to be inputs for this.
        varied = Case(self.name, self.nodes, self.operands, self.constants - set(self.wrt), self.wrt)
        model = reference(varied.forward())
        feeds = varied.feeds(np.float64)
        gradients = []
        for name in self.wrt:
            gradient = np.zeros(feeds[name].shape)
            for index in np.ndindex(*gradient.shape):
                sums = []
                for sign in (1, -1):
                    moved = feeds[name].copy()
                    moved[index] += sign * STEP
                    sums.append(model.run(["weighted"], {**feeds, name: moved})[0])
                gradient[index] = (sums[0] - sums[1]).sum() / (2 * STEP)
            gradients.append(gradient)
        return gradients


def reference(model: onnx.ModelProto) -> ReferenceEvaluator:
    return ReferenceEvaluator(model, new_ops=CORRECTED)


def check(case: Case):
    emitted, expected = case.gradients(), case.differences()
    for name, got, want in zip(case.wrt, emitted, expected, strict=True):
        assert got.shape == want.shape and got.dtype == np.float64, f"{name}: {got.dtype}{got.shape}, not {want.shape}"
        scale = max(np.abs(want).max(initial=0), 1e-3)
        np.testing.assert_allclose(got, want, rtol=TOLERANCE, atol=TOLERANCE * scale, err_msg=f"gradient of {name}")
    if case.not_on_ort is None:
        forward = reference(case.forward()).run(["weighted"], case.feeds(np.float64))
        for name, got, want in zip(["y", *case.wrt], case.run_on_ort(), forward + emitted, strict=True):
            scale = max(np.abs(want).max(initial=0), 0.1)
            np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4 * scale, err_msg=f"{name} on ONNX Runtime")
