"""The classifiers that are exported: seeded random weights, ten classes, inputs as small as the architecture takes."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.fx.experimental.optimization import fuse

from other_frameworks import KERAS_APPLICATIONS, KerasApplication, Perceptron

CLASSES = 10


@dataclass(frozen=True)
class Architecture:
    """A classifier of images `[N, 3, size, size]`."""

    library: str
    name: str
    size: int
    build: Callable[[], nn.Module]


def torchvision_architectures():
    import torchvision.models

    sizes = {
        # These pool to a fixed grid, which TorchScript exports from the documented size only.
        "alexnet": 224, "vgg11": 224,
        # The size has to be a multiple of the windows on all four levels.
        "maxvit_t": 224,
        "inception_v3": 96, "swin_t": 112, "swin_v2_t": 128,
    }  # fmt: skip
    names = [
        "alexnet", "vgg11", "resnet18", "resnext50_32x4d", "wide_resnet50_2", "densenet121", "squeezenet1_1", "googlenet",
        "inception_v3", "mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x0_5", "mnasnet0_5", "efficientnet_b0",
        "efficientnet_v2_s", "regnet_x_400mf", "regnet_y_400mf", "convnext_tiny", "vit_b_16", "swin_t", "swin_v2_t", "maxvit_t",
    ]  # fmt: skip
    extra = {name: {"aux_logits": False, "init_weights": True} for name in ("googlenet", "inception_v3")}
    extra["vit_b_16"] = {"image_size": 64}
    for name in names:
        build = lambda name=name: torchvision.models.get_model(name, weights=None, num_classes=CLASSES, **extra.get(name, {}))
        yield Architecture("torchvision", name, sizes.get(name, 64), build)


def timm_architectures():
    import timm

    sizes = {
        "repvgg_a0": 64, "ghostnet_050": 64, "mixer_s32_224": 224, "deit_tiny_patch16_224": 64, "beit_base_patch16_224": 64,
        "poolformer_s12": 64, "edgenext_xx_small": 96, "nfnet_f0": 96, "efficientformer_l1": 224, "hrnet_w18_small": 64,
        "mobilevit_xxs": 96, "xcit_nano_12_p16_224": 64, "resnest14d": 64, "pvt_v2_b0": 64, "skresnet18": 64,
    }  # fmt: skip
    resized = ("deit", "beit", "xcit")
    for name, size in sizes.items():
        extra = {"img_size": size} if name.startswith(resized) else {}
        build = lambda name=name, extra=extra: timm.create_model(name, pretrained=False, num_classes=CLASSES, **extra)
        yield Architecture("timm", name, size, build)


class Logits(nn.Module):
    """A classifier of `transformers` that puts out its logits alone."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pixel_values):
        return self.model(pixel_values).logits


def transformers_architectures():
    import transformers as hf

    small = {"num_labels": CLASSES}
    narrow = small | {"image_size": 64, "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128}
    staged = small | {"depths": [1, 1, 2]}
    models = {
        "vit": (hf.ViTForImageClassification, lambda: hf.ViTConfig(**narrow)),
        "resnet": (hf.ResNetForImageClassification, lambda: hf.ResNetConfig(**staged, hidden_sizes=[32, 64, 96], embedding_size=32)),
        "convnext": (hf.ConvNextForImageClassification, lambda: hf.ConvNextConfig(**staged, num_stages=3, hidden_sizes=[24, 48, 96])),
        "swin": (hf.SwinForImageClassification, lambda: hf.SwinConfig(**staged, image_size=64, embed_dim=24, num_heads=[2, 2, 4], window_size=4)),
    }  # fmt: skip
    for name, (model, config) in models.items():
        yield Architecture("transformers", name, 64, lambda model=model, config=config: Logits(model(config())))


def keras_architectures():
    for name, size in KERAS_APPLICATIONS.items():
        yield Architecture("keras", name, size, lambda name=name, size=size: KerasApplication(name, size, CLASSES))


def sklearn_architectures():
    yield Architecture("sklearn", "MLPClassifier", 16, lambda: Perceptron(16, CLASSES))


def build(architecture: Architecture, seed: int) -> nn.Module:
    """The classifier with weights through which gradients flow as in a trained one.

    Training starts many parameters at zero or nearly so, so that whole blocks would not show in a gradient: they are given numbers.
    The statistics of batch normalisation are those of random images.
    """
    torch.manual_seed(seed)
    model = architecture.build()
    if isinstance(model, KerasApplication):
        model.prepare(torch.randn(16, 3, architecture.size, architecture.size))
        return model
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.abs().max() < 1e-3:
                parameter.normal_(0, 0.2)
            elif parameter.ndim == 1 and (parameter == parameter[0]).all() and name.endswith("weight"):
                parameter.uniform_(0.5, 1.5)
        statistics = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        for module in statistics:
            module.momentum = None
        if statistics:
            model.train()
            model(torch.randn(16, 3, architecture.size, architecture.size))
    return with_folded_statistics(model.eval())


def with_folded_statistics(model):
    """The model with batch normalisation in the weights of the convolutions before it, as far as PyTorch knows how.

    Exporters do the same, in float32; done before, what they export is what PyTorch differentiates, to the last bit.
    """
    try:
        return fuse(model)
    except Exception:
        return model


def architectures() -> list[Architecture]:
    return [*torchvision_architectures(), *timm_architectures(), *transformers_architectures(), *keras_architectures(), *sklearn_architectures()]
