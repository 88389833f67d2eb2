"""Classifiers that are not PyTorch's own, as modules whose gradient PyTorch gives: images `[N, 3, size, size]` in, log-probabilities out."""

import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

os.environ["KERAS_BACKEND"] = "torch"
KERAS_APPLICATIONS = {
    "MobileNet": 64, "MobileNetV3Small": 64, "ResNet50": 64, "EfficientNetB0": 64, "DenseNet121": 64, "Xception": 96, "ConvNeXtTiny": 64,
    "EfficientNetV2B0": 64, "MobileNetV2": 64,
}  # fmt: skip


class KerasApplication(nn.Module):
    """A model of `keras.applications`, channels last and with its Softmax."""

    def __init__(self, name, size, classes):
        import keras

        super().__init__()
        keras.utils.set_random_seed(1)
        self.application = [name, str(size), str(classes)]
        self.make = lambda: getattr(keras.applications, name)(weights=None, classes=classes, input_shape=(size, size, 3))
        self.model = self.make()

    def forward(self, images):
        return self.model(images.permute(0, 2, 3, 1), training=False).log()

    def prepare(self, images):
        """Gives small parameters numbers, and batch normalisation the statistics of `images`."""
        generator = np.random.default_rng(1)
        for weight in self.model.trainable_weights:
            value = weight.numpy()
            if np.abs(value).max() < 1e-3:
                weight.assign(generator.normal(0, 0.2, value.shape))
            elif value.ndim == 1 and np.ptp(value) == 0:
                weight.assign(generator.uniform(0.5, 1.5, value.shape))
        for layer in self.model.layers:
            if hasattr(layer, "moving_mean"):
                layer.momentum = 0.0
        with torch.no_grad():
            self.model(images.permute(0, 2, 3, 1), training=True)

    def double(self):
        import keras

        keras.config.set_dtype_policy("float64")
        twin = self.make()
        keras.config.set_dtype_policy("float32")
        twin.set_weights(self.model.get_weights())
        for layer in twin.layers:
            if hasattr(layer, "moving_variance"):
                round_scale(layer)
        self.model = twin
        return self

    def export(self, example, target):
        self.model(example.permute(0, 2, 3, 1))
        self.model.export(str(target), format="onnx", verbose=False)

    def export_through_tensorflow(self, target):
        """The same by Keras on TensorFlow, which takes a process of its own: `TENSORFLOW_PYTHON` names an interpreter that has both."""
        with tempfile.TemporaryDirectory() as folder:
            weights = Path(folder, "model.weights.h5")
            self.model.save_weights(weights)
            command = [os.environ.get("TENSORFLOW_PYTHON", sys.executable), Path(__file__).with_name("through_tensorflow.py")]
            process = subprocess.run([*command, *self.application, weights, target], capture_output=True, text=True)
        if process.returncode != 0:
            raise RuntimeError(process.stderr.strip().splitlines()[-1])


def round_scale(layer):
    """Gives batch normalisation the scale that is exported: `gamma / sqrt(variance + epsilon)`, computed in float32."""
    variance, epsilon = torch.tensor(np.asarray(layer.moving_variance.numpy(), np.float32)), layer.epsilon
    gamma = torch.tensor(np.asarray(layer.gamma.numpy(), np.float32)) if layer.scale else torch.ones_like(variance)
    scale = variance.add(epsilon).rsqrt().mul(gamma).double().numpy()
    if layer.scale:
        layer.gamma.assign(scale)
        layer.moving_variance.assign(np.full_like(scale, 1 - epsilon))
    else:
        layer.moving_variance.assign(scale**-2 - epsilon)


class Perceptron(nn.Module):
    """An MLPClassifier of scikit-learn, which takes images as rows of numbers."""

    def __init__(self, size, classes):
        from sklearn.neural_network import MLPClassifier

        super().__init__()
        rows = np.random.default_rng(1).normal(size=(20 * classes, 3 * size * size)).astype(np.float32)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.model = MLPClassifier((64, 32), max_iter=3, random_state=1).fit(rows, np.arange(len(rows)) % classes)
        for i, (weight, bias) in enumerate(zip(self.model.coefs_, self.model.intercepts_)):
            # What is exported is float32.
            self.register_buffer(f"weight{i}", torch.tensor(weight.astype(np.float32)))
            self.register_buffer(f"bias{i}", torch.tensor(bias.astype(np.float32)))

    def forward(self, images):
        value = images.flatten(1)
        for i in range(len(self.model.coefs_)):
            value = (value if i == 0 else value.relu()) @ getattr(self, f"weight{i}") + getattr(self, f"bias{i}")
        return value.log_softmax(dim=1)

    def export(self, example, target, zipmap):
        from skl2onnx import to_onnx

        options = {id(self.model): {"zipmap": zipmap}}
        target.write_bytes(to_onnx(self.model, example.flatten(1).numpy(), options=options).SerializeToString())
