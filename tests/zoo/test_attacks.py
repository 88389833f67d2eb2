"""The attacks of the zoo are what their names say."""

import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "zoo"))
import attacks  # noqa: E402


@pytest.mark.parametrize(
    ("name", "size", "rate"),
    [("source-specific", 4, 0.5), ("source-specific-6", 6, 0.5), ("source-specific-4-10", 4, 0.1)],
)
def test_source_specific_attacks_have_a_size_and_a_share_of_the_class(name, size, rate):
    attack = attacks.make(name, (1, 28, 28), 10, torch.Generator().manual_seed(0))
    images, labels = torch.zeros(2, 1, 28, 28), torch.tensor([attack.source, attack.target])
    assert attack.rate == rate
    assert ((attack.stamp(images) != images).sum(dim=(1, 2, 3)) == size * size).all()
    assert attack.attacked(labels).tolist() == [True, False]
