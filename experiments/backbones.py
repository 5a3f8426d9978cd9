"""Tries networks of timm as backbones of MSHNet, with random weights: which run, and with which blocks.

python experiments/backbones.py [--size 129] [NAME ...]
"""

import argparse

import timm
import torch

from mshnet_pl.backbones.timm_backbone import TimmBackbone
from mshnet_pl.models.mshnet.model import MSHNet
from mshnet_pl.similarity.cosine import CosineSimilarity
from mshnet_pl.similarity.prototype import PrototypeSimilarity

NAMES = (
    "resnet18", "resnet34", "resnet50", "resnet50d", "resnet101", "resnext50_32x4d", "wide_resnet50_2", "resnetv2_50",
    "seresnet50", "regnety_002", "regnety_032", "convnext_atto", "convnext_tiny", "convnextv2_tiny", "efficientnet_b0",
    "tf_efficientnet_lite0", "tf_efficientnetv2_s", "mobilenetv3_small_100", "mobilenetv3_large_100",
    "mobilenetv4_conv_small", "ghostnet_100", "repvgg_a0", "nfnet_l0", "fastvit_t8", "efficientvit_b0", "mobilevit_xxs",
    "pvt_v2_b0", "densenet121",
    "vgg16_bn", "dla34", "swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256", "maxvit_rmlp_nano_rw_256",
    "vit_tiny_patch16_224", "vit_small_patch16_224", "deit_tiny_patch16_224", "deit_tiny_distilled_patch16_224",
    "deit3_small_patch16_224", "vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2", "vit_small_patch16_dinov3",
    "vit_base_patch16_clip_224", "vit_base_patch32_clip_224", "samvit_base_patch16", "beit_base_patch16_224",
    "cait_xxs24_224", "xcit_nano_12_p16_224", "mixer_s16_224", "hrnet_w18_small", "levit_128s", "hiera_tiny_224",
    "coat_tiny",
)  # fmt: skip


def row(name: str, size: int) -> list[str]:
    """Name, timm's class, blocks, grids, MSHNet's trainable parameters, whether it runs."""
    try:
        backbone = TimmBackbone(name, "random")
        method = MSHNet(backbone, {"cosine": CosineSimilarity, "prototype": PrototypeSimilarity}).eval()
        image, mask = torch.randn(1, 3, size, size), torch.zeros(1, 1, size, size)
        mask[..., size // 4 : size // 2, size // 4 : size // 2] = 1
        with torch.no_grad():
            grids = [str(f.shape[4]) for f in backbone(image)]
            logits = method(image, image[:, None], mask).logits
    except ValueError as error:
        return [name, "", "", "", "", f"refused: {str(error).partition(' ')[2].partition(';')[0]}"]
    assert logits.isfinite().all()
    blocks = ", ".join(f"{b.layers} x {b.channels} / {b.stride}" for b in backbone.blocks)
    return [name, type(backbone.net).__name__, blocks, " ".join(grids), f"{method.learnable_parameters():,}", "runs"]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks of timm; a list of families by default")
    parser.add_argument("--size", type=int, default=129, help="side of the drawn images")
    given = parser.parse_args()
    print(f"timm {timm.__version__}, torch {torch.__version__}, {given.size} x {given.size}, random weights\n")
    print("| name | family | layers x channels / stride of blocks 2, 3, 4 | grids | trainable parameters of MSHNet | |")
    print("| --- | --- | --- | --- | ---: | --- |")
    for name in given.names or NAMES:
        print("|", " | ".join(row(name, given.size)), "|", flush=True)


if __name__ == "__main__":
    main()
