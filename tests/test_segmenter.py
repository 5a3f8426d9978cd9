"""The segmenter against the network's own forward pass, the test command, and naive loops."""

import csv
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from conftest import Command
from mshnet_pl import Segmenter
from mshnet_pl.data.io.transforms import resize_mask, to_input
from mshnet_pl.data.protocol.sampling import draw_seeded
from mshnet_pl.data.protocol.split_lists import by_class
from mshnet_pl.data.sources.synthetic import Synthetic
from mshnet_pl.episode import Episode
from mshnet_pl.errors import ConfigError, DataError
from mshnet_pl.inference import support_file
from mshnet_pl.inference.labels import predict_labels
from mshnet_pl.models.base import AbstractMethod
from mshnet_pl.models.baselines import PrototypeBaseline
from mshnet_pl.models.builder import read_method
from mshnet_pl.models.mshnet.model import MSHNet
from mshnet_pl.options import UNKNOWN, Subset

SIZE = 64
SOURCE = Synthetic(size=90)


def shown(class_id: int, shots: int, first: int = 1) -> tuple[list[Image.Image], list[np.ndarray]]:
    """Images and masks of a class, cut to different sizes."""
    names = [f"val-{class_id:02d}-{i:04d}" for i in range(first, first + shots)]
    boxes = [(0, 0, 90 - 5 * i, 90) for i in range(shots)]
    images = [SOURCE.image(name).crop(box) for name, box in zip(names, boxes, strict=True)]
    masks = [SOURCE.mask(name, [class_id])[:, : box[2]] for name, box in zip(names, boxes, strict=True)]
    return images, masks


QUERY = SOURCE.image("val-00-0000").crop((4, 0, 90, 71))


@pytest.fixture(scope="module")
def method(checkpoint: Path) -> AbstractMethod:
    trained = read_method(checkpoint)
    assert trained.image_size == SIZE
    return trained.method


@pytest.fixture
def segmenter(method: AbstractMethod) -> Segmenter:
    return Segmenter(method, SIZE, "cpu").fit(*shown(0, 2))


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


def test_any_kind_of_picture(segmenter: Segmenter, tmp_path: Path) -> None:
    pixels = np.asarray(QUERY).copy()
    pixels[0, 0] = 255
    transposed = Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_90)
    exif = transposed.getexif()
    exif[0x0112] = 6  # to be turned by 270 degrees counterclockwise
    transposed.save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(pixels).save(tmp_path / "plain.png")
    opaque = np.concatenate([pixels, np.full((*pixels.shape[:2], 1), 7, np.uint8)], axis=2)
    pictures = [
        pixels, tmp_path / "plain.png", str(tmp_path / "plain.png"), tmp_path / "turned.png", Image.fromarray(pixels),
        Image.fromarray(opaque), opaque, pixels.astype(np.uint16) * 257, pixels.astype(np.int64), pixels / 255,
        torch.from_numpy(pixels).permute(2, 0, 1), torch.from_numpy(pixels / 255).permute(2, 0, 1).float(),
    ]  # fmt: skip
    expected, *others = (segmenter.predict_proba(picture) for picture in pictures)
    for i, other in enumerate(others):
        assert np.array_equal(other, expected), f"picture {i + 1}"
    assert np.array_equal(segmenter.predict_proba(path for path in [tmp_path / "plain.png"])[0], expected)

    gray = pixels[..., 1]
    Image.fromarray(gray.astype(np.uint16) * 257).save(tmp_path / "deep.tif")
    Image.fromarray(gray).convert("P").save(tmp_path / "palette.png", transparency=bytes(range(256)))
    grays = [gray, gray[..., None], Image.fromarray(gray), tmp_path / "deep.tif", tmp_path / "palette.png"]
    grays += [torch.from_numpy(gray), np.repeat(gray[..., None], 3, axis=2), Image.fromarray(gray).convert("LA")]
    expected, *others = (segmenter.predict_proba(picture) for picture in grays)
    for i, other in enumerate(others):
        assert np.array_equal(other, expected), f"gray picture {i + 1}"
    twelve_bits = np.round(gray * (4095 / 255)).astype(np.uint16)
    assert np.array_equal(segmenter.predict_proba(twelve_bits), expected)


