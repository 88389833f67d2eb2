"""What exporters write and hand-written graphs have not: functions of the model's own, and names for nodes."""

import subprocess

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from gradient_check import OPSET, Case, check, differentiate_command, reference

IMPORTS = [helper.make_opsetid("", OPSET), helper.make_opsetid("pkg.torch", 1)]


def attribute_of_the_call(node, name, called):
    node.attribute.append(onnx.AttributeProto(name=name, ref_attr_name=called, type=onnx.AttributeProto.FLOAT))
    return node


def functions():
    """`Block(x) = Gate(Gate(x))`, with `Gate(x) = x · leaky_relu(x)` of a slope that the call gives."""
    leaky = attribute_of_the_call(helper.make_node("LeakyRelu", ["x"], ["t"], name="activation"), "alpha", "slope")
    gate = [leaky, helper.make_node("Mul", ["x", "t"], ["y"], name="product")]
    block = [
        helper.make_node("Gate", ["x"], ["t"], domain="pkg.torch", slope=0.5),
        helper.make_node("Gate", ["t"], ["y"], domain="pkg.torch", slope=0.25),
    ]
    gate = helper.make_function("pkg.torch", "Gate", ["x"], ["y"], gate, IMPORTS, ["slope"])
    return [gate, helper.make_function("pkg.torch", "Block", ["x"], ["y"], block, IMPORTS)]


def differentiated(model, folder, *options):
    source, target = folder / "model.onnx", folder / "gradient.onnx"
    onnx.save(model, source)
    command = [differentiate_command(), source, target, "--of", "y", "--wrt", "x", *options]
    return target, subprocess.run(command, capture_output=True, text=True)


def model_of(nodes, functions):
    value = lambda name: helper.make_tensor_value_info(name, TensorProto.DOUBLE, [2, 3])
    graph = helper.make_graph(nodes, "model", [value("x")], [value("y")])
    return helper.make_model(graph, functions=functions, opset_imports=IMPORTS, ir_version=8)


def test_functions_are_differentiated_as_what_they_stand_for(tmp_path):
    model = model_of([helper.make_node("Block", ["x"], ["y"], domain="pkg.torch")], functions())
    target, result = differentiated(model, tmp_path, "--batch", "2")
    assert result.returncode == 0, result.stderr
    x = np.linspace(-2, 3, 6).reshape(2, 3)
    [gradient] = reference(onnx.load(target)).run([result.stdout.strip()], {"x": x})
    slope = lambda x, alpha: np.where(x > 0, 1, alpha)
    inner = x * x * slope(x, 0.5)
    np.testing.assert_allclose(gradient, 2 * inner * slope(inner, 0.25) * 2 * x * slope(x, 0.5), rtol=1e-12)


def test_a_function_that_calls_itself_is_refused(tmp_path):
    again = helper.make_node("Again", ["x"], ["y"], name="again", domain="pkg.torch")
    function = helper.make_function("pkg.torch", "Again", ["x"], ["y"], [again], IMPORTS)
    _, result = differentiated(model_of([again], [function]), tmp_path)
    assert result.returncode == 1 and "(pkg.torch.Again): is a function that calls itself" in result.stderr


@pytest.mark.parametrize("op", ["GroupNormalization", "Mish"])
def test_a_named_operator_in_terms_of_several_runs(op):
    """ONNX Runtime refuses two nodes of one name."""
    operands = {"x": np.random.default_rng(1).uniform(-1, 1, (2, 4, 3))}
    attributes = {}
    if op == "GroupNormalization":
        operands |= {"scale": np.array([0.5, 1.5]), "bias": np.array([0.25, -0.5])}
        attributes = {"num_groups": 2}
    node = helper.make_node(op, list(operands), ["y"], name="the node", **attributes)
    check(Case("named", [node], operands, set(operands) - {"x"}, simplified=True))


def test_weights_may_be_standardised_by_their_own_statistics(tmp_path):
    """`BatchNormalization` in training mode, on constants: timm's convolutions with standardised weights."""
    weights = np.random.default_rng(1).uniform(-1, 1, (1, 2, 3))
    ones, zeros, gains = np.ones(2), np.zeros(2), np.array([0.5, 2.0])
    constants = {"w": weights, "gains": gains, "zeros": zeros, "ones": ones}
    nodes = [
        helper.make_node("BatchNormalization", ["w", "gains", "zeros", "zeros", "ones"], ["s", "", ""], training_mode=1, epsilon=0.25),
        helper.make_node("Mul", ["x", "s"], ["y"]),
    ]
    value = lambda name: helper.make_tensor_value_info(name, TensorProto.DOUBLE, [1, 2, 3])
    initializers = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "model", [value("x")], [value("y")], initializers)
    model = helper.make_model(graph, opset_imports=IMPORTS, ir_version=8)
    centred = weights - weights.mean(axis=(0, 2), keepdims=True)
    expected = centred / np.sqrt((centred**2).mean(axis=(0, 2), keepdims=True) + 0.25) * gains[:, None]
    for options in ([], ["--weights"]):
        target, result = differentiated(model, tmp_path, *options)
        assert result.returncode == 0, result.stderr
        [gradient] = reference(onnx.load(target)).run([result.stdout.strip()], {"x": np.ones((1, 2, 3))})
        np.testing.assert_allclose(gradient, expected, rtol=1e-12)
