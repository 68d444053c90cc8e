"""The backbones that simdist knows: one table, one entry each."""

from __future__ import annotations

from simdist.embedding import (
    efficientnet_lite,
    open_clip_networks,
    sscd,
    timm_networks,
    torchvision_networks,
)
from simdist.embedding.aliases import ALIASES
from simdist.embedding.backbone import Backbone
from simdist.embedding.preprocessing import Preprocessing
from simdist.errors import UsageError
from simdist.images.resizing import Resize

# The usual ImageNet statistics, as torchvision's weights document them, on the 0 to 255 scale.
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
# Pixels from -1 to 1.
_CENTRED = (127.5, 127.5, 127.5), (127.5, 127.5, 127.5)


def _torchvision(
    name: str,
    tap: str,
    dim: int,
    *,
    size: int = 224,
    scale: tuple[tuple[float, float, float], tuple[float, float, float]] = (_MEAN, _STD),
    cut: str | None = "avgpool",
) -> Backbone:
    """An entry for a classifier of torchvision.

    Args:
        cut: the first of its children that is no part of the body.
    """
    return Backbone(
        name,
        tap,
        dim,
        Preprocessing(size, *scale),
        build=lambda: torchvision_networks.build(name),
        published_weights=lambda: torchvision_networks.published_weights(name),
        body=None if cut is None else lambda network: torchvision_networks.before(network, cut),
    )


def _efficientnet_lite(number: int, resize: Resize) -> Backbone:
    """An entry for an EfficientNet-Lite, whose weights come with the installation."""
    return Backbone(
        f"efficientnet-lite{number}",
        "_avg_pooling",
        1280,
        Preprocessing(224, (127.0, 127.0, 127.0), (128.0, 128.0, 128.0), resize),
        build=lambda: efficientnet_lite.build(number),
        published_weights=lambda: efficientnet_lite.published_weights(number),
        body=efficientnet_lite.body,
    )


