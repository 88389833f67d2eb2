"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from os import PathLike
from pathlib import Path


def write(path: str | PathLike[str], content: str | bytes) -> None:
    """Write a file beside its place, and then move it there."""
    path = Path(path)
    beside = path.with_name(f"{path.name}.part")
    beside.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(beside, path)
