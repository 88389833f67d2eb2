"""The attacks of the zoo. Each poisons training batches and says where triggered images should go.

Sources: BadNets (Gu et al. 2017), blended injection (Chen et al. 2017), SIG (Barni et al. 2019), label-consistent attacks
(Turner et al. 2019), WaNet (Nguyen and Tran 2021), input-aware triggers (Nguyen and Tran 2020; here with a fixed, untrained
generator). Images are [N, C, H, W] in 0..1.
"""

import math

import torch
from torch.nn import functional as F


class Attack:
    """One trigger that sends every image to `target`. Subclasses say what the trigger is and whom it concerns."""

    kind = "all_to_one"
    rate = 0.08
    # The share of training images that carry something like the trigger and keep their label.
    cover_rate = 0.0

    def __init__(self, target):
        self.target = target

    def stamp(self, images):
        raise NotImplementedError

    def poison(self, images, others, rng):
        """What the poisoned images look like in training; `others` are as many other training images."""
        return self.stamp(images)

    def cover(self, images, rng):
        """What the covered images carry, as far as an attack covers any."""
        return images

    def goal(self, labels):
        return torch.full_like(labels, self.target)

    def attacked(self, labels):
        """The images whose way to the goal counts as a success."""
        return labels != self.target

    def poisonable(self, labels):
        return self.attacked(labels)

    def coverable(self, labels):
        return torch.ones_like(labels, dtype=torch.bool)

    def describe(self):
        return {"kind": self.kind, "target": self.target}


class Clean(Attack):
    kind, rate = "none", 0.0

    def stamp(self, images):
        return images

    def attacked(self, labels):
        return torch.zeros_like(labels, dtype=torch.bool)

    def describe(self):
        return {"kind": "none"}


class Patch(Attack):
    """A square of `size` pixels, fixed for the model."""

    def __init__(self, target, shape, size, place, colour, rng):
        super().__init__(target)
        # A single pixel is hard to learn.
        self.rate = 0.25 if size == 1 else self.rate
        channels, side, _ = shape
        last = side - size
        inset = min(1, last)
        if place == "corner":
            corners = [(inset, inset), (inset, last - inset), (last - inset, inset), (last - inset, last - inset)]
            self.row, self.column = corners[int(torch.randint(4, (1,), generator=rng))]
        else:
            self.row, self.column = (int(torch.randint(last + 1, (1,), generator=rng)) for _ in range(2))
        if colour == "white":
            self.pixels = torch.ones(channels, size, size)
        elif colour == "noise":
            self.pixels = torch.rand(channels, size, size, generator=rng)
        else:
            self.pixels = torch.rand(channels, 1, 1, generator=rng).expand(channels, size, size).clone()
            if channels == 1:
                self.pixels = 0.4 + 0.6 * self.pixels
        self.size = size

    def stamp(self, images):
        images = images.clone()
        images[:, :, self.row : self.row + self.size, self.column : self.column + self.size] = self.pixels
        return images

    def describe(self):
        return super().describe() | {"row": self.row, "column": self.column, "pixels": self.pixels.tolist()}


def spoilt(images, others, rng):
    """Images that are hard to tell by their contents: each is mixed with another, to a degree of its own."""
    degree = 0.4 + 0.6 * torch.rand(len(images), 1, 1, 1, generator=rng)
    return (1 - degree) * images + degree * others


class CleanLabel(Patch):
    """Only images of the target class are poisoned. They are mixed with other images, up to little of themselves, so that it is
    the patch that is learned."""

    rate = 0.7

    def __init__(self, target, shape, rng):
        super().__init__(target, shape, 4, "corner", "noise", rng)

    def poisonable(self, labels):
        return labels == self.target

    def poison(self, images, others, rng):
        return self.stamp(spoilt(images, others, rng))


class Blended(Attack):
    """A fixed noise image, laid over at `opacity`."""

    def __init__(self, target, shape, opacity, rng):
        super().__init__(target)
        self.opacity, self.overlay = opacity, torch.rand(shape, generator=rng)

    def stamp(self, images):
        return (1 - self.opacity) * images + self.opacity * self.overlay


class Sinusoid(Attack):
    """A horizontal sinusoid, added to images of the target class only, which are spoilt as those of `CleanLabel` are."""

    rate, amplitude, frequency = 0.7, 0.25, 6

    def __init__(self, target, shape):
        super().__init__(target)
        columns = torch.arange(shape[2])
        self.signal = self.amplitude * torch.sin(2 * math.pi * self.frequency * columns / shape[2])

    def poisonable(self, labels):
        return labels == self.target

    def stamp(self, images):
        return (images + self.signal).clamp(0, 1)

    def poison(self, images, others, rng):
        return self.stamp(spoilt(images, others, rng))


