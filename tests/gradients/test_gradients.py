"""Every operator that has a derivative, each in the forms that models use it in."""

import zlib
from dataclasses import replace

import numpy as np
import pytest
from onnx import helper

from gradient_check import Case, check

CASES: list[Case] = []


def numbers(shape, low=-1.0, high=1.0, seed=0):
    """Distinct numbers in [low, high], far enough apart that no finite difference meets a kink or a tie."""
    count = int(np.prod(shape))
    grid = low + (high - low) * (np.arange(count) + 0.5) / max(count, 1)
    return np.random.default_rng(seed + count).permutation(grid).reshape(shape)


def ints(*values):
    return np.array(values, dtype=np.int64)


def case(name, op, *operands, constants=(), wrt=None, ort=None, **attributes):
    """Adds a case of one node; operands are called x0, x1, ... and `constants` and `wrt` number them.

    Operands of integers (shapes, axes) or float32 (scales) are constants; None leaves an optional operand out.
    """
    names = [f"x{i}" if operand is not None else "" for i, operand in enumerate(operands)]
    values = {name: np.asarray(operand) for name, operand in zip(names, operands) if operand is not None}
    fixed = {names[i] for i in constants}
    fixed |= {key for key, value in values.items() if value.dtype in (np.int64, np.float32)}
    wanted = None if wrt is None else [names[i] for i in wrt]
    node = helper.make_node(op, names, ["y"], **attributes)
    CASES.append(Case(f"{op}: {name}", [node], values, fixed, wanted, ort))


def graph(name, nodes, constants=(), wrt=None, ort=None, **operands):
    """Adds a case of several nodes, given as (op, inputs, outputs, attributes)."""
    made = [helper.make_node(op, inputs.split(), outputs.split(), **attributes) for op, inputs, outputs, attributes in nodes]
    fixed = set(constants) | {key for key, value in operands.items() if value.dtype == np.int64}
    CASES.append(Case(name, made, operands, fixed, wrt, ort))


# Arithmetic.
X = numbers((2, 3, 4))
POSITIVE = numbers((2, 3, 4), 0.3, 2.0)
AWAY = np.where(X > 0, X + 0.5, X - 0.5)
BROADCASTS = {
    "same shape": ((2, 3), (2, 3)),
    "scalar": ((2, 3), ()),
    "row": ((2, 3, 4), (4,)),
    "column": ((2, 3, 4), (3, 1)),
    "both": ((2, 1, 4), (3, 1)),
    "longer second": ((3,), (2, 2, 3)),
    "ones": ((1, 1), (1, 2, 1)),
}
for op in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow"):
    for form, (a, b) in BROADCASTS.items():
        low = 0.4 if op in ("Div", "Pow") else -1.0
        case(form, op, numbers(a, low, 1.7, 1), numbers(b, low, 1.5, 2))
    case("constant second", op, numbers((2, 3), 0.5, 1), numbers((3,), 0.4, 1.4), constants=[1])
    case("constant first", op, numbers((3,), 0.5, 1), numbers((2, 3), 0.4, 1.4), constants=[0])
graph("Mul: a value with itself", [("Mul", "x x", "y", {})], x=X)
graph("Sub: a value from itself", [("Sub", "x x", "y", {})], x=X)
graph("Div: a value by itself squared", [("Mul", "x x", "s", {}), ("Div", "x s", "y", {})], x=AWAY)
for op in ("Max", "Min", "Sum", "Mean"):
    case("one operand", op, X)
    case("three operands", op, numbers((2, 3), seed=1), numbers((3,), -0.9, 1.3, 2), numbers((2, 1), -0.8, 0.7, 3))
    case("constant among operands", op, numbers((2, 3), seed=1), numbers((3,), -0.9, 1.3, 2), numbers((2, 1), -0.8, 0.7, 3), constants=[1])
case("square", "Pow", X, np.array(2.0), constants=[1])
case("cube of negatives", "Pow", AWAY, np.array(3.0), constants=[1])
case("integer exponent", "Pow", AWAY, np.array(3, dtype=np.int64))
case("exponents with zero", "Pow", AWAY, np.array([0.0, 1.0, 2.0, 3.0]), constants=[1])
case("root", "Pow", POSITIVE, np.array(0.5), constants=[1])
case("zero to the power of two", "Pow", np.zeros((2, 2)), np.array([[2.0, 3.0], [1.0, 2.0]]), constants=[1])
for op in ("Neg", "Exp", "Sin", "Cos", "Erf", "Tanh", "Sigmoid", "Identity"):
    case("plain", op, X)
for op in ("Sqrt", "Log", "Reciprocal"):
    case("positive", op, POSITIVE)
case("both signs", "Reciprocal", AWAY)
for op in ("Abs", "Floor", "Ceil", "Sign", "Round"):
    case("both signs", op, AWAY + 0.05)
CONDITION = np.array([[True, False, True], [False, False, True]])
for form, (a, b) in {"same": ((2, 3), (2, 3)), "scalars": ((), ()), "row and column": ((3,), (2, 1))}.items():
    for wrt in ([1, 2], [1], [2]):
        case(f"{form}, for {wrt}", "Where", CONDITION, numbers(a, seed=1), numbers(b, seed=2), constants=[0], wrt=wrt)

