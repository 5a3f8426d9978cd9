"""The segmenter against the network's own forward pass, the test command, and naive loops."""

import csv
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from conftest import Command
from mshnet_pl import Segmenter
from mshnet_pl.data.io.transforms import resize_mask, to_input
from mshnet_pl.data.protocol.sampling import draw_seeded
from mshnet_pl.data.protocol.split_lists import by_class
from mshnet_pl.episode import Episode
from mshnet_pl.errors import ConfigError
from mshnet_pl.inference.labels import predict_labels
from mshnet_pl.models.base import AbstractMethod
from mshnet_pl.models.baselines import PrototypeBaseline
from mshnet_pl.models.mshnet.model import MSHNet
from mshnet_pl.options import Subset
from segmenter_shots import QUERY, SIZE, SOURCE, shown
from segmenter_shots import method as method
from segmenter_shots import segmenter as segmenter


@torch.no_grad()
def own_logits(method: AbstractMethod, support: tuple[list[Image.Image], list[np.ndarray]], query: Image.Image) -> Tensor:
    """(1, 2, h, w): the method's own forward pass."""
    images = torch.stack([to_input(image, SIZE) for image in support[0]])
    masks = torch.stack([resize_mask(mask, SIZE) for mask in support[1]]).float()
    logits: Tensor = method(to_input(query, SIZE)[None], images[None], masks[None]).logits
    return logits


