"""Refined predictions against loops in NumPy, and through the commands."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import Command
from mshnet_pl.backbones.base import Features
from mshnet_pl.backbones.efficientnet import EfficientNetLite0
from mshnet_pl.episode import Episode, Prediction
from mshnet_pl.errors import ConfigError
from mshnet_pl.inference import guided_filter as guided_filter_module
from mshnet_pl.inference.guided_filter import guided_filter, guided_logits
from mshnet_pl.inference.labels import predict_labels
from mshnet_pl.inference.predictor import Predictor
from mshnet_pl.models.base import AbstractMethod, SupportCode
from mshnet_pl.models.baselines import PrototypeBaseline
from mshnet_pl.models.layers import resize
from mshnet_pl.models.mshnet.model import MSHNet
from mshnet_pl.options import Fusion
from mshnet_pl.similarity.cosine import CosineSimilarity
from tiny import TINY_RUN

SIZE, SHOTS, SHIFT = 64, 3, 0.75


def network() -> AbstractMethod:
    torch.manual_seed(0)
    return MSHNet(EfficientNetLite0(), {"cosine": CosineSimilarity}, width=4).eval()


def baseline() -> AbstractMethod:
    return PrototypeBaseline(EfficientNetLite0()).eval()


class Readier(PrototypeBaseline):
    """Calls more of a query foreground, so that shots disagree."""

    def decode(self, query: Features, code: SupportCode) -> Prediction:
        return Prediction(super().decode(query, code).logits + torch.tensor([0.0, SHIFT])[:, None, None])


def drawn(batch: int = 2, seed: int = 0) -> Episode:
    """Images of a bright rectangle each; query masks are never looked at."""
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(batch, 1 + SHOTS, 3, SIZE, SIZE)).astype(np.float32)
    masks = np.zeros((batch, 1 + SHOTS, SIZE, SIZE), np.float32)
    for b in range(batch):
        for k in range(1 + SHOTS):
            top, left = rng.integers(0, SIZE // 2, 2)
            masks[b, k, top : top + 28, left : left + 20] = 1
            images[b, k] += 3 * masks[b, k] * rng.normal(size=(3, 1, 1)).astype(np.float32)
    x, m = torch.from_numpy(images), torch.from_numpy(masks)
    sizes, numbers, classes = torch.full((batch, 2), SIZE), torch.arange(batch), torch.zeros(batch, dtype=torch.int64)
    given = torch.full((batch, x.shape[1]), -1)
    return Episode(x[:, 0], x[:, 1:], m[:, 1:], m[:, 0].to(torch.uint8), sizes, classes, numbers, given[:, 0], given[:, 1:])


def bilinear(plane: np.ndarray, height: int, width: int) -> np.ndarray:
    """(h, w) to (height, width), corners on corners, pixel by pixel."""
    out = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            y, x = i * (plane.shape[0] - 1) / (height - 1), j * (plane.shape[1] - 1) / (width - 1)
            y0, x0 = min(int(y), plane.shape[0] - 2), min(int(x), plane.shape[1] - 2)
            dy, dx = y - y0, x - x0
            upper = (1 - dx) * plane[y0, x0] + dx * plane[y0, x0 + 1]
            lower = (1 - dx) * plane[y0 + 1, x0] + dx * plane[y0 + 1, x0 + 1]
            out[i, j] = (1 - dy) * upper + dy * lower
    return out


def view(image: np.ndarray, scale: float, flip: bool, nearest: bool = False) -> np.ndarray:
    """One plane as a view shows it."""
    side = round(SIZE * scale)
    if nearest:
        small = np.array([[image[int(i * SIZE / side), int(j * SIZE / side)] for j in range(side)] for i in range(side)])
    else:
        small = bilinear(image, side, side)
    return small[:, ::-1].copy() if flip else small


def naive(
    method: AbstractMethod, episode: Episode, b: int, shots: list[int], flips: list[bool], scales: list[float]
) -> np.ndarray:
    """Mean logits (2, S, S) of one row over the views, the method called on each of them."""
    found = []
    for scale in scales:
        for flip in flips:
            pictures = torch.cat([episode.query[b : b + 1], episode.support[b]]).numpy()
            planes = [[view(plane, scale, flip) for plane in picture] for picture in pictures]
            images = torch.from_numpy(np.array(planes, np.float32))
            masks = [view(episode.support_mask[b, k].numpy(), scale, flip, nearest=True) for k in shots]
            support = images[[1 + k for k in shots]]
            logits = method(images[:1], support[None], torch.from_numpy(np.array(masks, np.float32))[None]).logits[0].numpy()
            found.append([bilinear(plane[:, ::-1] if flip else plane, SIZE, SIZE) for plane in logits])
    return np.mean(found, axis=0)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("make", [network, baseline])
@pytest.mark.parametrize(
    ("flip", "scales", "fusion"),
    [(True, [1.0], "network"), (False, [0.75, 1.25], "network"), (True, [0.75, 1.0], "mean"), (False, [1.0], "mean")],
)
@torch.no_grad()
def test_views_are_averaged_as_a_loop_does(
    make: Callable[[], AbstractMethod], flip: bool, scales: list[float], fusion: str
) -> None:
    method, episode = make(), drawn()
    refined = Predictor(method, flip, scales, fusion)(episode)
    groups = [[0, 1, 2]] if fusion == "network" else [[0], [1], [2]]
    flips = [False, True] if flip else [False]
    expected = [np.mean([naive(method, episode, b, group, flips, scales) for group in groups], axis=0) for b in range(2)]
    np.testing.assert_allclose(refined.numpy(), np.array(expected), atol=2e-4)
    plain = method(*episode[:3]).logits
    assert refined.shape == (2, 2, SIZE, SIZE) and plain.shape != refined.shape


def nearer(image: np.ndarray, mask: np.ndarray, zoom: float, nearest: bool = False) -> np.ndarray:
    """A plane's part around the object of ``mask``, as large as the plane, with loops; the plane where that is no part."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    share = max(np.ptp(rows) + 1, np.ptp(columns) + 1) / SIZE
    side = round(max(zoom * share, 0.2) * SIZE)
    if max(zoom * share, 0.2) > 0.9:
        return image
    top, left = (min(max((int(x[0]) + int(x[-1]) + 1 - side) // 2, 0), SIZE - side) for x in (rows, columns))
    part = image[top : top + side, left : left + side]
    if nearest:
        places = [i * side // SIZE for i in range(SIZE)]
        return np.array([[part[i, j] for j in places] for i in places])
    return bilinear(part, SIZE, SIZE)


@pytest.mark.parametrize("fusion", ["network", "mean"])
@torch.no_grad()
def test_zoomed_supports_are_further_shots(fusion: str) -> None:
    method, episode = network(), drawn(seed=1)
    masks = episode.support_mask.numpy()
    masks[0, 1] = 0
    masks[0, 1, 3:60, 5:62] = 1  # nearly the whole image
    masks[1, 0] = 0
    masks[1, 0, 63, 0] = 1  # a pixel in a corner
    expected = []
    for b in range(2):
        pictures, shown = [*episode.support[b].numpy()], [*masks[b]]
        for zoom in (1.2, 2.0):
            of_zoom = [([nearer(plane, mask, zoom) for plane in x], nearer(mask, mask, zoom, nearest=True)) for x, mask in
                       zip(episode.support[b].numpy(), masks[b], strict=True)]  # fmt: skip
            pictures, shown = pictures + [x for x, _ in of_zoom], shown + [mask for _, mask in of_zoom]
        groups = [[*range(3 * SHOTS)]] if fusion == "network" else [[k, k + SHOTS, k + 2 * SHOTS] for k in range(SHOTS)]
        given = torch.from_numpy(np.array(pictures, np.float32)), torch.from_numpy(np.array(shown, np.float32))
        of_groups = [method(episode.query[b : b + 1], given[0][None, g], given[1][None, g]).logits[0] for g in groups]
        expected.append(torch.stack(of_groups).mean(0))
    found = Predictor(method, fusion=fusion, zooms=(1.2, 2.0))(episode)
    wanted = torch.stack(expected)
    wanted = wanted if fusion == "network" else resize(wanted, (SIZE, SIZE))
    torch.testing.assert_close(found, wanted, atol=2e-4, rtol=0)
    with pytest.raises(ConfigError, match=r"zooms=0\.5: give numbers from 1"):
        Predictor(method, zooms=(1.2, 0.5))


@torch.no_grad()
def test_votes_are_those_of_the_published_rule() -> None:
    method, episode = Readier(EfficientNetLite0()).eval(), drawn(batch=6, seed=2)
    refined = Predictor(method, fusion=Fusion.vote)(episode)
    labels = predict_labels(refined, episode).numpy()
    most = set()
    for b in range(6):
        votes = np.zeros((SIZE, SIZE), int)
        for k in range(SHOTS):
            background, foreground = naive(method, episode, b, [k], [False], [1.0])
            votes += foreground > background
        most.add(int(votes.max()))
        expected = np.zeros((SIZE, SIZE))
        for i in range(SIZE):
            for j in range(SIZE):
                expected[i, j] = votes[i, j] / max(votes.max(), 1) > 0.5
        assert (labels[b] != expected).mean() < 2e-3  # pixels where the two logits tie but for rounding
    assert most == {0, 1, 2, 3}


def fitted(image: np.ndarray, x: np.ndarray, radius: int, penalty: float) -> np.ndarray:
    """The guided filter, (3, H, W) and (H, W) to (H, W): a ridge regression by least squares in every pixel's window."""
    height, width = x.shape
    windows = [
        [
            np.s_[max(i - radius, 0) : i + radius + 1, max(j - radius, 0) : j + radius + 1]
            for j in range(width)
        ]
        for i in range(height)
    ]  # fmt: skip
    functions = np.zeros((height, width, 4))
    for i in range(height):
        for j in range(width):
            colours = image[:, *windows[i][j]].reshape(3, -1).T
            ones = np.ones((len(colours), 1))
            ridge = np.sqrt(len(colours) * penalty) * np.eye(3, 4)  # least squares with rows that ask for slopes of 0
            rows = np.vstack([np.hstack([colours, ones]), ridge])
            wanted = np.concatenate([x[windows[i][j]].ravel(), np.zeros(3)])
            functions[i, j] = np.linalg.lstsq(rows, wanted, rcond=None)[0]
    mean = np.array([[functions[windows[i][j]].mean((0, 1)) for j in range(width)] for i in range(height)])
    out: np.ndarray = (mean[..., :3] * image.transpose(1, 2, 0)).sum(-1) + mean[..., 3]
    return out


@pytest.mark.parametrize("radius", [1, 3, 20])
def test_guided_filter_is_a_regression_in_every_window(radius: int) -> None:
    rng = np.random.default_rng(radius)
    image = rng.normal(size=(2, 3, 11, 14)).astype(np.float32)
    x = (image[:, :1] > 0.3) * 0.8 + 0.1 * rng.random((2, 1, 11, 14))
    with torch.autocast("cpu", torch.bfloat16):
        smoothed = guided_filter(torch.from_numpy(image), torch.from_numpy(x.astype(np.float32)), radius).numpy()
    for b in range(2):
        np.testing.assert_allclose(smoothed[b, 0], fitted(image[b].astype(float), x[b, 0], radius, 2e-3), atol=1e-4)


def test_guided_filter_fits_large_images_on_a_coarser_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    y, x = torch.meshgrid(torch.linspace(0, 1, 401), torch.linspace(0, 1, 433), indexing="ij")
    image = torch.stack([(9 * x).sin(), (7 * y).cos(), 2.0 * (x + y > 0.9)])[None]
    blurred = ((x + y - 0.9) * 8).sigmoid()[None, None]
    quick = guided_filter(image, blurred, 20)
    monkeypatch.setattr(guided_filter_module, "_FITTED_SIDE", 433)
    full = guided_filter(image, blurred, 20)
    assert 1e-6 < (quick - full).abs().mean() < 0.1 * (blurred - full).abs().mean()


@torch.no_grad()
def test_guided_logits_follow_the_query() -> None:
    method, episode = Readier(EfficientNetLite0()).eval(), drawn()
    refined = Predictor(method, guided=0.05)(episode)
    plain = method(*episode[:3]).logits.numpy()
    assert refined.shape == (2, 2, SIZE, SIZE) and not refined[:, 0].any()
    for b in range(2):
        probability = 1 / (1 + np.exp(-bilinear(plain[b, 1] - plain[b, 0], SIZE, SIZE)))
        smoothed = fitted(episode.query[b].numpy().astype(float), probability, 3, 2e-3).clip(1e-4, 1 - 1e-4)
        np.testing.assert_allclose(refined[b, 1].sigmoid().numpy(), smoothed, atol=1e-4)
    twice = Predictor(method, flip=True, guided=0.05)(episode)
    mean = Predictor(method, flip=True)(episode)
    torch.testing.assert_close(twice, guided_logits(mean, episode.query, 0.05))


@pytest.mark.parametrize("scales", [[], [0.0], [1.0, -1.0], [float("inf")], [float("nan")]])
def test_refused_scales(scales: list[float]) -> None:
    with pytest.raises(ConfigError, match="scales="):
        Predictor(baseline(), scales=scales)


@pytest.mark.parametrize("guided", [-0.1, 0.6, float("nan")])
def test_refused_radii(guided: float) -> None:
    with pytest.raises(ConfigError, match="guided="):
        Predictor(baseline(), guided=guided)


TINY = (*TINY_RUN, "model.width=4", "data.image_size=64", "trainer.max_steps=3", "test.episodes=3", "test.pictures=1")


def counts(folder: Path, name: str) -> np.ndarray:
    with (folder / name).open() as file:
        return np.array([[int(value) for value in row] for row in [*csv.reader(file)][1:]])


def test_commands_and_report(command: Command, tmp_path: Path) -> None:
    done = command("mshnet-train", *TINY, "eval.flip=true", "eval.scales=[0.75,1]", "optimizer=adamw")
    assert done.code == 0, done.err
    (trained,) = (tmp_path / "runs").rglob("result.json")
    result = json.loads(trained.read_text())
    recorded = {"resolution": "resized", "flip": True, "scales": [0.75, 1.0], "fusion": "network"}
    assert result["config"]["eval"] == {**recorded, "guided": 0.0, "zooms": []} and result["tests"][0]["episodes"] == 3
    tests = {}
    settings = {"plain": (), "vote": ("eval.fusion=vote",), "mean": ("eval.fusion=mean", "eval.resolution=original")}
    for name, changes in settings.items():
        done = command(
            "mshnet-test", f"ckpt={trained.parent / 'checkpoints' / 'last.ckpt'}", f"runs={name}", "eval.flip=false",
            "eval.scales=[1.0]", "test.shots=[1,2]", *changes,
        )  # fmt: skip
        assert done.code == 0, done.err
        (path,) = (tmp_path / name).rglob("result.json")
        tests[name] = path.parent
    of_one_shot = "episodes_last_1shot_seed0.csv"
    difference = counts(tests["vote"], of_one_shot) - counts(tests["plain"], of_one_shot)
    assert (abs(difference[:, 2:]) <= 2).all()  # one shot's vote is its own prediction but for rounding
    report = command("mshnet-report", *(tmp_path / name for name in ("runs", "plain", "vote")))
    assert report.code == 0, report.err
    for setting in ("eval.flip", "eval.scales", "eval.fusion"):
        assert setting in report.out
    assert len(re.findall(r"everything foreground +\|[^|]*\| \d-shot", report.out)) == 2  # not one for each way to predict


def test_filter_and_zooms_need_the_images_not_the_backbone(command: Command, tmp_path: Path) -> None:
    found = {}
    refined = ("eval.guided=0.1", "eval.zooms=[1.2,2]")
    settings = {"plain": refined[:1], "kept": refined, "computed": (*refined, "test.feature_mb=0")}
    for name, changes in settings.items():
        tiny = [setting for setting in TINY if setting != "model.width=4"]
        done = command("mshnet-train", *tiny, "model=contrast_baseline", f"runs={name}", *changes)
        assert done.code == 0, done.err
        (path,) = (tmp_path / name).rglob("result.json")
        (file,) = path.parent.glob("episodes_*.csv")
        found[name] = counts(path.parent, file.name)
    assert (found["kept"] == found["computed"]).all() and (found["kept"] != found["plain"]).any()


@pytest.mark.parametrize(
    ("argument", "parts"),
    [
        ("eval.guided=-0.1", ["eval.guided=-0.1", "0.008 to 0.5"]),
        ("eval.guided=0.001", ["eval.guided=0.001", "0.008 to 0.5"]),
        ("eval.guided=nan", ["eval.guided=nan"]),
        ("eval.zooms=[1.2,0.5]", ["eval.zooms=0.5", "1 to 10"]),
        ("eval.scales=[]", ["eval.scales=[]", "1.0"]),
        ("eval.scales=[0.3]", ["eval.scales=0.3", "0.50"]),
        ("eval.scales=[1.0,inf]", ["eval.scales=inf"]),
        ("eval.scales=[-1]", ["eval.scales=-1.0"]),
        ("eval.fusion=sum", ["sum", "vote"]),
        ("eval.flip=often", ["often", "eval.flip"]),
    ],
)
def test_what_cannot_work_is_one_message(command: Command, argument: str, parts: list[str]) -> None:
    done = command("mshnet-train", *TINY, argument)
    assert done.code == 2 and "Traceback" not in done.err and done.err.count("error: ") == 1
    for part in parts:
        assert part in done.err
