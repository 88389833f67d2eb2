"""Scans from Python: the same as those of the command, for models and arrays of every form."""

import json
import os
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from pathlib import Path

import neural_cleanse as nc
import numpy as np
import onnx
import pytest
from conftest import FIXTURES, PREPROCESSING
from neural_cleanse.__main__ import PROGRAM
from neural_cleanse._scan import scan_request

COMMAND = Path(sysconfig.get_path("scripts")) / "neural-cleanse"


def run(*arguments):
    return subprocess.run([COMMAND, *map(str, arguments)], capture_output=True, text=True)


def command_options():
    return [o for name, value in PREPROCESSING.items() for o in (f"--{name}", f"{value}")]


def figures(scan):
    """All of the report but for what differs from run to run."""
    report = json.loads(json.dumps(scan.report))
    del report["seconds"], report["model"]["path"]
    return report


def test_a_backdoor_is_found_as_the_command_finds_it(backdoored_path, backdoored_scan, tmp_path):
    assert (backdoored_scan.verdict, backdoored_scan.flagged_classes) == ("backdoored", [7])
    assert backdoored_scan.report["engine"]["name"] != "rten", "the slow path"
    done = run(
        "scan", backdoored_path, "--data", FIXTURES / "fashion-mnist-400.npz", *command_options(), "--out", tmp_path
    )
    assert done.returncode == 1, done.stderr
    of_command = nc.Scan.load(tmp_path)
    assert figures(of_command) == figures(backdoored_scan)
    for target_class, trigger in of_command.triggers.items():
        assert np.array_equal(trigger.mask, backdoored_scan.triggers[target_class].mask)


def test_a_trigger_that_is_added_is_found_saved_and_filtered(backdoored_path, clean, tmp_path):
    scan = nc.scan(backdoored_path, clean.x, clean.y, trigger="additive", **PREPROCESSING)
    assert scan.flagged_classes == [7], scan.reason
    trigger = scan.triggers[7]
    assert trigger.range == (0, 255)
    stamped = trigger.apply(clean.x)
    assert np.array_equal(stamped, np.clip(np.rint(clean.x + trigger.pattern), 0, 255).astype(clean.x.dtype))
    scan.save(tmp_path)
    loaded = nc.Scan.load(tmp_path).triggers[7]
    assert loaded.range == trigger.range and np.array_equal(loaded.pattern, trigger.pattern)
    model = nc.Classifier(backdoored_path, **PREPROCESSING)
    repair = nc.mitigate(model, clean.x, clean.y, scan=scan, method="filtering")
    assert repair.predict(stamped[clean.y != 7]).mask.mean() > 0.8


def test_a_clean_model_is_clean(clean):
    scan = nc.scan(FIXTURES / "fmnist_clean.onnx", clean.x, clean.y, **PREPROCESSING)
    assert (scan.verdict, scan.flagged_classes) == ("clean", [])


def test_pairs_are_found_as_the_command_finds_them(clean, tmp_path):
    model = FIXTURES / "fmnist_source_specific.onnx"
    scan = nc.scan(model, clean.x, clean.y, mode="pairs", **PREPROCESSING)
    assert scan.attacks == [{"kind": "source_specific", "source": 8, "target": 1}]
    assert (scan.mode, scan.verdict, scan.triggers, list(scan.pair_triggers)) == ("pairs", "backdoored", {}, [(8, 1)])
    assert "verdict: backdoored" in repr(scan)
    scan.save(tmp_path / "saved")
    data = ["--data", FIXTURES / "fashion-mnist-400.npz", *command_options()]
    done = run("scan", model, *data, "--mode", "pairs", "--out", tmp_path / "command")
    assert done.returncode == 1, done.stderr
    for folder in ("saved", "command"):
        again = nc.Scan.load(tmp_path / folder)
        assert figures(again) == figures(scan)
        assert np.array_equal(again.pair_triggers[8, 1].mask, scan.pair_triggers[8, 1].mask)
        assert (tmp_path / folder / "triggers" / "pair_008_001.png").exists()

    repair = nc.mitigate(model, clean.x, clean.y, scan, epochs=2, max_accuracy_drop=None, **PREPROCESSING)
    assert repair.report["target_classes"] == [1]


