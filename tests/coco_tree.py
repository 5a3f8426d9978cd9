"""Draws a tiny COCO: images, and annotations of every kind."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CATEGORY_IDS = [c + 1 + c // 10 for c in range(80)]  # with gaps, as COCO's
SIZE = 96, 64


def name(subset: str, image_id: int) -> str:
    return f"{subset}2014/COCO_{subset}2014_{image_id:012d}.jpg"


def draw_coco(root: Path, classes: range = range(8), images: int = 3) -> Path:
    """Images of ``classes`` with polygons in several parts, plain and compressed run lengths, overlaps and crowds."""
    (root / "annotations").mkdir(parents=True)
    for number, subset in enumerate(("train", "val")):
        rng = np.random.default_rng(number)
        (root / f"{subset}2014").mkdir()
        document: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": [], "categories": []}
        document["categories"] = [{"id": i, "name": str(i)} for i in reversed(CATEGORY_IDS)]
        ids = [int(i) for i in rng.permutation(10_000)[: len(classes) * images] + 1]
        for at, image_id in enumerate(ids):
            file_name = name(subset, image_id)
            pixels = rng.integers(0, 255, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / file_name)
            document["images"].append(
                {"id": image_id, "file_name": Path(file_name).name, "width": SIZE[0], "height": SIZE[1]}
            )
            own, other = CATEGORY_IDS[classes[at % len(classes)]], CATEGORY_IDS[40 + at % 7]
            for category, crowd, shape in ((own, 0, "large"), (own, 0, "parts"), (other, 0, "runs"), (own, 1, "runs")):
                document["annotations"].append(
                    {
                        "id": len(document["annotations"]) + 1,
                        "image_id": image_id,
                        "category_id": category,
                        "iscrowd": crowd,
                        "segmentation": _segmentation(shape, rng),
                    }
                )
        rng.shuffle(document["annotations"])
        (root / "annotations" / f"instances_{subset}2014.json").write_text(json.dumps(document))
    return root


def _segmentation(shape: str, rng: np.random.Generator) -> list[list[float]] | dict[str, list[int]]:
    if shape == "large":
        return [[2.5, 3.0, 70.25, 5.5, 66.0, 50.75, 4.0, 47.0]]
    if shape == "parts":
        return [(rng.uniform(0, 1, (5, 2)) * SIZE).round(2).ravel().tolist() for _ in range(2)]
    runs = rng.integers(1, 40, 20).tolist()
    return {"size": [SIZE[1], SIZE[0]], "counts": [*runs, SIZE[0] * SIZE[1] - sum(runs)]}
