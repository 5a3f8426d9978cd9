"""Which of two classes is where: the default network on pictures that show both, each asked for in turn.

    python experiments/which_of_two.py ROOT SHOTS QUERIES [SIZE]

The queries and supports are those of ``mshnet-test test.controls=QUERIES`` on the four folds of PASCAL-5i, at 473 x 473, or
at SIZE x SIZE and enlarged to that (``eval.scales``). Of the pixels of the two classes a line of Markdown says, with 95%
bootstrap intervals over query images: how many answers are right, as ``test.controls`` counts them; how many pixels get the
right class if each is given to the class with the larger margin; and, where the two answers differ, how many of them
are right.
"""

import sys
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from mshnet_pl.data.io.transforms import resize_mask, to_input
from mshnet_pl.data.protocol.controls import which_of_two
from mshnet_pl.data.protocol.folds import make_fold
from mshnet_pl.data.protocol.sampling import Draw
from mshnet_pl.data.protocol.split_lists import by_class
from mshnet_pl.data.sources import Pascal5i
from mshnet_pl.inference import pretrained
from mshnet_pl.inference.labels import margins
from mshnet_pl.inference.predictor import Predictor
from mshnet_pl.options import Subset

REPLICATES = 2000


def counted(source: Pascal5i, predictor: Predictor, size: int, pair: tuple[Draw, Draw]) -> list[int]:
    """Right answers, answers; pixels given to the right class, pixels; those whose answers differ and are right, differ."""
    query = to_input(source.image(pair[0].query), size)[None]

    def asked(draw: Draw) -> tuple[Tensor, Tensor]:
        support = torch.stack([to_input(source.image(name), size) for name in draw.supports])[None]
        masks = torch.stack([resize_mask(source.mask(name, [draw.class_id]), size) == 1 for name in draw.supports])[None]
        (logits,) = predictor.decode(query, [predictor.encode(support, masks.float())])
        return margins(logits, (size, size))[0], resize_mask(source.mask(draw.query, [draw.class_id]), size) == 1

    (first, is_first), (second, is_second) = map(asked, pair)
    one = is_first ^ is_second
    first, second, truth = first[one], second[one], is_first[one]
    right = ((first > 0) == truth).sum() + ((second > 0) == ~truth).sum()
    differ = (first > 0) ^ (second > 0)
    preferred = (first > second) == truth
    return [int(x) for x in (right, 2 * one.sum(), preferred.sum(), one.sum(), (preferred & differ).sum(), differ.sum())]


def found(source: Pascal5i, shots: int, queries: int, size: int | None) -> Iterator[tuple[int, str, list[int]]]:
    """Fold, query and counts of every pair."""
    names, contents = by_class(source.pairs(Subset.VAL)), source.contents(Subset.VAL)
    trained = pretrained.load().trained
    size = size or trained.image_size
    predictor = Predictor(trained.method, **trained.prediction | {"scales": [trained.image_size / size]})
    for fold in range(4):
        draws = which_of_two(contents, names, make_fold(fold, 20).novel, shots, 0, queries)
        for (one,), (other,) in zip(draws[::2], draws[1::2], strict=True):
            yield fold, one.query, counted(source, predictor, size, (one, other))


def shares(folds: np.ndarray, counts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The three shares in percent, means over folds, (replicates, 3)."""
    of_folds = [weights[:, folds == fold] @ counts[folds == fold] for fold in np.unique(folds)]
    return 100 * np.mean([sums[:, ::2] / np.maximum(sums[:, 1::2], 1) for sums in of_folds], axis=0)


def main(root: str, shots: int, queries: int, size: int | None = None) -> None:
    """Print the line."""
    torch.set_grad_enabled(False)
    source = Pascal5i(root, f"{root}/splits")
    source.check()
    folds, pictures, rows = zip(*found(source, shots, queries, size), strict=True)
    keys = np.unique([f"{fold} {name}" for fold, name in zip(folds, pictures, strict=True)], return_inverse=True)[1]
    drawn = np.random.default_rng(0).multinomial(keys.max() + 1, np.full(keys.max() + 1, 1 / (keys.max() + 1)), REPLICATES)
    once = shares(np.array(folds), np.array(rows), np.ones((1, len(rows))))[0]
    low, high = np.percentile(shares(np.array(folds), np.array(rows), drawn[:, keys]), (2.5, 97.5), axis=0)
    told = (f"{point:.1f} [{a:.1f}, {b:.1f}]" for point, a, b in zip(once, low, high, strict=True))
    print(f"| {shots} | {len(rows)} | {' | '.join(told)} |")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
