"""Makes resizing.png and resizing.npz: an image, and what Pillow and the processors of Transformers make of it."""

from pathlib import Path

import numpy as np
from PIL import Image

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}


def image() -> Image.Image:
    """61 x 47 pixels: slopes, edges and noise in each channel."""
    y, x = np.mgrid[0:47, 0:61]
    rng = np.random.default_rng(0)
    planes = [4 * x, 255 * ((x // 5 + y // 3) % 2), rng.integers(0, 256, x.shape)]
    return Image.fromarray(np.stack(planes, axis=-1).astype(np.uint8))


def cropped(image: Image.Image, height: int, width: int) -> Image.Image:
    """As Transformers crop: rounded down."""
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


folder = Path(__file__).parent
original = image()
original.save(folder / "resizing.png")
expected = {}
for name, code in FILTERS.items():
    expected[f"{name}_smaller"] = original.resize((24, 20), code)
    expected[f"{name}_larger"] = original.resize((90, 80), code)
    # The shorter side is 32: 32 · 61 / 47 = 41.5, rounded down.
    expected[f"{name}_cropped"] = cropped(original.resize((41, 32), code), 28, 28)
np.savez_compressed(folder / "resizing.npz", **{name: np.asarray(image) for name, image in expected.items()})
