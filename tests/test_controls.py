"""Control episodes against definitions, loops, the segmenter and the masks of real images."""

import csv
import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import MINI, Command
from mshnet_pl import Segmenter
from mshnet_pl.data.datamodule import EpisodeDataModule
from mshnet_pl.data.protocol.controls import other_class, which_of_two
from mshnet_pl.data.protocol.sampling import Draw, Draws, draw_seeded
from mshnet_pl.data.protocol.split_lists import by_class
from mshnet_pl.data.sources import Pascal5i
from mshnet_pl.data.sources.synthetic import Synthetic
from mshnet_pl.errors import DataError
from mshnet_pl.inference.presence import presence
from mshnet_pl.options import UNKNOWN, Control, Protocol, Subset
from mshnet_pl.report import controls
from mshnet_pl.report.controls import ControlRow


def drawn(seed: int) -> tuple[dict[str, set[int]], dict[int, list[str]], list[Draws]]:
    """A world of 60 images of 6 classes, some of several; the test draws from classes 0 to 3."""
    rng = np.random.default_rng(seed)
    contents = {f"{n}": {*rng.choice(6, 1 + int(rng.random() < 0.4), replace=False).tolist()} for n in range(60)}
    names = by_class([(name, c) for name, classes in contents.items() for c in sorted(classes)])
    return contents, names, [draw_seeded(names, range(4), 2, seed, n) for n in range(25)]


@pytest.mark.parametrize("seed", range(3))
def test_supports_of_a_class_that_the_query_does_not_show(seed: int) -> None:
    contents, _, episodes = drawn(seed)
    made = other_class(episodes, contents)
    assert [(d.query, d.class_id) for (d,) in made] == [(d.query, d.class_id) for (d,) in episodes]
    for number, (found,) in enumerate(made):
        own, order = episodes[number][0], [*range(number + 1, 25), *range(number)]
        good = [
            other for (other,) in (episodes[i] for i in order)
            if other.class_id not in contents[own.query] | {own.class_id}
            and all(own.class_id not in contents[name] for name in other.supports)
        ]  # fmt: skip
        assert (found.supports, found.shown) == (good[0].supports, good[0].class_id) and not found.among
    with pytest.raises(DataError, match=r"give a larger test\.controls \(and"):
        other_class([(Draw("1", ("2",), 0),)] * 3, {"1": {0}, "2": {0}})


@pytest.mark.parametrize("seed", range(3))
def test_queries_of_two_classes(seed: int) -> None:
    contents, names, _ = drawn(seed)
    made = which_of_two(contents, names, range(4), 2, seed, 1000)
    assert made and made == which_of_two(contents, names, range(4), 2, seed, 1000)
    for (first,), (second,) in zip(made[::2], made[1::2], strict=True):
        assert first.query == second.query and {first.class_id, second.class_id} == contents[first.query] == {*first.among}
        assert first.among == second.among and not {*range(4)}.isdisjoint(first.among)
        for draw in (first, second):
            assert len({*draw.supports, draw.query}) == 3
            assert all({*draw.among} & contents[name] == {draw.class_id} for name in draw.supports)
    able = [c for c in range(6) if sum(len(v) == 1 and c in v for v in contents.values()) >= 2]
    assert {d.query for (d,) in made} >= {
        n for n, v in contents.items() if len(v) == 2 and v <= {*able} and not v.isdisjoint(range(4))
    }
    assert len(which_of_two(contents, names, range(4), 2, seed, 2)) == 4


def world(rng: np.random.Generator) -> list[ControlRow]:
    """Random rows whose pixel counts are possible."""
    rows = []
    for kind, n in product(Control, range(12)):
        known, true, predicted = 100, int(rng.integers(1, 60)), int(rng.integers(0, 60))
        inside = int(rng.integers(max(0, true + predicted - known), min(true, predicted) + 1))
        rows.append(ControlRow(kind, f"q{n % 7}", n % 3, (inside, predicted, true, known), round(float(rng.random()), 1)))
    return rows


def naive(rows: list[ControlRow]) -> dict[str, float]:
    """By loops."""
    found = {}
    for name, kind in (("own_miou", Control.own), ("other_class_miou", Control.other_class)):
        ious = []
        for c in range(3):
            of_class = [row.pixels for row in rows if row.control == kind and row.class_id == c]
            ious.append(sum(p[0] for p in of_class) / sum(p[1] + p[2] - p[0] for p in of_class))
        found[name] = 100 * sum(ious) / 3
    there = [row.presence for row in rows if row.control == "own"]
    absent = [row.presence for row in rows if row.control == "other_class"]
    wins = [1.0 if a > b else 0.5 if a == b else 0.0 for a in there for b in absent]
    found["presence_auroc"] = 100 * sum(wins) / len(wins)
    return found | {"which_of_two": right_of_two(rows)}


def right_of_two(rows: list[ControlRow]) -> float:
    right = known = 0
    for row in rows:
        if row.control == "which_of_two":
            inside, predicted, true, all_ = row.pixels
            right += inside + (all_ - predicted - true + inside)
            known += all_
    return 100 * right / known


