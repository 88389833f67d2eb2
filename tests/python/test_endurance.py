"""What a hundred scans in one process leave behind."""

import sys
import time
from pathlib import Path

import neural_cleanse as nc
import pytest
from conftest import PREPROCESSING

WARM_UP, SCANS = 3, 100


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts what /proc lists")
@pytest.mark.parametrize("engine", ["rten", "onnxruntime"])
def test_a_hundred_scans_leave_no_open_file_and_no_thread_behind(engine, backdoored_path, clean):
    def scan():
        nc.scan(backdoored_path, clean.x[:80], clean.y[:80], steps=2, classes=[0, 1], engine=engine, **PREPROCESSING)

    def left():
        return {kind: len(list(Path("/proc/self", kind).iterdir())) for kind in ("fd", "task")}

    for _ in range(WARM_UP):
        scan()
    before = left()
    for _ in range(SCANS):
        scan()
    # A thread that was waited for is listed for a moment more.
    deadline = time.monotonic() + 1
    while any(left()[kind] > before[kind] for kind in before) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert all(left()[kind] <= before[kind] for kind in before), (before, left())
