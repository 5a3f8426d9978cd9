"""Kept features change no number, are computed once, and a damaged or full file is noticed."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from conftest import Command
from mshnet_pl.backbones.efficientnet import EfficientNetLite0
from mshnet_pl.data.loading.cached_backbone import CachedBackbone
from mshnet_pl.data.loading.feature_cache import FeatureFile, FeatureMemory, FeatureShape
from mshnet_pl.errors import DataError
from mshnet_pl.results import Result, load
from tiny import TINY_RUN

BLOCKS = [FeatureShape((2, 4, 3, 5), torch.float32), FeatureShape((1, 2, 2, 7), torch.bfloat16)]
NAMES = ["a", "b", "c", "d"]


def features(seed: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    drawn = (torch.randn(1, s[0], s[3], s[1], s[2], generator=generator).to(dtype) for s, dtype in BLOCKS)
    return tuple(drawn)


def never(image_id: int) -> tuple[Tensor, ...]:
    raise AssertionError(f"image {image_id} is computed again")


def test_memory_holds_the_first_images_that_fit() -> None:
    cache = FeatureMemory([FeatureShape((1, 1, 1, 2**18), torch.float32)], 2)
    assert cache.absent([4, 7, 4, 9]) == [4, 7]
    for image_id in (4, 7):
        cache.put(image_id, (torch.full((1, 1, 2**18, 1, 1), float(image_id)),))
    assert cache.absent([9, 7]) == [] and 9 not in cache
    (found,) = cache.get([7, 4, 7], never)
    assert found[:, 0, 0, 0, 0].tolist() == [7, 4, 7]


def test_a_file_gives_back_what_was_put(tmp_path: Path) -> None:
    cache = FeatureFile(str(tmp_path), ["x"], NAMES, BLOCKS)
    assert cache.absent([2, 0, 2]) == [2, 0]
    for image_id in (2, 0):
        cache.put(image_id, features(image_id))
    again = FeatureFile(str(tmp_path), ["x"], NAMES, BLOCKS)
    assert again.absent([0, 1, 2]) == [1] and 0 in again and 1 not in again
    for block, first, third in zip(again.get([0, 2], never), features(0), features(2), strict=True):
        assert torch.equal(block, torch.cat([first, third])) and block.stride(2) == 1
    for others in (["y"], NAMES), (["x"], NAMES[::-1]):
        assert FeatureFile(str(tmp_path), *others, BLOCKS).absent([0]) == [0]


def damage(content: bytearray, record: int) -> None:
    content[100] ^= 1  # inside the first record


def exchange(content: bytearray, record: int) -> None:
    content[:record], content[record : 2 * record] = content[record : 2 * record], content[:record]


def cut(content: bytearray, record: int) -> None:
    del content[record // 2 :]


@pytest.mark.parametrize(("harm", "harmed"), [(damage, [0]), (exchange, [0, 1]), (cut, [0, 1])])
def test_a_damaged_record_is_made_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, harm: Callable[[bytearray, int], None], harmed: list[int]
) -> None:
    caplog.set_level("INFO")  # whatever a command in this process has set
    cache = FeatureFile(str(tmp_path), ["x"], NAMES, BLOCKS)
    for image_id in cache.absent([0, 1]):
        cache.put(image_id, features(image_id))
    (path,) = tmp_path.glob("*.bin")
    content = bytearray(path.read_bytes())
    harm(content, len(content) // len(NAMES))
    path.write_bytes(content)
    computed: list[int] = []

    def compute(image_id: int) -> tuple[Tensor, ...]:
        computed.append(image_id)
        return features(image_id)

    for _ in range(2):  # the second time from the file
        for block, *expected in zip(cache.get([0, 1], compute), features(0), features(1), strict=True):
            assert torch.equal(block, torch.cat(expected))
    assert computed == harmed
    lines = [record.getMessage() for record in caplog.records if " damaged" in record.getMessage()]
    assert len(lines) == len(harmed) and all(
        f"features of {NAMES[i]} " in line for i, line in zip(harmed, lines, strict=True)
    )


@pytest.mark.parametrize("batch", [[0, 1, 2], [3, 4], [3, 0, 4, 1, 2]])
def test_images_that_are_kept_are_not_looked_at(batch: list[int]) -> None:
    """Features are the images' own, kept or computed, in the batch's order and layout."""
    plain = EfficientNetLite0("random")
    images = torch.randn(5, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = [torch.cat([plain(images[i : i + 1])[block] for i in batch]) for block in range(3)]
    backbone, cache = CachedBackbone(plain), FeatureMemory([FeatureShape((1, 1, 1, 1), torch.float32)], 1)
    for image_id in range(3):
        cache.put(image_id, plain(images[image_id : image_id + 1]))
    backbone.use(cache)
    blank = images.clone()
    blank[:3] = torch.nan
    for found, block in zip(backbone(blank[batch], torch.tensor(batch)), expected, strict=True):
        assert torch.equal(found, block) and found.stride(2) == 1
    backbone.use(None)
    assert not backbone.keeps and torch.equal(backbone(images[batch], torch.tensor(batch))[0], expected[0])


def test_too_little_room_is_said_beforehand(tmp_path: Path, small_disk: Path) -> None:
    large = [FeatureShape((1, 1, 2**10, 2**10), torch.float32)]
    cache = FeatureFile(str(small_disk), ["x"], NAMES, large)
    with pytest.raises(DataError, match=r"need 16 MB.*make room"):
        cache.absent([0, 1, 2, 3])
    assert cache.absent([0]) == [0]
    (small_disk / "other").write_bytes(b"x" * 5 * 2**20)  # somebody else takes the room meanwhile
    with pytest.raises(DataError, match="No space left"):
        cache.put(0, (torch.zeros(1, 1, 2**10, 1, 2**10),))


@pytest.fixture
def small_disk(tmp_path: Path) -> "object":
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no file system of its own to fill: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


SETTINGS = (*TINY_RUN, "model.width=4", "trainer.max_steps=3", "test.episodes=12", "test.shots=[1,5]")


def result_of(command: Command, folder: Path, *settings: str) -> tuple[Result, dict[str, str], dict[str, Tensor]]:
    done = command("mshnet-train", *SETTINGS, f"runs={folder}", *settings)
    assert done.code == 0, done.err
    (path,) = folder.rglob("result.json")
    counts = {p.name: p.read_text() for p in path.parent.glob("episodes_*.csv")}
    weights = torch.load(path.parent / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return load(path), counts, weights


@pytest.mark.one_in(2)
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_cache_changes_no_number(command: Command, tmp_path: Path, precision: str) -> None:
    plain = result_of(command, tmp_path / "plain", f"trainer.precision={precision}", "test.feature_mb=0")
    memory = result_of(command, tmp_path / "memory", f"trainer.precision={precision}", "test.feature_mb=1")
    assert plain[1] == memory[1] and plain[0].config_hash == memory[0].config_hash
    for key, value in plain[2].items():
        assert torch.equal(value, memory[2][key]), key
    done = command("mshnet-train", *SETTINGS, f"runs={tmp_path / 'file'}", f"data.feature_cache={tmp_path / 'kept'}")
    assert done.code == 2 and "does not tell when an image changes" in done.err


@pytest.mark.one_in(2)
@pytest.mark.parametrize("callbacks", ["[]", "[ema]"])
def test_training_on_kept_features_changes_no_number(
    command: Command, tmp_path: Path, pascal_root: Path, callbacks: str
) -> None:
    real = (
        "data=pascal5i", f"data.root={pascal_root}", f"data.splits_dir={pascal_root}/splits", "recipe=demo",
        "test.shots=[1]", "backbone=efficientnet_lite0", "val.episodes=4", "val.every_n_steps=2",
        f"callbacks={callbacks}", "eval.zooms=[1.5]",
    )  # fmt: skip
    plain = result_of(command, tmp_path / "plain", *real, "test.feature_mb=0")
    kept = result_of(command, tmp_path / "kept", *real, f"data.feature_cache={tmp_path / 'features'}")
    (path,) = (tmp_path / "features").glob("*.bin")
    content = np.memmap(path, np.uint8, "r+")
    written = content.nonzero()[0]
    content[written[len(written) // 2 :][::100_000]] ^= 1  # damages that the next run mends
    content.flush()
    again = result_of(command, tmp_path / "again", *real, f"data.feature_cache={tmp_path / 'features'}")
    (log,) = (tmp_path / "again").rglob("*.log")
    assert "are damaged; computed anew" in log.read_text()
    assert plain[1] == kept[1] == again[1]
    for key, value in plain[2].items():
        assert torch.equal(value, kept[2][key]) and torch.equal(value, again[2][key]), key
    real += ("data.augment.flip=true", f"data.feature_cache={tmp_path / 'features'}")
    augmented = command("mshnet-train", *SETTINGS, *real)
    assert augmented.code == 2 and "changed pictures have no lasting features" in augmented.err


def test_features_are_those_of_the_training_that_is_resumed(command: Command, tmp_path: Path, pascal_root: Path) -> None:
    """Not of the weights that the command line names, which the checkpoint's replace."""
    real = (
        "data=pascal5i", f"data.root={pascal_root}", f"data.splits_dir={pascal_root}/splits", "recipe=demo",
        "scheduler=constant", "test.shots=[1]", "backbone=efficientnet_lite0",
    )  # fmt: skip
    result_of(command, tmp_path / "begun", *real, "backbone.weights=random", "trainer.max_steps=2")
    (begun,) = (tmp_path / "begun").rglob("last.ckpt")
    resumed = (*real, f"ckpt_path={begun}", "trainer.max_steps=4")
    plain = result_of(command, tmp_path / "plain", *resumed, "test.feature_mb=0")
    kept = result_of(command, tmp_path / "kept", *resumed, f"data.feature_cache={tmp_path / 'features'}")
    assert plain[1] == kept[1]
    for key, value in plain[2].items():
        assert torch.equal(value, kept[2][key]), key


def test_images_pass_the_backbone_alone() -> None:
    backbone = EfficientNetLite0("random")
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for together, *alone in zip(backbone(images), *(backbone(images[i : i + 1]) for i in range(3)), strict=True):
        assert torch.equal(together, torch.cat(alone))
