"""Episodes: the published ones, and that ours follow from (seed, number) alone."""

import json
import os
import pickle
from collections import Counter
from pathlib import Path

import pytest

from conftest import SHARED
from mshnet_pl.data.protocol.folds import make_fold
from mshnet_pl.data.protocol.sampling import (
    Draw,
    check_supply,
    draw_balanced,
    draw_seeded,
    episodes_hash,
    published_classwise,
    published_walk,
)
from mshnet_pl.data.protocol.split_lists import read_pickle_list, read_text_lists
from mshnet_pl.errors import DataError

EPISODES = Path(os.environ.get("MSHNET_GOLDEN_EPISODES", SHARED / "golden" / "episodes"))
SPLITS = SHARED / "splits"
CASES = [(name, case) for path in sorted(EPISODES.glob("*.json")) for name, case in json.loads(path.read_text()).items()]
NAMES = {c: [f"{c}-{i}" for i in range(12)] for c in range(6)}


def test_published_episodes_are_there() -> None:
    if not EPISODES.is_dir():
        pytest.skip(f"no published episodes at {EPISODES}")
    assert CASES


@pytest.mark.parametrize(("name", "case"), CASES, ids=[name for name, _ in CASES])
def test_published_episodes(name: str, case: dict[str, object]) -> None:
    if not SPLITS.is_dir():
        pytest.skip(f"no split lists at {SPLITS}")
    benchmark, fold, shots = name.split("/")
    shot, number = int(shots.removesuffix("shot")), fold.removeprefix("fold")
    if benchmark == "pascal":
        draws = published_walk([*read_text_lists([SPLITS / f"pascal/val/fold{number}.txt"], 20)[0]], shot, 1000)
    else:
        draws = published_classwise(read_pickle_list(SPLITS / f"coco/val/fold{number}.pkl", 80), shot, 1000)
    assert [[d.query, list(d.supports), d.class_id] for (d,) in draws[:3]] == case["first3"]
    assert episodes_hash(draws) == case["sha256"]


def test_seeded_episodes_are_distinct_images_of_one_class() -> None:
    draws = [draw_seeded(NAMES, [1, 3, 4], shot=5, seed=7, number=n) for n in range(600)]
    for (draw,) in draws:
        images = {draw.query, *draw.supports}
        assert len(images) == 6
        assert {name.split("-")[0] for name in images} == {str(draw.class_id)}
    counts = Counter(draw.class_id for (draw,) in draws)
    assert counts.keys() == {1, 3, 4} and min(counts.values()) > 150
    assert draws[17] == draw_seeded(NAMES, [1, 3, 4], shot=5, seed=7, number=17)
    assert draws != [draw_seeded(NAMES, [1, 3, 4], shot=5, seed=8, number=n) for n in range(600)]


def test_ways_are_distinct_classes_and_images_of_one_query() -> None:
    first = Counter()  # type: Counter[int]
    for number in range(300):
        draws = draw_seeded(NAMES, [0, 1, 3, 4], shot=3, seed=7, number=number, way=3)
        assert len({draw.class_id for draw in draws}) == 3 and len({draw.query for draw in draws}) == 1
        images = [draws[0].query, *(name for draw in draws for name in draw.supports)]
        assert len(set(images)) == 10 and draws[0].query.startswith(f"{draws[0].class_id}-")
        assert all(name.startswith(f"{draw.class_id}-") for draw in draws for name in draw.supports)
        first[draws[0].class_id] += 1
    assert min(first.values()) > 50
    with pytest.raises(DataError, match="way=3: there are only 2 classes"):
        check_supply(NAMES, [0, 1], 1, list("abcdef"), way=3)
    with pytest.raises(DataError, match="shot=4, way=3 needs 13 images"):
        check_supply(NAMES, [0, 1, 2], 4, list("abcdef"), way=3)


def test_an_epoch_draws_every_class_equally_often() -> None:
    epoch = [draw_balanced(NAMES, [0, 2, 5], shot=1, seed=3, number=n, per_class=20) for n in range(120)]
    for part in (epoch[:60], epoch[60:]):
        assert Counter(draw.class_id for (draw,) in part) == {0: 20, 2: 20, 5: 20}
    assert [d.class_id for (d,) in epoch[:60]] != [d.class_id for (d,) in epoch[60:]]


def test_too_few_images_are_named() -> None:
    with pytest.raises(DataError, match=r"shot=5 needs 6 images a class(.|\n)*dog \(class 1\): 2(.|\n)*min_images"):
        check_supply({0: ["a"] * 9 + list("bcdefg"), 1: ["x", "y"]}, [0, 1], 5, ["cat", "dog"])


def test_folds_are_the_published_ones() -> None:
    assert make_fold(2, 20).novel == (10, 11, 12, 13, 14)
    assert make_fold(1, 80, interleaved=True).novel == tuple(1 + 4 * v for v in range(20))
    for fold in range(4):
        base, novel = make_fold(fold, 20)
        assert sorted(base + novel) == list(range(20))
    with pytest.raises(ValueError, match="fold=4: there are folds 0 to 3"):
        make_fold(4, 20)
    with pytest.raises(ValueError, match="21 classes"):
        make_fold(0, 21)


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "fold0.txt"
    path.write_text("2007_000032__01\n2007_000033_01\n\n2007_000034__21\n")
    with pytest.raises(DataError, match=r"fold0\.txt:2: '2007_000033_01'(.|\n)*fold0\.txt:4"):
        read_text_lists([path], 20)


def test_a_pickle_that_names_code_is_refused(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "made"),)

    path = tmp_path / "fold0.pkl"
    path.write_bytes(pickle.dumps({0: [Hostile()]}))
    with pytest.raises(DataError, match="not a plain pickle"):
        read_pickle_list(path, 80)
    assert not (tmp_path / "made").exists()
    path.write_bytes(pickle.dumps({0: "names"}))
    with pytest.raises(DataError, match="not a dict of class"):
        read_pickle_list(path, 80)
    with pytest.raises(DataError, match="missing"):
        read_pickle_list(tmp_path / "fold1.pkl", 80)


def test_hash_is_of_the_documented_json() -> None:
    # printf '[["q", ["a", "b"], 3]]' | sha256sum
    expected = "6c0492f22d6a40d1c9233215c9172e5a344e9f314fe6e741146e366ebe7ac2f0"
    assert episodes_hash([(Draw("q", ("a", "b"), 3),)]) == expected