BACKBONES = {
    backbone.name: backbone
    for backbone in (
        _efficientnet_lite(0, Resize.squash),
        _efficientnet_lite(2, Resize.trim),
        Backbone(
            "sscd",
            "backbone.fc",
            sscd.DIM,
            Preprocessing(320, _MEAN, _STD),
            sscd.build,
            sscd.published_weights,
            sscd.body,
            licence="mit",
        ),
        _torchvision("alexnet", "classifier.5", 4096),
        _torchvision("convnext_tiny", "classifier.1", 768),
        _torchvision("convnext_small", "classifier.1", 768),
        _torchvision("convnext_base", "classifier.1", 1024),
        _torchvision("convnext_large", "classifier.1", 1536),
        _torchvision("densenet121", "classifier:input", 1024, cut="classifier"),
        _torchvision("densenet161", "classifier:input", 2208, cut="classifier"),
        _torchvision("densenet169", "classifier:input", 1664, cut="classifier"),
        _torchvision("densenet201", "classifier:input", 1920, cut="classifier"),
        _torchvision("efficientnet_b0", "avgpool", 1280),
        _torchvision("efficientnet_b1", "avgpool", 1280, size=240),
        _torchvision("efficientnet_b2", "avgpool", 1408, size=288),
        _torchvision("efficientnet_b3", "avgpool", 1536, size=300),
        _torchvision("efficientnet_b4", "avgpool", 1792, size=380),
        _torchvision("efficientnet_b5", "avgpool", 2048, size=456),
        _torchvision("efficientnet_b6", "avgpool", 2304, size=528),
        _torchvision("efficientnet_b7", "avgpool", 2560, size=600),
        _torchvision("efficientnet_v2_s", "avgpool", 1280, size=384),
        _torchvision("efficientnet_v2_m", "avgpool", 1280, size=480),
        _torchvision("efficientnet_v2_l", "avgpool", 1280, size=480, scale=_CENTRED),
        # These two scale their input once more, to what `_CENTRED` is.
        _torchvision("googlenet", "avgpool", 1024, scale=_CENTRED),
        _torchvision("inception_v3", "avgpool", 2048, size=299, scale=_CENTRED),
        _torchvision("maxvit_t", "classifier.4", 512, cut=None),
        _torchvision("mobilenet_v2", "classifier.0", 1280, cut="classifier"),
        _torchvision("mobilenet_v3_small", "classifier.2", 1024),
        _torchvision("mobilenet_v3_large", "classifier.2", 1280),
        _torchvision("regnet_x_400mf", "avgpool", 400),
        _torchvision("regnet_x_800mf", "avgpool", 672),
        _torchvision("regnet_x_1_6gf", "avgpool", 912),
        _torchvision("regnet_x_3_2gf", "avgpool", 1008),
        _torchvision("regnet_x_8gf", "avgpool", 1920),
        _torchvision("regnet_x_16gf", "avgpool", 2048),
        _torchvision("regnet_x_32gf", "avgpool", 2520),
        _torchvision("regnet_y_400mf", "avgpool", 440),
        _torchvision("regnet_y_800mf", "avgpool", 784),
        _torchvision("regnet_y_1_6gf", "avgpool", 888),
        _torchvision("regnet_y_3_2gf", "avgpool", 1512),
        _torchvision("regnet_y_8gf", "avgpool", 2016),
        _torchvision("regnet_y_16gf", "avgpool", 3024),
        _torchvision("regnet_y_32gf", "avgpool", 3712),
        _torchvision("resnet18", "avgpool", 512),
        _torchvision("resnet34", "avgpool", 512),
        _torchvision("resnet50", "avgpool", 2048),
        _torchvision("resnet101", "avgpool", 2048),
        _torchvision("resnet152", "avgpool", 2048),
        _torchvision("resnext50_32x4d", "avgpool", 2048),
        _torchvision("resnext101_32x8d", "avgpool", 2048),
        _torchvision("resnext101_64x4d", "avgpool", 2048),
        _torchvision("shufflenet_v2_x0_5", "fc:input", 1024, cut="fc"),
        _torchvision("shufflenet_v2_x1_0", "fc:input", 1024, cut="fc"),
        _torchvision("shufflenet_v2_x1_5", "fc:input", 1024, cut="fc"),
        _torchvision("shufflenet_v2_x2_0", "fc:input", 2048, cut="fc"),
        _torchvision("swin_t", "avgpool", 768),
        _torchvision("swin_s", "avgpool", 768),
        _torchvision("swin_b", "avgpool", 1024),
        _torchvision("swin_v2_t", "avgpool", 768, size=256),
        _torchvision("swin_v2_s", "avgpool", 768, size=256),
        _torchvision("swin_v2_b", "avgpool", 1024, size=256),
        _torchvision("vgg11", "classifier.5", 4096),
        _torchvision("vgg11_bn", "classifier.5", 4096),
        _torchvision("vgg13", "classifier.5", 4096),
        _torchvision("vgg13_bn", "classifier.5", 4096),
        _torchvision("vgg16", "classifier.5", 4096),
        _torchvision("vgg16_bn", "classifier.5", 4096),
        _torchvision("vgg19", "classifier.5", 4096),
        _torchvision("vgg19_bn", "classifier.5", 4096),
        _torchvision("vit_b_16", "heads:input", 768, cut=None),
        _torchvision("vit_b_32", "heads:input", 768, cut=None),
        _torchvision("vit_l_16", "heads:input", 1024, cut=None),
        _torchvision("vit_l_32", "heads:input", 1024, cut=None),
        _torchvision("wide_resnet50_2", "avgpool", 2048),
        _torchvision("wide_resnet101_2", "avgpool", 2048),
    )
}


def is_backbone(name: str) -> bool:
    """Whether `backbone` is to look a name up: any other may be the folder of a bundle."""
    if timm_networks.is_name(name) or open_clip_networks.is_name(name):
        return True
    return name in BACKBONES or name in ALIASES


def backbone(name: str) -> Backbone:
    """Look up a backbone: one of the table, an alias, or one of timm or open_clip.

    A folder of timm's (`timm:local-dir:FOLDER`) is known by its network's name afterwards.

    Raises:
        UsageError: there is none of that name.
        ModelError: timm's folder cannot be read.
    """
    name = ALIASES.get(name, name)
    if timm_networks.is_name(name):
        return timm_networks.backbone(name)
    if open_clip_networks.is_name(name):
        return open_clip_networks.backbone(name)
    try:
        return BACKBONES[name]
    except KeyError:
        raise UsageError(
            f"there is no model {name!r}: use efficientnet-lite0 or resnet34, or the folder of a "
            "model bundle; docs/models.md lists all models"
        ) from None
