"""Paths of the material that tests read where it is present, the commands as functions, and a synthetic PASCAL tree."""

import gc
import json
import logging
import os
import runpy
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from mshnet_pl import Segmenter
from mshnet_pl.cli import app, bench, convert, export, predict, prepare, report, test, train
from mshnet_pl.data.sources.synthetic import Synthetic
from tiny import TINY, TINY_RUN

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from ray_nodes import Cluster

# Their asserts say what they compared, as those of tests do.
pytest.register_assert_rewrite("page_server", "peer_decoders", "peer_numbers", "peer_prototypes", "voc_prepared")

# Of the processes that tests start: one thread each, or as many as a run is told, which sleep while they wait.
os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("MSHNET_SHARED", ROOT.parent / "shared"))
MINI = SHARED / "data" / "pascal5i_mini"
WEIGHTS = SHARED / "weights" / "resnet50_imagenet_v1_fp16.safetensors"


class Done(NamedTuple):
    """What a command left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


Command = Callable[..., Done]

LONGEST = (
    "app", "sweeps", "app_security", "faults", "twice_at_once", "field_commands", "cli", "deterministic", "predict_shards",
    "other_data", "peers", "interrupts", "foreign_checkpoint", "start", "own_files", "terminal", "export", "formats",
    "field", "app_limits",
)  # fmt: skip
"""Files that take longest, the longest first: a worker that came to one of them last would work on alone."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a test with ``@pytest.mark.one_in(n)`` every n-th case is quick, the others are slow; long files come first."""
    places = {f"test_{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))
    cases: dict[str, int] = {}
    for item in items:
        if mark := item.get_closest_marker("one_in"):
            name = item.nodeid.partition("[")[0]
            if cases.setdefault(name, 0) % mark.args[0]:
                item.add_marker("slow")
            cases[name] += 1


def pytest_collection_finish() -> None:
    gc.freeze()  # what is imported by now stays, and is no longer looked through


@pytest.fixture(autouse=True)
def _logs_end_with_their_test() -> Iterator[None]:
    """Close the log file that a run in this process leaves open: its folder goes with the test."""
    root = logging.getLogger()
    before = [*root.handlers]
    yield
    for handler in {*root.handlers}.difference(before):
        if isinstance(handler, logging.FileHandler):
            root.removeHandler(handler)
            handler.close()


@pytest.fixture
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is remembered of checked data sets goes with the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Chromium; its tests are skipped where it or Playwright is not there."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium to drive")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Command:
    """Run a command of the package, or ``python FILE``, in this process, in ``tmp_path``, as its script does."""
    entries = {
        f"mshnet-{name}": program.main
        for name, program in {
            "train": train,
            "test": test,
            "report": report,
            "bench": bench,
            "convert": convert,
            "export": export,
            "predict": predict,
            "prepare": prepare,
            "app": app,
        }.items()
    }
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(name: str, *arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        capfd.readouterr()
        try:
            if name == "python":
                _script(monkeypatch)
            else:
                entries[name]()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        out, err = capfd.readouterr()
        return Done(code, out, err)

    return run


def _script(monkeypatch: pytest.MonkeyPatch) -> None:
    """``python FILE ARGUMENT...`` with the arguments of ``sys.argv``."""
    monkeypatch.setattr(sys, "argv", sys.argv[1:])
    monkeypatch.syspath_prepend(Path(sys.argv[0]).resolve().parent)
    runpy.run_path(sys.argv[0], run_name="__main__")


@pytest.fixture
def train_tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Train a tiny network for two steps in ``tmp_path`` and test it; gives the result file, lets ``SystemExit`` through."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> dict[str, Any]:
        settings = [*TINY_RUN, "backbone=efficientnet_lite0", "recipe=demo", "model.width=16", "test.episodes=4"]
        monkeypatch.setattr(sys, "argv", ["mshnet-train", *settings, *arguments])
        train.main()
        (result,) = (tmp_path / "runs").rglob("result.json")
        content: dict[str, Any] = json.loads(result.read_text())
        return content

    return run


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``mshnet-train`` wrote after a few steps, shifted so that masks have object and background."""
    folder = tmp_path_factory.mktemp("trained")
    settings = [*TINY_RUN, "data.image_size=64", "data.batch_size=4", "model.width=8", "trainer.max_steps=40"]
    settings += ["optimizer=adamw", "optimizer.lr=3e-3", "scheduler=constant", f"runs={folder}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["mshnet-train", *settings])
        train.main()
    (path,) = folder.rglob("last.ckpt")
    source, names = Synthetic(size=80), ["val-00-0000", "val-00-0001"]
    segmenter = Segmenter.from_checkpoint(path).fit(source.image(names[0]), source.mask(names[0], [0]))
    (margin,) = segmenter.margins(source.image(names[1]))
    state = torch.load(path, weights_only=True)
    state["state_dict"]["method.decoder.head.2.bias"][1] -= margin.median()
    torch.save(state, path)
    return path


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last checkpoint of two steps on fold 0 of the synthetic images, with the settings of ``TINY``."""
    folder = tmp_path_factory.mktemp("other")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["mshnet-train", *TINY, f"runs={folder}"])
        train.main()
    (path,) = folder.rglob("last.ckpt")
    return path


@pytest.fixture
def pascal_root(tmp_path: Path) -> Path:
    """A seeded tree in PASCAL-5i's folder shape: three images a class, one of them with another class in a corner."""
    root = tmp_path / "voc"
    for folder in ("JPEGImages", "SegmentationClassAug", "splits/trn", "splits/val"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for subset in ("trn", "val"):
        for fold in range(4):
            lines = []
            for label in range(5 * fold + 1, 5 * fold + 6):
                for i in range(3):
                    name = f"{subset}_{label:02d}_{i}"
                    height, width = int(rng.integers(50, 70)), int(rng.integers(50, 70))
                    mask = np.zeros((height, width), np.uint8)
                    mask[5:30, 8:40] = label
                    mask[31:33, 8:40] = 255
                    if i == 2:
                        mask[40:48, 40:48] = 1 + (label + i) % 20
                    image = rng.integers(0, 255, (height, width, 3)).astype(np.uint8) // 4 + mask[..., None] * 8 % 190
                    Image.fromarray(image).save(root / "JPEGImages" / f"{name}.jpg", quality=90)
                    Image.fromarray(mask).save(root / "SegmentationClassAug" / f"{name}.png")
                    lines.append(f"{name}__{label:02d}")
            (root / "splits" / subset / f"fold{fold}.txt").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def ray_cluster(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator["Cluster"]:
    """Of one node, or of the parameter's number."""
    from ray_nodes import Cluster

    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))  # of this cluster alone
    monkeypatch.setenv("RAY_NUM_REDIS_GET_RETRIES", "200")  # seconds in which a node may start
    cluster = Cluster(getattr(request, "param", 1))
    yield cluster
    cluster.end()
