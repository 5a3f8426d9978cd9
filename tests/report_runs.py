"""Folders as runs leave them, with drawn numbers: episode counts, a result that follows from them, curves and pictures."""

import csv
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from mshnet_pl import results
from mshnet_pl.data.protocol.sampling import Draw, Draws, episodes_json
from mshnet_pl.evaluation.metrics import scores
from mshnet_pl.results import Measurement, Result

VOC = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
PIXELS = 473 * 473


def drawn_counts(
    rng: np.random.Generator, episodes: int, classes: list[int], iou: float, difficulty: np.ndarray
) -> np.ndarray:
    """(N, 6): number, class, intersection, predicted, true, known; the truth follows from ``difficulty`` alone."""
    truth = np.random.default_rng(int(difficulty[0] * 1e6))
    class_id = truth.choice(classes, episodes)
    true = (PIXELS * truth.beta(1.2, 5, episodes)).astype(int) + 200
    share = np.clip(rng.normal(2 * iou / (1 + iou), 0.08, episodes) - 0.25 * difficulty + 0.1, 0.02, 0.99)
    intersection = (share * true).astype(int)
    predicted = intersection + ((1 - share) * true * rng.uniform(0.5, 1.5, episodes)).astype(int)
    known = np.full(episodes, int(0.97 * PIXELS))
    return np.stack([np.arange(episodes), class_id, intersection, np.minimum(predicted, known), true, known], axis=1)


def drawn_images(rng: np.random.Generator, class_id: list[int], shot: int, images: int = 40) -> list[Draws]:
    """Distinct images of a class for the episodes of each."""
    places = [rng.choice(images, shot + 1, replace=False).tolist() for _ in class_id]
    named = [[f"{c}_{i}" for i in own] for c, own in zip(class_id, places, strict=True)]
    return [(Draw(query, tuple(supports), c),) for c, (query, *supports) in zip(class_id, named, strict=True)]


def measurement(counts: np.ndarray, names: tuple[str, ...], episodes_hash: str, **other: Any) -> Measurement:  # noqa: ANN401
    pooled = scores(torch.from_numpy(counts))._asdict()
    named = {
        key: {names[c]: v for c, v in value.items()} if isinstance(value, dict) else value for key, value in pooled.items()
    }
    given = {"weights": "best", "shot": 1, "seed": 0, "protocol": "seeded", "resolution": "resized", "seconds": 1.0, **other}
    return Measurement(**given, **named, episodes=len(np.unique(counts[:, 0])), episodes_sha256=episodes_hash)


def config(
    fold: int = 0,
    shot: int = 1,
    seed: int = 0,
    similarities: str = "cosine+prototype",
    changes: Mapping[str, object] = MappingProxyType({}),
) -> dict[str, Any]:
    """A resolved configuration; changes by dotted key."""
    content: dict[str, Any] = {
        "fold": fold, "shot": shot, "seed": seed, "way": 1, "runs": "runs", "variant": "full",
        "data": {
            "source": {"_target_": "mshnet_pl.data.sources.pascal5i.Pascal5i", "root": "VOC2012"}, "root": "VOC2012",
            "image_size": 473, "batch_size": 8, "novel_pixels": "drop", "min_images": 0,
        },
        "backbone": {"_target_": "mshnet_pl.backbones.resnet.ResNet", "depth": 50, "weights": "imagenet"},
        "model": {
            "_target_": "mshnet_pl.models.mshnet.model.MSHNet",
            "similarities": {name: {"_partial_": True} for name in similarities.split("+")}, "width": 128,
        },
        "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.01},
        "trainer": {"max_epochs": 50, "precision": "bf16-mixed"},
        "val": {"episodes": 200, "classes": "novel"},
        "eval": {"resolution": "resized"},
        "test": {"episodes": 1000, "seeds": [0], "shots": None, "protocol": "seeded", "checkpoint": "best"},
    }  # fmt: skip
    for key, value in changes.items():
        *groups, last = key.split(".")
        node = content
        for group in groups:
            node = node[group]
        node[last] = value
    return content


def write_run(
    folder: Path, settings: dict[str, Any], iou: float, episodes: int = 1000, test_seeds: tuple[int, ...] = (0,),
    pictures: bool = False, **fields: Any,  # noqa: ANN401
) -> Path:  # fmt: skip
    """Write a run's folder; runs of the same fold, shot and test seed have the same episodes and truth."""
    fold, shot = settings["fold"], settings["shot"]
    classes = list(range(5 * fold, 5 * fold + 5))
    folder.mkdir(parents=True)
    own = int.from_bytes(hashlib.sha256(str((settings, iou)).encode()).digest()[:4])
    tests = []
    for seed in test_seeds:
        key = hashlib.sha256(f"{fold} {shot} {seed} {episodes}".encode()).hexdigest()
        difficulty = np.random.default_rng(int(key[:8], 16)).beta(2, 3, episodes)
        counts = drawn_counts(np.random.default_rng([own, seed]), episodes, classes, iou, difficulty)
        content = episodes_json(drawn_images(np.random.default_rng(int(key[8:16], 16)), counts[:, 1].tolist(), shot))
        name = hashlib.sha256(content).hexdigest()
        results.save_episode_images(folder, content)
        tests.append(measurement(counts, VOC, name, shot=shot, seed=seed))
        results.save_counts(folder / f"episodes_best_{shot}shot_seed{seed}.csv", counts.tolist())
        if pictures:
            _write_pictures(folder / f"pictures_best_{shot}shot_seed{seed}.npz", counts, shot)
    _write_curves(folder / "log" / "metrics.csv", np.random.default_rng(own), iou)
    given: dict[str, Any] = {
        "command": "train", "config_hash": hashlib.sha256(str(settings).encode()).hexdigest(), "config": settings,
        "novel": [VOC[c] for c in classes], "splits": "published", "removed_images": 37, "learnable_parameters": 29_626_952,
        "training": {"steps": 4700, "checkpoint_sha256": f"{own:064x}", "val_classes": "novel"}, "wall_seconds": 9000.0,
        "date": f"2026-11-{fold + 18:02d}T10:{shot:02d}:00+00:00", "versions": results.versions(),
        "machine": results.machine("cuda:0"), "git": "730367a1079ba5184cdecdbef7166b338943b25a", **fields,
    }  # fmt: skip
    results.save(folder, Result(**given, tests=tests))
    return folder


