"""``mshnet-predict format=parquet``: parts whose bytes depend on nothing but the plan, resumed after whatever ended them."""

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from conftest import Command, Done
from forked import Forked
from mshnet_pl import Segmenter
from mshnet_pl.data.sources.synthetic import Synthetic
from parts_written import drawn, parts, rows
from ray_nodes import Cluster
from test_interrupts import interrupted_when

SOURCE = Synthetic(size=64)
SETTINGS = ("support=support", "format=parquet", "shard_size=4", "batch_size=2", "device=cpu")
PHOTOS = 22
PARTS = 6


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """``support``, and ``photos``: a stack of two pages and a damaged file among them."""
    for part in ("support/images", "support/masks", "photos"):
        (tmp_path / part).mkdir(parents=True)
    SOURCE.image("val-00-0000").save(tmp_path / "support" / "images" / "a.png")
    Image.fromarray(SOURCE.mask("val-00-0000", [0]) * 255).save(tmp_path / "support" / "masks" / "a.png")
    photos = [SOURCE.image(f"val-00-{number:04d}") for number in range(PHOTOS)]
    for number, photo in enumerate(photos):
        photo.crop((0, 0, 64 - number, 64)).save(tmp_path / "photos" / f"{number:02d}.png")
    (tmp_path / "photos" / "05.png").write_bytes(b"no image")
    (tmp_path / "photos" / "21.png").unlink()
    photos[21].save(tmp_path / "photos" / "21.tif", save_all=True, append_images=photos[:1])
    return tmp_path


@pytest.fixture
def predict(command: Command, checkpoint: Path) -> Callable[..., Done]:
    return lambda *settings: command("mshnet-predict", f"ckpt={checkpoint}", *merged(*settings))


def merged(*settings: str) -> list[str]:
    """``SETTINGS`` with those instead that are given."""
    return [f"{key}={value}" for key, value in dict(one.split("=", 1) for one in (*SETTINGS, *settings)).items()]


def test_rows_are_what_png_masks_show(own: Path, predict: Callable[..., Done], command: Command, checkpoint: Path) -> None:
    done = predict("query=photos", "out=parts", "masks=true")
    assert done.code == 1 and "1 queries could not be read" in done.err and "23 images in 23 rows" in done.err, done.err
    assert command("mshnet-predict", f"ckpt={checkpoint}", "support=support", "query=photos", "out=files", "batch_size=2",
                   "device=cpu").code == 1  # fmt: skip
    found = rows(own / "parts")
    assert len(found) == PHOTOS + 1 and [row["path"] for row in found] == sorted(row["path"] for row in found)
    assert [(row["path"], row["class"]) for row in found if row["error"]] == [("photos/05.png", None)]
    assert [row["page"] for row in found if row["path"] == "photos/21.tif"] == [0, 1]
    for row in found:
        if not row["error"]:
            name = Path(row["path"]).stem + ("" if row["page"] is None else f"_p{row['page']}")
            mask = np.asarray(Image.open(own / "files" / f"{name}_mask.png")) > 0
            assert np.array_equal(drawn(row), mask) and row["area"] == mask.sum()
            assert np.array_equal(np.asarray(Image.open(own / "parts" / row["mask"])) > 0, mask)
            if mask.any():
                left, upper, width, height = row["box"]
                assert mask[upper : upper + height, left : left + width].sum() == mask.sum() and 0.5 < row["score"] <= 1
            assert row["found"] == (row["presence"] >= 0.82) and row["class"] == "object"
    assert pq.read_table(own / "parts").num_rows == len(found)  # readers of folders pass over all but the parts

    assert predict("query=photos", "out=objects", "instances=true").code == 1
    alone = rows(own / "objects")
    assert len(alone) > len(found)
    for row in found:
        if not row["error"]:
            objects = [one for one in alone if (one["path"], one["page"]) == (row["path"], row["page"])]
            assert np.array_equal(np.sum([drawn(one) for one in objects], axis=0), drawn(row))
            assert {one["presence"] for one in objects} == {row["presence"]}


