"""What workers do. Models and samples come from the object store, where they are once."""

from __future__ import annotations

from typing import Any

import ray

from .. import _arrays, _native
from .._classifier import Classifier
from .._scan import Scan, scan_of


def _opened(content: Any, samples: Any, options: dict[str, Any]) -> tuple[Classifier, Any, Any]:
    x, y = samples
    sample_shape = _arrays.sample_shape(x, options.get("layout"))
    classifier = Classifier(content.tobytes(), sample_shape=sample_shape, **options)
    return classifier, classifier.images(x), y


@ray.remote
def open_model(content: Any, samples: Any, options: dict[str, Any], request: dict[str, Any]) -> list[int]:
    """Give the classes to invert."""
    classifier, x, y = _opened(content, samples, options)
    return _native.first_classes(classifier._native, x, y, request=request)


@ray.remote
def invert(
    content: Any, samples: Any, options: dict[str, Any], jobs: list[_native.Job], request: dict[str, Any]
) -> list[_native.Inverted]:
    """Do some jobs."""
    classifier, x, y = _opened(content, samples, options)
    return _native.invert(classifier._native, x, y, request=request, jobs=jobs)


@ray.remote
def next_jobs(
    content: Any,
    samples: Any,
    options: dict[str, Any],
    done: list[tuple[_native.Job, _native.Inverted]],
    request: dict[str, Any],
) -> list[_native.Job]:
    """Give the jobs that those which are done call for."""
    classifier, x, y = _opened(content, samples, options)
    return _native.next_jobs(classifier._native, x, y, done, request=request)


@ray.remote
def conclude(
    content: Any,
    samples: Any,
    options: dict[str, Any],
    done: list[tuple[_native.Job, _native.Inverted]],
    request: dict[str, Any],
    about: dict[str, Any],
) -> Scan:
    """Judge."""
    classifier, x, y = _opened(content, samples, options)
    return scan_of(_native.conclude(classifier._native, x, y, done, request=request, **about))
