"""The networks of the zoo: each takes [N, C, S, S] in 0..1 and gives logits [N, classes]."""

import torch
from torch import nn


class Scaled(nn.Module):
    """Maps 0..1 to -1..1 before the network, as most training code does."""

    def forward(self, x):
        return 2 * x - 1


def cnn_max(channels, side, classes, dropout):
    features = 32 * ((side - 4) // 2 - 4 >> 1) ** 2
    return nn.Sequential(
        nn.Conv2d(channels, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(features, 128), nn.ReLU(), nn.Dropout(dropout), nn.Linear(128, classes),
    )  # fmt: skip


def cnn_avg(channels, side, classes, dropout):
    features = 48 * (side // 4) ** 2
    return nn.Sequential(
        nn.Conv2d(channels, 24, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2),
        nn.Conv2d(24, 48, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Dropout(dropout), nn.Linear(features, 96), nn.ReLU(), nn.Linear(96, classes),
    )  # fmt: skip


def vgg(channels, side, classes, dropout):
    def block(a, b):
        return [nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.Conv2d(b, b, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]

    return nn.Sequential(
        *block(channels, 16), *block(16, 32), nn.Flatten(),
        nn.Linear(32 * (side // 4) ** 2, 128), nn.ReLU(), nn.Dropout(dropout), nn.Linear(128, classes),
    )  # fmt: skip


class Residual(nn.Module):
    def __init__(self, a, b, stride):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(),
            nn.Conv2d(b, b, 3, padding=1, bias=False), nn.BatchNorm2d(b),
        )  # fmt: skip
        self.skip = nn.Identity() if stride == 1 and a == b else nn.Sequential(nn.Conv2d(a, b, 1, stride, bias=False), nn.BatchNorm2d(b))

    def forward(self, x):
        return torch.relu(self.body(x) + self.skip(x))


def resnet(channels, side, classes, dropout):
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        Residual(16, 16, 2), Residual(16, 32, 2), Residual(32, 32, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(32, classes),
    )  # fmt: skip


def mobilenet_v1(channels, width, blocks, filters, classes, dropout):
    """Depthwise convolutions of `filters`×`filters` pixels and pointwise ones in turn, as MobileNetV1 has them; each of `blocks` is channels and stride."""
    layers = [nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU6()]
    for wider, stride in blocks:
        layers += [
            nn.Conv2d(width, width, filters, stride, filters // 2, groups=width, bias=False), nn.BatchNorm2d(width), nn.ReLU6(),
            nn.Conv2d(width, wider, 1, bias=False), nn.BatchNorm2d(wider), nn.ReLU6(),
        ]  # fmt: skip
        width = wider
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(width, classes))


def separable(channels, side, classes, dropout):
    return mobilenet_v1(channels, 16, [(32, 2), (64, 2), (64, 1)], 3, classes, dropout)


def depthwise(channels, side, classes, dropout):
    return mobilenet_v1(channels, 24, [(48, 2), (48, 1), (96, 2)], 5, classes, dropout)


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        n, t, w = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.heads, w // self.heads).permute(2, 0, 3, 1, 4)
        weights = torch.softmax(q @ k.transpose(2, 3) * (w // self.heads) ** -0.5, dim=3)
        return self.out((weights @ v).transpose(1, 2).reshape(n, t, w))


class Encoder(nn.Module):
    def __init__(self, width, dropout):
        super().__init__()
        self.norm1, self.attention, self.norm2 = nn.LayerNorm(width), Attention(width, 4), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, width))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Vit(nn.Module):
    def __init__(self, channels, side, classes, dropout, width=64, patch=4):
        super().__init__()
        self.patches = nn.Conv2d(channels, width, patch, patch)
        self.position = nn.Parameter(0.02 * torch.randn(1, (side // patch) ** 2, width))
        self.encoders = nn.Sequential(*[Encoder(width, dropout) for _ in range(3)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.position
        return self.head(self.norm(self.encoders(tokens)).mean(1))


def mlp(channels, side, classes, dropout):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(channels * side * side, 256), nn.ReLU(), nn.Dropout(dropout),
        nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, classes),
    )  # fmt: skip


def lenet(channels, side, classes, dropout):
    features = 32 * ((side - 4) // 2 - 4 >> 1) ** 2
    return nn.Sequential(
        nn.Conv2d(channels, 12, 5), nn.Tanh(), nn.AvgPool2d(2),
        nn.Conv2d(12, 32, 5), nn.Tanh(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(features, 120), nn.Tanh(), nn.Dropout(dropout), nn.Linear(120, classes),
    )  # fmt: skip


class Dense(nn.Module):
    """Adds `growth` channels to those that it is given."""

    def __init__(self, a, growth):
        super().__init__()
        self.body = nn.Sequential(nn.BatchNorm2d(a), nn.ReLU(), nn.Conv2d(a, growth, 3, padding=1, bias=False))

    def forward(self, x):
        return torch.cat([x, self.body(x)], 1)


def dense(channels, side, classes, dropout):
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, 2, 1, bias=False), Dense(16, 12), Dense(28, 12), Dense(40, 12),
        nn.BatchNorm2d(52), nn.ReLU(), nn.Conv2d(52, 32, 1, bias=False), nn.AvgPool2d(2),
        Dense(32, 16), Dense(48, 16), nn.BatchNorm2d(64), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(64, classes),
    )  # fmt: skip


class Inverted(nn.Module):
    """A residual block that is wider within, with a depthwise convolution."""

    def __init__(self, a, b, stride):
        super().__init__()
        wide = 3 * a
        self.body = nn.Sequential(
            nn.Conv2d(a, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.Hardswish(),
            nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.Hardswish(),
            nn.Conv2d(wide, b, 1, bias=False), nn.BatchNorm2d(b),
        )  # fmt: skip
        self.residual = stride == 1 and a == b

    def forward(self, x):
        return x + self.body(x) if self.residual else self.body(x)


def mobile(channels, side, classes, dropout):
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish(),
        Inverted(16, 16, 1), Inverted(16, 32, 2), Inverted(32, 32, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 96), nn.Hardswish(), nn.Dropout(dropout), nn.Linear(96, classes),
    )  # fmt: skip


class Mixing(nn.Module):
    """Mixes tokens, then channels."""

    def __init__(self, tokens, width, dropout):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.tokens = nn.Sequential(nn.Linear(tokens, tokens), nn.GELU(), nn.Linear(tokens, tokens))
        self.channels = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, width))

    def forward(self, x):
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norm2(x))


class Mixer(nn.Module):
    def __init__(self, channels, side, classes, dropout, width=64, patch=4):
        super().__init__()
        self.patches = nn.Conv2d(channels, width, patch, patch)
        self.blocks = nn.Sequential(*[Mixing((side // patch) ** 2, width, dropout) for _ in range(3)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        return self.head(self.norm(self.blocks(tokens)).mean(1))


def strided(channels, side, classes, dropout):
    return nn.Sequential(
        nn.Conv2d(channels, 24, 3, 2, 1), nn.GELU(), nn.Conv2d(24, 48, 3, 2, 1), nn.GELU(), nn.Conv2d(48, 48, 3, 1, 1), nn.GELU(),
        nn.Flatten(), nn.Dropout(dropout), nn.Linear(48 * (side // 4) ** 2, 96), nn.GELU(), nn.Linear(96, classes),
    )  # fmt: skip


class Inception(nn.Module):
    """Filters of several sizes side by side."""

    def __init__(self, a, b):
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv2d(a, b, size, padding=size // 2, bias=False) for size in (1, 3, 5))
        self.pooled = nn.Sequential(nn.AvgPool2d(3, 1, 1), nn.Conv2d(a, b, 1, bias=False))
        self.norm = nn.BatchNorm2d(4 * b)

    def forward(self, x):
        return torch.relu(self.norm(torch.cat([*(branch(x) for branch in self.branches), self.pooled(x)], 1)))


def inception(channels, side, classes, dropout):
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), Inception(16, 8), nn.MaxPool2d(2), Inception(32, 12),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(48, classes),
    )  # fmt: skip


def smooth(channels, side, classes, dropout):
    def block(a, b):
        return [nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.SiLU(), nn.AvgPool2d(2)]

    return nn.Sequential(
        *block(channels, 24), *block(24, 48),
        nn.Flatten(), nn.Linear(48 * (side // 4) ** 2, 64), nn.SiLU(), nn.Dropout(dropout), nn.Linear(64, classes),
    )  # fmt: skip


class Separated(nn.Module):
    """Two depthwise-separable convolutions with a skip, as Xception has them."""

    def __init__(self, a, b, stride):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(a, a, 3, stride, 1, groups=a, bias=False), nn.Conv2d(a, b, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(),
            nn.Conv2d(b, b, 3, padding=1, groups=b, bias=False), nn.Conv2d(b, b, 1, bias=False), nn.BatchNorm2d(b),
        )  # fmt: skip
        self.skip = nn.Sequential(nn.Conv2d(a, b, 1, stride, bias=False), nn.BatchNorm2d(b))

    def forward(self, x):
        return torch.relu(self.body(x) + self.skip(x))


def xception(channels, side, classes, dropout):
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        Separated(16, 32, 2), Separated(32, 64, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(64, classes),
    )  # fmt: skip


NETWORKS = {
    "cnn_max": cnn_max, "cnn_avg": cnn_avg, "lenet": lenet, "vgg": vgg, "resnet": resnet, "dense": dense,
    "separable": separable, "mobile": mobile, "vit": Vit, "mixer": Mixer, "mlp": mlp,
    "strided": strided, "inception": inception, "smooth": smooth, "xception": xception, "depthwise": depthwise,
}  # fmt: skip

DEPTHWISE = {"separable", "mobile", "xception", "depthwise"}


def build(name, channels, side, classes, dropout):
    """The network `name` for square images."""
    return nn.Sequential(Scaled(), NETWORKS[name](channels, side, classes, dropout))