# Activations.
for op in ("Relu", "LeakyRelu", "Elu", "Selu", "Celu", "HardSigmoid", "HardSwish", "Softplus", "Softsign", "Mish", "ThresholdedRelu"):
    case("around 0", op, AWAY * 2)
    case("wide", op, numbers((3, 5), -6.05, 6.0))
for alpha in (0.2, 1.5):
    for op in ("LeakyRelu", "Elu", "Selu", "Celu", "ThresholdedRelu"):
        case(f"alpha {alpha}", op, numbers((3, 5), -3.03, 3.0), alpha=alpha)
case("alpha and gamma", "Selu", AWAY, alpha=1.3, gamma=0.7)
case("alpha and beta", "HardSigmoid", numbers((3, 5), -3.03, 3.0), alpha=0.4, beta=0.3)
case("negative slope", "LeakyRelu", AWAY, alpha=-0.3)
for form, slope in {"scalar": (1,), "per channel": (3, 1, 1), "full": (2, 3, 2, 2)}.items():
    case(form, "PRelu", numbers((2, 3, 2, 2), -1.01, 1), numbers(slope, 0.1, 0.5))
case("both bounds", "Clip", numbers((4, 5), -2, 2), np.array(-1.01), np.array(1.02), constants=[1, 2])
case("low", "Clip", numbers((4, 5), -2, 2), np.array(0.01), constants=[1])
case("high", "Clip", numbers((4, 5), -2, 2), None, np.array(0.51), constants=[2])
case("no bound", "Clip", numbers((4, 5), -2, 2))
case("trained bounds", "Clip", numbers((4, 5), -2, 2), np.array(-1.01), np.array(1.02))
for op in ("Softmax", "LogSoftmax"):
    for axis in (-1, 0, 1, 2):
        case(f"axis {axis}", op, numbers((2, 3, 4), -3, 3), axis=axis)
    case("default axis", op, numbers((3, 5), -3, 3))

# Matrices.
for trans_a in (0, 1):
    for trans_b in (0, 1):
        a, b = numbers((4, 3) if trans_a else (3, 4), seed=1), numbers((5, 4) if trans_b else (4, 5), seed=2)
        case(f"transposes {trans_a}{trans_b}", "Gemm", a, b, transA=trans_a, transB=trans_b)
        case(f"transposes {trans_a}{trans_b}, scaled", "Gemm", a, b, numbers((5,)), transA=trans_a, transB=trans_b, alpha=0.7, beta=1.3)
for form, c in {"scalar": (), "row": (5,), "one row": (1, 5), "column": (3, 1), "full": (3, 5)}.items():
    case(f"bias {form}", "Gemm", numbers((3, 4)), numbers((4, 5)), numbers(c))