def test_any_kind_of_mask(segmenter: Segmenter, tmp_path: Path) -> None:
    images, masks = shown(0, 1)
    expected = segmenter.fit(images, masks).predict_proba(QUERY)
    binary = Image.fromarray(masks[0] * 255)
    binary.save(tmp_path / "mask.png")
    palette = Image.fromarray(masks[0] * 3 + (1 - masks[0]) * 5)
    palette.putpalette([9, 8, 7] * 256)
    palette.save(tmp_path / "palette.png")
    for mask in (
        tmp_path / "mask.png", binary, binary.convert("RGBA"), binary.convert("1"), masks[0].astype(bool),
        masks[0].astype(float), torch.from_numpy(masks[0])[None], masks[0].astype(np.int32) * 40_000,
    ):  # fmt: skip
        assert np.array_equal(segmenter.fit(images[0], mask).predict_proba(QUERY), expected)
    assert np.array_equal(segmenter.fit(images, tmp_path / "palette.png", value=3).predict_proba(QUERY), expected)
    with pytest.raises(DataError, match=r"3 #090807 \(\d+ pixels\), 5 #090807"):
        segmenter.fit(images, tmp_path / "palette.png")
    with_unknown = np.where(masks[0] == 1, UNKNOWN, 0)
    assert np.array_equal(segmenter.fit(images, with_unknown).predict_proba(QUERY), expected)


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


def test_supports_are_kept_in_files(method: AbstractMethod, segmenter: Segmenter, checkpoint: Path, tmp_path: Path) -> None:
    segmenter.fit("other", *shown(1, 3))
    path = tmp_path / "support.safetensors"
    segmenter.save_support(path)
    loaded = Segmenter.from_checkpoint(checkpoint, "cpu").load_support(path)
    assert loaded.classes == segmenter.classes == ("object", "other")
    assert np.allclose(loaded.predict_proba(QUERY), segmenter.predict_proba(QUERY), atol=1e-6)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="is there"):
        loaded.save_support(path)
    assert path.read_bytes() == before
    loaded.save_support(path, overwrite=True)
    changed = read_method(checkpoint).method
    with torch.no_grad():
        next(changed.parameters()).add_(1e-3)
    for other in (Segmenter(changed, SIZE), Segmenter(method, SIZE + 32), Segmenter(method, SIZE, bf16=True)):
        with pytest.raises(DataError, match="another network"):
            other.load_support(path)
        assert other.classes == ()
    path.write_bytes(before[:-9])
    with pytest.raises(DataError, match="no file of save_support"):
        loaded.load_support(path)
    with pytest.raises(ConfigError, match="nothing is fitted"):
        Segmenter(method, SIZE).save_support(tmp_path / "none")


@pytest.mark.parametrize(
    "forge",
    [
        lambda tensors, about: tensors.clear(),
        lambda tensors, about: tensors.pop(min(tensors)),
        lambda tensors, about: tensors.update({min(tensors): torch.zeros(3)}),
        lambda tensors, about: tensors.update({name: value.repeat_interleave(2, 0) for name, value in tensors.items()}),
        lambda tensors, about: tensors.update({name: value[..., :1].contiguous() for name, value in tensors.items()}),
        lambda tensors, about: tensors.update({name: value.nan_to_num() * torch.nan for name, value in tensors.items()}),
        lambda tensors, about: about.update(classes='["a", "b"]'),
        lambda tensors, about: about.update(classes="[]"),
        lambda tensors, about: about.update(classes="[[1]]"),
        lambda tensors, about: about.update(classes="[1]"),
        lambda tensors, about: about.update(bits="99"),
        lambda tensors, about: about.update(bits="7"),
    ],
)
def test_forged_supports(segmenter: Segmenter, tmp_path: Path, forge: Callable[[Any, Any], Any]) -> None:
    """Checksum and network are right, but the content is nothing that was ever fitted."""
    path = tmp_path / "support"
    segmenter.save_support(path)
    with safetensors.safe_open(path, "pt") as file:
        tensors, about = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()
    del about["checksum"]
    forge(tensors, about)
    about["checksum"] = support_file._checksum(about, tensors)
    path.write_bytes(safetensors.torch.save(tensors, about))
    fresh = segmenter.fresh()
    with pytest.raises(DataError, match=r"(?s)support .*; fit the images anew"):
        fresh.load_support(path)
    assert fresh.classes == () and fresh.bits == 8