def test_several_workers_make_the_same_bytes_and_go_on_after_a_kill(
    own: Path, predict: Callable[..., Done], checkpoint: Path
) -> None:
    assert predict("query=photos", "out=one").code == 1
    expected = parts(own / "one")
    assert [*sorted(expected)] == [f"part-{number:05d}.parquet" for number in range(PARTS)]
    killed_when(lambda: bool(parts(own / "two")), command_line(own, checkpoint, "workers=local:1"))
    kept = parts(own / "two")
    assert kept and kept.items() <= expected.items()
    stamps = {name: (own / "two" / name).stat().st_mtime_ns for name in kept}
    again = predict("query=photos", "out=two", "workers=local:2")
    assert again.code == 1 and f"{len(kept)} of {PARTS} parts are done" in again.err, again.err
    assert parts(own / "two") == expected
    assert {name: (own / "two" / name).stat().st_mtime_ns for name in kept} == stamps
    assert not [*(own / "two").rglob(".*.part")]


def command_line(own: Path, checkpoint: Path, *more: str) -> Forked:
    settings = merged("query=photos", "out=two", "workers=local:2", *more)
    return Forked("mshnet-predict", own, f"ckpt={checkpoint}", *settings)


def wait_until(ready: Callable[[], bool], process: Forked) -> None:
    until = time.monotonic() + 240
    while not ready() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.005)


def killed_when(ready: Callable[[], bool], process: Forked) -> None:
    """A command gets SIGKILL, and its workers end with it."""
    wait_until(ready, process)
    process.kill()
    process.communicate(timeout=60)
    until = time.monotonic() + 60
    while (left := [*of_session(process.pid)]) and time.monotonic() < until:
        time.sleep(0.05)
    assert not left