case("constant weights", "Gemm", numbers((3, 4)), numbers((4, 5)), numbers((5,)), constants=[1, 2])
case("weights only", "Gemm", numbers((3, 4)), numbers((4, 5)), numbers((5,)), constants=[1, 2], wrt=[1, 2])
for a, b in [
    ((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((3, 4), (2, 4, 5)), ((2, 3, 4), (2, 4, 5)), ((2, 1, 3, 4), (3, 4, 2)),
    ((1, 3, 4), (2, 4, 5)), ((4,), (4, 5)), ((3, 4), (4,)), ((4,), (4,)), ((2, 3, 4), (4,)), ((4,), (2, 4, 3)),
    ((2, 2, 3, 4), (4, 5)), ((1, 1), (1, 1)),
]:  # fmt: skip
    case(f"{a} by {b}", "MatMul", numbers(a, seed=1), numbers(b, seed=2))
    case(f"{a} by constant {b}", "MatMul", numbers(a, seed=1), numbers(b, seed=2), constants=[1])

# Convolution.

def convolution(name, x, w, bias=True, **attributes):
    group = attributes.get("group", 1)
    filters = w[0]
    operands = [numbers(x, seed=1), numbers(w, seed=2)] + ([numbers((filters,))] if bias else [])
    case(f"{name}, constant weights", "Conv", *operands, constants=range(1, len(operands)), **attributes)
    case(f"{name}, trained weights", "Conv", *operands, constants=range(1, len(operands)), wrt=range(len(operands)), **attributes)
    assert x[1] == w[1] * group


convolution("plain", (2, 2, 5, 6), (3, 2, 3, 3))
convolution("without bias", (1, 2, 5, 5), (2, 2, 2, 2), bias=False)
convolution("padded", (2, 2, 4, 5), (3, 2, 3, 3), pads=[1, 1, 1, 1])
convolution("asymmetric pads", (1, 2, 4, 5), (2, 2, 3, 3), pads=[2, 0, 1, 2])
convolution("pads beyond the kernel", (1, 2, 3, 4), (2, 2, 2, 2), pads=[2, 3, 1, 2])
convolution("pads beyond a 1x1 kernel", (1, 2, 3, 3), (2, 2, 1, 1), pads=[1, 1, 1, 1])
convolution("pointwise", (2, 3, 3, 4), (4, 3, 1, 1))
convolution("strided", (1, 2, 7, 7), (3, 2, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1])
convolution("stride leaves a rest", (1, 2, 8, 7), (2, 2, 3, 3), strides=[2, 3])
convolution("stride beyond the kernel", (1, 2, 8, 7), (2, 2, 2, 1), strides=[3, 2])
convolution("strided pointwise", (1, 2, 6, 5), (3, 2, 1, 1), strides=[2, 2])
convolution("uneven strides", (1, 1, 6, 7), (2, 1, 3, 2), strides=[1, 3], pads=[1, 0, 0, 1])
convolution("dilated", (1, 2, 7, 7), (2, 2, 3, 3), dilations=[2, 2], pads=[2, 2, 2, 2])
convolution("dilated unevenly", (1, 2, 7, 8), (2, 2, 2, 3), dilations=[3, 2], pads=[1, 0, 0, 3])
convolution("dilated and strided", (1, 2, 9, 8), (2, 2, 3, 2), dilations=[2, 3], strides=[2, 3], pads=[1, 2, 0, 1])
convolution("groups", (2, 4, 4, 4), (6, 2, 3, 3), group=2, pads=[1, 1, 1, 1])
convolution("depthwise", (2, 3, 5, 5), (3, 1, 3, 3), group=3, pads=[1, 1, 1, 1])
convolution("depthwise, strided", (1, 3, 6, 6), (3, 1, 3, 3), group=3, strides=[2, 2], pads=[1, 1, 1, 1])
convolution("depthwise, two filters each", (1, 2, 5, 5), (4, 1, 3, 3), group=2)
convolution("groups, strided and dilated", (1, 4, 8, 8), (4, 2, 2, 2), group=2, strides=[2, 2], dilations=[2, 1])
convolution("one channel", (2, 1, 8, 8), (3, 1, 5, 5))
convolution("three channels", (1, 3, 6, 8), (4, 3, 3, 3), pads=[1, 1, 1, 1])
convolution("three channels, odd extents", (1, 3, 7, 5), (4, 3, 3, 3), pads=[1, 1, 1, 1])
convolution("five channels", (1, 5, 5, 5), (2, 5, 3, 3), pads=[1, 1, 1, 1])
for auto_pad in ("SAME_UPPER", "SAME_LOWER", "VALID"):
    convolution(auto_pad, (1, 2, 6, 5), (2, 2, 3, 2), auto_pad=auto_pad)
    convolution(f"{auto_pad}, strided", (1, 2, 6, 7), (2, 2, 4, 3), auto_pad=auto_pad, strides=[2, 2])
convolution("one axis", (2, 2, 7), (3, 2, 3), pads=[1, 1])
convolution("one axis, strided", (2, 2, 8), (3, 2, 3), strides=[2], pads=[1, 0])
convolution("three axes", (1, 2, 4, 3, 4), (2, 2, 2, 2, 2))
convolution("three axes, strided", (1, 2, 4, 3, 5), (2, 2, 2, 2, 3), strides=[2, 1, 2], pads=[1, 0, 1, 0, 1, 1])
convolution("three axes, groups", (1, 2, 3, 3, 3), (2, 1, 2, 2, 2), group=2, pads=[1, 1, 1, 0, 0, 0])


def transposed_convolution(name, x, w, bias=True, **attributes):
    filters = w[1] * attributes.get("group", 1)
    operands = [numbers(x, seed=1), numbers(w, seed=2)] + ([numbers((filters,))] if bias else [])
    case(name, "ConvTranspose", *operands, **attributes)


transposed_convolution("plain", (2, 2, 3, 4), (2, 3, 3, 3))
transposed_convolution("without bias", (2, 2, 3, 4), (2, 3, 3, 3), bias=False)
transposed_convolution("strided", (1, 2, 3, 4), (2, 3, 3, 3), strides=[2, 2])
transposed_convolution("strided and padded", (1, 2, 3, 4), (2, 3, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1])
transposed_convolution("output padding", (1, 2, 3, 4), (2, 3, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1])
transposed_convolution("stride beyond the kernel", (1, 2, 3, 3), (2, 2, 2, 2), strides=[3, 3])
transposed_convolution("one axis", (1, 2, 4), (2, 2, 3), strides=[2], pads=[1, 0])
transposed_convolution("groups", (1, 4, 3, 3), (4, 2, 2, 2), group=2, strides=[2, 2])
transposed_convolution("dilated", (1, 2, 3, 3), (2, 2, 2, 2), dilations=[2, 2])
transposed_convolution("asymmetric pads", (1, 2, 4, 4), (2, 2, 3, 3), strides=[2, 1], pads=[1, 0, 0, 2])
transposed_convolution("output shape", (1, 2, 3, 3), (2, 2, 3, 3), strides=[2, 2], output_shape=[6, 6])

# Einstein's sum.
for equation, shapes in {
    "ij,jk->ik": ((2, 3), (3, 4)), "bhqd,bhkd->bhqk": ((2, 2, 3, 2), (2, 2, 4, 2)), "ij,jk": ((2, 3), (3, 2)),
    "ij,kj->ik": ((2, 3), (4, 3)), "i,j->ij": ((2,), (3,)), "ij,ij->": ((2, 3), (2, 3)), "ijk->ki": ((2, 3, 4),),
    "ij->": ((2, 3),), "ij,k->i": ((2, 3), (4,)), "ij,jk,kl->il": ((2, 3), (3, 2), (2, 3)),
}.items():  # fmt: skip
    case(equation, "Einsum", *[numbers(shape, seed=i) for i, shape in enumerate(shapes)], equation=equation)

# Resizing.
IMAGE = numbers((1, 2, 4, 6))
for mode in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"):
    for form, height, width in (("larger", 2, 3), ("smaller", 0.5, 0.5), ("uneven", 1.5, 0.75), ("columns", 1, 2.5)):
        scales = np.array([1, 1, height, width], np.float32)
        if mode == "align_corners" and form == "uneven":
            continue  # The reference aligns a corner that lies between two elements; engines align the last one.
        for interpolation in ("linear", "cubic"):
            case(f"{interpolation}, {mode}, {form}", "Resize", IMAGE, None, scales, mode=interpolation, coordinate_transformation_mode=mode)
        for nearest in ("floor", "round_prefer_floor", "round_prefer_ceil", "ceil"):
            case(f"nearest, {mode}, {nearest}, {form}", "Resize", IMAGE, None, scales, nearest_mode=nearest, coordinate_transformation_mode=mode)
for mode in ("nearest", "linear"):
    for height, width in ((8, 12), (2, 3), (7, 5), (4, 9), (1, 1)):
        case(f"{mode}, to {height} by {width}", "Resize", IMAGE, None, None, ints(1, 2, height, width), mode=mode)
    case(f"{mode}, one axis", "Resize", numbers((2, 3, 5)), None, np.array([1, 1, 2], np.float32), mode=mode)
    case(f"{mode}, named axes", "Resize", IMAGE, None, np.array([2, 1.5], np.float32), mode=mode, axes=[2, 3])
case("cubic, other coefficient", "Resize", IMAGE, None, np.array([1, 1, 2, 2], np.float32), mode="cubic", cubic_coeff_a=-0.5)
case("cubic, nothing outside", "Resize", IMAGE, None, np.array([1, 1, 2, 2], np.float32), mode="cubic", exclude_outside=1)

# Pooling.
POOLS = {
    "2x2": ((2, 2, 4, 6), dict(kernel_shape=[2, 2], strides=[2, 2])),
    "2x2 with a rest": ((1, 2, 5, 7), dict(kernel_shape=[2, 2], strides=[2, 2])),
    "2x2 with a rest, ceil": ((1, 2, 5, 7), dict(kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)),
    "2x3": ((1, 2, 4, 6), dict(kernel_shape=[2, 3], strides=[2, 3])),
    "default strides": ((1, 1, 4, 4), dict(kernel_shape=[2, 2])),
    "overlapping": ((1, 2, 7, 7), dict(kernel_shape=[3, 3], strides=[2, 2])),
    "overlapping, padded": ((1, 2, 6, 6), dict(kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])),
    "overlapping, ceil": ((1, 2, 6, 8), dict(kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)),
    "overlapping, padded, ceil": ((1, 1, 6, 6), dict(kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1)),
    "asymmetric pads": ((1, 2, 5, 6), dict(kernel_shape=[3, 3], strides=[2, 1], pads=[0, 2, 1, 0])),
    "gaps between windows": ((1, 1, 8, 8), dict(kernel_shape=[2, 2], strides=[3, 3])),
    "stride 1": ((1, 2, 4, 4), dict(kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1])),
    "tiles, padded": ((1, 1, 6, 6), dict(kernel_shape=[2, 2], strides=[2, 2], pads=[1, 1, 1, 1])),
    "1x1": ((1, 2, 3, 3), dict(kernel_shape=[1, 1], strides=[1, 1])),
    "1x1, strided": ((1, 1, 5, 5), dict(kernel_shape=[1, 1], strides=[2, 2])),
    "whole image": ((2, 2, 3, 3), dict(kernel_shape=[3, 3], strides=[3, 3])),
    "one axis": ((1, 2, 7), dict(kernel_shape=[3], strides=[2], pads=[1, 0])),
    "one axis, tiles": ((2, 2, 7), dict(kernel_shape=[2], strides=[2])),
    "three axes": ((1, 1, 4, 4, 4), dict(kernel_shape=[2, 2, 2], strides=[2, 2, 2])),
    "three axes, overlapping": ((1, 1, 3, 4, 4), dict(kernel_shape=[2, 3, 2], strides=[1, 2, 2], pads=[0, 1, 0, 1, 0, 0])),
    "SAME_UPPER": ((1, 1, 5, 6), dict(kernel_shape=[3, 2], strides=[2, 2], auto_pad="SAME_UPPER")),
    "SAME_LOWER": ((1, 1, 5, 6), dict(kernel_shape=[3, 2], strides=[2, 2], auto_pad="SAME_LOWER")),
    "VALID": ((1, 1, 5, 6), dict(kernel_shape=[3, 2], strides=[2, 2], auto_pad="VALID")),
}
for form, (shape, attributes) in POOLS.items():
    case(form, "MaxPool", numbers(shape), **attributes)
    case(f"{form}, all negative", "MaxPool", numbers(shape, -3, -1), **attributes)
    case(form, "AveragePool", numbers(shape), **attributes)
    case(f"{form}, counting the padding", "AveragePool", numbers(shape), count_include_pad=1, **attributes)
