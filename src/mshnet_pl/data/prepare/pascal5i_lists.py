"""PASCAL-5i's split lists: written in the published format, and compared with the published ones and the paper's counts."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from mshnet_pl.data.prepare.ledger import Ledger
from mshnet_pl.data.protocol.folds import make_fold
from mshnet_pl.data.protocol.split_lists import Pair
from mshnet_pl.options import Subset
from mshnet_pl.utils.files import write_whole
from mshnet_pl.utils.reference import published_numbers

_CLASSES, _FOLDS = 20, 4

Lists = Mapping[Subset, Sequence[Pair]]
"""Training and validation lists of all folds."""


def write_lists(root: Path, lists: Lists) -> list[str]:
    """Write ``root/splits/{trn,val}/fold{0..3}.txt``; a list that someone else put there is left alone and returned."""
    ledger = Ledger(root, "splits")
    problems = []
    for subset, pairs in lists.items():
        for fold in range(_FOLDS):
            path = root / "splits" / subset.value / f"fold{fold}.txt"
            novel = make_fold(fold, _CLASSES, _FOLDS).novel
            text = "".join(f"{_line(pair)}\n" for pair in pairs if pair[1] in novel).encode()
            if path.is_file() and path.read_bytes() != text and not ledger.is_ours(path):
                problems.append(f"{path}: another list than the derived one; move it away, or use it as data.splits_dir")
                continue
            if not path.is_file() or path.read_bytes() != text:
                write_whole(path, text)
            ledger.note(path)
            ledger.save()
    return problems


def compare_with_published(lists: Lists, published: Mapping[Subset, Collection[Pair]], limit: int = 5) -> str:
    """How many pairs are in one of the two only, and the first few of them."""
    lines = []
    for subset, pairs in published.items():
        here, there = set(lists[subset]), set(pairs)
        for name, only in (("only in the published lists", there - here), ("only in the lists made here", here - there)):
            some = ", ".join(_line(pair) for pair in sorted(only)[:limit]) + (", ..." if len(only) > limit else "")
            lines.append(f"{subset.value}: {len(only):,} of {len(there | here):,} pairs {name}{': ' * bool(only)}{some}")
    return "\n".join(lines)


def table(pairs: Sequence[Pair], classes: Sequence[str]) -> str:
    """Training images of every class beside the paper's Table 1."""
    by_fold = published_numbers()["table1_pascal_train_images"]
    paper = {name: number for fold in by_fold.values() for name, number in fold.items()}
    counts = Counter(classes[class_id] for _, class_id in pairs)
    rows = [(name, counts[name], paper[name]) for name in classes]
    rows.append(("all", sum(counts.values()), sum(paper.values())))
    head = f"{'class':<12} {'training pairs':>14} {'Table 1':>8} {'difference':>10}"
    return "\n".join([head, *(f"{name:<12} {here:>14,} {there:>8,} {here - there:>+10,}" for name, here, there in rows)])


def _line(pair: Pair) -> str:
    return f"{pair[0]}__{pair[1] + 1:02d}"