def test_files_keep_how_deep_the_supports_are(method: AbstractMethod, segmenter: Segmenter, tmp_path: Path) -> None:
    gray = np.asarray(QUERY.convert("L")).astype(np.uint16)
    mask = np.asarray(QUERY.convert("L")) > gray.mean()
    deep = segmenter.fresh().fit(gray * 16, mask)  # of 12 bits
    deep.save_support(tmp_path / "deep")
    dark = gray * 2  # of 9 bits, which alone would have the scale of 10
    expected = deep.predict_proba(dark)
    assert not np.allclose(segmenter.fresh().fit(gray, mask).predict_proba(dark), expected, atol=1e-3)
    assert np.allclose(segmenter.fresh().load_support(tmp_path / "deep").predict_proba(dark), expected, atol=1e-6)
    segmenter.fit("shallow", *shown(1, 1)).save_support(tmp_path / "shallow")
    both = segmenter.fresh().load_support(tmp_path / "deep").load_support(tmp_path / "shallow")
    assert np.allclose(deep.load_support(tmp_path / "shallow").predict_proba(dark), both.predict_proba(dark), atol=1e-6)


def test_files_keep_the_supports_of_every_view(method: AbstractMethod, tmp_path: Path) -> None:
    settings = {"flip": True, "scales": [1.0, 1.5], "fusion": "mean", "guided": 0.1, "zooms": [1.5]}
    segmenter = Segmenter(method, SIZE, **settings).fit(*shown(0, 2)).fit("other", *shown(1, 3))
    segmenter.save_support(tmp_path / "views")
    loaded = segmenter.fresh().load_support(tmp_path / "views")
    assert loaded.settings == settings and segmenter.fresh().classes == ()
    assert np.allclose(loaded.predict_proba(QUERY), segmenter.predict_proba(QUERY), atol=1e-6)
    sharper = Segmenter(method, SIZE, **{**settings, "guided": 0.0}).load_support(tmp_path / "views")
    assert not np.allclose(sharper.predict_proba(QUERY), segmenter.predict_proba(QUERY), atol=1e-3)
    for change in ({"flip": False}, {"scales": [1.0]}, {"fusion": "network"}, {"zooms": []}):
        with pytest.raises(DataError, match="other settings"):
            Segmenter(method, SIZE, **{**settings, **change}).load_support(tmp_path / "views")


def test_energy_does_not_depend_on_how_shots_are_merged(method: AbstractMethod, segmenter: Segmenter) -> None:
    apart = Segmenter(method, SIZE, fusion="mean").fit(*shown(0, 2)).energy(QUERY)
    for similarity, by_block in segmenter.energy(QUERY).items():
        for block, energy in by_block.items():
            assert np.allclose(apart[similarity][block], energy, atol=1e-6)


