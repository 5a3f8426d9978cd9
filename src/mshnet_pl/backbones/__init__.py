"""Frozen feature extractors: ResNet-50/101, VGG-16, EfficientNet-Lite0, timm's networks."""