def write_sweep(root: Path, episodes: int = 1000, pictures: bool = True) -> None:
    """4 folds x 2 shots of MSHNet and of its single similarities, one cell failed and one not there."""
    published = {1: (0.677, 0.718, 0.599, 0.624), 5: (0.713, 0.741, 0.657, 0.685)}
    for similarities, change in (("cosine+prototype", 0.0), ("cosine", -0.04), ("prototype", -0.06)):
        for fold in range(4):
            for shot in (1, 5):
                folder = root / "pascal5i" / f"mshnet_resnet50_{similarities}" / f"fold{fold}_{shot}shot_seed0"
                if (similarities, fold, shot) == ("cosine", 2, 5):
                    folder.mkdir(parents=True)
                    failure = {
                        "overrides": ["data=pascal5i", "fold=2", "shot=5", "similarity=[cosine]"],
                        "error": "CUDA out of memory.\nTried to allocate 2 GiB",
                        "log": str(folder / "mshnet.log"),
                        "date": "2026-11-22T09:00:00+00:00",
                    }
                    (folder / "error.json").write_text(json.dumps(failure))
                elif (similarities, fold, shot) != ("prototype", 3, 5):
                    given = config(fold, shot, similarities=similarities)
                    write_run(folder, given, published[shot][fold] + change, episodes, pictures=pictures)


def _write_curves(path: Path, rng: np.random.Generator, iou: float) -> None:
    path.parent.mkdir()
    steps = np.arange(9, 4700, 10)
    parts = {name: start * np.exp(-steps / 1500) + 0.12 + rng.normal(0, 0.02, len(steps)) for name, start in
             (("final", 0.5), ("block4", 0.6), ("block3", 0.55), ("block2", 0.5))}  # fmt: skip
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(
            file, ["step", "epoch", "train/loss", *(f"train/loss_{p}" for p in parts), "train/miou", "val/miou"]
        )
        writer.writeheader()
        for i, step in enumerate(steps):
            row = {f"train/loss_{name}": part[i] for name, part in parts.items()}
            total = parts["final"][i] + sum(part[i] for name, part in parts.items() if name != "final") / 3
            miou = 100 * (iou + 0.1) * (1 - np.exp(-step / 900)) + rng.normal(0, 1)
            writer.writerow({"step": step, "epoch": 0, "train/loss": total, **row, "train/miou": miou})
            if i % 50 == 49:
                writer.writerow({"step": step, "val/miou": 100 * iou * (1 - np.exp(-step / 800)) + rng.normal(0, 0.6)})


def _write_pictures(path: Path, counts: np.ndarray, shot: int) -> None:
    iou = 100 * counts[:, 2] / (counts[:, 3] + counts[:, 4] - counts[:, 2])
    order = np.argsort(-iou)
    arrays: dict[str, Any] = {}
    chosen = {"best": order[:2], "median": order[len(order) // 2 :][:2], "worst": order[-2:]}
    for i, (kind, row) in enumerate((kind, row) for kind, rows in chosen.items() for row in rows):
        rng = np.random.default_rng(int(row))
        supports = [_scene(rng) for _ in range(shot)]
        query, truth = _scene(rng)
        arrays |= {
            f"{i}/query": query, f"{i}/support": np.stack([s for s, _ in supports]),
            f"{i}/support_mask": np.stack([m for _, m in supports]), f"{i}/truth": truth,
            f"{i}/prediction": np.roll(truth, int((100 - iou[row]) / 3), axis=1), f"{i}/iou": np.array(iou[row]),
            f"{i}/class_id": counts[row, 1], f"{i}/number": counts[row, 0], f"{i}/kind": np.array(kind),
        }  # fmt: skip
    np.savez_compressed(path, **arrays)


def _scene(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An image with a disk, and the disk."""
    y, x = np.mgrid[:96, :96]
    inside = ((x - rng.integers(30, 66)) ** 2 + (y - rng.integers(30, 66)) ** 2) < rng.integers(14, 30) ** 2
    colour = np.where(inside[..., None], [210, 120, 60], [90, 130, 150]) + rng.normal(0, 14, (96, 96, 1)) + y[..., None] / 3
    return colour.clip(0, 255).astype(np.uint8), inside.astype(np.uint8)