def test_measures_against_loops(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows, others = world(rng), world(rng)
    assert controls.measures(rows) == pytest.approx(naive(rows), abs=1e-9)
    (tmp_path / "controls.csv").write_text(controls.text(rows))
    assert controls.read(tmp_path / "controls.csv") == rows
    found = controls.intervals([rows, others])
    for name, (value, low, high) in found.items():
        assert value == pytest.approx((naive(rows)[name] + naive(others)[name]) / 2) and low < value < high
    by_query = {q: [row for row in rows if row.query == q] for q in {row.query for row in rows}}
    draws = [[r for q in rng.choice([*by_query], 7) for r in by_query[q]] for _ in range(400)]
    low, high = np.percentile([right_of_two(one) for one in draws], [2.5, 97.5])
    _, own_low, own_high = controls.intervals([rows])["which_of_two"]
    assert (own_low, own_high) == pytest.approx((low, high), abs=0.15 * (high - low))

    nothing = [ControlRow(kind, "q", 0, (0, 0, 0, 0), 0.5) for kind in Control]  # objects too small for the grid
    assert controls.measures(nothing) == {"own_miou": 0, "other_class_miou": 0, "presence_auroc": 50, "which_of_two": 0}

    huge = controls.text([nothing[0]._replace(pixels=(10**400, 0, 0, 0))])
    for text in ("control,query\nown,a\n", huge):
        (tmp_path / "controls.csv").write_text(text)
        with pytest.raises(DataError, match="damaged"):
            controls.read(tmp_path / "controls.csv")


def test_command_against_the_segmenter(command: Command, checkpoint: Path, tmp_path: Path) -> None:
    settings = ("eval.resolution=original", "data.source.size=90", "shot=2", "test.episodes=6", "fold=0")
    done = command("mshnet-test", f"ckpt={checkpoint}", *settings, "test.controls=4", "runs=tested")
    assert done.code == 0, done.err
    (path,) = (tmp_path / "tested").rglob("controls_*.csv")
    rows = controls.read(path)
    with next((tmp_path / "tested").rglob("episodes_*.csv")).open() as file:
        episodes = [[int(value) for value in row] for row in [*csv.reader(file)][1:]]
    assert [[row.class_id, *row.pixels] for row in rows if row.control == "own"] == [row[1:] for row in episodes[:4]]

    source = Synthetic(size=90)
    names = by_class(source.pairs(Subset.VAL))
    drawn = [draw_seeded(names, range(5), 2, 0, n) for n in range(4)]
    segmenter = Segmenter.from_checkpoint(checkpoint)
    found = []
    for (draw,) in other_class(drawn, source.contents(Subset.VAL)):
        assert draw.shown not in (None, draw.class_id)
        masks = [source.mask(name, [draw.shown or 0]) for name in draw.supports]
        segmenter.fit([source.image(name) for name in draw.supports], masks)
        predicted, true = segmenter.predict(source.image(draw.query)) == 1, source.mask(draw.query, [draw.class_id]) == 1
        (margin,) = segmenter.margins(source.image(draw.query))
        there = presence(margin.reshape(predicted.shape))
        found.append((draw.query, draw.class_id, int((predicted & true).sum()), int(predicted.sum()), there))
    others = [row for row in rows if row.control == "other_class"]
    assert [(row.query, row.class_id, *row.pixels[:2]) for row in others] == [one[:4] for one in found]
    assert [row.presence for row in others] == pytest.approx([one[4] for one in found], abs=1e-4)

    (result,) = (tmp_path / "tested").rglob("result.json")
    assert json.loads(result.read_text())["tests"][0]["controls"] == pytest.approx(controls.measures(rows))
    report = command("mshnet-report", "tested")
    (line,) = (line for line in report.out.splitlines() if "control episodes of" in line)
    assert f"with another class's {controls.measures(rows)['other_class_miou']:.1f} [" in line

    whole = path.read_text()
    path.write_text("\n".join(whole.splitlines()[:5]))
    cut = command("mshnet-report", "tested")
    assert cut.code == 2 and "presence_auroc is" in cut.err and f"by {path.name}" in cut.err and "Traceback" not in cut.err
    path.unlink()
    gone = command("mshnet-report", "tested")
    assert gone.code == 0 and "no control episodes for MSHNet" in gone.out and "(controls_*.csv) are not all" in gone.out
    path.write_text(whole)

    refused = command("mshnet-test", f"ckpt={checkpoint}", *settings, "test.controls=4", "way=2")
    assert refused.code == 2 and "way=2: control episodes have one class" in refused.err


def test_pixels_of_two_classes_on_real_images() -> None:
    if not MINI.is_dir():
        pytest.skip(f"no images at {MINI}")
    source = Pascal5i(str(MINI), str(MINI / "splits"))
    data = EpisodeDataModule(source, fold=0, image_size=65)
    data.use_test_episodes(data.draws(40, 1, 0, Protocol.seeded))
    assert sum(len({*classes}) > 1 for classes in source.contents(Subset.VAL).values()) == 182
    draws, loader = data.control_episodes(20, 1, 0)[Control.which_of_two]
    assert len(draws) == 40
    for (draw,), episode in zip(draws, loader, strict=True):
        own, both = (source.mask(draw.query, classes) for classes in ([draw.class_id], draw.among))
        known = episode.query_mask[0] != UNKNOWN
        assert 0 < known.float().mean() <= (both == 1).mean() * 1.3 + 0.02
        assert float((episode.query_mask[0] == 1).float().mean()) == pytest.approx((own == 1).mean(), abs=0.02)
        assert torch.equal(episode.query_mask[0] <= 1, known)
