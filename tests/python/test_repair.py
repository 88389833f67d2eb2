"""Repairs from Python, and triggers."""

import neural_cleanse as nc
import numpy as np
import onnx
import onnxruntime
import pytest


def test_filtering_abstains_on_the_true_trigger(backdoored, clean, backdoored_scan, true_trigger, tmp_path):
    repair = nc.mitigate(backdoored, clean.x, clean.y, backdoored_scan, method="filtering", true_trigger=true_trigger)
    assert repair.before["true_attack_success_rate"] > 0.95
    assert repair.after["true_attack_success_rate"] < 0.05
    stamped = true_trigger.apply(clean.x[clean.y != 7])
    classes = repair.predict(stamped)
    assert classes.mask.mean() > 0.95 and repair.predict(clean.x).mask.mean() < 0.15
    repair.save(tmp_path / "filtered.onnx", embed_filter=True)
    assert (tmp_path / "mitigation.json").exists()
    assert "filtered.onnx" in (tmp_path / "mitigation.html").read_text()
    embedded = nc.Classifier(tmp_path / "filtered.onnx", scale=1 / 255, mean=0.2860, std=0.3530)
    assert np.array_equal(embedded._native.embedded_abstain(embedded.images(stamped)), classes.mask)


def test_unlearning_leaves_the_model_that_was_given_alone(backdoored, clean, backdoored_scan, true_trigger, tmp_path):
    before = backdoored.to_bytes()
    repair = nc.mitigate(
        backdoored, clean.x, clean.y, backdoored_scan, true_trigger=true_trigger, max_accuracy_drop=8.0, test_samples=80
    )
    assert backdoored.to_bytes() == before
    assert repair.after["true_attack_success_rate"] < 0.3 < repair.before["true_attack_success_rate"]
    repair.save(tmp_path / "repaired.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "repaired.onnx")
    x = ((clean.x[:20] / 255 - 0.2860) / 0.3530).astype(np.float32)
    (logits,) = session.run(None, {session.get_inputs()[0].name: x})
    assert np.allclose(logits, repair.classifier.predict(clean.x[:20]), atol=1e-4)
    names = [
        [t.name for t in onnx.load_from_string(m).graph.initializer] for m in (before, repair.classifier.to_bytes())
    ]
    assert names[0] == names[1]


def test_a_repair_that_costs_too_much_is_refused(backdoored, clean, backdoored_scan):
    with pytest.raises(nc.RepairRefused, match="max_accuracy_drop"):
        nc.mitigate(backdoored, clean.x, clean.y, backdoored_scan, learning_rate=0.3, epochs=1)


def test_what_is_wrong_is_said(backdoored, clean, backdoored_scan):
    cases = [
        ({"method": "prayer"}, nc.ParameterError, "prayer"),
        ({"epoch": 3}, nc.ParameterError, "epoch"),
        ({"stamped_share": 2.0}, nc.ParameterError, "stamped_share"),
        ({"y": None}, nc.DataError, "labels"),
        ({"x": clean.x[:3], "y": clean.y[:3]}, nc.DataError, "too few"),
        ({"scan": {}, "true_trigger": backdoored_scan.triggers[7]}, nc.DataError, "one backdoor"),
        ({"engine": "rten"}, TypeError, "engine"),
    ]
    for change, error, part in cases:
        arguments = {"model": backdoored, "x": clean.x, "y": clean.y, "scan": backdoored_scan, **change}
        with pytest.raises(error, match=part):
            nc.mitigate(**arguments)


def test_gradients_are_those_of_finite_differences(backdoored, clean):
    x, y = clean.x[:3].astype(np.float64), clean.y[:3]
    direction = np.random.default_rng(0).normal(size=x.shape)

    def losses(x):
        logits = backdoored.predict(x).astype(np.float64)
        return np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(3), y]

    step = 0.25
    expected = (losses(x + step * direction) - losses(x - step * direction)) / (2 * step)
    found = (backdoored.loss_gradient(x, y) * direction).sum(axis=(1, 2, 3))
    assert np.allclose(found, expected, rtol=0.05, atol=1e-3)
    assert backdoored.class_gradient(x, 4).shape == x.shape


def test_a_trigger_is_applied_in_any_layout_and_type():
    trigger = nc.Trigger(np.array([[[0.0, 1.0], [0.25, 0.0]]]), np.array([[[9.0, 255.0], [100.0, 9.0]]] * 3))
    x = np.full((2, 3, 2, 2), 8, np.uint8)
    stamped = trigger.apply(x)
    assert stamped.dtype == np.uint8 and np.array_equal(stamped, np.broadcast_to([[8, 255], [31, 8]], x.shape))
    assert np.array_equal(trigger.apply(x.transpose(0, 2, 3, 1)), stamped.transpose(0, 2, 3, 1))
    assert trigger.norm_l1 == 1.25


def test_a_trigger_with_a_range_is_added():
    change = np.array([[[-4.0, 200.0], [0.0, 1.6]]] * 3)
    trigger = nc.Trigger(np.abs(change[:1]) / 255, change, (0, 255))
    stamped = trigger.apply(np.full((1, 3, 2, 2), 100, np.uint8))
    assert np.array_equal(stamped, np.broadcast_to([[96, 255], [100, 102]], (1, 3, 2, 2)))


def test_triggers_that_make_no_sense_are_refused(tmp_path):
    mask, pattern = np.zeros((1, 2, 2)), np.zeros((3, 2, 2))
    for wrong in [
        (mask + 2, pattern),
        (mask, pattern * np.nan),
        (np.zeros((2, 2, 2)), pattern),
        (mask, np.zeros((3, 4, 4))),
        (mask, pattern + 9, (0, 8)),
        (mask, pattern, (1, 1)),
    ]:
        with pytest.raises(nc.DataError):
            nc.Trigger(*wrong)
    (tmp_path / "trigger.npz").write_bytes(b"PK not really")
    with pytest.raises(nc.FileError, match="trigger.npz"):
        nc.Trigger.load(tmp_path / "trigger.npz")
    nc.Trigger(mask, pattern).save(tmp_path / "trigger.npz")
    assert np.array_equal(nc.Trigger.load(tmp_path / "trigger.npz").pattern, pattern)
