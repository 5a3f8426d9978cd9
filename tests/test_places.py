"""Paths below the home of a user whom there is not: one message that names setting, value and way out."""

from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import Command
from mshnet_pl import Segmenter
from mshnet_pl.backbones import ResNet
from mshnet_pl.data.loading.feature_cache import FeatureFile, FeatureShape
from mshnet_pl.errors import ConfigError
from mshnet_pl.inference import as_checkpoint, pretrained

NOBODY = "~nouser-at-all/x"
SAID = f"={NOBODY}: there is no user ~nouser-at-all; give another path"


def test_places_in_python(checkpoint: Path) -> None:
    segmenter = Segmenter.from_checkpoint(checkpoint).fit(np.zeros((32, 32, 3), np.uint8), np.eye(32, dtype=np.uint8))
    for setting, use in (
        ("ckpt", lambda: Segmenter.from_pretrained(NOBODY)),
        ("ckpt", lambda: Segmenter.from_checkpoint(NOBODY)),
        ("ckpt", lambda: pretrained.digest(NOBODY)),
        ("ckpt", lambda: as_checkpoint.read(NOBODY)),
        ("folder", lambda: segmenter.save_pretrained(NOBODY)),
        ("path", lambda: segmenter.save_support(NOBODY)),
        ("path", lambda: segmenter.load_support(NOBODY)),
        ("backbone.weights", lambda: ResNet(50, NOBODY)),
        ("data.feature_cache", lambda: FeatureFile(NOBODY, [], [], [FeatureShape((1, 1, 1, 1), torch.float32)])),
    ):
        with pytest.raises(ConfigError, match=f"^{setting}{SAID}$"):
            use()


@pytest.mark.parametrize(
    ("name", "argument", "setting"),
    [
        ("mshnet-report", NOBODY, "folder"),
        ("mshnet-report", f"folder=[a,{NOBODY}]", "folder"),
        ("mshnet-report", f"html={NOBODY}", "html"),
        ("mshnet-prepare", f"data.root={NOBODY}", "data.root"),
        ("mshnet-test", f"ckpt={NOBODY}", "ckpt"),
        ("mshnet-train", f"backbone.weights={NOBODY}", "backbone.weights"),
    ],
)
def test_places_on_the_command_line(command: Command, name: str, argument: str, setting: str) -> None:
    done = command(name, argument)
    assert done.code == 2 and f"error: {setting}{SAID}\n" in done.err, done.err