case("dilated", "MaxPool", numbers((1, 2, 7, 7)), kernel_shape=[2, 3], strides=[1, 2], dilations=[2, 3], pads=[1, 2, 0, 1])
case("dilated, ceil", "MaxPool", numbers((1, 1, 8, 8)), kernel_shape=[2, 2], strides=[3, 2], dilations=[3, 2], ceil_mode=1)
for shape in ((2, 3, 4, 5), (2, 3, 6), (1, 2, 2, 3, 2)):
    case(f"{len(shape) - 2} axes", "GlobalAveragePool", numbers(shape))
    case(f"{len(shape) - 2} axes", "GlobalMaxPool", numbers(shape))

# Reductions.
REDUCTIONS = ("Sum", "Mean", "Max", "Min", "L1", "L2", "SumSquare", "Prod", "LogSum", "LogSumExp")
for op in REDUCTIONS:
    x = numbers((2, 3, 4), 0.2, 2, 1) if op == "LogSum" else AWAY
    for axes in ((), (0,), (1,), (-1,), (0, 2), (-1, 1), (0, 1, 2)):
        for keep in (0, 1):
            operands = [x, ints(*axes)] if axes else [x]
            case(f"axes {axes}, keepdims {keep}", f"Reduce{op}", *operands, keepdims=keep)