def test_without_samples_the_margins_are_looked_at(backdoored, clean):
    scan = nc.scan(backdoored)
    assert (scan.mode, scan.report["classes"], scan.triggers) == ("margin", [], {})
    assert scan.report["margins"] is not None
    assert nc.scan(backdoored, clean.x, clean.y, mode="margin").report["margins"] == scan.report["margins"]
    with pytest.raises(nc.Error, match="without clean samples"):
        nc.scan(backdoored, mode="thorough")
    with pytest.raises(nc.Error, match="`all` is not a mode"):
        nc.scan(backdoored, clean.x, clean.y, mode="all")


def test_all_forms_of_a_model_give_the_same(backdoored_path, clean):
    data = backdoored_path.read_bytes()
    forms = [backdoored_path, str(backdoored_path), data, onnx.load_from_string(data)]
    scans = [nc.scan(form, clean.x, clean.y, steps=3, **PREPROCESSING) for form in forms]
    assert all(figures(scan) == {**figures(scans[0]), "model": figures(scan)["model"]} for scan in scans)
    assert scans[0].report["model"]["sha256"] == scans[2].report["model"]["sha256"]


def test_all_forms_of_samples_give_the_same(backdoored, clean):
    forms = [
        (clean.x, clean.y),
        (clean.x.transpose(0, 2, 3, 1), np.eye(10)[clean.y]),
        (clean.x[:, 0].astype(np.float64), clean.y.astype(np.uint8)),
        (np.asfortranarray(clean.x, np.float32), clean.y[:, None]),
    ]
    scans = [nc.scan(backdoored, x, y, steps=3) for x, y in forms]
    assert all(figures(scan) == figures(scans[0]) for scan in scans)


def test_images_are_looked_at_where_they_are(backdoored, clean):
    for x in (clean.x, clean.x.transpose(0, 2, 3, 1), clean.x[:, 0]):
        assert np.shares_memory(backdoored.images(x), clean.x)


def test_the_range_of_values_is_a_matter_of_units(backdoored_path, clean, backdoored_scan):
    scan = nc.scan(backdoored_path, clean.x / 255, clean.y, value_range=(0, 1), mean=0.2860, std=0.3530)
    assert scan.flagged_classes == [7]
    assert scan.triggers[7].pattern.max() <= 1
    assert scan.triggers[7].norm_l1 == pytest.approx(backdoored_scan.triggers[7].norm_l1, rel=0.1)


def test_engines_agree_and_the_fastest_is_the_default(backdoored_path, backdoored, clean):
    assert "openvino" in backdoored.engine, "it is among the requirements of the tests"
    expected = backdoored.predict(clean.x[:50])
    for engine in ("rten", "onnxruntime", "openvino"):
        classifier = nc.Classifier(backdoored_path, engine=engine, **PREPROCESSING)
        assert classifier.engine.startswith(f"engine {engine}") and classifier.precision == "f32"
        assert np.allclose(classifier.predict(clean.x[:50]), expected, atol=1e-3)


