"""Random damage to what a whole command reads first: a message and exit code 2, or the results of the whole file."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from conftest import Command, Done
from mshnet_pl.data.prepare import pascal5i
from mshnet_pl.data.sources.synthetic import Synthetic
from mshnet_pl.errors import DataError
from test_damage import fuzz
from voc_files import Drawn


def refusing(run: Callable[[], Done]) -> None:
    """Run a command whose message is raised; anything else than that and success is an error of the test."""
    done = run()
    assert done.code in (0, 2) and "Traceback" not in done.out + done.err, done.err
    if done.code:
        raise DataError(done.err)


@pytest.mark.parametrize("tries", [8, pytest.param(300, marks=[pytest.mark.slow, pytest.mark.timeout(3000)])])
def test_a_checkpoint_that_predicts(command: Command, checkpoint: Path, tmp_path: Path, tries: int) -> None:
    source, bad = Synthetic(size=80), tmp_path / "bad.ckpt"
    shutil.copy(checkpoint, bad)
    source.image("val-00-0001").save(tmp_path / "query.png")
    (tmp_path / "support").mkdir()
    for folder, image in (
        ("images", source.image("val-00-0000")),
        ("masks", Image.fromarray(255 * source.mask("val-00-0000", [0]))),
    ):
        (tmp_path / "support" / folder).mkdir()
        image.save(tmp_path / "support" / folder / "a.png")
    mask = tmp_path / "out" / "query_mask.png"

    def predict() -> None:
        mask.unlink(missing_ok=True)
        refusing(
            lambda: command(
                "mshnet-predict", f"ckpt={bad}", "support=support", "query=query.png", "out=out", "overwrite=true"
            )
        )
        assert mask.read_bytes() == expected

    expected = b""
    with pytest.raises(AssertionError):
        predict()
    expected = mask.read_bytes()
    counts = fuzz([bad], tries, predict)
    assert counts["refused"] > 0.8 * tries


@pytest.mark.parametrize("any_archive", [False, True])
@pytest.mark.parametrize("tries", [4, pytest.param(300, marks=[pytest.mark.slow, pytest.mark.timeout(3000)])])
def test_archives_that_are_prepared(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tries: int, any_archive: bool
) -> None:
    """Held to their published MD5; another .tgz to its own checksum, while a .tar has none for what its files hold."""
    Drawn().write_archives(tmp_path)
    archives = [tmp_path / "VOCtrainval_11-May-2012.tar", tmp_path / "benchmark.tgz"]
    for name, path in zip(("VOC", "SBD"), archives, strict=True):
        release = getattr(pascal5i, name)
        md5 = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        monkeypatch.setattr(pascal5i, name, release._replace(md5=md5))
    root = tmp_path / "root"

    def prepare() -> None:
        root.mkdir()
        for path in archives:
            (root / path.name).symlink_to(path)
        try:
            more = ["--any-archive"] if any_archive else []
            refusing(lambda: command("mshnet-prepare", "data=pascal5i", f"data.root={root}", *more))
            made = sorted((root / "SegmentationClassAug").iterdir())
            assert [(path.name, path.read_bytes()) for path in made] == expected
        finally:
            masks.append({path.name: path.read_bytes() for path in root.glob("SegmentationClassAug/*")})
            shutil.rmtree(root)

    expected: list[tuple[str, bytes]] = []
    masks: list[dict[str, bytes]] = []
    with pytest.raises(AssertionError):
        prepare()
    expected = sorted(masks[0].items())
    counts = fuzz(archives[1:] if any_archive else archives, tries, prepare)
    assert counts["refused"] > 0.8 * tries
    assert all(found.items() <= dict(expected).items() for found in masks)
