"""A checkpoint from a stranger is data: of what it says beside its network, nothing is done."""

import os
import resource
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from conftest import Command
from mshnet_pl import Segmenter
from mshnet_pl.data.sources.synthetic import Synthetic
from mshnet_pl.errors import ConfigError
from tiny import TINY

SMALL = ("test.episodes=2", "test.pictures=0", "trainer.accelerator=cpu", "trainer.enable_progress_bar=false")


def changed(checkpoint: Path, path: Path, **changes: Any) -> Path:  # noqa: ANN401 - whatever a stranger writes
    """A copy whose stored settings, by dotted name with ``__`` for dots, are others."""
    content = torch.load(checkpoint, weights_only=True)
    for key, value in changes.items():
        *groups, name = key.split("__")
        node = content["hyper_parameters"]["config"]
        for group in groups:
            node = node[group]
        node[name] = value
    torch.save(content, path)
    return path


def texts(folder: Path) -> str:
    """Names and contents of everything below it."""
    return "\n".join(f"{path} {path.read_bytes().decode(errors='replace')}" for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """A server on this machine: its address, and what it was asked."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            requests.append(f"{self.requestline} {self.headers}")
            self.send_error(404)

        do_GET = do_PUT = do_POST

        def log_message(self, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", requests
    server.shutdown()
    server.server_close()


def test_a_stored_tracker_reaches_nobody(
    command: Command, tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, asked: tuple[str, list[str]]
) -> None:
    address, requests = asked
    monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
    tracker = {
        "_target_": "mshnet_pl.training.WandbTracker", "_partial_": True, "project": "x", "mode": "online",
        "settings": {"base_url": address, "init_timeout": 5},
    }  # fmt: skip
    changed(checkpoint, tmp_path / "evil.ckpt", logger=tracker)
    done = command("mshnet-test", "ckpt=evil.ckpt", *SMALL)
    assert done.code == 0, done.err
    assert requests == [] and not [*tmp_path.rglob("wandb")]


def test_a_setting_of_another_version(command: Command, tmp_path: Path, checkpoint: Path) -> None:
    changed(checkpoint, tmp_path / "newer.ckpt", eval__sharpened=True, loss__ok=1)
    done = command("mshnet-test", "ckpt=newer.ckpt", *SMALL)
    assert done.code == 2 and done.err.count("error: ") == 1 and "Traceback" not in done.err
    assert "'loss.ok', 'eval.sharpened', which mshnet_pl" in done.err and "take the version that wrote it" in done.err


def test_nothing_is_written_where_a_checkpoint_says(command: Command, tmp_path: Path, checkpoint: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "log").mkdir(parents=True)
    for name in ("metrics.csv", "hparams.yaml"):
        (elsewhere / "log" / name).write_text("mine")
    callback = {"_target_": "pytorch_lightning.callbacks.ModelCheckpoint", "dirpath": str(elsewhere / "saved")}
    changed(
        checkpoint, tmp_path / "evil.ckpt", runs=str(elsewhere / "runs"), callbacks={"x": callback},
        data__cache_dir=str(elsewhere / "cache"), data__cache_mb=10, data__feature_cache=str(elsewhere / "features"),
        logger={"_target_": "pytorch_lightning.loggers.CSVLogger", "_partial_": True, "name": str(elsewhere / "log"),
                "version": ""},
        trainer__default_root_dir=str(elsewhere / "root"), trainer__profiler="simple", trainer__devices=3,
    )  # fmt: skip
    before = texts(elsewhere)
    done = command("mshnet-test", "ckpt=evil.ckpt", *SMALL)
    assert done.code == 0, done.err
    assert texts(elsewhere) == before and [*(tmp_path / "runs").rglob("result.json")]


@pytest.mark.parametrize("variant", ["../../../../elsewhere", "/elsewhere", "a\nb", "\x1b[31m", {"a": "/b"}])
def test_a_folder_is_named_by_plain_words(command: Command, tmp_path: Path, checkpoint: Path, variant: object) -> None:
    changed(checkpoint, tmp_path / "evil.ckpt", variant=variant)
    done = command("mshnet-test", "ckpt=evil.ckpt", *SMALL)
    assert done.code == 2 and "ckpt=evil.ckpt is not loaded: variant" in done.err and "Traceback" not in done.err, done.err
    assert [path.name for path in tmp_path.iterdir()] == ["evil.ckpt"]


@pytest.mark.parametrize(
    "key", ["variant", "seed", "eval__fusion", "model__width", "data__source__size", "runs", "data__root"]
)
def test_the_environment_is_not_read(
    command: Command, tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("A_SECRET", "correcthorse")
    changed(checkpoint, tmp_path / "evil.ckpt", **{key: "${oc.env:A_SECRET}"})
    done = command("mshnet-test", "ckpt=evil.ckpt", *SMALL)
    assert done.code == (0 if key == "runs" else 2) and "Traceback" not in done.err, done.err
    assert "correcthorse" not in texts(tmp_path) + done.out + done.err


def test_files_are_read_where_the_command_says(
    command: Command, tmp_path: Path, checkpoint: Path, pascal_root: Path
) -> None:
    source = {"_target_": "mshnet_pl.data.sources.Pascal5i", "root": "${data.root}", "splits_dir": "${data.splits_dir}"}
    lists = {"data__splits_dir": str(pascal_root / "splits"), "data__source": source}
    changed(checkpoint, tmp_path / "a.ckpt", data__root=str(pascal_root), **lists)
    refused = command("mshnet-test", "ckpt=a.ckpt", *SMALL)
    again = refused.err.splitlines()[1].split()
    assert refused.code == 2 and again == [f"data.root={pascal_root}", f"data.splits_dir={pascal_root / 'splits'}"]
    assert command("mshnet-test", "ckpt=a.ckpt", *SMALL, *again).code == 0
    for root in (str(pascal_root), "${data.root}/../secret", "${oc.env:HOME}"):
        changed(checkpoint, tmp_path / "b.ckpt", **lists, data__source__root=root)
        refused = command("mshnet-test", "ckpt=b.ckpt", *SMALL, f"data.root={pascal_root}", again[1])
        assert refused.code == 2 and "data.source.root=" in refused.err, refused.err


DOORS = (
    "mshnet-test", "mshnet-report energy average=1", "mshnet-predict support=support query=query out=out",
    "mshnet-export format=torch_export out=net.pt2", "mshnet-train",
)  # fmt: skip


@pytest.fixture
def pictures(tmp_path: Path) -> None:
    source = Synthetic(size=40)
    for path in ("support/images/a.png", "query/b.png"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        source.image("val-00-0000").save(tmp_path / path)
    (tmp_path / "support/masks").mkdir()
    Image.fromarray(255 * source.mask("val-00-0000", [0])).save(tmp_path / "support/masks/a.png")


@pytest.mark.one_in(3)
@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("value", [nan, inf, -inf, 1e38])
def test_weights_that_no_network_works_with(
    command: Command, tmp_path: Path, checkpoint: Path, door: str, value: float
) -> None:
    content = torch.load(checkpoint, weights_only=True)
    key = [name for name, tensor in content["state_dict"].items() if tensor.is_floating_point()][5]
    content["state_dict"][key].view(-1)[-1] = value
    torch.save(content, tmp_path / "evil.ckpt")
    name, *arguments = door.split()
    settings = (*TINY, "ckpt_path=evil.ckpt") if name == "mshnet-train" else ("ckpt=evil.ckpt",)
    done = command(name, *arguments, *settings)
    assert done.code == 2 and f"{key} in it holds {value:g}" in done.err and "Traceback" not in done.err, done.err
    assert not {"out", "net.pt2", "energy.png"} & {path.name for path in tmp_path.iterdir()}


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize("door", [DOORS[0], DOORS[2]])
def test_weights_that_overflow_together(command: Command, tmp_path: Path, checkpoint: Path, door: str) -> None:
    """Each could be a weight; their products are infinite, and a mask of that would be empty without a word."""
    content = torch.load(checkpoint, weights_only=True)
    for key, tensor in content["state_dict"].items():
        if key.startswith("method.decoder") and key.endswith("weight"):
            tensor.fill_(1e11)
    torch.save(content, tmp_path / "evil.ckpt")
    name, *arguments = door.split()
    done = command(name, *arguments, "ckpt=evil.ckpt")
    assert done.code == 2 and "predicts NaN or infinity" in done.err and "Traceback" not in done.err, done.err
    assert not [*tmp_path.rglob("predictions.json"), *tmp_path.rglob("result.json")]


@pytest.mark.one_in(3)
@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize("size", [0, -1, 31, 100_000, 10**30, 64.5, "large", None, [64], True])
def test_image_sizes(command: Command, tmp_path: Path, checkpoint: Path, size: object) -> None:
    changed(checkpoint, tmp_path / "evil.ckpt", data__image_size=size)
    for door in DOORS[:4]:
        name, *arguments = door.split()
        done = command(name, *arguments, "ckpt=evil.ckpt")
        assert done.code == 2 and "image_size" in done.err and "Traceback" not in done.err, (door, done.err)


def hostile_networks() -> dict[str, dict[str, Any]]:
    """Arguments of the network that would take memory, time, or the network."""
    shared: list[Any] = [1]
    for _ in range(40):
        shared = [shared, shared]
    deep: list[Any] = [1]
    for _ in range(100):
        deep = [deep]
    return {
        "a wide network": {"model__width": 100_000_000},
        "a wider one": {"model__width": 10**30},
        "a list in many places": {"model__blocks": shared},
        "a deep list": {"model__blocks": deep},
        "a network of the hub": {"backbone": {"_target_": "mshnet_pl.backbones.TimmBackbone", "name": "hf-hub:me/net"}},
        "a network of a folder": {"backbone": {"_target_": "mshnet_pl.backbones.TimmBackbone", "name": "local-dir:/x"}},
        "positional arguments": {"model___args_": [1]},
        "a data set": {"model__backbone": {"_target_": "mshnet_pl.data.sources.Folder", "root": "/"}},
        "scales": {"eval__scales": [1e9]},
        "a tensor": {"model__width": torch.ones(1)},
    }  # fmt: skip


@pytest.mark.parametrize("what", hostile_networks())
def test_networks_that_are_too_much(command: Command, tmp_path: Path, checkpoint: Path, what: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    changed(checkpoint, tmp_path / "evil.ckpt", **hostile_networks()[what])
    with pytest.raises(ConfigError, match=r"evil\.ckpt"):
        Segmenter.from_checkpoint(tmp_path / "evil.ckpt")
    done = command("mshnet-test", "ckpt=evil.ckpt", *SMALL)
    named = "eval.scales=1000000000.0" if what == "scales" else "evil.ckpt"
    assert done.code == 2 and "Traceback" not in done.err and named in done.err, done.err
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 * 1024  # KiB


def test_a_file_that_unpacks_to_much(command: Command, tmp_path: Path, checkpoint: Path) -> None:
    with zipfile.ZipFile(checkpoint) as own, zipfile.ZipFile(tmp_path / "evil.ckpt", "w", zipfile.ZIP_DEFLATED) as evil:
        for entry in own.infolist():
            with evil.open(entry.filename, "w") as file:
                file.write(own.read(entry))
        with evil.open(f"{entry.filename.split('/')[0]}/data/more", "w") as file:
            for _ in range(1024):
                file.write(bytes(1 << 20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, *settings in (("mshnet-test", "ckpt=evil.ckpt"), ("mshnet-train", *TINY, "ckpt_path=evil.ckpt")):
        done = command(name, *settings)
        assert done.code == 2 and "would unpack to 1,0" in done.err, done.err
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024  # KiB


@pytest.mark.parametrize("how", ["expanded", "sparse", "text", "list"])
def test_tensors_that_are_none(command: Command, tmp_path: Path, checkpoint: Path, how: str) -> None:
    content = torch.load(checkpoint, weights_only=True)
    content["state_dict"][next(iter(content["state_dict"]))] = {
        "expanded": torch.zeros(1).expand(10**12),
        "sparse": torch.eye(3).to_sparse(),
        "text": "weights",
        "list": [1.0],
    }[how]
    torch.save(content, tmp_path / "evil.ckpt")
    done = command("mshnet-test", "ckpt=evil.ckpt", *SMALL)
    assert done.code == 2 and "ckpt=evil.ckpt is not a checkpoint of mshnet-train" in done.err, done.err


def test_a_resumed_state_stays_in_the_folder(command: Command, tmp_path: Path) -> None:
    """Paths in the states of callbacks, a stranger's and those of an own run that was cut off."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "best.ckpt").write_text("years of work")
    settings = (*TINY, "val.episodes=1", "val.every_n_steps=1", "test.checkpoint=best")
    assert command("mshnet-train", *settings, "trainer.max_steps=1", "runs=first").code == 0
    (last,) = (tmp_path / "first").rglob("last.ckpt")
    content = torch.load(last, weights_only=True)
    for state in content["callbacks"].values():
        for name, value in state.items():
            if isinstance(value, str):
                state[name] = {"dirpath": str(precious), "best_model_path": f"local://{precious}"}.get(name, "/x\0y")
        state |= {"best_k_models": {str(precious / "best.ckpt"): torch.tensor(99.0)}, "more": {"a": [os.sep]}}
    torch.save(content, tmp_path / "evil.ckpt")
    done = command("mshnet-train", *settings, "trainer.max_steps=3", "runs=second", "ckpt_path=evil.ckpt")
    assert done.code == 0, done.err
    assert (precious / "best.ckpt").read_text() == "years of work"
    (best,) = (tmp_path / "second").rglob("best.ckpt")
    (again,) = (tmp_path / "second").rglob("last.ckpt")
    assert "precious" not in str(torch.load(again, weights_only=True)["callbacks"]) and best.parent == again.parent
