"""Model cards: what a network file is, what it was trained on, how well it does, and under which terms."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from mshnet_pl import results
from mshnet_pl.config.schema import EvalConfig
from mshnet_pl.episode import MEAN, STD
from mshnet_pl.errors import ConfigError
from mshnet_pl.models.base import AbstractMethod
from mshnet_pl.models.builder import Trained
from mshnet_pl.report.formats import escaped
from mshnet_pl.results import Result, Training
from mshnet_pl.runs import lineage
from mshnet_pl.utils.checkpoint_file import read_checkpoint
from mshnet_pl.utils.hashing import sha256
from mshnet_pl.utils.targets import class_name

_UNKNOWN = "not recorded"
_DATA_TERMS = {
    "Pascal5i": "PASCAL VOC 2012: images from Flickr, whose terms of use apply. ",
    "Coco20i": "MS COCO: annotations CC BY 4.0; images from Flickr, whose terms of use apply. ",
}
_BACKBONE_TERMS = {
    "EfficientNetLite0": "the weights come with an Apache-2.0 package",
    "TimmBackbone": "the terms of timm's weights are on their page of the Hugging Face hub",
}


def text(name: str, path: Path, ckpt: Path, trained: Trained, signature: str | None = None) -> str:
    """The model card of a file, Markdown.

    Args:
        name: the file's name.
        path: where it lies until it has that name.
        ckpt: the checkpoint that it was made of; its run's ``result.json`` gives the scores.
        trained: what is in it.
        signature: inputs and output of an exported file.
    """
    checkpoint = read_checkpoint(ckpt)
    hyper_parameters = checkpoint["hyper_parameters"]
    config, origin = hyper_parameters["config"], hyper_parameters.get("origin")
    result, side = _result(ckpt), trained.image_size
    base, novel = _classes(config, lineage.trainings(checkpoint, ckpt), result)
    told = " (as told to mshnet-convert, or its default; the authors' file does not say)" if origin else ""
    made = f"exported from {ckpt.name}, SHA-256 {sha256(ckpt)}" if signature else None
    rows = {
        "SHA-256": sha256(path),
        "Made": f"{datetime.now(UTC):%Y-%m-%d} with {', '.join(f'{k} {v}' for k, v in results.versions().items())}",
        "Made of": "; ".join(part for part in (made, origin and f"converted from {origin}") if part) or _UNKNOWN,
        "Network": _network(config, trained.method),
        "Input": f"RGB images resized to {side} x {side} (bilinear), divided by 255, then normalised with mean "
        f"{_list(MEAN.flatten().tolist())} and standard deviation {_list(STD.flatten().tolist())}; "
        "masks resized to the same square (nearest), 1 on the object and 0 elsewhere",
        "Signature": signature,
        "Data": f"{class_name(config['data']['source']['_target_'])}, fold {_known(config['fold'])}{told}",
        "Trained on": base,
        "Never seen": novel,
        "Training images that hold a novel class": f"data.novel_pixels={_known(config['data']['novel_pixels'])}",
        "Training episodes": f"{config['way']}-way {config['shot']}-shot{told}; any number of shots can be given",
    }
    if origin:
        del rows["Training images that hold a novel class"]  # what the authors' training did is not in their file
    body = "\n".join(f"| {key} | {escaped(str(value))} |" for key, value in rows.items() if value)
    return (
        f"# {escaped(name)}\n\nFew-shot segmentation: outlines in a query the object that masks outline in supports.\n\n"
        f"| | |\n|---|---|\n{body}\n\n## Scores\n\n{_scores(result)}\n\n## Terms\n\n{_terms(config, origin)}\n"
    )


def _result(ckpt: Path) -> Result | None:
    """The result of the run that wrote ``ckpt``, if it was measured with exactly this file."""
    digest = sha256(ckpt)
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
    target = config["data"]["source"]["_target_"]
    module, _, name = target.rpartition(".")
    ours = import_module(module) if module.startswith("mshnet_pl.data.") else None  # nothing else that a file names
    names = getattr(getattr(ours, name, None), "classes", None)
    novel = result.novel if result else names
    known = [one for one in past if one.classes is not None]
    if novel is None or not (result or known):
        return _UNKNOWN, _UNKNOWN
    trained = {name for one in known for name in one.classes or ()}
    several = len(past) > 1
    base = "; ".join((f"{one.data}: " if several else "") + _list(one.classes or []) for one in known)
    return base or "all others", _list([name for name in novel if name not in trained]) or "none"


def _network(config: Mapping[str, Any], method: AbstractMethod) -> str:
    model = config["model"]
    parts = [class_name(model["_target_"])]
    if "similarities" in model:
        parts.append(f"similarities {', '.join(config['similarity'])}, width {model['width']}")
    weights = Path(str(config["backbone"].get("weights"))).name
    state = "trained" if config["backbone"].get("trainable") else "frozen"
    parts.append(f"backbone {_backbone(config['backbone'])} (weights: {weights}), {state}")
    return f"{', '.join(parts)}; {method.learnable_parameters():,} learnable parameters"


def _backbone(node: Mapping[str, Any]) -> str:
    if "name" in node:
        return f"timm's {node['name']}"
    return class_name(node["_target_"]) + (f"-{node['depth']}" if node.get("depth") else "")


def _scores(result: Result | None) -> str:
    tests = [test for test in result.tests if test.weights != "untrained"] if result else []
    if result is None or not tests:
        return "No recorded scores."
    head = "| shots | seed | protocol | resolution | episodes | mIoU | FB-IoU |\n|---|---|---|---|---|---|---|"
    rows = [
        f"| {t.shot} | {t.seed} | {t.protocol} | {t.resolution} | {t.episodes} | {t.miou:.1f} | {t.fb_iou:.1f} |"
        for t in tests
    ]
    head = f"In percent, on the classes never seen; pixels are pooled over all episodes.{_refined(result)}\n\n{head}"
    return "\n".join([head, *rows])


def _refined(result: Result) -> str:
    """What tests did beside running the network, as a sentence."""
    plain = asdict(EvalConfig())
    found = result.config.get("eval", {})
    changes = [f"eval.{key}={value}" for key, value in found.items() if key != "resolution" and value != plain.get(key)]
    return f" Predictions were refined, which is not part of the network: {', '.join(changes)}." if changes else ""


def _terms(config: Mapping[str, Any], origin: str | None) -> str:
    name, source = class_name(config["backbone"]["_target_"]), class_name(config["data"]["source"]["_target_"])
    backbone = _BACKBONE_TERMS.get(name, "torchvision names no other licence than its code's")
    weights = (
        "The authors published these weights without a licence: ask them before passing the file on."
        if origin
        else "Whoever trained these weights decides on their licence."
    )
    return "\n".join(
        [
            "- Code: mshnet_pl, MIT.",
            f"- Weights: {weights}",
            f"- Backbone: if trained on ImageNet, whose images are for non-commercial research and education; {backbone}.",
            f"- Training data: {_DATA_TERMS.get(source, '')}Terms of the data may bind what is trained on them.",
        ]
    )


def _known(value: object) -> object:
    return _UNKNOWN if value in (None, "???") else value


def _list(values: object) -> str:
    assert isinstance(values, list)
    return ", ".join(f"{v:.3f}" if isinstance(v, float) else str(v) for v in values)