@pytest.mark.parametrize(("way", "shots"), [(1, 1), (1, 5), (3, 2)])
def test_predictions_are_those_of_the_method_itself(method: AbstractMethod, way: int, shots: int) -> None:
    segmenter = Segmenter(method, SIZE, "cpu", batch_size=2)
    supports = [shown(class_id, shots) for class_id in range(way)]
    for class_id, support in enumerate(supports):
        segmenter.fit(f"class {class_id}", *support)
    logits = torch.cat([own_logits(method, support, QUERY) for support in supports])
    mask = torch.zeros(way, QUERY.height, QUERY.width, dtype=torch.uint8)
    unused, numbers = torch.zeros(0), torch.zeros(way, dtype=torch.int64)
    episode = Episode(unused, unused, unused, mask, torch.tensor([mask.shape[1:]] * way), *[numbers] * 4)
    one_hot = predict_labels(logits, episode)
    expected = (one_hot * torch.arange(1, way + 1)[:, None, None]).sum(0)
    labels = segmenter.predict(QUERY)
    assert labels.dtype == np.uint8 and set(np.unique(labels)) >= {0, 1}
    assert np.array_equal(labels, expected.numpy())

    (probabilities,) = segmenter.predict_proba([QUERY])
    upsampled = interpolate(logits, QUERY.size[::-1], mode="bilinear", align_corners=True).double()
    if way == 1:
        assert np.allclose(probabilities, upsampled.softmax(1)[0, 1], atol=1e-5)
    else:
        odds = (upsampled[:, 1] - upsampled[:, 0]).exp()
        assert np.allclose(probabilities[1:], odds / (1 + odds.sum(0)), atol=1e-5)
        assert np.allclose(probabilities.sum(0), 1, atol=1e-6) and np.array_equal(probabilities.argmax(0), labels)
    assert probabilities.dtype == np.float32


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"guided": 0.1},
        {"flip": True, "scales": [0.75, 1.0]},
        {"fusion": "vote"},
        {"flip": True, "scales": [1.5], "fusion": "mean", "guided": 0.05},
    ],
)
def test_counts_are_those_of_the_test_command(
    command: Command, checkpoint: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    done = command(
        "mshnet-test", f"ckpt={checkpoint}", "eval.resolution=original", "data.source.size=90", "shot=2", "way=2",
        "test.episodes=4", "runs=tested", *(f"eval.{key}={value}" for key, value in settings.items()),
    )  # fmt: skip
    assert done.code == 0, done.err
    (path,) = (tmp_path / "tested").rglob("episodes_*.csv")
    with path.open() as file:
        rows = [{key: int(value) for key, value in row.items()} for row in csv.DictReader(file)]
    names, classes = by_class(SOURCE.pairs(Subset.VAL)), range(5)
    found = []
    segmenter = Segmenter.from_checkpoint(checkpoint)
    for number in range(4):
        draws = draw_seeded(names, classes, 2, 0, number, 2)
        segmenter = Segmenter(segmenter.method, segmenter.image_size, **settings)
        for draw in draws:
            masks = [SOURCE.mask(name, [draw.class_id]) for name in draw.supports]
            segmenter.fit(f"{draw.class_id}", [SOURCE.image(name) for name in draw.supports], masks)
        labels = segmenter.predict(SOURCE.image(draws[0].query))
        for label, draw in enumerate(draws, start=1):
            predicted, true = labels == label, SOURCE.mask(draw.query, [draw.class_id]) == 1
            found.append((number, draw.class_id, int((predicted & true).sum()), int(predicted.sum()), int(true.sum())))
    assert found == [(r["number"], r["class_id"], r["intersection"], r["predicted"], r["true"]) for r in rows]
    assert any(predicted for *_, predicted, _ in found)


def test_batches_change_nothing_but_roundings(method: AbstractMethod, segmenter: Segmenter) -> None:
    queries = [QUERY.crop((i, 0, 80, 60 + i)) for i in range(5)]
    other = Segmenter(method, SIZE, "cpu", batch_size=2).fit(*shown(0, 2))
    for one, two, query in zip(segmenter.predict_proba(queries), other.predict_proba(queries), queries, strict=True):
        assert one.shape == query.size[::-1] and np.allclose(one, two, atol=1e-5)
    rough = Segmenter(method, SIZE, "cpu", bf16=True).fit(*shown(0, 2)).predict_proba(QUERY)
    exact = segmenter.predict_proba(QUERY)
    assert not np.array_equal(rough, exact) and np.abs(rough - exact).max() < 0.1


def test_tiles_against_a_loop(segmenter: Segmenter) -> None:
    image = SOURCE.image("val-01-0000").resize((103, 47))
    assert np.array_equal(segmenter.predict_proba(image, tile=103), segmenter.predict_proba(image))
    total, weights = np.zeros((47, 103)), np.zeros((47, 103))
    for y in (0, 7):  # 47 = 40 + 7, 103 = 3 * 20 + 40 + 3
        for x in (0, 20, 40, 60, 63):
            p = segmenter.predict_proba(image.crop((x, y, x + 40, y + 40)))
            for i in range(40):
                for j in range(40):
                    window = np.sin(np.pi * (i + 0.5) / 40) * np.sin(np.pi * (j + 0.5) / 40)
                    total[y + i, x + j] += window * np.log(float(p[i, j]) / (1 - float(p[i, j])))
                    weights[y + i, x + j] += window
    expected = 1 / (1 + np.exp(-total / weights))
    blended = segmenter.predict_proba(image, tile=40)
    assert np.allclose(blended, expected, atol=1e-4)
    assert not np.allclose(blended, segmenter.predict_proba(image), atol=1e-3)
    labels = segmenter.predict(image, tile=40, threshold=0.2)
    assert np.array_equal(labels == 1, blended > 0.2) and 0 < labels.mean() < 1


def test_energy_is_the_mean_similarity(method: AbstractMethod, segmenter: Segmenter) -> None:
    assert isinstance(method, MSHNet)
    images, masks = shown(0, 2)
    support = torch.stack([to_input(image, SIZE) for image in images])[None]
    support_mask = torch.stack([resize_mask(mask, SIZE) for mask in masks]).float()[None]
    with torch.no_grad():
        maps = method.similarity_maps(to_input(QUERY, SIZE)[None], support, support_mask)
    energy = segmenter.energy(QUERY)
    assert energy.keys() == {"cosine", "prototype"}
    for similarity, by_block in energy.items():
        assert by_block.keys() == {2, 3, 4}
        for block, found in by_block.items():
            mean = maps[block][similarity].numpy().mean((1, 2))
            expected = interpolate(torch.from_numpy(mean)[None], QUERY.size[::-1], mode="bilinear", align_corners=True)
            assert found.shape == QUERY.size[::-1] and np.allclose(found, expected[0, 0], atol=1e-5)
    segmenter.fit("other", *shown(1, 1))
    assert np.array_equal(segmenter.energy(QUERY, "object")["cosine"][2], energy["cosine"][2])
    with pytest.raises(ConfigError, match="fitted classes, object, other"):
        segmenter.energy(QUERY)
    baseline = Segmenter(PrototypeBaseline(method.backbone), SIZE).fit(*shown(0, 1))
    with pytest.raises(ConfigError, match="PrototypeBaseline has no similarity maps"):
        baseline.energy(QUERY)
    assert baseline.predict(QUERY).shape == QUERY.size[::-1]


def test_threads_agree(segmenter: Segmenter) -> None:
    queries = [QUERY.rotate(angle) for angle in range(0, 180, 30)]
    expected = [segmenter.predict_proba(query) for query in queries]
    with ThreadPoolExecutor(4) as pool:
        for found, alone in zip(pool.map(lambda q: segmenter.predict_proba(q), queries * 2), expected * 2, strict=True):
            assert np.array_equal(found, alone)


def test_energy_does_not_depend_on_how_shots_are_merged(method: AbstractMethod, segmenter: Segmenter) -> None:
    apart = Segmenter(method, SIZE, fusion="mean").fit(*shown(0, 2)).energy(QUERY)
    for similarity, by_block in segmenter.energy(QUERY).items():
        for block, energy in by_block.items():
            assert np.allclose(apart[similarity][block], energy, atol=1e-6)


def test_half_of_the_votes_decide(method: AbstractMethod) -> None:
    segmenter = Segmenter(method, SIZE, fusion="vote").fit(*shown(0, 2))
    with pytest.raises(ConfigError, match=r"threshold=0\.7: after fusion=vote"):
        segmenter.predict(QUERY, threshold=0.7)
    smooth = Segmenter(method, SIZE, fusion="vote", guided=0.1).fit(*shown(0, 2))
    assert smooth.predict(QUERY, threshold=0.7).shape == segmenter.predict(QUERY).shape


def test_it_needs_neither_lightning_nor_hydra(checkpoint: Path, tmp_path: Path) -> None:
    """In a fresh process where none of them can be imported."""
    QUERY.save(tmp_path / "query.png")
    program = f"""
import sys
unwanted = "pytorch_lightning lightning hydra omegaconf wandb pycocotools torchmetrics matplotlib".split()
sys.modules.update(dict.fromkeys(unwanted))
import numpy
from mshnet_pl import Segmenter
segmenter = Segmenter.from_checkpoint({str(checkpoint)!r}).fit("query.png", numpy.eye(71, 86))
print(segmenter.predict("query.png").shape, [name for name in unwanted if sys.modules[name]])
"""
    arguments = [sys.executable, "-c", program]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "(71, 86) []\n"