def test_a_model_of_several_inputs_and_open_size_is_told_what_it_takes(backdoored_path, backdoored, clean):
    model = onnx.load(backdoored_path)
    images, logits = model.graph.input[0], model.graph.output[0]
    for axis in images.type.tensor_type.shape.dim[2:]:
        axis.dim_param = "any"
    model.graph.input.append(onnx.helper.make_tensor_value_info("factor", onnx.TensorProto.FLOAT, []))
    model.graph.node.append(onnx.helper.make_node("Mul", [logits.name, "factor"], ["scaled"]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("scaled", onnx.TensorProto.FLOAT, None))
    for shape in ({"input_shape": (1, 28, 28)}, {"sample_shape": (1, 28, 28)}):
        options = {"input": images.name, "output": "scaled", "input_value": {"factor": 2}, **shape, **PREPROCESSING}
        classifier = nc.Classifier(model, **options)
        assert np.allclose(classifier.predict(clean.x[:20]), 2 * backdoored.predict(clean.x[:20]), atol=1e-3)
    options = {"output": "scaled", "input_value": {"factor": 2}, **PREPROCESSING}
    scan = nc.scan(model, clean.x, clean.y, input=images.name, steps=1, classes=[7], **options)
    assert scan.report["model"]["constant_inputs"] == {"factor": 2.0} and scan.report["model"]["input"] == [1, 28, 28]


def test_without_labels_the_models_own_predictions_serve(backdoored, clean):
    scan = nc.scan(backdoored, clean.x, steps=3, classes=[2, 7])
    assert scan.clean_accuracy is None
    assert [c.target_class for c in scan.classes] == [2, 7]


def test_a_scan_survives_its_folder_and_the_command_repairs_from_it(backdoored_scan, backdoored_path, tmp_path):
    backdoored_scan.save(tmp_path / "scan", sarif=tmp_path / "scan.sarif")
    loaded = nc.Scan.load(tmp_path / "scan")
    assert loaded.report == backdoored_scan.report
    page = (tmp_path / "scan" / "report.html").read_text()
    assert "This model is backdoored" in page and page == loaded._page
    (run_of_tool,) = json.loads((tmp_path / "scan.sarif").read_text())["runs"]
    assert [result["ruleId"] for result in run_of_tool["results"]] == ["backdoor"]
    assert (tmp_path / "scan" / "triggers" / "class_007.png").read_bytes().startswith(b"\x89PNG")
    data = ["--data", FIXTURES / "fashion-mnist-400.npz", *command_options()]
    done = run(
        "mitigate",
        backdoored_path,
        *data,
        "--scan",
        tmp_path / "scan",
        "--method",
        "filtering",
        "--out",
        tmp_path / "out.onnx",
    )
    assert done.returncode == 0, done.stderr


def test_text_and_html_show_what_was_found(backdoored_scan):
    assert "FLAGGED" in repr(backdoored_scan) and "verdict: backdoored" in repr(backdoored_scan)
    html = backdoored_scan._repr_html_()
    assert html.count("<tr") == 11 and html.count("data:image/png;base64,") == len(backdoored_scan.classes)


def test_classes_that_cannot_be_flagged_are_dropped_unless_all_are_wanted(backdoored, clean, backdoored_scan):
    dropped = {c.target_class: c for c in backdoored_scan.dropped}
    assert dropped and 7 not in dropped and not dropped.keys() & backdoored_scan.triggers.keys()
    assert all(c.steps < 60 and c.norm_l1 > 0 for c in dropped.values())
    assert repr(backdoored_scan).count(" dropped\n") == len(dropped)
    exhaustive = nc.scan(backdoored, clean.x, clean.y, exhaustive=True)
    assert not exhaustive.dropped and len(exhaustive.triggers) == 10
    assert exhaustive.flagged_classes == backdoored_scan.flagged_classes
    for target_class, trigger in backdoored_scan.triggers.items():
        assert np.array_equal(exhaustive.triggers[target_class].mask, trigger.mask)


@pytest.mark.parametrize(
    ("change", "error", "part"),
    [
        ({"model": "missing.onnx"}, nc.ModelError, "missing.onnx"),
        ({"model": b"not ONNX"}, nc.ModelError, "ONNX"),
        ({"model": 7}, nc.ModelError, "builtins.int"),
        ({"x": np.zeros((4, 3, 28, 28), np.uint8)}, nc.DataError, "[4, 3, 28, 28]"),
        ({"x": np.zeros((400, 1, 28, 28), np.float32)}, nc.DataError, "value_range"),
        ({"value_range": (0, 1)}, nc.DataError, "outside the value range"),
        ({"y": np.zeros(3)}, nc.DataError, "3 labels for 400 images"),
        ({"y": np.full(400, 0.5)}, nc.DataError, "class number"),
        ({"y": np.full(400, 11)}, nc.ModelError, "11"),
        ({"y": np.full(400, -1)}, nc.DataError, "-1"),
        ({"y": np.full((400, 10), 0.1)}, nc.DataError, "one-hot"),
        ({"setps": 3}, nc.ParameterError, "setps"),
        ({"steps": 0}, nc.ParameterError, "steps"),
        ({"steps": "many"}, nc.ParameterError, "steps"),
        ({"norm": 3}, nc.ParameterError, "norm"),
        ({"preset": "slow"}, nc.ParameterError, "slow"),
        ({"rule": "guess"}, nc.ParameterError, "guess"),
        ({"threshold": -1.0}, nc.ParameterError, "threshold"),
        ({"classes": [99]}, nc.ParameterError, "99"),
        ({"engine": "steam"}, nc.EngineError, "steam"),
        ({"layout": "hwcn"}, nc.ParameterError, "hwcn"),
        ({"std": 0.0}, nc.ParameterError, "std"),
        ({"precision": "f8"}, nc.ParameterError, "f8"),
        ({"engine": "rten", "precision": "bf16"}, nc.EngineError, "bf16"),
        ({"input": "sound"}, nc.ModelError, "sound"),
        ({"output": "nothing"}, nc.ModelError, "nothing"),
        ({"input_shape": (3, 5, 5)}, nc.ModelError, "contradicts"),
        ({"input_value": {"training": 0}}, nc.ModelError, "training"),
    ],
)
def test_what_is_wrong_is_said(backdoored_path, clean, change, error, part):
    arguments = {"model": backdoored_path, "x": clean.x, "y": clean.y, **PREPROCESSING, **change}
    with pytest.raises(error) as raised:
        nc.scan(**arguments)
    assert part in str(raised.value)
    assert isinstance(raised.value, nc.Error) and isinstance(raised.value, (ValueError, RuntimeError, OSError))


@pytest.fixture
def interruptible():
    """Ctrl-C raises KeyboardInterrupt, also where the tests run in the background of a shell that has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_other_threads_run_and_ctrl_c_ends_a_scan(backdoored, clean):
    ticks = []

    def tick():
        while not stop.wait(0.01):
            ticks.append(time.monotonic())

    stop = threading.Event()
    threading.Thread(target=tick).start()
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        nc.scan(backdoored, clean.x, clean.y, steps=1_000_000, progress=False)
    seconds = time.monotonic() - started
    stop.set()
    assert 0.9 < seconds < 30
    assert len(ticks) > 10, "the interpreter was held"


def test_a_watcher_hears_of_every_step_and_may_end_the_scan(backdoored, clean):
    events = []
    request = scan_request(samples=100, classes=[1, 2, 3, 4, 5], search={"steps": 2})
    options = {"request": request, "name": "", "sha256": ""}
    scan = nc._native.scan

    scan(backdoored._native, clean.x, None, watch=lambda *event: events.append(event), **options)
    assert events[0] == ("round", 5, 2)
    told = sorted(e[:2] for e in events[1:] if e[0] != "step")
    assert told == sorted((what, target) for what in ("started", "paused") for target in range(1, 6))
    assert sum(e[0] == "step" for e in events) == 10

    def refuse(*event):
        raise LookupError(event[0])

    with pytest.raises(LookupError, match="round"):
        scan(backdoored._native, clean.x, None, watch=refuse, **options)


def test_the_command_is_there_as_script_and_as_module(backdoored_path):
    for command in ([COMMAND], [sys.executable, "-m", "neural_cleanse"]):
        done = subprocess.run([*command, "inspect", backdoored_path], capture_output=True, text=True)
        assert (done.returncode, done.stderr[:6]) == (0, "engine"), done.stderr
        assert "can be scanned: yes" in done.stdout
        done = subprocess.run([*command, "scan"], capture_output=True, text=True)
        assert done.returncode == 2 and "Usage: neural-cleanse scan" in done.stderr


@pytest.mark.parametrize("command", [[COMMAND], PROGRAM], ids=["script", "module"])
def test_the_command_calls_itself_within_the_interpreter(command, tmp_path):
    """And takes no module from the folder that it works in, which may have come with the models."""
    (tmp_path / "neural_cleanse.py").write_text("raise SystemExit('taken from the current folder')")
    (tmp_path / "numpy.py").write_text("raise SystemExit('taken from the current folder')")
    for name in ("fmnist_badnets", "fmnist_clean"):
        (tmp_path / f"{name}.onnx").write_bytes((FIXTURES / f"{name}.onnx").read_bytes())
    scan = ["--data", FIXTURES / "fashion-mnist-400.npz", *command_options(), "--steps", "1", "--samples", "50"]
    call = [*command, "scan-all", ".", "--out", "scans", "--", *scan]
    done = subprocess.run(list(map(str, call)), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    rows = json.loads((tmp_path / "scans" / "summary.json").read_text())["models"]
    assert [row["verdict"] for row in rows] == ["inconclusive"] * 2
    page = (tmp_path / "scans" / "index.html").read_text()
    assert "neural-cleanse scan-all . --out scans" in page
