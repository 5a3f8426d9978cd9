"""What the object is not: a negative class takes pixels from the others, in the segmenter, the command and its files."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import Command
from mshnet_pl import Segmenter
from mshnet_pl.data.sources.synthetic import Synthetic

SOURCE = Synthetic(size=80)
NAMES = {"object": ("val-00-0000", 0), "like it": ("val-05-0000", 5), "dirt": ("val-03-0000", 3)}
QUERIES = ["val-00-0001", "val-05-0001"]


def shot(name: str) -> tuple[Image.Image, np.ndarray]:
    image, class_id = NAMES[name]
    return SOURCE.image(image), SOURCE.mask(image, [class_id])


@pytest.fixture
def segmenter(checkpoint: Path) -> Segmenter:
    return Segmenter.from_checkpoint(checkpoint, "cpu")


def test_negatives_are_background(segmenter: Segmenter, tmp_path: Path) -> None:
    """Against NumPy: log-odds of a class in the softmax over background, it, and all negative classes."""
    queries = [SOURCE.image(name) for name in QUERIES]
    alone = [[*segmenter.fresh().fit(name, *shot(name)).margins(queries)] for name in NAMES]
    segmenter.fit("like it", *shot("like it"), negative=True).fit(*shot("object"))
    segmenter.fit("dirt", *shot("dirt"), negative=True)
    assert segmenter.classes == ("object",) and "not like it, object, not dirt" in repr(segmenter)
    taken = 0
    for i, found in enumerate(segmenter.margins(queries)):
        wanted, *others = (np.exp(margins[i].numpy().astype(np.float64)) for margins in alone)
        expected = np.log(wanted / (1 + sum(others)))
        assert np.allclose(found.numpy(), expected, atol=1e-5)
        taken += int(((expected <= 0) & (wanted > 1)).sum())
    assert taken
    labels = segmenter.predict(queries)
    segmenter.save_support(tmp_path / "both.safetensors")
    again = segmenter.fresh().load_support(tmp_path / "both.safetensors")
    assert again.classes == ("object",) and "not dirt" in repr(again)
    assert all(np.array_equal(a, b) for a, b in zip(again.predict(queries), labels, strict=True))
    assert again.fit("dirt", *shot("dirt")).classes == ("object", "dirt")


def test_the_command(command: Command, checkpoint: Path, segmenter: Segmenter, tmp_path: Path) -> None:
    for folder, name in (("mine", "object"), ("others", "like it")):
        image, mask = shot(name)
        for kind, picture in (("images", image), ("masks", Image.fromarray(mask * np.uint8(255)))):
            (tmp_path / folder / kind).mkdir(parents=True)
            picture.save(tmp_path / folder / kind / "one.png")
    (tmp_path / "queries").mkdir()
    for name in QUERIES:
        SOURCE.image(name).save(tmp_path / "queries" / f"{name}.png")
    done = command("mshnet-predict", f"ckpt={checkpoint}", "support=mine", "negative=others", "query=queries", "out=found")
    assert done.code == 0, done.err
    segmenter.fit(*shot("object")).fit("not object", *shot("like it"), negative=True)
    expected = segmenter.predict([SOURCE.image(name) for name in QUERIES])
    for name, labels in zip(QUERIES, expected, strict=True):
        assert np.array_equal(np.asarray(Image.open(tmp_path / "found" / f"{name}_mask.png")) > 0, labels > 0)
    record = json.loads((tmp_path / "found" / "predictions.json").read_text())
    assert [*record["classes"]] == ["object"] and [*record["supports"]] == ["object", "not object"]
    missing = command("mshnet-predict", f"ckpt={checkpoint}", "support=mine", "negative=nothing", "query=queries", "out=b")
    assert missing.code == 2 and "negative=nothing" in missing.err
