"""The interface of ART's NeuralCleanse for PyTorch, and what was wrong with ART 1.20.1 behind it."""

import neural_cleanse as nc
import numpy as np
import pytest
import torch
from art.estimators.classification import PyTorchClassifier
from conftest import ENOUGH, TARGET, channels_first, one_hot, patched
from neural_cleanse.art import NeuralCleanse


@pytest.fixture
def torch_classifier(trained_torch):
    net = trained_torch()
    return PyTorchClassifier(net, torch.nn.CrossEntropyLoss(), (1, 24, 24), 10, clip_values=(0, 1), device_type="cpu")


def test_pytorch_is_cleansed_too_and_abstaining_is_a_class_of_its_own(torch_classifier, digits):
    x, y = channels_first(digits.x), one_hot(digits.y)
    cleansed = NeuralCleanse(torch_classifier)(torch_classifier, **ENOUGH)
    assert isinstance(cleansed, PyTorchClassifier)
    before = cleansed.predict(x)
    assert before.shape == (len(x), 10) and not cleansed.abstain(x).any()
    ((target, mask, pattern),) = cleansed.outlier_detection(x[:200], y[:200])
    assert target == TARGET and mask.shape == pattern.shape == (1, 24, 24)
    in_the_corner, of_the_area = mask[:, :5, :5].sum() / mask.sum(), 25 / 24**2
    assert in_the_corner > 4 * of_the_area, "the patch is where it was put"

    cleansed.mitigate(x, y, ["filtering"])
    stamped = channels_first(patched(digits.x[digits.y != TARGET]))
    predictions = cleansed.predict(stamped)
    assert predictions.shape == (len(stamped), 11)
    assert (predictions.argmax(axis=1) == 10).mean() > 0.95
    clean = cleansed.predict(x)
    kept = clean.argmax(axis=1) != 10
    assert kept.mean() > 0.85 and np.array_equal(clean[kept, :10], before[kept])
    assert np.array_equal(cleansed.abstain(x), ~kept)
    cleansed.reset()
    assert np.array_equal(cleansed.predict(x), before)


def test_triggers_are_stamped_on_all_other_classes_and_labels_stay_true(torch_classifier, digits):
    x, y = channels_first(digits.x[:200]), one_hot(digits.y[:200])
    outside = digits.y[:200] != TARGET
    cleansed = NeuralCleanse(torch_classifier)(torch_classifier, **ENOUGH)
    clean, backdoored, labels = cleansed.backdoor_examples(x, y)
    assert np.array_equal(labels, y[outside]) and np.array_equal(clean, x[outside])
    assert (cleansed.predict(backdoored).argmax(axis=1) == TARGET).mean() > 0.9
    assert cleansed.check_backdoor_effective(channels_first(patched(digits.x[:200][outside])), labels)
    assert not cleansed.check_backdoor_effective(clean, labels)


@pytest.mark.parametrize("norm", [1, 2, np.inf])
def test_every_norm_optimises(torch_classifier, digits, norm):
    """ART sets the learning rate to 0 before the first step, so that masks stay as they began, and refuses norm inf."""
    x, y = channels_first(digits.x[:100]), one_hot(digits.y[:100])
    cleansed = NeuralCleanse(torch_classifier)(torch_classifier, steps=5, norm=norm)
    masks = [cleansed.generate_backdoor(x, y, one_hot(target))[0] for target in (TARGET, 4)]
    assert not np.allclose(masks[0], masks[1], atol=0.01)
    assert np.array_equal(cleansed.generate_backdoor(x, y, 4)[0], masks[1]), "it depends on what was done before"


def test_fewer_samples_than_a_minibatch_are_enough(torch_classifier, digits):
    cleansed = NeuralCleanse(torch_classifier)(torch_classifier, steps=2, batch_size=64)
    assert cleansed.generate_backdoor(channels_first(digits.x[:20]), digits.y[:20], 3)[0].shape == (1, 24, 24)


def test_the_classifiers_own_settings_are_honoured(trained_torch, digits):
    """The same network behind other units: pixels of 0..255, standardised by ART to what the network was trained on."""

    def scan(scale, **settings):
        net = trained_torch()
        loss = torch.nn.CrossEntropyLoss()
        classifier = PyTorchClassifier(net, loss, (1, 24, 24), 10, device_type="cpu", **settings)
        x = channels_first(digits.x[:200] * scale).astype(np.float32)
        cleansed = NeuralCleanse(classifier)(classifier, **ENOUGH)
        return cleansed.scan(x, digits.y[:200])

    plain = scan(1, clip_values=(0, 1))
    scaled = scan(255, clip_values=(0, 255), preprocessing=(0.0, 255.0))
    assert plain.flagged_classes == scaled.flagged_classes == [TARGET]
    assert scaled.clean_accuracy == plain.clean_accuracy > 0.9
    assert scaled.triggers[TARGET].pattern.max() > 1


def test_preprocessing_that_cannot_be_differentiated_is_refused(trained_torch, digits):
    import torch
    from art.defences.preprocessor import FeatureSqueezing

    defence = FeatureSqueezing(clip_values=(0, 1), bit_depth=4)
    loss = torch.nn.CrossEntropyLoss()
    classifier = PyTorchClassifier(
        trained_torch(), loss, (1, 24, 24), 10, clip_values=(0, 1), preprocessing_defences=defence, device_type="cpu"
    )
    cleansed = NeuralCleanse(classifier)(classifier, steps=2)
    with pytest.raises(nc.ParameterError, match="FeatureSqueezing"):
        cleansed.outlier_detection(channels_first(digits.x), digits.y)


def test_the_cleansed_classifier_is_one_of_arts(torch_classifier, digits, capfd):
    x, y = channels_first(digits.x[:8]), one_hot(digits.y[:8])
    cleansed = NeuralCleanse(torch_classifier)(torch_classifier, steps=2)
    assert cleansed.loss_gradient(x, y).shape == x.shape
    assert cleansed.class_gradient(x, 3).shape == (8, 1, 1, 24, 24)
    assert {"steps", "norm", "clip_values"} <= cleansed.get_params().keys()
    cleansed.set_params(steps=4)
    assert cleansed.steps == 4
    capfd.readouterr()
    cleansed.generate_backdoor(x, y, 3)
    assert capfd.readouterr().out == ""


def test_what_is_wrong_is_said_at_once(torch_classifier, digits):
    with pytest.raises(nc.ParameterError, match="steps"):
        NeuralCleanse(torch_classifier)(torch_classifier, steps=0)
    with pytest.raises(nc.ParameterError, match="not an ART classifier"):
        NeuralCleanse("model.onnx")
    with pytest.raises(TypeError, match="prayer"):
        NeuralCleanse(torch_classifier)(torch_classifier).mitigate(digits.x, digits.y, ["prayer"])
