"""One's own images: any classes, in folders or in a manifest, with binary masks or label maps."""

import json
import logging
import os
import zlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mshnet_pl.data.io.images import bits_of, read_image
from mshnet_pl.data.io.manifest import Record, read_manifest, read_tree
from mshnet_pl.data.protocol.folds import Fold, make_fold
from mshnet_pl.data.protocol.split_lists import Pair
from mshnet_pl.data.sources.base import AbstractSource
from mshnet_pl.data.sources.folder_masks import folder_masks, own_value, read_values
from mshnet_pl.data.sources.verification import ClassAreas, Files, content, fingerprint, take_inventory
from mshnet_pl.errors import ConfigError
from mshnet_pl.options import EVERY_FOLD, UNKNOWN, Subset
from mshnet_pl.utils.places import given_place, spelt_alike

log = logging.getLogger(__name__)


class Folder(AbstractSource):
    """``root/CLASS/images/*`` with ``root/CLASS/masks/*`` of the same stem, or the entries of a manifest.

    A mask shows one object, by the rule of ``data.io.masks``, or is a label map in which one value is the class and 255 is
    unknown. Images of more than 8 bits have one scale, that of the deepest. Where all masks are label maps and no two
    classes share a value, a mask also tells which other classes an image shows, and ``data.novel_pixels`` heeds them;
    elsewhere it heeds the manifest's entries. An image that shows several classes therefore belongs into a manifest, not
    into several folders.

    Args:
        root: folder of the classes' folders; None with a manifest.
        manifest: CSV with the header ``image,mask,class[,split][,value]``, or a JSON list of such objects; paths are
            relative to it.
        novel: the classes that are tested; all others are trained on. There is then one fold.
        folds: without ``novel``, how many folds share the classes, in alphabetical order and as evenly as possible.
        mask_value: the pixel value of the class in label maps, one for all or ``{class: value}``; a manifest's own values
            go first. None for binary masks.
        val_fraction: share of the images for validation and test, where no manifest splits them: those whose name
            (relative path) has a CRC32 below this share of 2^32.

    Raises:
        ConfigError: settings that contradict each other, or name unknown classes.
        DataError: files that do not pair off, or a manifest that cannot be used.
    """

    def __init__(
        self,
        root: str | None = None,
        manifest: str | None = None,
        novel: Sequence[str | int | float | None] | None = None,
        folds: int = 4,
        mask_value: int | Mapping[str | int, int] | None = None,
        val_fraction: float | int = 0.3,
    ) -> None:
        if (root is None) == (manifest is None):
            raise ConfigError(f"data.root={root}, data.source.manifest={manifest}: give one of the two")
        if not 0 < val_fraction <= 1:
            raise ConfigError(
                f"data.source.val_fraction={val_fraction}: give a number above 0; 1 leaves no image for training"
            )
        if manifest is not None:
            records = read_manifest(given_place(manifest, "data.source.manifest"))
        else:
            records = read_tree(given_place(str(root), "data.root"))
        self.classes = tuple(sorted({record.class_name for record in records}))
        if alike := spelt_alike(self.classes):
            log.warning("classes that differ in capitals alone: %s", ", ".join(alike))
        records = self._with_values(records, mask_value)
        self._novel = None if novel is None else self._numbers("data.source.novel", novel)
        if self._novel is not None and not 0 < len(self._novel) < len(self.classes):
            raise ConfigError(f"data.source.novel={novel}: name at least one of {list(self.classes)}, but not all")
        self._folds = folds
        number = {name: c for c, name in enumerate(self.classes)}
        self._records = {(record.name, number[record.class_name]): record for record in records}
        self._by_name: dict[str, dict[int, Record]] = {}
        for (name, class_id), record in self._records.items():
            self._by_name.setdefault(name, {})[class_id] = record
        self._value_of = _common_values(self._records)
        self.splits = "derived" if records[0].split is None else "manifest"
        self._val_fraction = val_fraction
        self._areas: ClassAreas = {}
        self._bits = 8

    def _with_values(self, records: list[Record], mask_value: int | Mapping[str | int, int] | None) -> list[Record]:
        if isinstance(mask_value, Mapping):
            self._numbers("data.source.mask_value", [*mask_value])
            values = {str(name): value for name, value in mask_value.items()}
        else:
            values = {} if mask_value is None else dict.fromkeys(self.classes, mask_value)
        return [r if r.value is not None else r._replace(value=values.get(r.class_name)) for r in records]

    def _numbers(self, key: str, names: Sequence[str | int | float | None]) -> tuple[int, ...]:
        unknown = [name for name in names if str(name) not in self.classes]
        if unknown:
            named = f"{', '.join(map(str, unknown))}; there are {', '.join(self.classes)}"
            way_out = "" if all(isinstance(name, str) for name in unknown) else "; put what is no text in YAML in quotes"
            raise ConfigError(f"{key}: no class {named}{way_out}")
        return tuple(sorted({self.classes.index(str(name)) for name in names}))

    def every_class(self) -> Fold:
        """See the base class.

        Raises:
            ValueError: the settings name the classes that are tested.
        """
        if self._novel is not None:
            named = ", ".join(self.classes[c] for c in self._novel)
            raise ValueError(f"fold={EVERY_FOLD} tests every class, but data.source.novel={named}; give fold=0, or no novel")
        return super().every_class()

    def fold(self, fold: int) -> Fold:
        """See the base class.

        Raises:
            ValueError: no such fold, or fewer classes than folds.
        """
        numbers = range(len(self.classes))
        if self._novel is not None:
            if fold != 0:
                raise ValueError(f"fold={fold}: data.source.novel makes one fold; give fold=0")
            return Fold(base=tuple(c for c in numbers if c not in self._novel), novel=self._novel)
        if len(numbers) == 1:
            raise ValueError(
                f"fold={fold}: {self.classes[0]} is the only class, and a fold keeps some from training to test them; give "
                f"fold={EVERY_FOLD}, which trains and tests every class, or add images of other classes"
            )
        if not 2 <= self._folds <= len(numbers):
            raise ValueError(
                f"data.source.folds={self._folds}: there are {len(numbers)} classes; give 2 to {len(numbers)}, "
                f"name the tested classes with data.source.novel, or give fold={EVERY_FOLD}"
            )
        return make_fold(fold, len(numbers), self._folds, uneven=True)

    def check(self, bad: dict[str, str] | None = None) -> None:
        """See the base class."""
        keys = {_key(name, class_id): record for (name, class_id), record in self._records.items()}
        files = {key: Files(record.image, record.mask) for key, record in keys.items()}
        reader = folder_masks({key: (self.classes.index(r.class_name), r.value) for key, r in keys.items()}, self._value_of)
        self._bits = max(bits_of(self._path(name)) for name in self._by_name)
        entries: dict[str, str] = {}
        self._areas = take_inventory(files, len(self.classes), reader=reader, bad=None if bad is None else entries)
        if bad is not None:
            bad |= {key.rpartition("|")[0]: problem for key, problem in entries.items()}

    def pairs(self, subset: Subset) -> list[Pair]:
        """See the base class; by class, then by name."""
        return sorted(
            (pair for pair, record in self._records.items() if self._subset(record) is subset), key=lambda p: (p[1], p[0])
        )

    def _subset(self, record: Record) -> Subset:
        if record.split is not None:
            return Subset.TRAIN if record.split == "train" else Subset.VAL
        return Subset.VAL if _share(record) < self._val_fraction else Subset.TRAIN

    def resharing(self, needed: Mapping[tuple[Subset, int], int]) -> str:
        """See the base class: another ``val_fraction`` where one is enough, or a manifest."""
        if self.splits == "manifest":
            return "Share the images out otherwise by the manifest's column split. "
        low, high = 0.0, 1.0
        for (subset, class_id), count in needed.items():
            shares = sorted(_share(record) for (_, c), record in self._records.items() if c == class_id)
            if len(shares) < count:  # no sharing helps
                return ""
            if subset is Subset.VAL:
                low = max(low, shares[count - 1])
            else:
                high = min(high, shares[-count])
        digits = next((n for n in range(1, 7) if low < round((low + high) / 2, n) <= high), None)
        if digits is None:
            return (
                "No data.source.val_fraction gives every class enough: list the images in a manifest, a CSV file with "
                "image,mask,class,split and train or val as the split (data.source.manifest=FILE in place of data.root). "
            )
        return f"data.source.val_fraction={round((low + high) / 2, digits)} gives every class enough. "

    def contents(self, subset: Subset) -> Mapping[str, Collection[int]]:
        """See the base class."""
        return {
            name: {c for class_id in self._by_name[name] for c in self._areas.get(_key(name, class_id), ())}
            for name, _ in self.pairs(subset)
        }

    def identity(self) -> str:
        """See the base class."""
        files = {_key(*pair): Files(record.image, record.mask) for pair, record in self._records.items()}
        return fingerprint(files, *([f"{self._bits} bits"] if self._bits > 8 else []))

    def content(self) -> str:
        """See the base class."""
        rows = sorted((r.name, r.class_name, f"{r.value} {r.split}", r.image, r.mask) for r in self._records.values())
        return content((json.dumps(row[:3]), path) for row in rows for path in row[3:])

    def image(self, name: str) -> Image.Image:
        """See the base class."""
        return read_image(self._path(name), bits=self._bits)

    def _path(self, name: str) -> Path:
        return next(iter(self._by_name[name].values())).image

    def mask(self, name: str, classes: Collection[int]) -> UInt8[np.ndarray, "height width"]:
        """See the base class."""
        records = self._by_name[name]
        wanted = {(record.mask, record.value) for record in records.values()}
        masks = {key: read_values(*key) for key in wanted}
        shape = next(iter(masks.values())).shape
        shown, unknown = np.zeros(shape, bool), np.zeros(shape, bool)
        for class_id, record in records.items():
            mask, value = masks[record.mask, record.value], own_value(record.value)
            if class_id in classes:
                shown |= mask == value
                unknown |= (mask == UNKNOWN) & (value != UNKNOWN)
            shown |= np.isin(mask, [value for c, value in self._value_of.items() if c in classes])
        return np.where(shown, np.uint8(1), np.where(unknown, np.uint8(UNKNOWN), np.uint8(0)))


def _share(record: Record) -> float:
    """In 0..1, by the name alone: below ``val_fraction`` it is for validation and test."""
    return zlib.crc32(os.fsencode(record.name)) / 2**32


def _key(name: str, class_id: int) -> str:
    return f"{name}|{class_id}"


def _common_values(records: Mapping[tuple[str, int], Record]) -> dict[int, int]:
    """The pixel value of every class, if all masks are label maps that agree on it; else nothing."""
    values = {(class_id, record.value) for (_, class_id), record in records.items()}
    of_class = {class_id: value for class_id, value in values if value is not None}
    agree = len(values) == len(of_class) == len(set(of_class.values()))
    return of_class if agree else {}
