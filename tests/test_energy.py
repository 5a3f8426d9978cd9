"""Energy maps: computation, areas under the ROC curve, figure and command."""

import math
from pathlib import Path

import hydra
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from scipy.stats import mannwhitneyu
from torch import Tensor
from torch.nn.functional import interpolate

import tiny
from conftest import Command
from mshnet_pl import config
from mshnet_pl.backbones.efficientnet import EfficientNetLite0
from mshnet_pl.episode import Episode
from mshnet_pl.evaluation.energy import energy_maps, energy_pictures, enlarge, separation
from mshnet_pl.models.mshnet.model import MSHNet
from mshnet_pl.options import Protocol
from mshnet_pl.report import energy_plots as report
from mshnet_pl.runs import build
from mshnet_pl.runs.job import Run
from mshnet_pl.similarity.base import AbstractSimilarity
from mshnet_pl.similarity.cosine import CosineSimilarity

TINY = (*tiny.TINY, "data.image_size=48", "trainer.max_steps=1")


class Brightness(AbstractSimilarity):
    """A similarity of somebody else's, with values of any sign: the query's first channel minus the shot's number."""

    wide, atrous = True, False

    def __init__(self, channels: int) -> None:
        super().__init__()

    def encode(self, support, objects):  # noqa: ANN001, ANN201
        return (objects.size,)

    def compare(self, query, code):  # noqa: ANN001, ANN201
        shots = torch.arange(code[0].shape[1], device=query.device)
        return query[:, None, :, 0] - shots[None, :, None, None, None]


@pytest.fixture
def episode() -> Episode:
    generator = torch.Generator().manual_seed(0)
    mask = torch.zeros(2, 64, 64, dtype=torch.uint8)
    mask[0, 4:30, 30:60], mask[1, 40:50, 10:20], mask[1, :3] = 1, 1, 255
    return Episode(
        query=torch.randn(2, 3, 64, 64, generator=generator),
        support=torch.randn(2, 3, 3, 64, 64, generator=generator),
        support_mask=(torch.rand(2, 3, 64, 64, generator=generator) > 0.5).float(),
        query_mask=mask,
        query_size=torch.tensor([[64, 64], [60, 50]]),
        class_id=torch.tensor([0, 1]),
        number=torch.tensor([0, 1]),
        query_id=torch.full((2,), -1),
        support_id=torch.full((2, 3), -1),
    )


def network() -> MSHNet:
    torch.manual_seed(0)
    return MSHNet(
        EfficientNetLite0("random"), {"cosine": CosineSimilarity, "brightness": Brightness}, 2, blocks=(2, 4)
    ).eval()


def test_energy_is_the_mean_over_layers_and_shots(episode: Episode) -> None:
    net = network()
    energy = energy_maps(net, episode)
    maps = net.similarity_maps(episode.query, episode.support, episode.support_mask)
    assert {name: [*blocks] for name, blocks in energy.items()} == {"cosine": [2, 4], "brightness": [2, 4]}
    for name, by_block in energy.items():
        for block, found in by_block.items():
            layers = maps[block][name].detach().numpy()
            expected = np.zeros(found.shape)
            for shot in range(layers.shape[1]):
                for layer in range(layers.shape[2]):
                    expected += layers[:, shot, layer]
            np.testing.assert_allclose(found.detach(), expected / layers.shape[1] / layers.shape[2], rtol=1e-5, atol=1e-6)


def pairs(energy: np.ndarray, truth: np.ndarray) -> float:
    """The share of (object, background) pairs in which the object has more energy; ties count half."""
    wins = [(a > b) + (a == b) / 2 for a in energy[truth == 1] for b in energy[truth == 0]]
    return 100 * sum(wins) / len(wins)


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_separation_against_all_pairs(levels: int) -> None:
    rng = np.random.default_rng(levels)
    energy = (rng.integers(levels, size=(17, 13)) / levels - 0.5).astype(np.float32)
    truth = rng.choice([0, 1, 255], size=energy.shape, p=[0.6, 0.3, 0.1]).astype(np.uint8)
    found = separation(torch.from_numpy(energy), torch.from_numpy(truth))
    assert found == pytest.approx(pairs(energy, truth), rel=1e-12)