def of_session(number: int) -> Iterator[str]:
    """What runs of a session, from ``/proc``; what has ended but was not asked after is left out."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == number and fields[0] != "Z":
            yield path.parent.name


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_kills(own: Path, predict: Callable[..., Done], checkpoint: Path) -> None:
    """Half of them as the command begins, half once it has done another part."""
    assert predict("query=photos", "out=one", "shard_size=1").code == 1
    rng = np.random.default_rng(0)
    for number in range(20):
        moment, there = time.monotonic() + rng.uniform(0, 3), len(parts(own / "two"))

        def ready(moment: float = moment, there: int = there, early: bool = number % 2 == 0) -> bool:
            return time.monotonic() > moment if early else len(parts(own / "two")) > there

        killed_when(ready, command_line(own, checkpoint, "shard_size=1"))
    assert len(parts(own / "two")) >= 10
    assert predict("query=photos", "out=two", "shard_size=1", "workers=local:2").code == 1
    assert parts(own / "two") == parts(own / "one") and len(parts(own / "two")) == PHOTOS


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("workers", ["local:1", "local:2"])
def test_ctrl_c_says_how_many_parts_are_done(
    own: Path, predict: Callable[..., Done], checkpoint: Path, workers: str
) -> None:
    process = command_line(own, checkpoint, "shard_size=1", f"workers={workers}")
    wait_until(lambda: len(parts(own / "two")) > 1, process)
    code, err = interrupted_when(lambda: True, process)
    assert code == 130 and "SIGINT" in err and f"of {PHOTOS} parts are done in two. The same command resumes" in err, err
    assert 1 < len(parts(own / "two")) < PHOTOS


def test_another_plan_is_refused_and_named(own: Path, predict: Callable[..., Done]) -> None:
    (own / "list.txt").write_text("# some\nphotos/00.png\n\nphotos/01.png\n")
    assert predict("query=list.txt", "out=out").code == 0
    before = parts(own / "out")
    with (own / "list.txt").open("a") as file:
        file.write("photos/02.png\n")
    for settings, named in (
        (["threshold=0.4", "query=list.txt"], ["threshold=0.5 there, 0.4 here", "queries=2 there, 3 here"]),
        (
            ["query=photos/0[01].png", "masks=true", "shard_size=5"],
            ["masks=False there", "shard_size=4 there, 5"],
        ),
    ):
        done = predict("out=out", *settings)
        assert done.code == 2 and all(name in done.err for name in named) and "overwrite=true" in done.err, done.err
        assert parts(own / "out") == before
    again = predict("query=photos/0[01].png", "out=out")
    assert again.code == 0 and "1 of 1 parts are done" in again.err, again.err
    assert predict("query=list.txt", "out=out", "overwrite=true").code == 0 and len(rows(own / "out")) == 3
    (own / "out" / "_plan" / "plan.json").unlink()
    done = predict("query=list.txt", "out=out")
    assert done.code == 2 and "part-00000.parquet, but no plan.json" in done.err


def test_what_is_gone_is_made_again(own: Path, predict: Callable[..., Done]) -> None:
    settings = ("query=photos/0[0-7].png", "out=out", "masks=true")
    assert predict(*settings).code == 1
    before, masks = parts(own / "out"), {path.name: path.read_bytes() for path in own.glob("out/_masks/*/*")}
    assert len(before) == 2 and len(masks) == 7
    shutil.rmtree(own / "out" / "_masks" / "part-00001")
    (own / "out" / "part-00000.parquet").unlink()
    for name in ("queries.parquet", "support.safetensors"):
        (own / "out" / "_plan" / name).unlink()
    again = predict(*settings)
    assert again.code == 1 and "0 of 2 parts are done" in again.err, again.err
    assert parts(own / "out") == before and {path.name: path.read_bytes() for path in own.glob("out/_masks/*/*")} == masks
    (own / "photos" / "00.png").write_bytes((own / "photos" / "07.png").read_bytes())
    assert "2 of 2 parts are done" in predict(*settings).err and parts(own / "out") == before
    assert "0 of 2 parts are done" in predict(*settings, "overwrite=true").err and rows(own / "out")[0]["width"] == 57


def test_lists(own: Path, predict: Callable[..., Done]) -> None:
    names = ["photos/03.png", "photos/01.png", "photos/gone.png"]
    (own / "list.csv").write_text("\ufeffid;path\n" + "".join(f"{i};{name}\n" for i, name in enumerate(names)))
    pq.write_table(pa.table({"id": [1, 2, 3], "Path": names}), own / "list.parquet")
    (own / "list.txt").write_text("\n".join(names))
    for ending in ("csv", "parquet", "txt"):
        done = predict(f"query=list.{ending}", f"out=of:{ending}")
        assert done.code == 1 and "1 queries could not be read" in done.err, done.err
        assert [row["path"] for row in rows(own / f"of:{ending}")] == names and "gone.png" in rows(own / f"of:{ending}")[2][
            "error"
        ]
    assert parts(own / "of:csv") == parts(own / "of:parquet") == parts(own / "of:txt")
    for name, content, message in (
        ("none.csv", "file\na.png\n", "call one path"),
        ("none.txt", "# nothing\n", "lists no image"),
        ("zeros.txt", "a\0b", "UTF-8"),
        ("none.parquet", "PAR1", "cannot be read"),
        ("numbers.parquet", pa.table({"path": [1, 2]}), "column path holds 1, which is no path"),
        ("two.parquet", pa.table({"path": ["a"], "Path": ["b"]}), "call one path"),
    ):
        if isinstance(content, str):
            (own / name).write_text(content)
        else:
            pq.write_table(content, own / name)
        done = predict(f"query={name}", "out=none")
        assert done.code == 2 and message in done.err and name in done.err and not (own / "none").exists(), done.err


def test_names_that_are_not_utf_8(own: Path, predict: Callable[..., Done], checkpoint: Path) -> None:
    odd = os.fsdecode(b"caf\xe9")
    segmenter = Segmenter.from_checkpoint(checkpoint, "cpu")
    segmenter.fit(odd, own / "support" / "images" / "a.png", own / "support" / "masks" / "a.png").save_support(own / "kept")
    (own / "photos" / "00.png").rename(own / f"{odd}.png")
    (own / f"{odd}{odd}.png").write_bytes(b"no image")
    done = predict("support=kept", f"query={own}/caf*.png", "out=out", "masks=true")
    assert done.code == 1 and "Traceback" not in done.err and r"found caf\xe9 in" in done.err, done.err
    good, bad = sorted(rows(own / "out"), key=lambda row: len(row["path"]))
    assert good["path"] == rf"{own}/caf\xe9.png" and good["class"] == r"caf\xe9"
    assert good["mask"] == r"_masks/part-00000/caf\xe9_mask.png"
    assert bad["path"] in bad["error"] and bad["path"] == rf"{own}/caf\xe9caf\xe9.png"


def test_a_support_file_and_bf16(own: Path, predict: Callable[..., Done], command: Command, checkpoint: Path) -> None:
    image, mask = own / "support" / "images" / "a.png", own / "support" / "masks" / "a.png"
    for bf16, precision in ((False, "fp32"), (True, "bf16")):
        segmenter = Segmenter.from_pretrained(checkpoint, "cpu", batch_size=2, bf16=bf16).fit("cat", image, mask)
        segmenter.save_support(own / f"{precision}.safetensors")
        settings = (
            f"support={precision}.safetensors",
            f"precision={precision}",
            "query=photos/0[0-3].png",
            "batch_size=2",
            "device=cpu",
        )
        for form in ("parquet", "png"):
            done = command("mshnet-predict", f"ckpt={checkpoint}", *settings, f"format={form}", f"out={form}-{precision}")
            assert done.code == 0, done.err
        expected = segmenter.predict([own / "photos" / f"0{number}.png" for number in range(4)])
        for row, labels in zip(rows(own / f"parquet-{precision}"), expected, strict=True):
            assert row["class"] == "cat" and np.array_equal(drawn(row), labels)
            stored = Image.open(own / f"png-{precision}" / f"{Path(row['path']).stem}_mask.png")
            assert np.array_equal(np.asarray(stored) > 0, labels)
    done = command(
        "mshnet-predict", f"ckpt={checkpoint}", "support=fp32.safetensors", "precision=bf16", "query=photos", "out=other"
    )
    assert done.code == 2 and "belongs to other settings: bf16=False (not True)" in done.err


def test_an_array_of_tasks_shares_the_parts(
    own: Path, predict: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = predict("query=photos", "out=array", "workers=slurm")
    assert done.code == 2 and "sbatch --array=0-7" in done.err
    assert predict("query=photos", "out=one").code == 1
    made: list[set[str]] = []
    for task in (1, 3):
        for name, value in {"ID": task, "MIN": 1, "COUNT": 2, "STEP": 2}.items():
            monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))
        done = predict("query=photos", "out=array", "workers=slurm")
        assert "0 of 3 parts are done" in done.err, done.err
        made.append({*parts(own / "array")})
    assert made[0] == {"part-00000.parquet", "part-00002.parquet", "part-00004.parquet"}
    assert parts(own / "array") == parts(own / "one")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_ray_makes_the_same_bytes(own: Path, predict: Callable[..., Done]) -> None:
    assert predict("query=photos", "out=one").code == 1
    for workers in ("ray:2", "ray"):
        done = predict("query=photos", f"out={workers}", f"workers={workers}")
        assert done.code == 1 and "1 queries could not be read" in done.err, done.err
        assert parts(own / workers) == parts(own / "one")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("ray_cluster", [2], indirect=True)
def test_a_node_that_is_killed_in_the_middle(
    own: Path, predict: Callable[..., Done], checkpoint: Path, ray_cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one does its parts."""
    (own / "list.txt").write_text("".join(f"{path}\n" for path in sorted((own / "photos").iterdir())) * 8)
    settings = ("query=list.txt", "shard_size=1")
    assert predict(*settings, "out=one").code == 1
    monkeypatch.setenv("RAY_ADDRESS", ray_cluster.address)
    process = command_line(own, checkpoint, *settings, "workers=ray:2")
    wait_until(lambda: any(name.endswith(".submit") for name in ray_cluster.at_work(1)), process)
    assert process.poll() is None
    ray_cluster.kill(1)
    assert len(parts(own / "two")) < 8 * PHOTOS
    _, err = process.communicate(timeout=300)
    assert process.returncode == 1 and "8 queries could not be read" in err, err
    assert parts(own / "two") == parts(own / "one")


