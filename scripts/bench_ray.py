"""Times a scan over one and two single-processor Ray nodes, and runs it once more while one of two nodes is killed.

    python scripts/bench_ray.py

The nodes are processes of this machine, and what is scanned are the fixtures.
"""

import tempfile
import threading
import time
from pathlib import Path

import neural_cleanse.ray
import numpy as np
import ray
from ray.cluster_utils import Cluster

FIXTURES = Path(__file__).parents[1] / "fixtures"
MODELS = {name: FIXTURES / f"{name}.onnx" for name in ("fmnist_badnets", "fmnist_clean")}
PREPROCESSING = {"scale": 1 / 255, "mean": 0.2860, "std": 0.3530}
NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20}


def scanned(nodes, kill=False):
    """Scan over `nodes` nodes beside the head, and give the summary and the seconds that it took."""
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0})
    workers = [cluster.add_node(**NODE) for _ in range(nodes)]
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
    arrays = np.load(FIXTURES / "fashion-mnist-400.npz")
    try:
        # A first task of each node starts its worker and imports the package.
        ray.get([warm.options(scheduling_strategy="SPREAD").remote() for _ in range(nodes)])
        with tempfile.TemporaryDirectory() as out:
            if kill:
                threading.Thread(target=kill_one, args=(cluster, workers[0], Path(out)), daemon=True).start()
            started = time.monotonic()
            summary = neural_cleanse.ray.scan(MODELS, (arrays["x"], arrays["y"]), out=out, block=2, **PREPROCESSING)
            return summary, time.monotonic() - started
    finally:
        ray.shutdown()
        cluster.shutdown()


@ray.remote(num_cpus=1)
def warm():
    """Take a moment, so that the tasks are spread."""
    import neural_cleanse  # noqa: F401

    time.sleep(2)


def kill_one(cluster, node, out):
    """Kill `node` once the first inversions are done."""
    while not any(out.glob("*/inversions/*.npz")):
        time.sleep(0.05)
    done = sum(1 for _ in out.glob("*/inversions/*.npz"))
    cluster.remove_node(node, allow_graceful=False)
    print(f"killed one of two nodes when {done} of 20 classes were done", flush=True)


def main():
    """Print it all."""
    times = {nodes: [] for nodes in (1, 2)}
    for _ in range(3):
        for nodes in times:
            summary, seconds = scanned(nodes)
            times[nodes].append(seconds)
    print(summary)
    for nodes, seconds in times.items():
        each = ", ".join(f"{s:.1f}" for s in seconds)
        print(f"{nodes} node{'s' * (nodes > 1)}: {min(seconds):.1f} s (of {each})")
    print(f"ratio: {min(times[1]) / min(times[2]):.2f}")
    interrupted, seconds = scanned(2, kill=True)
    same = [scan.report["classes"] for scan in interrupted.results.values()] == [
        scan.report["classes"] for scan in summary.results.values()
    ]
    print(f"done in {seconds:.1f} s; all figures of all classes are the same: {same}")


if __name__ == "__main__":
    main()