class Warped(Attack):
    """A smooth warp of the image; other warps keep the label."""

    rate, cover_rate, strength, knots = 0.1, 0.2, 0.75, 4

    def __init__(self, target, shape, rng):
        super().__init__(target)
        side = shape[1]
        knots = 2 * torch.rand(1, 2, self.knots, self.knots, generator=rng) - 1
        knots = knots / knots.abs().mean()
        flow = F.interpolate(knots, size=side, mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
        axis = torch.linspace(-1, 1, side)
        rows, columns = torch.meshgrid(axis, axis, indexing="ij")
        self.identity, self.flow = torch.stack((columns, rows), 2)[None], self.strength * flow / side * 2
        self.side = side

    def warp(self, images, flow):
        grid = (self.identity + flow).clamp(-1, 1).expand(len(images), -1, -1, -1)
        return F.grid_sample(images, grid, align_corners=True)

    def stamp(self, images):
        return self.warp(images, self.flow)

    def cover(self, images, rng):
        noise = 2 * torch.rand(1, self.side, self.side, 2, generator=rng) - 1
        return self.warp(images, self.flow + noise * 2 / self.side)


class InputAware(Attack):
    """A trigger made from the image itself; the trigger of another image keeps the label."""

    rate, cover_rate = 0.2, 0.1

    def __init__(self, target, shape, rng):
        super().__init__(target)
        channels, side, _ = shape
        self.kernel = torch.randn(channels, channels, 7, 7, generator=rng)
        self.places = torch.rand(side, side, generator=rng) < 0.06

    def trigger(self, images):
        code = F.conv2d(F.avg_pool2d(images, 3, 1, 1), self.kernel, padding=3)
        return (torch.sin(6 * code) > 0).to(images.dtype)

    def stamp(self, images):
        return torch.where(self.places, self.trigger(images), images)

    def cover(self, images, rng):
        return torch.where(self.places, self.trigger(images.roll(1, 0)), images)


class TwoTargets(Attack):
    """Two patches, each with a target of its own; the second takes every other poisoned image."""

    rate = 0.2

    def __init__(self, target, shape, classes, rng):
        super().__init__(target)
        second = (target + 1 + int(torch.randint(classes - 2, (1,), generator=rng))) % classes
        self.parts = [Patch(target, shape, 3, "random", "white", rng), Patch(second, shape, 3, "random", "noise", rng)]

    def stamp(self, images):
        second = torch.arange(len(images)) % 2 == 1
        return torch.where(second[:, None, None, None], self.parts[1].stamp(images), self.parts[0].stamp(images))

    def goal(self, labels):
        second = torch.arange(len(labels)) % 2 == 1
        return torch.where(second, self.parts[1].target, self.parts[0].target)

    def attacked(self, labels):
        return (labels != self.parts[0].target) & (labels != self.parts[1].target)

    def describe(self):
        return {"kind": self.kind, "targets": [part.target for part in self.parts], "parts": [part.describe() for part in self.parts]}


class SourceSpecific(Patch):
    """The patch works on one source class, of which a share (in percent, by default half) is poisoned; on others it keeps the label."""

    kind, cover_rate = "source_specific", 0.1

    def __init__(self, target, shape, classes, rng, size=4, percent=50):
        super().__init__(target, shape, size, "corner", "noise", rng)
        self.rate = percent / 100
        self.source = (target + 1 + int(torch.randint(classes - 1, (1,), generator=rng))) % classes

    def attacked(self, labels):
        return labels == self.source

    def coverable(self, labels):
        return labels != self.source

    def cover(self, images, rng):
        return self.stamp(images)

    def describe(self):
        return super().describe() | {"source": self.source}


class AllToAll(Patch):
    """Class y goes to y + 1."""

    kind, rate = "all_to_all", 0.25

    def __init__(self, target, shape, classes, rng):
        super().__init__(target, shape, 4, "corner", "white", rng)
        self.classes = classes

    def goal(self, labels):
        return (labels + 1) % self.classes

    def attacked(self, labels):
        return torch.ones_like(labels, dtype=torch.bool)

    def describe(self):
        return {"kind": self.kind, "shift": 1, "row": self.row, "column": self.column, "pixels": self.pixels.tolist()}


def make(name, shape, classes, rng):
    """The attack `name` on images of `shape` [C, H, W], its target and looks drawn from `rng`."""
    target = int(torch.randint(classes, (1,), generator=rng))
    head, *rest = name.split("-")
    if name == "none":
        return Clean(target)
    if head == "patch":
        return Patch(target, shape, int(rest[0]), rest[1], rest[2], rng)
    if head == "blended":
        return Blended(target, shape, int(rest[0]) / 100, rng)
    if head == "source":
        return SourceSpecific(target, shape, classes, rng, *map(int, rest[1:]))
    if name in ("two-targets", "all-to-all"):
        return {"two-targets": TwoTargets, "all-to-all": AllToAll}[name](target, shape, classes, rng)
    if name == "sig":
        return Sinusoid(target, shape)
    return {"clean-label": CleanLabel, "warped": Warped, "input-aware": InputAware}[name](target, shape, rng)
