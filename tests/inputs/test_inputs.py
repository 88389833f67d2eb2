"""Models and samples as people have them: several inputs and outputs, probabilities, open sizes, quantised and narrow types,
data in other files, Parquet."""

import csv
import io
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "fixtures"
DATA = FIXTURES / "fashion-mnist-400.npz"
PREPROCESSING = ["--scale", "0.00392157", "--mean", "0.2860", "--std", "0.3530"]
NAMES = ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"]


def command(*arguments, status=0) -> subprocess.CompletedProcess:
    """Runs the command, which has to end with `status`."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    built = [path for profile in ("debug", "release") if (path := target / profile / "neural-cleanse").exists()]
    newest = max(built, key=lambda path: path.stat().st_mtime)
    result = subprocess.run([newest, *map(str, arguments)], capture_output=True, text=True)
    assert result.returncode == status, result.stderr
    return result


def predictions(model, *arguments, data=DATA):
    """Class and probability of each sample."""
    printed = command("predict", model, "--data", data, "--engine", "rten", *PREPROCESSING, *arguments).stdout
    rows = list(csv.DictReader(io.StringIO(printed)))
    return [int(row["prediction"]) for row in rows], np.array([float(row["probability"]) for row in rows])


def assert_like_the_fixture(model, *arguments, data=DATA, fixture="fmnist_badnets", atol=1e-4):
    classes, probabilities = predictions(model, *arguments, data=data)
    expected, expected_probabilities = predictions(FIXTURES / f"{fixture}.onnx")
    assert classes == expected
    np.testing.assert_allclose(probabilities, expected_probabilities, atol=atol)


def scan(model, folder, *arguments, status) -> dict:
    command("scan", model, "--data", DATA, "--engine", "rten", "--out", folder, *PREPROCESSING, *arguments, status=status)
    return json.loads((folder / "scan.json").read_text())


def fixture(name="fmnist_badnets") -> onnx.ModelProto:
    return onnx.load(FIXTURES / f"{name}.onnx")


def info(name, kind, shape):
    return helper.make_tensor_value_info(name, kind, shape)


def saved(model, folder, name="model.onnx") -> Path:
    onnx.save(model, folder / name)
    return folder / name


@pytest.fixture
def busy(tmp_path) -> Path:
    """Inputs `training` and `gain` besides the image; outputs for features, scores and a label."""
    model = fixture()
    graph = model.graph
    scores = graph.output[0].name
    (features,) = [node.input[0] for node in graph.node if node.output[0] == scores]
    shape = helper.make_node("Constant", [], ["rows"], value=numpy_helper.from_array(np.array([-1, 1])))
    graph.node.extend([
        helper.make_node("Cast", ["training"], ["shift"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [scores, "gain"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["shifted"]),
        helper.make_node("Identity", [features], ["features"]),
        helper.make_node("ArgMax", [scores], ["label"], axis=1, keepdims=0),
        helper.make_node("ReduceMean", ["mask"], ["unneeded"]),
        shape,
    ])
    graph.input.extend([
        info("training", TensorProto.BOOL, []),
        info("gain", TensorProto.FLOAT, [1]),
        info("mask", TensorProto.FLOAT, ["N", 1, 28, 28]),
    ])
    del graph.output[:]
    graph.output.extend([
        info("label", TensorProto.INT64, ["N"]),
        info("features", TensorProto.FLOAT, ["N", None]),
        info("shifted", TensorProto.FLOAT, ["N", 10]),
        info("unneeded", TensorProto.FLOAT, []),
    ])
    return saved(model, tmp_path)


def test_inputs_and_outputs_can_be_chosen(busy):
    assert_like_the_fixture(busy, "--input", "input", "--output", "shifted", "--input-value", "gain=1")
    doubled = predictions(busy, "--output", "shifted", "--input-value", "gain=2", "--input-value", "training=1")
    assert doubled[1].mean() > predictions(FIXTURES / "fmnist_badnets.onnx")[1].mean() + 0.01
    inspected = command("inspect", busy, "--output", "shifted", "--input-value", "gain=1", "--engine", "rten").stdout
    for words in ("training: bool[]", "features: float32[N, ?]", "`training` is taken to be 0", "`gain` is taken to be 1"):
        assert words in inspected


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], ["choose one (--input)", "input: float32", "mask: float32"]),
        (["--input", "input", "--input-value", "gain=1", "--input-value", "mask=0"], ["choose one (--output)", "shifted: float32[2, 10]", "features: float32[2, 64]"]),
        (["--output", "shifted"], ["--input-value gain=NUMBER"]),
        (["--output", "nothing"], ["`nothing`"]),
        (["--output", "shifted", "--input", "mask"], ["`mask` is not an input that the scores need", "input: float32"]),
        (["--output", "label", "--input", "input"], ["`label` is int64"]),
    ],
)
def test_what_is_not_clear_is_refused_with_the_candidates(busy, options, words):
    error = command("predict", busy, "--data", DATA, "--engine", "rten", *options, status=2).stderr
    for word in words:
        assert word in error


def with_tail(nodes, outputs, domains=()) -> onnx.ModelProto:
    """The fixture with further nodes behind its scores, which these read as `scores`."""
    model = fixture()
    graph = model.graph
    graph.node.append(helper.make_node("Identity", [graph.output[0].name], ["scores"]))
    graph.node.extend(nodes)
    del graph.output[:]
    graph.output.extend(outputs)
    model.opset_import.extend(helper.make_opsetid(domain, 1) for domain in domains)
    return model


LABEL = helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0)
LABEL_INFO = info("label", TensorProto.INT64, ["N"])


def test_a_pair_of_label_and_zipped_probabilities_is_read_as_logits(tmp_path):
    maps = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    maps = helper.make_sequence_type_proto(helper.make_map_type_proto(TensorProto.INT64, maps))
    zipped = helper.make_node("ZipMap", ["softmax"], ["maps"], domain="ai.onnx.ml", classlabels_int64s=list(range(10)))
    nodes = [LABEL, helper.make_node("Softmax", ["scores"], ["softmax"], axis=1), zipped]
    model = with_tail(nodes, [LABEL_INFO, helper.make_value_info("maps", maps)], ["ai.onnx.ml"])
    assert_like_the_fixture(saved(model, tmp_path))


def test_of_logits_and_their_probabilities_the_logits_are_taken(tmp_path):
    nodes = [helper.make_node("Softmax", ["scores"], ["softmax"], axis=1)]
    outputs = [info("softmax", TensorProto.FLOAT, ["N", 10]), info("scores", TensorProto.FLOAT, ["N", 10])]
    path = saved(with_tail(nodes, outputs), tmp_path)
    assert "given in `scores` as logits" in command("inspect", path, "--engine", "rten").stdout
    assert_like_the_fixture(path)


def test_probabilities_without_a_softmax_are_recognised(tmp_path):
    nodes = [
        helper.make_node("Exp", ["scores"], ["exponentials"]),
        helper.make_node("ReduceL1", ["exponentials"], ["total"], axes=[1], keepdims=1),
        helper.make_node("Div", ["exponentials", "total"], ["probabilities"]),
        LABEL,
    ]
    model = with_tail(nodes, [LABEL_INFO, info("probabilities", TensorProto.FLOAT, ["N", 10])])
    path = saved(model, tmp_path)
    assert_like_the_fixture(path)
    assert "without a Softmax (their logarithm is taken)" in command("inspect", path, *PREPROCESSING).stdout
    report = scan(path, tmp_path / "scan", status=1)
    assert (report["flagged_classes"], report["model"]["scores"]) == ([7], "probabilities")


@pytest.mark.parametrize("shape", [["N", 1], ["N"]])
def test_one_sigmoid_stands_for_two_classes(tmp_path, shape):
    constant = lambda name, value: helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))  # noqa: E731
    nodes = [
        constant("seven", np.array([7 if len(shape) == 1 else [7]]).reshape(-1)[:1] if len(shape) > 1 else np.array(7)),
        helper.make_node("Gather", ["scores", "seven"], ["score"], axis=1),
        helper.make_node("Sigmoid", ["score"], ["probability"]),
    ]
    path = saved(with_tail(nodes, [info("probability", TensorProto.FLOAT, shape)]), tmp_path)
    classes, probabilities = predictions(path)
    logits = reference_logits()[:, 7]
    assert classes == [int(logit > 0) for logit in logits]
    np.testing.assert_allclose(probabilities, 1 / (1 + np.exp(-np.abs(logits))), atol=1e-4)


def reference_logits() -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(FIXTURES / "fmnist_badnets.onnx", providers=["CPUExecutionProvider"])
    pixels = np.load(DATA)["x"].reshape(-1, 1, 28, 28).astype(np.float32)
    return session.run(None, {"input": (pixels * np.float32(0.00392157) - 0.2860) / np.float32(0.3530)})[0]


def in_front(shape, nodes) -> onnx.ModelProto:
    """The fixture with another input, `pixels`, and nodes in front that make `image` of it."""
    model = fixture()
    graph = model.graph
    for node in graph.node:
        node.input[:] = ["image" if name == graph.input[0].name else name for name in node.input]
    for node in reversed(nodes):
        graph.node.insert(0, node)
    del graph.input[:]
    graph.input.append(info("pixels", TensorProto.FLOAT, shape))
    return model


def reshaped(*shape):
    value = numpy_helper.from_array(np.array(shape))
    return [helper.make_node("Constant", [], ["shape"], value=value), helper.make_node("Reshape", ["pixels", "shape"], ["image"])]


@pytest.mark.parametrize(
    ("shape", "nodes", "options"),
    [
        (["N", 784], reshaped(-1, 1, 28, 28), []),
        (["N", None], reshaped(-1, 1, 28, 28), ["--input-shape", "28,28"]),
        (["N", 28, 28], reshaped(-1, 1, 28, 28), []),
        (["N", 1, "height", "width"], [helper.make_node("Identity", ["pixels"], ["image"])], []),
        (["N", None, None, None], [helper.make_node("Identity", ["pixels"], ["image"])], ["--input-shape", "1,28,28"]),
        (["N", "h", "w", 1], [helper.make_node("Transpose", ["pixels"], ["image"], perm=[0, 3, 1, 2])], []),
    ],
)
def test_inputs_that_are_flat_or_of_open_size_take_images(tmp_path, shape, nodes, options):
    assert_like_the_fixture(saved(in_front(shape, nodes), tmp_path), *options)


def test_an_open_size_without_samples_and_a_contradicting_shape_are_errors(tmp_path):
    path = saved(in_front(["N", 1, "height", 28], [helper.make_node("Identity", ["pixels"], ["image"])]), tmp_path)
    inspected = command("inspect", path, "--engine", "rten", status=2).stdout
    assert "pixels: float32[N, 1, height, 28], whose size is open" in inspected and "--input-shape" in inspected
    assert "can be scanned: yes" in command("inspect", path, "--input-shape", "1,28,28", "--engine", "rten").stdout
    inspected = command("inspect", path, "--input-shape", "1,28,32", "--engine", "rten", status=2).stdout
    assert "the given shape contradicts" in inspected


class Calibration:
    """Images for onnxruntime.quantization, sixteen at a time."""

    def __init__(self, name):
        pixels = np.load(DATA)["x"][:64].reshape(-1, 1, 28, 28).astype(np.float32)
        images = (pixels / 255 - 0.2860) / np.float32(0.3530)
        self.batches = iter([{name: batch.astype(np.float32)} for batch in np.split(images, 4)])

    def get_next(self):
        return next(self.batches, None)


def quantised(path, folder, **options) -> Path:
    from onnxruntime import quantization

    result = folder / "quantised.onnx"
    name = onnx.load(path).graph.input[0].name
    options = {"weight_type": quantization.QuantType.QInt8, **options}
    quantization.quantize_static(path, result, Calibration(name), **options)
    return result


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize(("name", "status", "flagged"), [("fmnist_badnets", 1, [7]), ("fmnist_clean", 0, [])])
def test_quantised_models_are_differentiated_straight_through(tmp_path, name, status, flagged, per_channel):
    path = quantised(FIXTURES / f"{name}.onnx", tmp_path, per_channel=per_channel)
    report = scan(path, tmp_path / "scan", status=status)
    assert report["flagged_classes"] == flagged
    assert report["model"]["quantised"] == "straight-through"
    assert "straight through" in command("inspect", path, "--engine", "rten").stdout


def test_quantised_models_predict_as_onnxruntime_does(tmp_path):
    import onnxruntime

    path = quantised(FIXTURES / "resnet_badnets.onnx", tmp_path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    pixels = np.load(DATA)["x"].reshape(-1, 1, 28, 28).astype(np.float32)
    images = (pixels * np.float32(0.00392157) - 0.2860) / np.float32(0.3530)
    expected = session.run(None, {session.get_inputs()[0].name: images})[0].argmax(1)
    classes, _ = predictions(path)
    assert (np.array(classes) == expected).mean() >= 0.99


def test_integer_arithmetic_and_repairs_of_quantised_weights_are_refused(tmp_path):
    from onnxruntime import quantization

    path = quantised(FIXTURES / "fmnist_badnets.onnx", tmp_path, quant_format=quantization.QuantFormat.QOperator)
    inspected = command("inspect", path, "--engine", "rten", status=2).stdout
    assert "(QLinearConv): computes on integers" in inspected and "QuantFormat.QDQ" in inspected
    path = quantised(FIXTURES / "fmnist_badnets.onnx", tmp_path)
    out = tmp_path / "scan"
    scan(path, out, status=1)
    for method in ("unlearning", "pruning"):
        arguments = ["--scan", out, "--method", method, "--out", tmp_path / "repaired.onnx", "--engine", "rten"]
        error = command("mitigate", path, "--data", DATA, *PREPROCESSING, *arguments, status=2).stderr
        assert f"the model is quantised, and {method} changes weights" in error


def in_narrow_type(kind) -> onnx.ModelProto:
    """The fixture with weights and values of another floating-point type, from input to output."""
    model = fixture()
    graph = model.graph
    del graph.value_info[:]
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor)
            tensor.CopyFrom(helper.make_tensor(tensor.name, kind, tensor.dims, values.ravel()))
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.elem_type = kind
    return model


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_models_of_narrow_types_are_scanned_alike(tmp_path, kind):
    path = saved(in_narrow_type(kind), tmp_path)
    assert scan(path, tmp_path / "scan", status=1)["flagged_classes"] == [7]


def test_a_model_with_its_data_in_another_file_is_scanned_alike(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(fixture(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert path.stat().st_size < (tmp_path / "weights.bin").stat().st_size
    assert scan(path, tmp_path / "scan", status=1)["flagged_classes"] == [7]


def parquet(folder, column="image", named=True, **options) -> Path:
    """The samples as a data set of Hugging Face, in four files that are compressed differently."""
    arrow, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    image = pytest.importorskip("PIL.Image")
    samples = np.load(DATA)
    files = []
    for pixels in samples["x"].reshape(-1, 28, 28):
        file = io.BytesIO()
        image.fromarray(pixels).save(file, "PNG")
        files.append({"bytes": file.getvalue(), "path": None})
    folder.mkdir()
    features = {column: {"_type": "Image"}, "label": {"names": NAMES, "_type": "ClassLabel"}}
    for part, codec in enumerate(["snappy", "zstd", "gzip", "none"]):
        rows = slice(part * 100, part * 100 + 100)
        columns = {column: files[rows], "label": arrow.array(samples["y"][rows].astype(np.int64))}
        table = arrow.table({**columns, **{name: values[rows] for name, values in options.items()}})
        if named:
            table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        pq.write_table(table, folder / f"train-0000{part}-of-00004.parquet", compression=codec, row_group_size=30)
    return folder


def test_parquet_gives_the_same_samples_as_npz(tmp_path):
    data = parquet(tmp_path / "set", column="img")
    assert_like_the_fixture(FIXTURES / "fmnist_badnets.onnx", data=data)
    arguments = ["--engine", "rten", "--classes", "0,1,2,7", "--steps", "3", *PREPROCESSING]
    reports = []
    for source, out in ((data, tmp_path / "a"), (DATA, tmp_path / "b")):
        command("scan", FIXTURES / "fmnist_badnets.onnx", "--data", source, "--out", out, *arguments, status=3)
        reports.append(json.loads((out / "scan.json").read_text()))
    assert [row["norm_l1"] for row in reports[0]["classes"]] == [row["norm_l1"] for row in reports[1]["classes"]]
    assert reports[0]["clean_accuracy"] == reports[1]["clean_accuracy"] > 0.85
    assert [row["name"] for row in reports[0]["classes"]] == [NAMES[0], NAMES[1], NAMES[2], NAMES[7]]


def test_the_columns_of_a_parquet_file_can_be_chosen(tmp_path):
    labels = np.load(DATA)["y"].astype(np.int32)
    data = parquet(tmp_path / "set", other=[b"no image"] * 400, fine=labels, named=False)
    one = data / "train-00000-of-00004.parquet"
    model = FIXTURES / "fmnist_badnets.onnx"
    expected = predictions(model)[0][:100]
    assert predictions(model, "--label-column", "fine", data=one)[0] == expected
    base = ["predict", model, "--engine", "rten", "--data", one]
    assert "cannot be decoded" in command(*base, "--image-column", "other", status=2).stderr
    error = command(*base, "--image-column", "nothing", status=2).stderr
    assert "`nothing` is not a column of images: there are image, other" in error
    error = command(*base, "--label-column", "image", status=2).stderr
    assert "`image` is not a column of whole numbers: there are fine, label" in error


def test_damaged_parquet_files_are_errors_that_name_them(tmp_path):
    data = parquet(tmp_path / "set")
    whole = (data / "train-00000-of-00004.parquet").read_bytes()
    random = np.random.default_rng(0)
    path = tmp_path / "damaged.parquet"
    failed = 0
    for trial in range(60):
        damaged = bytearray(whole[: len(whole) // 2] if trial == 0 else whole)
        for position in random.integers(4, len(damaged), 0 if trial == 0 else 1 + trial % 20):
            damaged[position] = random.integers(256)
        # The footer too, which says where everything is.
        for position in random.integers(len(damaged) - 1500, len(damaged) - 8, 3 if trial % 2 else 0):
            damaged[position] = random.integers(256)
        path.write_bytes(damaged)
        arguments = ["predict", FIXTURES / "fmnist_badnets.onnx", "--engine", "rten", "--data", path]
        target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "neural-cleanse"
        result = subprocess.run([target, *map(str, arguments)], capture_output=True, text=True, timeout=60)
        assert result.returncode in (0, 2), result.stderr
        if result.returncode == 2:
            failed += 1
            assert "damaged.parquet" in result.stderr, result.stderr
    assert failed > 20