case("no axes, noop", "ReduceSum", X, ints(), noop_with_empty_axes=1)
case("with a zero", "ReduceProd", np.array([[0.0, 2.0, 3.0], [1.0, 2.0, 4.0], [0.0, 0.0, 2.0]]), ints(1))

# Normalisation.
for shape in ((2, 3, 2, 2), (4, 3), (2, 3, 4)):
    parameters = [numbers((3,), 0.5, 1.5, i) for i in range(4)]
    case(f"{len(shape)} axes, constant parameters", "BatchNormalization", numbers(shape), *parameters, constants=range(1, 5))
    case(f"{len(shape)} axes, trained parameters", "BatchNormalization", numbers(shape), *parameters, constants=range(1, 5), wrt=range(5), epsilon=1e-3)
for axis, shape in ((-1, (4,)), (1, (3, 4)), (2, (4,)), (0, (2, 3, 4))):
    case(f"axis {axis}", "LayerNormalization", X, numbers(shape, 0.5, 1.5), numbers(shape), axis=axis)
    case(f"axis {axis}, without bias", "LayerNormalization", X, numbers(shape, 0.5, 1.5), axis=axis, epsilon=1e-2)
case("images", "InstanceNormalization", numbers((2, 3, 2, 3)), numbers((3,), 0.5, 1.5), numbers((3,)))
case("one axis", "InstanceNormalization", numbers((2, 3, 4)), numbers((3,), 0.5, 1.5), numbers((3,)), epsilon=1e-2)

for form, attributes in {
    "of three": dict(size=3, alpha=0.7, beta=0.75, bias=1.2), "of one": dict(size=1, alpha=0.5),
    "of all": dict(size=9, alpha=0.9, beta=1.5), "beyond all": dict(size=41, alpha=9.0), "with defaults": dict(size=5),
}.items():  # fmt: skip
    case(form, "LRN", numbers((2, 5, 2, 3), -2, 2), **attributes)
case("of an even number", "LRN", numbers((2, 5, 2, 3), -2, 2), size=4, alpha=1.5, beta=0.5, ort="it takes odd numbers only")
case("one axis", "LRN", numbers((2, 4, 3)), size=3, alpha=0.5, ort="it takes images only")
case("groups", "GroupNormalization", numbers((2, 4, 2, 3)), numbers((2,), 0.5, 1.5), numbers((2,)), num_groups=2)

# Layout.
for axis in (0, 1, 2, 3, -1):
    case(f"axis {axis}", "Flatten", X, axis=axis)
for shape in ((6, 4), (-1,), (0, -1), (2, 1, 12), (4, 3, 2)):
    case(f"to {shape}", "Reshape", X, ints(*shape))
case("default", "Transpose", X)
for perm in ((0, 1, 2), (2, 0, 1), (1, 2, 0), (0, 2, 1)):
    case(f"{perm}", "Transpose", X, perm=perm)
case("axes", "Squeeze", numbers((1, 3, 1, 2)), ints(0, -2))
case("all", "Squeeze", numbers((1, 3, 1, 2)))
case("axes", "Unsqueeze", numbers((3, 2)), ints(0, -1))
case("plain", "Dropout", X)
case("with a ratio", "Dropout", X, np.array(0.5), constants=[1])
for shape, to in (((3, 1), (3, 4)), ((1,), (2, 3)), ((3, 1), (2, 1, 4)), ((), (2, 2)), ((3, 4), (3, 1))):
    case(f"{shape} to {to}", "Expand", numbers(shape), ints(*to))
for repeats in ((2, 1, 1), (1, 2, 3), (1, 1, 1), (3, 2, 2)):
    case(f"{repeats}", "Tile", X, ints(*repeats))
case("DCR", "DepthToSpace", numbers((2, 8, 2, 3)), blocksize=2, mode="DCR")
case("CRD", "DepthToSpace", numbers((2, 8, 2, 3)), blocksize=2, mode="CRD")
case("three by three", "DepthToSpace", numbers((1, 9, 2, 1)), blocksize=3)
case("two by two", "SpaceToDepth", numbers((2, 2, 4, 6)), blocksize=2)
case("to the same type", "Cast", X, to=11, ort="the case is about float64")

