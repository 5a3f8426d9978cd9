"""Frozen feature extractors: ResNet-50/101, VGG-16, EfficientNet-Lite0, timm's networks."""

from mshnet_pl.backbones.base import AbstractBackbone, BlockSpec
from mshnet_pl.backbones.efficientnet import EfficientNetLite0
from mshnet_pl.backbones.resnet import ResNet
from mshnet_pl.backbones.timm_backbone import TimmBackbone
from mshnet_pl.backbones.vgg import VGG16

__all__ = ["VGG16", "AbstractBackbone", "BlockSpec", "EfficientNetLite0", "ResNet", "TimmBackbone"]
