"""Gives a classifier many more classes: near duplicates of those that it has, but none of one class, the target of its backdoor.

    python3 scripts/widen_model.py MODEL CLASSES TARGET OUT

The last layer must be a Gemm with transposed weights, as PyTorch exports it. A duplicate has the weights of its original with normal noise of three tenths
of their standard deviation, and a bias that is lower by 2, so that most clean images keep their class.
"""

import argparse

import numpy as np
import onnx
from onnx import numpy_helper


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("classes", type=int)
    parser.add_argument("target", type=int)
    parser.add_argument("out")
    arguments = parser.parse_args()
    model = onnx.load(arguments.model)
    last = model.graph.node[-1]
    assert last.op_type == "Gemm", f"the last node is a {last.op_type}"
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    weights, bias = (numpy_helper.to_array(tensors[name]) for name in last.input[1:3])

    rng = np.random.default_rng(0)
    others = np.delete(np.arange(len(bias)), arguments.target)
    originals = others[np.arange(arguments.classes - len(bias)) % len(others)]
    noise = rng.normal(0, 0.3 * weights.std(), (len(originals), weights.shape[1]))
    wide = {last.input[1]: np.concatenate([weights, weights[originals] + noise]), last.input[2]: np.concatenate([bias, bias[originals] - 2])}
    for name, values in wide.items():
        tensors[name].CopyFrom(numpy_helper.from_array(values.astype(np.float32), name))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = arguments.classes
    onnx.checker.check_model(model)
    onnx.save(model, arguments.out)


if __name__ == "__main__":
    main()
