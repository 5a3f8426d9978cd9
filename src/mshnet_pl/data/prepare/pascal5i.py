"""Putting PASCAL-5i in order: VOC 2012 and SBD to one folder of label maps and the lists of its folds."""

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from scipy.io import loadmat
from tqdm import tqdm

from mshnet_pl.data.io.folders import visible
from mshnet_pl.data.prepare.ledger import Ledger
from mshnet_pl.data.prepare.pascal5i_lists import compare_with_published, table, write_lists
from mshnet_pl.data.prepare.releases import Archive, obtain
from mshnet_pl.data.protocol.split_lists import read_names, read_published
from mshnet_pl.data.sources.pascal5i import Pascal5i
from mshnet_pl.data.sources.verification import read_labels
from mshnet_pl.errors import DataError
from mshnet_pl.options import UNKNOWN, Subset
from mshnet_pl.utils.files import sync_all, whole_file

_LISTS = "ImageSets/Segmentation"
VOC = Archive(
    name="PASCAL VOC 2012",
    address="http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
    size="1.9 GB",
    landmarks=("JPEGImages", "SegmentationClass", f"{_LISTS}/train.txt", f"{_LISTS}/val.txt"),
    wanted=("JPEGImages/", "SegmentationClass/", f"{_LISTS}/"),
    prefix="VOCdevkit/VOC2012",
    md5="6cd6e144f989b92b3379bac3b3de84fd",
)
SBD = Archive(
    name="SBD",
    address="https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
    size="1.4 GB",
    landmarks=("dataset/cls", "dataset/img"),
    wanted=("dataset/cls/", "dataset/img/", "dataset/train.txt", "dataset/val.txt"),
    prefix="benchmark_RELEASE",
    md5="82b4d87ceb2ed10f6038a1cba92111cb",
)


def prepare_pascal5i(root: Path, splits_dir: Path | None, download: bool, any_archive: bool) -> list[str]:
    """Unpack, convert, list and compare; what is wrong with single files does not keep the others from being done.

    A ``SegmentationClassAug`` that was made elsewhere takes the place of SBD, and with ``splits_dir`` that of VOC's masks.

    Returns:
        Every file that is missing or cannot be used.

    Raises:
        DataError: lists every archive that is missing or damaged.
    """
    if (root / VOC.prefix / "JPEGImages").is_dir() and not (root / "JPEGImages").exists():
        raise DataError(f"data.root={root}: the images are further down; give data.root={root / VOC.prefix}")
    published = None if splits_dir is None else read_published(splits_dir, len(Pascal5i.classes))
    obtain(root, _needed(root, published is not None), download, any_archive)
    problems = [*_gaps(root), *_make_masks(root)]
    _complete_images(root)
    source = Pascal5i(str(root))
    if (root / _LISTS / "val.txt").is_file():
        bad: dict[str, str] = {}
        pairs = source.derive(bad)
        problems += bad.values()
        if splits_dir is None or splits_dir.resolve() != (root / "splits").resolve():
            problems += write_lists(root, pairs)
    else:
        source = Pascal5i(str(root), str(splits_dir))
        source.check()
        pairs = {subset: source.pairs(subset) for subset in Subset}
    print(table(pairs[Subset.TRAIN], source.classes))
    if published is not None:
        print(compare_with_published(pairs, published))
    if problems:
        print("derived lists leave the images of what is named below out until that is mended")
    return problems


def _needed(root: Path, lists_given: bool) -> list[Archive]:
    """Which archives must be there, given what others made of them already."""
    voc_names = {path.stem for path in visible(root / "SegmentationClass", "*.png")}
    made_elsewhere = {path.stem for path in visible(root / "SegmentationClassAug", "*.png")} - voc_names
    if not made_elsewhere or SBD.path(root).is_file() or (root / "dataset").is_dir():
        return [VOC, SBD]
    print(f"SBD is not here; {len(made_elsewhere):,} masks in SegmentationClassAug are taken as they are")
    landmarks = ("JPEGImages",) if lists_given else ("JPEGImages", f"{_LISTS}/val.txt")
    return [VOC._replace(landmarks=landmarks)]