def test_settings_that_cannot_work(own: Path, predict: Callable[..., Done], command: Command, checkpoint: Path) -> None:
    for settings, message in (
        (["workers=many"], "workers=many: give local:N, ray, ray:N or slurm"),
        (["workers=local:0"], "give local:N"),
        (["gpus_per_worker=1"], "gpus_per_worker=1 is for workers=ray"),
        (["shard_size=0"], "shard_size=0"),
        (["query=nowhere"], "no image there"),
    ):
        done = predict("out=out", *settings, *([] if settings[0].startswith("query") else ["query=photos"]))
        assert done.code == 2 and message in done.err and not (own / "out").exists(), done.err
    done = predict("query=photos", "out=photos")
    assert done.code == 2 and "holds queries" in done.err and not [*(own / "photos").glob("_*")], done.err
    done = command("mshnet-predict", f"ckpt={checkpoint}", "support=support", "query=photos", "out=out", "workers=local:2")
    assert done.code == 2 and "workers=local:2 is for format=parquet" in done.err


@pytest.mark.slow
def test_a_worker_that_is_killed(own: Path, checkpoint: Path) -> None:
    process = command_line(own, checkpoint, "shard_size=1")
    wait_until(lambda: len(parts(own / "two")) > 1, process)
    workers = {*of_session(process.pid)} - {str(process.pid)}
    youngest = max(workers, key=lambda pid: int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]))
    os.kill(int(youngest), signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and "out of memory, perhaps" in err and f"of {PHOTOS} parts are done" in err, err
