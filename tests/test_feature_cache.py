"""Kept features change no number, are computed once, and a damaged or full file is noticed."""

import subprocess
from pathlib import Path

import pytest
import torch
from torch import Tensor

from conftest import Command
from mshnet_pl.backbones.efficientnet import EfficientNetLite0
from mshnet_pl.data.loading.feature_cache import FeatureFile, FeatureMemory, FeatureShape
from mshnet_pl.errors import DataError
from mshnet_pl.results import Result, load

BLOCKS = [FeatureShape((2, 4, 3, 5), torch.float32), FeatureShape((1, 2, 2, 7), torch.bfloat16)]
NAMES = ["a", "b", "c", "d"]


def features(seed: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    drawn = (torch.randn(1, s[0], s[3], s[1], s[2], generator=generator).to(dtype) for s, dtype in BLOCKS)
    return tuple(drawn)


def test_memory_holds_the_first_images_that_fit() -> None:
    cache = FeatureMemory([FeatureShape((1, 1, 1, 2**18), torch.float32)], 2)
    assert cache.absent(["a", "b", "a", "c"]) == ["a", "b"]
    assert cache.absent(["c", "b"]) == []
    kept = {name: torch.full((1, 1, 2**18, 1, 1), value) for value, name in enumerate("ab", 1)}
    for name, value in kept.items():
        cache.put(name, [value])
    (found,) = cache.get(torch.tensor([cache.places[name] for name in "bab"]))
    assert found[:, 0, 0, 0, 0].tolist() == [2, 1, 2]


def test_a_file_gives_back_what_was_put(tmp_path: Path) -> None:
    cache = FeatureFile(str(tmp_path), ["x"], NAMES, BLOCKS)
    assert cache.absent(["c", "a", "c"]) == ["c", "a"]
    for seed, name in enumerate("ca"):
        cache.put(name, features(seed))
    again = FeatureFile(str(tmp_path), ["x"], NAMES[::-1], BLOCKS)
    assert again.absent(["a", "b", "c"]) == ["b"]
    found = again.get(torch.tensor([again.places[name] for name in "ac"]))
    for block, a, c in zip(found, features(1), features(0), strict=True):
        assert torch.equal(block, torch.cat([a, c])) and block.stride(2) == 1
    assert FeatureFile(str(tmp_path), ["y"], NAMES, BLOCKS).absent(["a"]) == ["a"]
    (path,) = [p for p in tmp_path.glob("*.bin") if p.read_bytes().strip(b"\0")]
    content = bytearray(path.read_bytes())
    content[100] ^= 1  # inside the first record, which is a's
    path.write_bytes(content)
    assert FeatureFile(str(tmp_path), ["x"], NAMES, BLOCKS).absent(["a", "c"]) == ["a"]


def test_too_little_room_is_said_beforehand(tmp_path: Path, small_disk: Path) -> None:
    large = [FeatureShape((1, 1, 2**10, 2**10), torch.float32)]
    cache = FeatureFile(str(small_disk), ["x"], NAMES, large)
    with pytest.raises(DataError, match=r"need 16 MB.*make room"):
        cache.absent(NAMES)
    assert len(cache.absent(NAMES[:1])) == 1
    (small_disk / "other").write_bytes(b"x" * 5 * 2**20)  # somebody else takes the room meanwhile
    with pytest.raises(DataError, match="No space left"):
        cache.put("a", [torch.zeros(1, 1, 2**10, 1, 2**10)])


@pytest.fixture
def small_disk(tmp_path: Path) -> "object":
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no file system of its own to fill: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


SETTINGS = (
    "data=synthetic", "data.image_size=64", "data.batch_size=2", "trainer.max_steps=3", "model.width=4", "test.episodes=12",
    "test.shots=[1,5]", "logger=none", "trainer.enable_progress_bar=false",
)  # fmt: skip


def result_of(command: Command, folder: Path, *settings: str) -> tuple[Result, dict[str, str], dict[str, Tensor]]:
    done = command("mshnet-train", *SETTINGS, f"runs={folder}", *settings)
    assert done.code == 0, done.err
    (path,) = folder.rglob("result.json")
    counts = {p.name: p.read_text() for p in path.parent.glob("episodes_*.csv")}
    weights = torch.load(path.parent / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return load(path), counts, weights


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_cache_changes_no_number(command: Command, tmp_path: Path, precision: str) -> None:
    plain = result_of(command, tmp_path / "plain", f"trainer.precision={precision}", "test.feature_mb=0")
    memory = result_of(command, tmp_path / "memory", f"trainer.precision={precision}", "test.feature_mb=1")
    assert plain[1] == memory[1] and plain[0].config_hash == memory[0].config_hash
    for key, value in plain[2].items():
        assert torch.equal(value, memory[2][key]), key
    done = command("mshnet-train", *SETTINGS, f"runs={tmp_path / 'file'}", f"data.feature_cache={tmp_path / 'kept'}")
    assert done.code == 2 and "does not tell when an image changes" in done.err


@pytest.mark.parametrize("callbacks", ["[]", "[ema]"])
def test_training_on_kept_features_changes_no_number(
    command: Command, tmp_path: Path, pascal_root: Path, callbacks: str
) -> None:
    real = (
        "data=pascal5i", f"data.root={pascal_root}", f"data.splits_dir={pascal_root}/splits", "recipe=demo",
        "test.shots=[1]", "backbone=efficientnet_lite0", "val.episodes=4", "val.every_n_steps=2",
        f"callbacks={callbacks}",
    )  # fmt: skip
    plain = result_of(command, tmp_path / "plain", *real, "test.feature_mb=0")
    kept = result_of(command, tmp_path / "kept", *real, f"data.feature_cache={tmp_path / 'features'}")
    again = result_of(command, tmp_path / "again", *real, f"data.feature_cache={tmp_path / 'features'}")
    assert plain[1] == kept[1] == again[1]
    for key, value in plain[2].items():
        assert torch.equal(value, kept[2][key]) and torch.equal(value, again[2][key]), key
    real += ("data.augment.flip=true", f"data.feature_cache={tmp_path / 'features'}")
    augmented = command("mshnet-train", *SETTINGS, *real)
    assert augmented.code == 2 and "changed pictures have no lasting features" in augmented.err


def test_images_pass_the_backbone_alone() -> None:
    backbone = EfficientNetLite0("random")
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for together, *alone in zip(backbone(images), *(backbone(images[i : i + 1]) for i in range(3)), strict=True):
        assert torch.equal(together, torch.cat(alone))
