"""Draws VOC 2012 and SBD in their real formats: archives, palette images, .mat files and lists."""

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

VOC_TRAIN = [f"2007_00000{i}" for i in range(4)]
VOC_VAL = [f"2007_00010{i}" for i in range(4)]
SBD_ONLY = [f"2008_00000{i}" for i in range(6)]
SBD_NAMES = [*SBD_ONLY, VOC_TRAIN[0], VOC_VAL[0]]
HEIGHT, WIDTH = 60, 80


class Drawn:
    """The content of both data sets; ``masks`` is what SegmentationClassAug must hold in the end."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.voc: dict[str, bytes] = {}
        self.sbd: dict[str, bytes] = {}
        self.masks: dict[str, np.ndarray] = {}
        for name in SBD_NAMES:
            labels = _blocks(rng)
            self.masks[name] = labels
            self.sbd[f"dataset/cls/{name}.mat"] = mat(labels)
            self.sbd[f"dataset/img/{name}.jpg"] = jpeg(rng)
        self.sbd["dataset/train.txt"] = "".join(f"{name}\n" for name in SBD_NAMES[:4]).encode()
        self.sbd["dataset/val.txt"] = "".join(f"{name}\n" for name in SBD_NAMES[4:]).encode()
        self.sbd["README"] = b"read me"
        for name in [*VOC_TRAIN, *VOC_VAL]:
            labels = _blocks(rng)
            labels[28:32] = 255
            self.masks[name] = labels
            self.voc[f"SegmentationClass/{name}.png"] = palette_png(labels)
        for name in [*VOC_TRAIN, *VOC_VAL, *SBD_ONLY[1:]]:  # one image only SBD has
            self.voc[f"JPEGImages/{name}.jpg"] = jpeg(rng)
        self.voc["ImageSets/Segmentation/train.txt"] = "".join(f"{name}\n" for name in VOC_TRAIN).encode()
        self.voc["ImageSets/Segmentation/val.txt"] = "".join(f"{name}\n" for name in VOC_VAL).encode()
        self.voc["Annotations/2007_000000.xml"] = b"<annotation/>"

    def write_archives(self, root: Path) -> None:
        (root / "VOCtrainval_11-May-2012.tar").write_bytes(tar_of(self.voc, "VOCdevkit/VOC2012/"))
        (root / "benchmark.tgz").write_bytes(tar_of(self.sbd, "benchmark_RELEASE/", "w:gz"))

    def lines(self, names: list[str], fold: int) -> list[str]:
        """A list by the rule of 2,048 pixels, class by class."""
        counts = {name: np.bincount(self.masks[name].ravel(), minlength=256) for name in names}
        return sorted(f"{n}__{c:02d}" for n in names for c in range(5 * fold + 1, 5 * fold + 6) if counts[n][c] >= 2048)


def tar_of(files: dict[str, bytes], prefix: str = "", mode: str = "w") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as tar:  # type: ignore[call-overload]
        if prefix:
            folder = tarfile.TarInfo(prefix.rstrip("/"))
            folder.type = tarfile.DIRTYPE
            tar.addfile(folder)
        for name, content in files.items():
            info = tarfile.TarInfo(prefix + name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def palette_png(labels: np.ndarray) -> bytes:
    image = Image.fromarray(labels).convert("P")
    image.putpalette(np.random.default_rng(1).integers(0, 256, 768, np.uint8).tobytes())
    image.putdata(labels.ravel().tolist())
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def mat(labels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    content = {"Segmentation": labels, "Boundaries": np.zeros((20, 1), object), "CategoriesPresent": np.unique(labels)}
    savemat(stream, {"GTcls": content}, do_compression=True)
    return stream.getvalue()


def jpeg(rng: np.random.Generator) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


def _blocks(rng: np.random.Generator) -> np.ndarray:
    """An upper half (2,400 pixels) and a small corner of two classes, on background."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[:30] = rng.integers(1, 21)
    labels[50:, 60:] = rng.integers(1, 21)
    return labels
