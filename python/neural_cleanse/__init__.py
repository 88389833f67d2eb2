"""Find and remove backdoors in neural-network classifiers.

Neural Cleanse (Wang et al., IEEE S&P 2019) for models of ONNX, PyTorch and Keras:

>>> import neural_cleanse
>>> scan = neural_cleanse.scan("model.onnx", x, y, scale=1 / 255)      # doctest: +SKIP
>>> scan.verdict, scan.flagged_classes                                  # doctest: +SKIP
('backdoored', [7])
>>> repair = neural_cleanse.mitigate("model.onnx", x, y, scan, method="unlearning")    # doctest: +SKIP

``neural_cleanse.art`` has the interface of the Adversarial Robustness Toolbox, ``neural_cleanse.ray`` spreads scans
over a cluster.
"""

import sys as _sys
from pathlib import Path as _Path

from . import _native
from ._classes import ClassScan, DroppedClass
from ._classifier import Classifier
from ._mitigation import Filter, Repair, mitigate
from ._scan import Scan, scan
from ._trigger import Trigger
from .errors import DataError, EngineError, Error, FileError, ModelError, ParameterError, RepairRefused

__all__ = [
    "ClassScan",
    "Classifier",
    "DataError",
    "DroppedClass",
    "EngineError",
    "Error",
    "FileError",
    "Filter",
    "ModelError",
    "ParameterError",
    "Repair",
    "RepairRefused",
    "Scan",
    "Trigger",
    "mitigate",
    "scan",
]

# The engines are packages beside this one. Nothing is looked for in the current directory, which may be as untrusted as
# a model.
_native.search_engines_in(
    [path for path in _sys.path if _Path(path).is_absolute() and _Path(path).name in ("site-packages", "dist-packages")]
)
