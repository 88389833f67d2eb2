"""Keras models, whatever the backend (KERAS_BACKEND): scanned as the ONNX file is, left as they were, and repaired."""

import keras
import neural_cleanse as nc
import numpy as np
import pytest
from conftest import TARGET


def predict_with(net):
    return lambda x: keras.ops.convert_to_numpy(net(x, training=False))


def test_the_same_as_through_the_onnx_file_and_the_model_stays_as_it_was(trained_keras, digits, tmp_path):
    net = trained_keras
    before = [value.copy() for value in net.get_weights()]
    scan = nc.scan(net, digits.x, digits.y, value_range=(0, 1))
    assert all(map(np.array_equal, before, net.get_weights()))
    assert (scan.verdict, scan.flagged_classes) == ("backdoored", [TARGET])

    net.export(tmp_path / "net.onnx", format="onnx", verbose=False)
    of_file = nc.scan(tmp_path / "net.onnx", digits.x, digits.y, value_range=(0, 1), layout="nhwc")
    assert (of_file.verdict, of_file.flagged_classes) == (scan.verdict, scan.flagged_classes)
    for one, other in zip(scan.classes, of_file.classes, strict=True):
        assert one.norm_l1 == pytest.approx(other.norm_l1, rel=0.25), one.target_class


def test_repaired_weights_find_their_way_back(trained_keras, digits, measure):
    net = trained_keras
    accuracy, success = measure(predict_with(net))
    assert accuracy > 0.9 and success > 0.95
    repair = nc.mitigate(net, digits.x, digits.y, method=["unlearning", "filtering"], value_range=(0, 1))
    assert measure(predict_with(net)) == (accuracy, success)
    repair.load_into(net)
    assert np.allclose(predict_with(net)(digits.x), repair.classifier.predict(digits.x), atol=1e-4)
    accuracy_after, success_after = measure(predict_with(net))
    assert accuracy_after > accuracy - 0.05 and success_after < 0.1
