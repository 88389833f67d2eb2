"""The scenario of ART's own test of NeuralCleanse, with the assertions that it lacks.

ART's KerasClassifier needs TensorFlow, which cannot be in one process with the Triton of PyTorch.
"""

import pytest
from art.estimators.classification import KerasClassifier
from conftest import ENOUGH, TARGET, one_hot, patched
from neural_cleanse.art import NeuralCleanse


@pytest.fixture
def keras_classifier(trained_keras):
    return KerasClassifier(model=trained_keras, clip_values=(0, 1), use_logits=True)


def test_the_scenario_of_arts_own_test(keras_classifier, digits):
    cleanse = NeuralCleanse(keras_classifier)
    cleansed = cleanse(keras_classifier, steps=3, patience=3)
    cleansed.mitigate(digits.x, one_hot(digits.y), mitigation_types=["filtering", "pruning", "unlearning"])
    assert cleanse._is_fitted == cleanse.is_fitted
    assert cleanse.get_classifier() is keras_classifier
    cleanse.set_params(batch_size=1)
    assert cleanse.batch_size == 1
    assert cleanse.fit(digits.x, one_hot(digits.y)) is None


def test_the_target_is_found_accuracy_kept_and_the_attack_gone(keras_classifier, digits, measure):
    cleansed = NeuralCleanse(keras_classifier)(keras_classifier, **ENOUGH)
    assert isinstance(cleansed, KerasClassifier) and cleansed.model is keras_classifier.model
    accuracy, success = measure(keras_classifier.predict)
    assert accuracy > 0.9 and success > 0.95
    repair = cleansed.mitigate(digits.x, one_hot(digits.y), ["filtering", "pruning", "unlearning"])
    assert repair.report["target_classes"] == [TARGET]
    assert [outcome["method"] for outcome in repair.report["outcomes"]] == ["pruning", "unlearning", "filtering"]
    accuracy_after, success_after = measure(cleansed.predict)
    assert accuracy_after > accuracy - 0.1 and success_after < 0.1
    # The first classifier has the same model, with the new weights and without the filter.
    accuracy_after, success_after = measure(keras_classifier.predict)
    assert accuracy_after > accuracy - 0.05 and success_after < 0.7 * success
    assert not cleansed.check_backdoor_effective(patched(digits.x), one_hot(digits.y))
