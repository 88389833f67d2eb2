"""Progress bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Watch = Callable[..., None]


@contextmanager
def watching(progress: bool | None, description: str) -> Iterator[Watch | None]:
    """Give what tells a tqdm bar of the events of the library, or None.

    `progress` of None shows the bar on a terminal (or in a notebook) if tqdm is installed; True wants it.
    """
    tqdm = _tqdm(progress)
    if tqdm is None:
        yield None
        return
    with tqdm(total=0, desc=description, unit="class", disable=None if progress is None else False, leave=False) as bar:
        yield _Bar(bar)


def _tqdm(progress: bool | None) -> Any:
    if progress is False:
        return None
    try:
        from tqdm.auto import tqdm
    except ImportError:
        if progress:
            raise
        return None
    return tqdm


class _Bar:
    """A bar over the classes of a round of the scan, or over the share of a repair."""

    def __init__(self, bar: Any) -> None:
        self.bar = bar

    def __call__(self, event: str, *details: Any) -> None:
        if event == "round":
            classes, steps = details
            self.bar.reset(total=classes)
            self.bar.set_description(f"to step {steps}")
        elif event == "step":
            target_class, _, step, rate, norm = details
            postfix = {"class": target_class, "step": step, "ASR": f"{rate:.2f}", "norm": f"{norm:.1f}"}
            self.bar.set_postfix(postfix, refresh=False)
            self.bar.update(0)
        elif event == "paused":
            self.bar.update()
        elif event == "repairing":
            method, share = details
            self.bar.total = 100
            self.bar.set_description(method, refresh=False)
            self.bar.update(round(100 * share) - self.bar.n)