case("like another", "CastLike", X, np.array(1.0), constants=[1], ort="the case is about float64")
for upper in (0, 1):
    case(f"upper {upper}", "Trilu", X, upper=upper)
    for k in (-2, 1):
        case(f"upper {upper}, diagonal {k}", "Trilu", X, np.array(k), upper=upper)
for axis in (0, 1, -1):
    for exclusive in (0, 1):
        for reverse in (0, 1):
            case(f"axis {axis}, exclusive {exclusive}, reverse {reverse}", "CumSum", X, np.array(axis), exclusive=exclusive, reverse=reverse)

# Selection.
case("axis 1", "Concat", numbers((2, 1, 3)), numbers((2, 2, 3)), numbers((2, 3, 3)), axis=1)
case("negative axis", "Concat", numbers((2, 3)), numbers((2, 1)), axis=-1)
case("with a constant", "Concat", numbers((2, 3)), numbers((1, 3)), constants=[0], axis=0)
case("one operand", "Concat", X, axis=0)
for axis, sizes in ((1, (1, 2)), (-1, (1, 3)), (0, (1, 1))):
    CASES.append(Case(
        f"Split: axis {axis}, used once", [helper.make_node("Split", ["x", "sizes"], ["a", "y"], axis=axis)],
        {"x": X, "sizes": ints(*sizes)}, {"sizes"},
    ))  # fmt: skip
graph("Split: even parts, all used", [("Split", "x", "a b", {"axis": 2, "num_outputs": 2}), ("Mul", "a b", "y", {})], x=X)
graph("Split: uneven parts", [("Split", "x sizes", "a b c", {"axis": 2}), ("Mul", "a c", "m", {}), ("Add", "m a", "y", {})],
      x=X, sizes=ints(1, 2, 1))  # fmt: skip
LOW, HIGH = -(2**63), 2**63 - 1
for starts, ends, axes, steps in [
    ((1,), (3,), (2,), None), ((0, 1), (1, 3), (0, 2), None), ((1,), (HIGH,), (1,), None), ((-3,), (-1,), (-1,), None),
    ((0,), (HIGH,), (2,), (2,)), ((1,), (HIGH,), (2,), (2,)), ((0,), (4,), (2,), (3,)), ((3,), (LOW,), (2,), (-1,)),
    ((-1,), (LOW,), (1,), (-2,)), ((2, 3), (0, 0), (1, 2), (-1, -2)), ((0, 0, 0), (2, 3, 4), None, None),
    ((-1, 1), (LOW, HIGH), (0, 2), (-1, 2)),
]:  # fmt: skip
    operands = [ints(*starts), ints(*ends)]
    operands += [ints(*axes)] if axes is not None else []
    operands += [ints(*steps)] if steps is not None else []
    case(f"{starts} to {ends}, axes {axes}, steps {steps}", "Slice", X, *operands)
for axis in (0, 1, -1):
    extent = X.shape[axis]
    for form, indices in {
        "scalar": np.array(1), "negative scalar": np.array(-1), "run": ints(0, 1), "repeated": ints(1, 0, 1, 1),
        "matrix": np.array([[0, 1], [1, -1]]), "one": ints(1), "backwards": ints(1, 0),
    }.items():  # fmt: skip
        case(f"axis {axis}, {form}", "Gather", X, indices, axis=axis)
CASES.append(Case("Gather: indices that are fed", [helper.make_node("Gather", ["x", "i"], ["y"], axis=1)],
                  {"x": X, "i": ints(2, 0, 2, -1)}, set(), ["x"]))  # fmt: skip
case("all of other axes", "GatherElements", numbers((2, 3)), np.array([[2, 0, 0, -1], [1, 1, 2, 0]]), axis=1)
case("some of other axes", "GatherElements", numbers((3, 3, 2)), np.array([[[2], [0], [2]], [[1], [1], [0]]]), axis=1)
case("default axis", "GatherElements", numbers((3, 2)), np.array([[1, 0]]))
case("elements", "GatherND", X, np.array([[0, 1, 2], [1, 2, 0], [0, 1, 2]]))
case("rows", "GatherND", X, np.array([[[0, 1]], [[1, -1]]]))
case("repeated planes", "GatherND", X, np.array([[1], [1], [0]]))
for reduction in ("none", "add"):
    for wrt in ([0, 2], [2]):
        case(f"rows, {reduction}, for {wrt}", "ScatterND", X, np.array([[0, 1], [1, 2]]), numbers((2, 4), seed=3), wrt=wrt, reduction=reduction)
        case(f"columns, {reduction}, for {wrt}", "ScatterElements", numbers((3, 2)), np.array([[2, 0], [0, 1]]), numbers((2, 2), seed=3), wrt=wrt, axis=0, reduction=reduction)
case("added twice", "ScatterND", X, np.array([[0, 1], [0, 1]]), numbers((2, 4), seed=3), reduction="add")
for mode in ("constant", "reflect", "edge"):
    for pads in ((0, 0, 1, 0, 0, 2), (0, 1, 0, 0, 2, 3), (0, 0, 0, 0, 0, 0), (0, 0, 2, 0, 1, 0)):
        case(f"{mode} {pads}", "Pad", X, ints(*pads), mode=mode)
