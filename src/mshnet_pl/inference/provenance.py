"""What a network learned from, how well it does and under which terms: what its card, its file and the page tell of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from mshnet_pl import results
from mshnet_pl.errors import ConfigError
from mshnet_pl.inference import lineage
from mshnet_pl.models.base import AbstractMethod
from mshnet_pl.models.builder import prediction_settings
from mshnet_pl.results import Result, Training
from mshnet_pl.utils.targets import backbone_name, class_name

_UNKNOWN = "not recorded"
_DATA_TERMS = {
    "Pascal5i": "PASCAL VOC 2012: images from Flickr, whose terms of use apply. ",
    "Coco20i": "MS COCO: annotations CC BY 4.0; images from Flickr, whose terms of use apply. ",
}
_BACKBONE_TERMS = {
    "EfficientNetLite0": "the weights come with an Apache-2.0 package",
    "TimmBackbone": "the terms of timm's weights are on their page of the Hugging Face hub",
}
_SCORE = ("shot", "seed", "protocol", "resolution", "episodes", "miou", "fb_iou")


@dataclass(frozen=True)
class Provenance:
    """In words, each field but the last a row of the model card; ``as_record`` reads it from JSON."""

    network: str
    data: str
    """The data set and its fold."""
    classes: str
    """That it was trained on."""
    novel_classes: str
    """That it never saw."""
    episodes: str
    """Of its training."""
    synthetic: bool = False
    """Whether it was trained on synthetic images alone, and so knows none of the world's."""
    novel_pixels: str | None = None
    origin: str | None = None
    """Another file that it was converted from."""
    scores: list[dict[str, Any]] = field(default_factory=list)
    """Measurements on the novel classes: shot, seed, protocol, resolution, episodes, miou and fb_iou in percent."""
    remarks: list[str] = field(default_factory=list)
    """Sentences about the scores."""
    terms: list[str] = field(default_factory=list)
    """Whose terms bind the code, the weights and the data."""
    trainings: list[dict[str, Any]] = field(default_factory=list)
    """What the weights went through, as ``lineage`` reads it; empty where that is not known or nothing was trained."""


def of_checkpoint(path: Path, digest: str, hyper_parameters: Mapping[str, Any], method: AbstractMethod) -> Provenance:
    """What a checkpoint says, and the result of its run where that lies beside it."""
    config, origin = hyper_parameters["config"], hyper_parameters.get("origin")
    result = _result(path, digest)
    tests = [test for test in result.tests if test.weights != "untrained"] if result else []
    past = lineage.trainings(hyper_parameters, f"ckpt={path}")
    classes, novel = _classes(config, past, result)
    source = class_name(config["data"]["source"]["_target_"])
    told = " (as told to mshnet-convert, or its default; the authors' file does not say)" if origin else ""
    return Provenance(
        network=_network(config, method),
        data=f"{source}, fold {_known(config['fold'])}{told}",
        classes=classes,
        novel_classes=novel,
        episodes=f"{config['way']}-way {config['shot']}-shot{told}; any number of shots can be given",
        synthetic=is_synthetic(config, method),
        # what the authors' training did is not in their file
        novel_pixels=None if origin else f"data.novel_pixels={_known(config['data']['novel_pixels'])}",
        origin=origin,
        scores=[{name: getattr(test, name) for name in _SCORE} for test in tests],
        remarks=_refinements(result) if result and tests else [],
        terms=_terms(class_name(config["backbone"]["_target_"]), source, origin),
        trainings=[vars(one) for one in past],
    )


def is_synthetic(config: Mapping[str, Any], method: AbstractMethod) -> bool:
    """Whether something was learned, and from synthetic images."""
    source = config["data"].get("source") or {}
    return class_name(source.get("_target_")) == "Synthetic" and method.learnable_parameters() > 0


def _result(ckpt: Path, digest: str) -> Result | None:
    """The result of the run that wrote ``ckpt``, if it was measured with exactly this file."""
    for folder in (ckpt.parent, ckpt.parent.parent):
        try:
            result = results.load(folder / results.FILE)
        except ConfigError:  # none, or of another version
            continue
        if result.training.get("checkpoint_sha256") == digest:
            return result
    return None


def _classes(config: Mapping[str, Any], past: Sequence[Training], result: Result | None) -> tuple[str, str]:
    """Names of the classes that were trained, and of the tested ones that never were."""
    module, _, name = config["data"]["source"]["_target_"].rpartition(".")
    ours = import_module(module) if module.startswith("mshnet_pl.data.") else None  # nothing else that a file names
    novel = result.novel if result else getattr(getattr(ours, name, None), "classes", None)
    known = [one for one in past if one.classes is not None]
    if novel is None or not (result or known):
        return _UNKNOWN, _UNKNOWN
    trained = {name for one in known for name in one.classes or ()}
    several = len(past) > 1
    base = "; ".join((f"{one.data}: " if several else "") + ", ".join(one.classes or []) for one in known)
    return base or "all others", ", ".join(name for name in novel if name not in trained) or "none"


def _network(config: Mapping[str, Any], method: AbstractMethod) -> str:
    model = config["model"]
    parts = [class_name(model["_target_"])]
    if "similarities" in model:
        parts.append(f"similarities {', '.join(config['similarity'])}, width {model['width']}")
    weights = Path(str(config["backbone"].get("weights"))).name
    state = "trained" if config["backbone"].get("trainable") else "frozen"
    name = "timm's " * ("name" in config["backbone"]) + backbone_name(config["backbone"])
    parts.append(f"backbone {name} (weights: {weights}), {state}")
    return f"{', '.join(parts)}; {method.learnable_parameters():,} trainable parameters"


def _refinements(result: Result) -> list[str]:
    """What tests did beside running the network, as a sentence."""
    found, plain = result.config.get("eval", {}), prediction_settings({}, 473)
    changes = [f"eval.{key}={value}" for key, value in found.items() if value != plain.get(key, value)]
    return [f"Predictions were refined, which is not part of the network: {', '.join(changes)}."] if changes else []


def _terms(backbone: str, source: str, origin: str | None) -> list[str]:
    weights = (
        "The authors published these weights without a licence: ask them before passing the file on."
        if origin
        else "Whoever trained these weights decides on their licence."
    )
    network = _BACKBONE_TERMS.get(backbone, "torchvision names no other licence than its code's")
    return [
        "Code: mshnet_pl, MIT.",
        f"Weights: {weights}",
        f"Backbone: if trained on ImageNet, whose images are for non-commercial research and education; {network}.",
        f"Training data: {_DATA_TERMS.get(source, '')}Terms of the data may bind what is trained on them.",
    ]


def _known(value: object) -> object:
    return _UNKNOWN if value in (None, "???") else value
