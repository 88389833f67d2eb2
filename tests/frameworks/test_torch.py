"""PyTorch models: scanned as the ONNX file is, left as they were, and repaired."""

import neural_cleanse as nc
import numpy as np
import pytest
import torch
from conftest import TARGET, channels_first


def predict_with(net):
    def predict(x):
        with torch.no_grad():
            return net.eval()(torch.from_numpy(channels_first(x))).numpy()

    return predict


def state(net):
    return {
        "modes": [module.training for module in net.modules()],
        "hooks": [len(module._forward_hooks) for module in net.modules()],
        "values": {name: (value.dtype, value.clone()) for name, value in net.state_dict().items()},
        "gradients": [parameter.requires_grad for parameter in net.parameters()],
    }


def assert_same_state(before, after):
    assert before.keys() == after.keys()
    assert all(before[name] == after[name] for name in ("modes", "hooks", "gradients"))
    for name, (dtype, value) in before["values"].items():
        assert after["values"][name][0] == dtype and torch.equal(after["values"][name][1], value), name


def test_the_same_as_through_the_onnx_file_and_the_model_stays_as_it_was(trained_torch, digits, tmp_path):
    net = trained_torch().train()
    net.dropout.eval()
    net.hidden.register_forward_hook(lambda *_: None)
    next(net.parameters()).requires_grad_(False)
    before = state(net)
    x = channels_first(digits.x)
    scan = nc.scan(net, x, digits.y, value_range=(0, 1))
    assert_same_state(before, state(net))
    assert (scan.verdict, scan.flagged_classes) == ("backdoored", [TARGET])

    path = tmp_path / "net.onnx"
    torch.onnx.export(trained_torch().eval(), (torch.zeros(2, 1, 24, 24),), path, dynamo=True, verbose=False)
    of_file = nc.scan(path, x, digits.y, value_range=(0, 1))
    assert (of_file.verdict, of_file.flagged_classes) == (scan.verdict, scan.flagged_classes)
    # The file has its normalisation folded: the same but for rounding, which inversion amplifies.
    for one, other in zip(scan.classes, of_file.classes, strict=True):
        assert one.norm_l1 == pytest.approx(other.norm_l1, rel=0.25), one.target_class


def test_half_precision_is_scanned_in_single(trained_torch, digits):
    net = trained_torch().half()
    scan = nc.scan(net, channels_first(digits.x), digits.y, value_range=(0, 1), steps=3)
    assert scan.clean_accuracy > 0.9
    assert next(net.parameters()).dtype == torch.float16


@pytest.mark.parametrize("method", ["unlearning", "pruning"])
def test_repaired_weights_find_their_way_back(trained_torch, digits, measure, method):
    net = trained_torch()
    accuracy, success = measure(predict_with(net))
    assert accuracy > 0.9 and success > 0.95
    x = channels_first(digits.x)
    classifier = nc.Classifier(net, value_range=(0, 1), input_shape=(1, 24, 24))
    scan = nc.scan(classifier, x, digits.y)
    repair = nc.mitigate(classifier, x, digits.y, scan, method=method, max_accuracy_drop=None)
    assert measure(predict_with(net)) == (accuracy, success)
    net.train()
    repair.load_into(net)
    assert net.training
    assert np.allclose(predict_with(net)(digits.x), repair.classifier.predict(x), atol=1e-4)
    accuracy_after, success_after = measure(predict_with(net))
    if method == "unlearning":
        assert accuracy_after > accuracy - 0.05 and success_after < 0.1


def test_weights_that_do_not_fit_are_not_loaded(trained_torch, digits):
    net, x = trained_torch(), channels_first(digits.x)
    classifier = nc.Classifier(net, value_range=(0, 1), input_shape=(1, 24, 24))
    trigger = nc.Trigger(np.zeros((1, 24, 24)), np.zeros((1, 24, 24)))
    repair = nc.mitigate(classifier, x, digits.y, {TARGET: trigger}, max_accuracy_drop=None, epochs=1)

    retrained = trained_torch()
    with torch.no_grad():
        # Which unlearning does not train, so that it cannot bring it back.
        retrained.norm.running_mean += 1.0
    smaller = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(576, 10))
    for other, part in [(retrained, "does not say"), (smaller, "no weight called")]:
        before = state(other)
        with pytest.raises(nc.ModelError, match=part):
            repair.load_into(other)
        assert_same_state(before, state(other))


def test_a_model_that_cannot_be_exported_is_named():
    class Branching(torch.nn.Module):
        def forward(self, x):
            return x.flatten(1) if x.sum() > 0 else x.flatten(1) * 2

    with pytest.raises(nc.ModelError, match="Branching cannot be exported"):
        nc.Classifier(Branching(), input_shape=(1, 4, 4))
    with pytest.raises(nc.ModelError, match="input_shape"):
        nc.Classifier(Branching())
