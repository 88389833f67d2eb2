"""What a run over a cluster keeps comes back as it was."""

import numpy as np
import pytest
from neural_cleanse._run_store import Store


@pytest.mark.parametrize("extent", [None, (12.5, 0.75)], ids=["without an extent", "with one"])
@pytest.mark.parametrize("low_and_high", [None, (-1.0, 2.5)], ids=["blended", "additive"])
def test_an_inversion_comes_back_as_it_was_kept(tmp_path, low_and_high, extent):
    trigger = np.linspace(0, 1, 12, dtype=np.float32).reshape(1, 3, 4), np.ones((3, 3, 4), np.float32), low_and_high
    inverted = 7, trigger, True, extent, '[{"step": 1}]', 960
    Store(tmp_path, "run").keep((7, 2), inverted)

    ((job, again),) = Store(tmp_path, "run").inversions().items()
    assert job == (7, 2)
    assert (again[0], *again[2:]) == (7, True, extent, '[{"step": 1}]', 960)
    mask, pattern, range_again = again[1]
    np.testing.assert_array_equal(mask, trigger[0])
    np.testing.assert_array_equal(pattern, trigger[1])
    assert range_again == low_and_high

    assert Store(tmp_path, "another run").inversions() == {}
