from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

FIXTURES = Path(__file__).parents[2] / "fixtures"

PREPROCESSING = {"scale": 1 / 255, "mean": 0.2860, "std": 0.3530}


@pytest.fixture(scope="session")
def clean():
    """Fashion-MNIST: `x` [400, 1, 28, 28] uint8, `y` [400]."""
    arrays = np.load(FIXTURES / "fashion-mnist-400.npz")
    return SimpleNamespace(x=arrays["x"], y=arrays["y"])


@pytest.fixture(scope="session")
def backdoored_path():
    return FIXTURES / "fmnist_badnets.onnx"


@pytest.fixture(scope="session")
def true_trigger():
    import neural_cleanse

    return neural_cleanse.Trigger.load(FIXTURES / "triggers" / "fmnist_badnets.npz")


@pytest.fixture(scope="session")
def backdoored(backdoored_path):
    import neural_cleanse

    return neural_cleanse.Classifier(backdoored_path, **PREPROCESSING)


@pytest.fixture(scope="session")
def backdoored_scan(backdoored, clean):
    import neural_cleanse

    return neural_cleanse.scan(backdoored, clean.x, clean.y)
