from collections.abc import Callable
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

_Watch = Callable[..., object] | None

# These are for annotations alone.
TriggerArrays = tuple[NDArray[np.float32], NDArray[np.float32], tuple[float, float] | None]
Backdoor = tuple[int, TriggerArrays]
Scanned = tuple[str, list[tuple[int | None, int, TriggerArrays, bytes]], str]
# Class, look, and the window that it is confined to: top, left, height, width.
Job = tuple[int, int, list[int] | None]
Inverted = tuple[int, TriggerArrays, bool, tuple[float, float] | None, str, int]

class Classifier:
    engine_note: str
    image_shape: tuple[int, int, int]
    classes: int
    class_names: list[str]
    layout: str
    value_range: tuple[float, float]
    precision: str
    gives_probabilities: bool
    def __new__(
        cls,
        model: bytes | str | PathLike[str],
        *,
        scale: float,
        mean: list[float],
        std: list[float],
        interface: dict[str, Any],
        value_range: tuple[float, float],
        class_names: list[str] | None,
        engine: str,
        engine_library: str | PathLike[str] | None,
        precision: str,
        threads: int | None,
    ) -> Classifier: ...
    def with_model(self, model: bytes | str | PathLike[str]) -> Classifier: ...
    def predict(self, x: NDArray[Any]) -> NDArray[np.float32]: ...
    def embedded_abstain(self, x: NDArray[Any]) -> NDArray[np.bool_] | None: ...
    def loss_gradient(self, x: NDArray[Any], y: NDArray[np.int64]) -> NDArray[np.float32]: ...
    def class_gradient(self, x: NDArray[Any], label: int) -> NDArray[np.float32]: ...
    def model_bytes(self) -> bytes: ...
    def write_model(self, path: str | PathLike[str]) -> None: ...

class Filter:
    def __new__(cls, json: str) -> Filter: ...
    def abstains(self, classifier: Classifier, x: NDArray[Any]) -> NDArray[np.bool_]: ...
    def embedded_in(self, classifier: Classifier) -> Classifier: ...

def check_parameters(*, preset: str, norm: str, parameters: str) -> None: ...
def scan(
    classifier: Classifier,
    x: NDArray[Any] | None,
    y: NDArray[np.int64] | None,
    *,
    request: dict[str, Any],
    name: str,
    sha256: str,
    watch: _Watch,
) -> Scanned: ...
def first_classes(
    classifier: Classifier, x: NDArray[Any], y: NDArray[np.int64] | None, *, request: dict[str, Any]
) -> list[int]: ...
def invert(
    classifier: Classifier,
    x: NDArray[Any],
    y: NDArray[np.int64] | None,
    *,
    request: dict[str, Any],
    jobs: list[Job],
) -> list[Inverted]: ...
def next_jobs(
    classifier: Classifier,
    x: NDArray[Any],
    y: NDArray[np.int64] | None,
    done: list[tuple[Job, Inverted]],
    *,
    request: dict[str, Any],
) -> list[Job]: ...
def conclude(
    classifier: Classifier,
    x: NDArray[Any],
    y: NDArray[np.int64] | None,
    done: list[tuple[Job, Inverted]],
    *,
    request: dict[str, Any],
    name: str,
    sha256: str,
    seconds: float,
) -> Scanned: ...
def generate_backdoor(
    classifier: Classifier,
    x: NDArray[Any],
    y: NDArray[np.int64] | None,
    target: int,
    *,
    preset: str,
    norm: str,
    parameters: str,
    watch: _Watch,
) -> tuple[NDArray[np.float32], NDArray[np.float32], bool]: ...
def mitigate(
    classifier: Classifier,
    x: NDArray[Any],
    y: NDArray[np.int64],
    backdoors: list[Backdoor],
    *,
    true_backdoor: Backdoor | None,
    methods: list[str],
    options: dict[str, Any],
    samples: int,
    test_samples: int,
    seed: int,
    watch: _Watch,
) -> tuple[Classifier, str]: ...
def search_engines_in(directories: list[str]) -> None: ...
def mitigation_page(report: str, given: str, repaired: str) -> str: ...
def sarif(report: str) -> str: ...
def run_command(program: list[str], arguments: list[str]) -> int: ...