def test_separation_at_its_ends() -> None:
    truth = torch.tensor([[1, 0], [0, 255]], dtype=torch.uint8)
    assert separation(torch.tensor([[3.0, 1], [2, 9]]), truth) == 100
    assert separation(torch.tensor([[-3.0, 1], [2, 9]]), truth) == 0
    assert (
        separation(enlarge(torch.full((3, 3), 1 / 3), torch.zeros(47, 31, dtype=torch.uint8)), torch.eye(47, 31).byte())
        == 50
    )
    assert math.isnan(separation(torch.ones(2, 2), torch.zeros(2, 2, dtype=torch.uint8)))
    assert math.isnan(separation(torch.ones(2, 2), truth.new_full((2, 2), 255)))


def test_pictures_have_the_truth_s_resolution(episode: Episode) -> None:
    rows = energy_pictures(network(), episode, ["first", "second"])
    assert [row.truth.shape for row in rows] == [(64, 64), (60, 50)]
    for row, size in zip(rows, ((64, 64), (60, 50)), strict=True):
        for name, by_block in row.energy.items():
            for block, found in by_block.items():
                assert found.shape == size
                expected = mannwhitneyu(found[row.truth == 1], found[row.truth == 0]).statistic
                expected *= 100 / (row.truth == 1).sum() / (row.truth == 0).sum()
                assert row.separation[name][block] == pytest.approx(expected, rel=1e-9)


def drawn(figure: Figure) -> list[str]:
    """The titles of the axes that show a picture."""
    return [ax.get_title() for ax in figure.axes if ax.images]


def test_the_figure_has_every_map_and_the_outline_where_the_object_is(episode: Episode) -> None:
    rows = energy_pictures(network(), episode, ["first", "second"])
    figure = report.draw(rows)
    titles = drawn(figure)
    assert sum("cosine, block 2" in t for t in titles) == sum("brightness, block 4" in t for t in titles) == 2
    assert titles.count("query") == 2 and titles.count("support") == 6 and len(titles) == 2 * 4 + 8
    without = report.draw(rows, pictures=False)
    assert len(drawn(without)) == 8 and not {"query", "support"} & {*drawn(without)}
    least = rows[0].energy["cosine"][2].min()
    assert f"{least:.3f} to" in drawn(without)[0]
    ax = without.axes[0]
    (outline,) = (c.get_paths() for c in ax.collections)
    corners = np.concatenate([path.vertices for path in outline])
    below = ax.transData.transform([[0, 1]])[0, 1] < ax.transData.transform([[0, 0]])[0, 1]
    assert below  # the picture's y grows downwards, as rows do
    np.testing.assert_allclose(corners.min(0), [30 / 64, 4 / 64], atol=0.01)
    np.testing.assert_allclose(corners.max(0), [60 / 64, 30 / 64], atol=0.01)


def test_command(command: Command, tmp_path: Path) -> None:
    assert command("mshnet-train", *TINY).code == 0
    (checkpoint,) = tmp_path.rglob("last.ckpt")
    energy = ("mshnet-report", "energy", f"ckpt={checkpoint}", "average=3", "episodes=[0,4]", "shot=2")
    done = command(*energy, "out=maps/energy.png")
    assert done.code == 0, done.err
    kept = (tmp_path / "maps" / "energy.png").read_bytes()
    with Image.open(tmp_path / "maps" / "energy.png") as picture:
        picture.load()
        whole = picture.width
    rows = {line.split("|")[1].strip(): line.split("|")[2:5] for line in done.out.splitlines() if line.startswith("|")}
    found = {name: [float(cell) for cell in rows[name]] for name in ("cosine", "prototype")}
    by_class = areas(checkpoint)
    for name, by_block in found.items():
        expected = np.mean([np.mean(of_class[name], 0) for of_class in by_class.values()], 0)
        np.testing.assert_allclose(by_block, expected, atol=0.051)
    for class_name, of_class in by_class.items():
        (line,) = (line for line in done.out.splitlines() if line.startswith(f"| {class_name} "))
        cells = [float(cell) for cell in line.split("|")[2:-1]]
        expected = [area for name in ("cosine", "prototype") for area in np.mean(of_class[name], 0)]
        np.testing.assert_allclose(cells, expected, atol=0.051)
    assert len(by_class) > 1
    assert "3 episodes" in done.out and "maps/energy.png" in done.out

    again = command(*energy, "out=maps/energy.png")
    assert again.code == 2 and "overwrite=true" in again.err and (tmp_path / "maps" / "energy.png").read_bytes() == kept
    done = command(*energy, "out=maps/energy.png", "overwrite=true", "pictures=false", "average=1")
    with Image.open(tmp_path / "maps" / "energy.png") as picture:
        assert done.code == 0 and picture.width < whole
    left = {path.name for path in tmp_path.iterdir()}
    assert left <= {"runs", "maps", "cache", ".cache"}, left