def bad_fits(folder: Path) -> Sequence[tuple[tuple[Any, ...], str]]:
    images, masks = shown(0, 2)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    Image.fromarray(masks[0]).save(folder / "mask.jpg")
    frames = [Image.fromarray(mask) for mask in masks]
    frames[0].save(folder / "stack.tif", save_all=True, append_images=frames[1:])
    colours = np.stack([masks[0], masks[0], 1 - masks[0]], axis=2)
    dot = np.zeros((90, 90), np.uint8)
    dot[1, 1] = 1
    large = np.pad(dot, ((0, 900), (0, 900)))
    return [
        ((images, masks[:1]), "2 images and 1 masks"),
        (([], []), "0 images and 0 masks"),
        ((images, masks[::-1]), r"mask 0 has 85 x 90 pixels, but its image has 90 x 90"),
        (("cat", images[0], np.zeros((90, 90))), "cat: mask 0: no pixel above 0.5"),
        ((np.zeros((990, 990)), large), "vanishes at 64 x 64"),
        ((images[0], colours), "a coloured mask"),
        ((images[0], masks[0][None, None]), "mask of one channel"),
        ((folder / "broken.png", masks[0]), r"broken\.png"),
        ((folder / "none.png", masks[0]), r"none\.png"),
        ((images[0], folder / "mask.jpg"), "which JPEG blurs"),
        ((folder / "stack.tif", masks[0]), r"stack\.tif: 2 pages"),
        ((np.full((9, 9), 1.5), np.ones((9, 9))), "image 0: floating-point values from 1.5 to 1.5"),
        ((np.full((9, 9), np.nan), np.ones((9, 9))), "nan"),
        ((np.full((9, 9), -4), np.ones((9, 9))), "from -4 to -4"),
        ((np.zeros((9, 9, 5)), np.ones((9, 9))), r"shape \(9, 9, 5\)"),
        ((np.zeros((0, 9)), np.ones((0, 9))), r"shape \(0, 9\)"),
    ]


def test_what_cannot_be_fitted_is_explained(method: AbstractMethod, tmp_path: Path) -> None:
    segmenter = Segmenter(method, SIZE)
    for support, message in bad_fits(tmp_path):
        with pytest.raises(DataError, match=message):
            segmenter.fit(*support)
    with pytest.raises(DataError, match="no pixel of value 7, only"):
        segmenter.fit(*shown(0, 1), value=7)
    assert segmenter.classes == ()
    with pytest.raises(ConfigError, match="nothing is fitted"):
        segmenter.predict(QUERY)


@pytest.mark.parametrize("settings", [{"threshold": 0.0}, {"threshold": 1.2}, {"tile": 31}])
def test_impossible_settings_are_refused(segmenter: Segmenter, settings: dict[str, Any]) -> None:
    ((key, value),) = settings.items()
    with pytest.raises(ConfigError, match=f"{key}={value}"):
        segmenter.predict(QUERY, **settings)


def test_half_of_the_votes_decide(method: AbstractMethod) -> None:
    segmenter = Segmenter(method, SIZE, fusion="vote").fit(*shown(0, 2))
    with pytest.raises(ConfigError, match=r"threshold=0\.7: after fusion=vote"):
        segmenter.predict(QUERY, threshold=0.7)
    smooth = Segmenter(method, SIZE, fusion="vote", guided=0.1).fit(*shown(0, 2))
    assert smooth.predict(QUERY, threshold=0.7).shape == segmenter.predict(QUERY).shape


def test_what_no_segmenter_can_be_made_of_is_refused(method: AbstractMethod) -> None:
    with pytest.raises(ConfigError, match="device=gpu"):
        Segmenter(method, SIZE, "gpu")
    with pytest.raises(ConfigError, match="batch_size=0"):
        Segmenter(method, SIZE, batch_size=0)
    with pytest.raises(ConfigError, match=r"guided=0\.6: .*0\.008 to 0\.5"):
        Segmenter(method, SIZE, guided=0.6)
    with pytest.raises(ConfigError, match=r"scales=0\.4: .*0\.50"):
        Segmenter(method, SIZE, scales=[1.0, 0.4])
    with pytest.raises(ConfigError, match="fusion=sum: give network, mean, vote"):
        Segmenter(method, SIZE, fusion="sum")


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
