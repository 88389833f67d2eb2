"""What needs pandas, Matplotlib and tqdm."""

from pathlib import Path

import neural_cleanse as nc
import numpy as np
import pytest

FIXTURES = Path(__file__).parents[2] / "fixtures"


@pytest.fixture(scope="module")
def scan():
    arrays = np.load(FIXTURES / "fashion-mnist-400.npz")
    model = FIXTURES / "fmnist_badnets.onnx"
    return nc.scan(model, arrays["x"], arrays["y"], scale=1 / 255, mean=0.2860, std=0.3530, progress=True)


def test_a_data_frame_has_a_row_for_each_class(scan):
    table = scan.to_dataframe()
    assert list(table.index) == list(range(10)) and list(table.index[table.flagged]) == [7]
    assert list(table.norm_l1) == [figures["norm_l1"] for figures in scan.report["classes"]]


def test_a_figure_shows_norms_bound_and_the_smallest_triggers(scan, tmp_path):
    figure = scan.plot()
    norms, *triggers = figure.axes
    heights = [bar.get_height() for bar in norms.patches]
    assert np.allclose(heights, [figures["norm_l1"] for figures in scan.report["classes"]])
    median, bound = (line.get_ydata()[0] for line in norms.lines)
    assert bound == pytest.approx(0.5 * median) and [h < bound for h in heights].index(True) == 7
    assert len(triggers) == 4 and triggers[0].get_title().startswith("7:")
    figure.savefig(tmp_path / "figure.png")


def test_a_bar_shows_the_progress(scan, capsys):
    arrays = np.load(FIXTURES / "fashion-mnist-400.npz")
    model = FIXTURES / "fmnist_badnets.onnx"
    options = {"scale": 1 / 255, "mean": 0.2860, "std": 0.3530, "steps": 5}
    nc.scan(model, arrays["x"], arrays["y"], progress=True, **options)
    assert "to step 5" in capsys.readouterr().err
    nc.scan(model, arrays["x"], arrays["y"], **options)
    assert capsys.readouterr().err == "", "a bar where there is no terminal"
