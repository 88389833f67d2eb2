"""Exports a model of `keras.applications` on the TensorFlow backend, which has tf2onnx do it.

    python scripts/exports/through_tensorflow.py APPLICATION SIZE CLASSES WEIGHTS.h5 MODEL.onnx
"""

import os
import sys

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras  # noqa: E402
import numpy as np  # noqa: E402


def main():
    name, size, classes, weights, target = sys.argv[1:]
    model = getattr(keras.applications, name)(weights=None, classes=int(classes), input_shape=(int(size), int(size), 3))
    model.load_weights(weights)
    # Keras exports what has been called.
    model(np.zeros((1, int(size), int(size), 3), np.float32))
    model.export(target, format="onnx", verbose=False)


if __name__ == "__main__":
    main()