def _gaps(root: Path) -> Iterator[str]:
    """What the data sets' own lists name but their folders lack."""
    voc, sbd = (root / _LISTS, root / "SegmentationClass", ".png"), (root / "dataset", root / "dataset" / "cls", ".mat")
    for lists, folder, suffix in (voc, sbd):
        for path in (lists / "train.txt", lists / "val.txt"):
            for name in read_names(path) if path.is_file() and folder.is_dir() else ():
                if not (folder / f"{name}{suffix}").is_file():
                    yield f"{folder / name}{suffix}: no such file, but {path} names it"


def _complete_images(root: Path) -> None:
    """Copy those of SBD's images that VOC 2012 lacks."""
    for image in visible(root / "dataset" / "img", "*.jpg"):
        if not (root / "JPEGImages" / image.name).exists():
            with image.open("rb") as source, whole_file(root / "JPEGImages" / image.name, sync=False) as target:
                shutil.copyfileobj(source, target)


def _make_masks(root: Path) -> list[str]:
    """Every mask of VOC, and those of SBD for other images, as ``SegmentationClassAug/NAME.png``; returns what is wrong."""
    sources = {path.stem: path for path in visible(root / "dataset" / "cls", "*.mat")}
    sources |= {path.stem: path for path in visible(root / "SegmentationClass", "*.png")}
    folder = root / "SegmentationClassAug"
    folder.mkdir(exist_ok=True)
    ledger = Ledger(root, folder.name)
    jobs = [(source, folder / f"{name}.png") for name, source in sorted(sources.items())]
    jobs = [(source, made) for source, made in jobs if not (ledger.is_ours(made) and ledger.is_made_from(made, source))]
    problems = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(lambda job: _make_mask(job[0], job[1], ledger), jobs)
        for (source, target), problem in zip(
            jobs, tqdm(results, "making masks", len(jobs), leave=False, delay=1), strict=True
        ):
            if problem is None:
                ledger.note(target, source)
            else:
                problems.append(problem)
    sync_all()
    ledger.save()
    return problems


def _make_mask(source: Path, target: Path, ledger: Ledger) -> str | None:
    """Write one label map, unless it is there; returns what is wrong."""
    try:
        labels = _read_voc_labels(source) if source.suffix == ".png" else _read_sbd_labels(source)
    except ValueError as error:
        return str(error)
    if target.is_file():
        try:
            if np.array_equal(read_labels(target), labels):
                return None
        except ValueError as error:
            return f"{error}; delete it to have it made anew from {source}"
        if not ledger.is_ours(target):
            return f"{target}: differs from {source}; delete it to have it made anew"
    with whole_file(target, sync=False) as file:
        Image.fromarray(labels).save(file, "PNG")
    return None


def _read_voc_labels(path: Path) -> UInt8[np.ndarray, "height width"]:
    """The label map in a palette image of ``SegmentationClass``."""
    labels = read_labels(path)
    _check_labels(path, labels, unknown=True)
    return labels


def _read_sbd_labels(path: Path) -> UInt8[np.ndarray, "height width"]:
    """The label map in one of ``dataset/cls/*.mat``, which knows every pixel's class."""
    try:
        labels = loadmat(path)["GTcls"][0, 0]["Segmentation"]
    except Exception as error:  # a damaged file raises almost anything
        raise ValueError(f"{path}: no readable GTcls.Segmentation in it ({type(error).__name__}: {error})") from error
    if not isinstance(labels, np.ndarray) or labels.ndim != 2 or labels.size == 0 or labels.dtype.kind not in "ui":
        raise ValueError(f"{path}: GTcls.Segmentation is no label map, but {getattr(labels, 'dtype', type(labels))}")
    _check_labels(path, labels, unknown=False)
    return np.ascontiguousarray(labels, np.uint8)


def _check_labels(path: Path, labels: np.ndarray, unknown: bool) -> None:
    classes = len(Pascal5i.classes)
    strange = np.setdiff1d(labels, [*range(classes + 1), *[UNKNOWN] * unknown]).tolist()
    if strange:
        raise ValueError(f"{path}: labels {strange}, but there are 0 to {classes}{f' and {UNKNOWN} for unknown' * unknown}")
