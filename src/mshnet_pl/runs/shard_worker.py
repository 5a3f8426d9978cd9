"""One part after the other, by a process that holds the network and what was fitted."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mshnet_pl.config.commands import PredictConfig
from mshnet_pl.errors import DataError
from mshnet_pl.inference.annotation_output import parts
from mshnet_pl.inference.draw import mask_image
from mshnet_pl.inference.labels import to_labels
from mshnet_pl.inference.presence import presence
from mshnet_pl.inference.queries import Query, named
from mshnet_pl.inference.segmenter import Segmenter
from mshnet_pl.runs.prediction import Found, finished, save_mask, segmented
from mshnet_pl.runs.shards import Counts, Folder, read_queries
from mshnet_pl.utils.files import sync_all, whole_file
from mshnet_pl.utils.parquet import parquet
from mshnet_pl.utils.text import stored

Row = dict[str, Any]


class ShardWorker:
    """Segments the files of a part and writes its rows.

    Args:
        given: the job, its settings resolved as the plan has them.
        segmenter: of that job, with nothing fitted: the plan's folder holds what was.
    """

    def __init__(self, given: PredictConfig, segmenter: Segmenter) -> None:
        self._given, self._folder = given, Folder(given.out)
        self._segmenter = segmenter.load_support(self._folder.support)

    def write(self, number: int) -> int:
        """Write a part, its masks before; gives its number.

        Raises:
            DataError: the disk is full, or the folder cannot be written.
        """
        import pyarrow as pa

        path = self._folder.part(number)
        rows: list[Row] = []
        images = errors = 0
        found = dict.fromkeys(map(stored, self._segmenter.classes), 0)
        queries = named(read_queries(self._folder.queries, number))
        for query, result in segmented(self._segmenter, queries, self._given):
            images += 1
            of_image = finished(query, result, lambda *one: [*self._rows(self._folder.masks / path.stem, *one)])
            if isinstance(of_image, DataError):
                errors += 1
                rows.append({**_of(query), "error": stored(of_image)})
                continue
            for name in {row["class"] for row in of_image if row["found"]}:
                found[name] += 1
            rows += of_image
        if self._given.masks:
            sync_all()
        counts = Counts(images, errors, len(rows), found)
        with whole_file(path) as file:
            table = pa.Table.from_pylist(rows, _schema().with_metadata(counts.metadata()))
            parquet("format=parquet").write_table(table, file, compression="zstd")
        return number

    def _rows(self, folder: Path, query: Query, found: Found) -> Iterator[Row]:
        """An object a row, and at least a row a class."""
        given, (image, margins) = self._given, found
        labels = to_labels(margins, given.threshold)
        width, height = image.size
        objects = parts(labels, self._segmenter.classes, margins.sigmoid().cpu().numpy(), given.instances)
        row = {**_of(query), "width": width, "height": height}
        if given.masks:
            path = folder / query.mask_name
            save_mask(mask_image(labels, len(margins)), query, path, sync=False)
            row["mask"] = stored(path.relative_to(given.out).as_posix())
        for name, margin in zip(self._segmenter.classes, margins, strict=True):
            score = presence(margin)
            row |= {"class": stored(name), "presence": score, "found": score >= given.min_presence}
            own = [part for part in objects if part.class_name == name]
            if not own:
                yield {**row, "area": 0}
            for part in own:
                yield {
                    **row,
                    "area": part.area,
                    "box": part.box,
                    "rle": part.counts(width, height),
                    "score": part.score,
                }


def _of(query: Query) -> Row:
    return {"path": stored(query.path), "page": query.page}


def _schema() -> Any:  # noqa: ANN401 - of a library without types
    import pyarrow as pa

    return pa.schema(
        {
            "path": pa.string(),
            "page": pa.int32(),
            "class": pa.string(),
            "width": pa.int32(),
            "height": pa.int32(),
            "presence": pa.float64(),
            "found": pa.bool_(),
            "area": pa.int64(),
            "box": pa.list_(pa.int32()),
            "rle": pa.string(),
            "score": pa.float64(),
            "mask": pa.string(),
            "error": pa.string(),
        }
    )