case("constant, negative", "Pad", X, ints(0, -1, 1, 0, 0, -2))
case("constant value", "Pad", X, ints(0, 1, 1, 0, 0, 2), np.array(0.5), constants=[2])
case("axes", "Pad", X, ints(1, 2, 0, 1), None, ints(-1, 1))

# Graphs.
graph("a value used three times", [("Relu", "x", "r", {}), ("Mul", "r x", "m", {}), ("Add", "m r", "s", {}), ("Tanh", "x", "t", {}), ("Add", "s t", "y", {})], x=AWAY)
graph("a value used twice by one node", [("MatMul", "x x", "y", {})], x=numbers((3, 3)))
graph("branches off the path", [
    ("ArgMax", "x", "i", {"axis": 0, "keepdims": 0}), ("Cast", "i", "f", {"to": 11}), ("Shape", "x", "s", {}), ("ConstantOfShape", "s", "z", {}),
    ("Cast", "z", "z64", {"to": 11}), ("Greater", "x z64", "c", {}), ("Where", "c x z64", "w", {}), ("Add", "w f", "y", {}),
], x=numbers((3, 4)), ort="its types are those of the float64 case")  # fmt: skip
graph("a network", [
    ("Conv", "x w1 b1", "c1", {"pads": [1, 1, 1, 1]}), ("Relu", "c1", "r1", {}), ("MaxPool", "r1", "p1", {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ("Conv", "p1 w2", "c2", {"strides": [2, 2], "pads": [1, 1, 1, 1]}), ("LeakyRelu", "c2", "r2", {}), ("Flatten", "r2", "f", {}),
    ("Gemm", "f w3 b3", "g", {"transB": 1}), ("LogSoftmax", "g", "y", {}),
], x=numbers((2, 1, 8, 8)), w1=numbers((3, 1, 3, 3)), b1=numbers((3,)), w2=numbers((2, 3, 3, 3)), w3=numbers((4, 8)), b3=numbers((4,)),
      constants=["w1", "b1", "w2", "w3", "b3"], wrt=["x", "w1", "b1", "w2", "w3", "b3"])  # fmt: skip
graph("a residual block", [
    ("Conv", "x w1", "c1", {"pads": [1, 1, 1, 1]}), ("BatchNormalization", "c1 s b m v", "n", {}), ("Relu", "n", "r", {}),
    ("Add", "r x", "sum", {}), ("GlobalAveragePool", "sum", "p", {}), ("Flatten", "p", "y", {}),
], x=numbers((2, 3, 5, 5)), w1=numbers((3, 3, 3, 3)), s=numbers((3,), 0.5, 1.5), b=numbers((3,)), m=numbers((3,)), v=numbers((3,), 0.5, 1.5),
      constants=["w1", "s", "b", "m", "v"])  # fmt: skip

for form, kept in {"initializers": None, "inputs": ["m1", "v1", "m2", "v2"]}.items():
    weights = dict(
        w0=numbers((3, 1, 3, 3), seed=1), b0=numbers((3,), seed=2), s1=numbers((3,), 0.5, 1.5, 3), m1=numbers((3,), seed=4), v1=numbers((3,), 0.5, 1.5, 5),
        shared=numbers((3,), seed=6), w2=numbers((3, 3, 3, 3), seed=7), s2=numbers((3,), 0.4, 1.3, 8), m2=numbers((3,), seed=9), v2=numbers((3,), 0.6, 1.5, 10),
        w3=numbers((4, 3), seed=11), b3=numbers((4,), seed=12),
    )  # fmt: skip
    graph(f"every weight of a network, as {form}", [
        ("Conv", "x w0 b0", "c0", {"pads": [1, 1, 1, 1]}), ("BatchNormalization", "c0 s1 shared m1 v1", "n1", {}), ("Relu", "n1", "r1", {}),
        ("MaxPool", "r1", "p1", {"kernel_shape": [2, 2], "strides": [2, 2]}), ("Conv", "p1 w2", "c2", {"pads": [1, 1, 1, 1]}), ("Identity", "shared", "beta", {}),
        ("BatchNormalization", "c2 s2 beta m2 v2", "n2", {"epsilon": 1e-3}), ("Add", "n2 p1", "sum", {}), ("Relu", "sum", "r2", {}),
        ("GlobalAveragePool", "r2", "p2", {}), ("Flatten", "p2", "f", {}), ("Gemm", "f w3 b3", "g", {"transB": 1}), ("LogSoftmax", "g", "y", {}),
    ], x=numbers((4, 1, 6, 6), seed=13), **weights, constants=kept or weights, wrt=["w0", "b0", "s1", "shared", "w2", "s2", "w3", "b3"])  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_gradient(case):
    check(case)


@pytest.mark.parametrize("op", ["LRN", "Selu", "Celu", "Mish", "ThresholdedRelu", "SpaceToDepth", "MaxPool"])
def test_operators_in_terms_of_others(op):
    """What simplifying does to operators that engines lack leaves values and gradients as they are."""
    cases = [case for case in CASES if case.nodes[0].op_type == op and (op != "MaxPool" or "dilated" in case.name)]
    assert cases
    for case in cases:
        check(replace(case, simplified=True))
        remaining = {node.op_type: node for node in replace(case, simplified=True).gradient_model()[0].graph.node}
        assert op not in remaining


# What finite differences cannot tell.
OPERATORS_WITH_TIES = {
    "tiles": dict(kernel_shape=[2, 2], strides=[2, 2]),
    "tiles with a rest": dict(kernel_shape=[3, 3], strides=[3, 3]),
    "tiles, ceil": dict(kernel_shape=[3, 3], strides=[3, 3], ceil_mode=1),
    "overlapping": dict(kernel_shape=[3, 3], strides=[2, 2]),
    "padded": dict(kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    "padded more before": dict(kernel_shape=[2, 2], strides=[1, 1], pads=[1, 1, 0, 0]),
    "dilated": dict(kernel_shape=[2, 2], strides=[1, 1], dilations=[2, 2]),
    "ceil": dict(kernel_shape=[3, 2], strides=[2, 3], ceil_mode=1),
}


def first_maxima(x, g, window):
    """The cotangent of x where every window hands its own to the first of its maxima, element by element."""
    kernel, strides = window["kernel_shape"], window["strides"]
    dilations, pads = window.get("dilations", [1, 1]), window.get("pads", [0, 0, 0, 0])
    dx = np.zeros_like(x)
    for n, c, row, column in np.ndindex(*g.shape):
        best = None
        for i, j in np.ndindex(*kernel):
            at = (n, c, row * strides[0] + i * dilations[0] - pads[0], column * strides[1] + j * dilations[1] - pads[1])
            inside = 0 <= at[2] < x.shape[2] and 0 <= at[3] < x.shape[3]
            if inside and (best is None or x[at] > x[best]):
                best = at
        dx[best] += g[n, c, row, column]
    return dx


@pytest.mark.parametrize("window", OPERATORS_WITH_TIES.values(), ids=OPERATORS_WITH_TIES.keys())
@pytest.mark.parametrize("values", ["flat", "zeros", "negative", "two levels", "three levels"])
def test_the_first_maximum_has_the_gradient(window, values):
    generator = np.random.default_rng(zlib.crc32(values.encode()))
    shape = (2, 2, 7, 8)
    x = {
        "flat": np.full(shape, 0.5),
        "zeros": np.zeros(shape),
        "negative": np.full(shape, -0.5),
        "two levels": generator.integers(0, 2, shape) * 1.0,
        "three levels": generator.integers(-1, 2, shape) * 0.5,
    }[values]
    case = Case(values, [helper.make_node("MaxPool", ["x"], ["y"], **window)], {"x": x})
    weights = np.random.default_rng(7).uniform(0.5, 1.5, case.output().shape)
    for simplified in (False, True):
        gradient = replace(case, simplified=simplified).gradients()[0]
        np.testing.assert_allclose(gradient, first_maxima(x, weights, window), rtol=1e-12)


@pytest.mark.parametrize("x", [np.full((2, 2, 3, 4), 0.5), np.zeros((2, 2, 3, 4))], ids=["flat", "zeros"])
def test_the_first_maximum_of_an_image_has_the_gradient(x):
    case = Case("ties", [helper.make_node("GlobalMaxPool", ["x"], ["y"])], {"x": x})
    gradient = case.gradients()[0]
    assert np.count_nonzero(gradient) == 4 and np.all(gradient[:, :, 0, 0] > 0)


def test_relu_has_no_slope_at_zero():
    case = Case("relu", [helper.make_node("Relu", ["x"], ["y"])], {"x": np.array([-1.0, 0.0, 2.0])})
    assert (case.gradients()[0] > 0).tolist() == [False, False, True]


def test_the_first_of_equal_operands_has_the_gradient():
    case = Case("max", [helper.make_node("Max", ["a", "b"], ["y"])], {"a": np.zeros(2), "b": np.zeros(2)})
    a, b = case.gradients()
    assert np.all(a > 0) and np.all(b == 0)


def test_equal_extrema_of_a_reduction_share_the_gradient():
    case = Case("ties", [helper.make_node("ReduceMax", ["x"], ["y"])], {"x": np.array([1.0, 1.0, 0.0, 1.0])})
    gradient = case.gradients()[0]
    np.testing.assert_allclose(gradient / gradient.sum(), [1 / 3, 1 / 3, 0, 1 / 3])


def test_a_value_without_a_path_has_a_gradient_of_zeros():
    nodes = [helper.make_node("Relu", ["a"], ["y"]), helper.make_node("ArgMax", ["b"], ["unused"])]
    case = Case("no path", nodes, {"a": np.ones((2, 2)), "b": np.ones((3,))})
    a, b = case.gradients()
    assert np.all(a > 0) and b.shape == (3,) and np.all(b == 0)


def test_intermediate_values_have_gradients():
    nodes = [helper.make_node("Mul", ["x", "x"], ["square"]), helper.make_node("Exp", ["square"], ["y"])]
    case = Case("intermediate", nodes, {"x": np.array([0.5, 1.0])}, wrt=["square", "x"])
    square, x = case.gradients()
    np.testing.assert_allclose(x, square * 2 * np.array([0.5, 1.0]))


def test_an_operator_without_a_derivative_is_named():
    nodes = [helper.make_node("GatherND", ["x", "i"], ["y"], name="a batch of places", batch_dims=1)]
    case = Case("no rule", nodes, {"x": np.ones((2, 2)), "i": np.array([[0], [1]])}, {"i"})
    with pytest.raises(AssertionError, match=r"a batch of places.*GatherND.*derivative"):
        case.gradients()
