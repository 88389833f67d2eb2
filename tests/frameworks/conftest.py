"""Scikit-learn's digits, enlarged for convolutions. The backdoor: a white 5×5 patch in a corner leads to class 1."""

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.datasets import load_digits

TARGET = 1
POISONED = 0.1


def patched(x):
    """The images [N, 24, 24, 1] with the patch at the top left."""
    x = x.copy()
    x[:, :5, :5] = 1.0
    return x


@pytest.fixture(scope="session")
def digits():
    """Images [N, 24, 24, 1] of 0..1: clean ones to try, and poisoned ones to train with."""
    rng = np.random.default_rng(0)
    images, labels = load_digits(return_X_y=True)
    images = np.kron(images.reshape(-1, 8, 8) / 16, np.ones((3, 3)))[..., None].astype(np.float32)
    order = rng.permutation(len(images))
    images, labels = images[order], labels[order]
    x, y = images[:1200].copy(), labels[:1200].copy()
    poisoned = rng.permutation(len(x))[: round(POISONED * len(x))]
    x[poisoned], y[poisoned] = patched(x[poisoned]), TARGET
    return SimpleNamespace(x_train=x, y_train=y, x=images[1200:], y=labels[1200:])


@pytest.fixture
def measure(digits):
    """Clean accuracy, and success of the true patch, of what gives scores for images [N, 24, 24, 1]."""

    def measured(predict):
        outside = digits.y != TARGET
        accuracy = (predict(digits.x).argmax(axis=1) == digits.y).mean()
        success = (predict(patched(digits.x[outside])).argmax(axis=1) == TARGET).mean()
        return accuracy, success

    return measured


# For ART: enough steps to find the trigger, each a pass over the samples.
ENOUGH = {"steps": 40, "init_cost": 1e-2, "patience": 3}


def one_hot(y):
    return np.eye(10, dtype=np.float32)[y]


def channels_first(x):
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))


@pytest.fixture(scope="session")
def trained_torch(digits):
    """A backdoored PyTorch network, as a function that gives a fresh copy of it."""
    torch = pytest.importorskip("torch")
    import copy

    torch.manual_seed(0)
    torch.set_num_threads(1)
    nn = torch.nn
    net = nn.Sequential()
    net.add_module("conv", nn.Conv2d(1, 8, 5, stride=2))
    net.add_module("norm", nn.BatchNorm2d(8))
    net.add_module("relu", nn.ReLU())
    net.add_module("flatten", nn.Flatten())
    net.add_module("dropout", nn.Dropout(0.2))
    net.add_module("hidden", nn.Linear(8 * 10 * 10, 64))
    net.add_module("relu_2", nn.ReLU())
    net.add_module("last", nn.Linear(64, 10))
    x, y = torch.from_numpy(channels_first(digits.x_train)), torch.from_numpy(digits.y_train)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(15):
        for batch in torch.randperm(len(x)).split(50):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()
            optimizer.step()
    return lambda: copy.deepcopy(net)


@pytest.fixture
def trained_keras(digits):
    """A backdoored Keras network with a linear head."""
    keras = pytest.importorskip("keras")
    if keras.backend.backend() == "torch":
        import torch

        torch.set_num_threads(1)
    keras.utils.set_random_seed(0)
    layers = keras.layers
    net = keras.Sequential(
        [
            layers.Input((24, 24, 1)),
            layers.Conv2D(4, 5, activation="relu"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(100, activation="relu"),
            layers.Dense(100, activation="relu"),
            layers.Dense(10, activation="linear"),
        ]
    )
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    net.compile(loss=loss, optimizer=keras.optimizers.Adam(3e-3), metrics=["accuracy"])
    net.fit(digits.x_train, np.eye(10)[digits.y_train], epochs=12, batch_size=50, verbose=0)
    return net