def areas(checkpoint: Path) -> dict[str, dict[str, list[list[float]]]]:
    """The same numbers by class and similarity, an episode at a time, by SciPy."""
    config.register()
    with hydra.initialize_config_module("mshnet_pl.conf", version_base="1.3"):
        raw = hydra.compose("config", overrides=[*TINY, "shot=2"])
    module = build.make_module(Run.of(raw)).eval()
    module.load_state_dict(torch.load(checkpoint, weights_only=True)["state_dict"])
    datamodule = build.make_datamodule(Run.of(raw))
    datamodule.use_test_episodes(datamodule.draws(3, 2, 0, Protocol.seeded))
    found: dict[str, dict[str, list[list[float]]]] = {}
    for batch in datamodule.test_dataloader():
        maps = module.method.similarity_maps(batch.query, batch.support, batch.support_mask)
        for i, truth in enumerate(batch.query_mask.numpy()):
            of_class = found.setdefault(datamodule.class_names[batch.class_id[i]], {"cosine": [], "prototype": []})
            for name, listed in of_class.items():
                listed.append([_area(maps[block][name][i].mean((0, 1)), truth) for block in (2, 3, 4)])
    return found


def test_classes_without_an_area_have_no_line() -> None:
    """As those of drawn episodes that the means leave out."""
    areas = {"chair": {"cosine": {2: 60.0}}, "dog": {"cosine": {2: math.nan}}}
    table = report.table(areas)
    assert "60.0" in table and "dog" not in table and "nan" not in table


def _area(energy: Tensor, truth: np.ndarray) -> float:
    # no more digits than the energies have: interpolation rounds
    large = (
        interpolate(energy.detach().double()[None, None], truth.shape, mode="bilinear", align_corners=True)[0, 0]
        .numpy()
        .round(6)
    )
    share = mannwhitneyu(large[truth == 1], large[truth == 0]).statistic / (truth == 1).sum() / (truth == 0).sum()
    return 100 * float(share)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["ckpt=none.ckpt"], ["none.ckpt", "no such file"]),
        (
            ["episodes=[-1]", "average=0", "out=maps.txt"],
            ["episodes=-1", "average=0", "out=maps.txt", ".png"],
        ),
        (["episodes=[]"], ["episodes=[]", "at least one"]),
        (["epissodes=[1]"], ["epissodes", "no such setting"]),
        ([], ["baseline.ckpt", "PrototypeBaseline", "MSHNet"]),
    ],
)
def test_what_cannot_work_is_one_message(command: Command, tmp_path: Path, arguments: list[str], parts: list[str]) -> None:
    config.register()
    with hydra.initialize_config_module("mshnet_pl.conf", version_base="1.3"):
        raw = hydra.compose("config", overrides=["model=prototype_baseline", "recipe=paper", "data.image_size=48"])
    module = build.make_module(Run.of(raw))
    checkpoint = {"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}
    torch.save(checkpoint, tmp_path / "baseline.ckpt")
    done = command("mshnet-report", "energy", "ckpt=baseline.ckpt", *arguments)
    assert done.code == 2 and "Traceback" not in done.err and done.err.count("error: ") == 1
    for part in parts:
        assert part in done.err
    assert not [*tmp_path.rglob("*.png")]
    assert "ckpt is not set" in command("mshnet-report", "energy").err
