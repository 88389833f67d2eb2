"""A run over a cluster of several nodes, of which one is killed."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import neural_cleanse as nc
import neural_cleanse.ray
import numpy as np
import pytest
import ray
from neural_cleanse._run_store import Store
from ray.cluster_utils import Cluster

FIXTURES = Path(__file__).parents[2] / "fixtures"
PARAMETERS = {"scale": 1 / 255, "mean": 0.2860, "std": 0.3530}
NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20}


@pytest.fixture
def cluster():
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0})
    cluster.workers = [cluster.add_node(**NODE) for _ in range(2)]
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="module")
def data():
    arrays = np.load(FIXTURES / "fashion-mnist-400.npz")
    return arrays["x"], arrays["y"]


def figures(scan):
    report = json.loads(json.dumps(scan.report))
    del report["seconds"], report["model"]["path"]
    return report


def kill_when_something_is_done(cluster, out):
    def wait_and_kill():
        while not any(out.glob("*/inversions/*.npz")):
            time.sleep(0.1)
        killed.append(sum(1 for _ in out.glob("*/scan.json")))
        cluster.remove_node(cluster.workers[0], allow_graceful=False)

    killed = []
    thread = threading.Thread(target=wait_and_kill, daemon=True)
    thread.start()
    return killed


def wait_for(condition, seconds=60):
    """Ray counts a node among the dead some time after it has given up on its tasks."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so after {seconds} s"
        time.sleep(0.2)


def test_a_killed_node_and_a_broken_model_change_no_verdict(cluster, data, tmp_path):
    models = {name: FIXTURES / f"{name}.onnx" for name in ("fmnist_badnets", "fmnist_clean")}
    models["broken"] = b"this is no model"
    killed = kill_when_something_is_done(cluster, tmp_path)
    summary = neural_cleanse.ray.scan(models, data, out=tmp_path, block=2, **PARAMETERS)
    print(summary)
    assert killed == [0], "the node was killed too late to matter"
    wait_for(lambda: sum(node["Alive"] for node in ray.nodes()) == 2)

    broken = summary.results["broken"]
    assert isinstance(broken, neural_cleanse.ray.Failure) and "ONNX" in broken.reason
    for name in ("fmnist_badnets", "fmnist_clean"):
        here = nc.scan(models[name], *data, threads=2, exhaustive=True, **PARAMETERS)
        there = nc.Scan.load(tmp_path / name)
        assert figures(there) == figures(here) == figures(summary.results[name])
        assert all(np.array_equal(there.triggers[c].mask, trigger.mask) for c, trigger in here.triggers.items())
    rows = json.loads((tmp_path / "summary.json").read_text())
    assert [row["model"] for row in rows] == list(models) and rows[2]["verdict"] == "failed"


def test_a_run_takes_up_what_is_done(cluster, data, tmp_path):
    model = FIXTURES / "fmnist_badnets.onnx"
    options = {**PARAMETERS, "steps": 3, "out": tmp_path}
    first = neural_cleanse.ray.scan([model], data, **options).results["fmnist_badnets"]
    written = (tmp_path / "fmnist_badnets" / "scan.json").stat().st_mtime_ns
    neural_cleanse.ray.scan([model], data, **options)
    assert (tmp_path / "fmnist_badnets" / "scan.json").stat().st_mtime_ns == written

    # As if interrupted after two classes; their figures are changed for the test to tell where they are from.
    folder = tmp_path / "fmnist_badnets"
    store = Store(folder, json.loads((folder / "run.json").read_text()))
    os.remove(folder / "scan.json")
    for target_class in (2, 5):
        trigger = first.triggers[target_class]
        extent = (float(trigger.mask.sum()), 1.0)
        store.keep((target_class, 0), (target_class, trigger.arrays, True, extent, "[]", 1_000_000))
    again = neural_cleanse.ray.scan([model], data, **options).results["fmnist_badnets"]
    steps = {c.target_class: c.steps for c in again.classes}
    assert steps == {c: 0 if c in (2, 5) else 3 for c in range(10)}
    assert again.report["gradient_samples"] > 2_000_000
    assert not list((folder / "inversions").iterdir())

    # Another seed is another run.
    other = neural_cleanse.ray.scan([model], data, **options, seed=1).results["fmnist_badnets"]
    assert {c.steps for c in other.classes} == {3} and other.report["seed"] == 1


def test_the_module_is_a_command(tmp_path):
    environment = {**os.environ, "RAY_ADDRESS": ""}
    command = [sys.executable, "-m", "neural_cleanse.ray", "scan", FIXTURES / "fmnist_badnets.onnx", "--data"]
    command += [FIXTURES / "fashion-mnist-400.npz", "--out", tmp_path, "--steps", "3", "--scale", str(1 / 255)]
    command += ["--mean", "0.2860", "--std", "0.3530"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    row = json.loads((tmp_path / "summary.json").read_text())[0]
    assert done.returncode == {"clean": 0, "backdoored": 1, "inconclusive": 3}[row["verdict"]], done.stderr
    assert "fmnist_badnets" in done.stdout
