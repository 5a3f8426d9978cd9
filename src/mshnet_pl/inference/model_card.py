"""Model cards: what a network file is, what it was trained on, how well it does, and under which terms."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from mshnet_pl import results
from mshnet_pl.episode import MEAN, STD
from mshnet_pl.inference.provenance import Provenance
from mshnet_pl.utils.text import escaped

_SCORES = {
    "shot": "shots", "seed": "seed", "protocol": "protocol", "resolution": "resolution", "episodes": "episodes",
    "miou": "mIoU", "fb_iou": "FB-IoU",
}  # fmt: skip
"""Names of a measurement's fields, and of the table's columns."""


def text(
    name: str,
    digest: str,
    learned_from: Provenance,
    image_size: int,
    made_of: str | None = None,
    signature: str | None = None,
) -> str:
    """The model card of a file, Markdown.

    Args:
        name: the file's name.
        digest: its SHA-256.
        learned_from: what it tells of its training.
        image_size: side of the square that images are resized to.
        made_of: another file that it was exported from.
        signature: inputs and output of an exported file.
    """
    origin = learned_from.origin and f"converted from {learned_from.origin}"
    rows = {
        "SHA-256": digest,
        "Made": f"{datetime.now(UTC):%Y-%m-%d} with {', '.join(f'{k} {v}' for k, v in results.versions().items())}",
        "Made of": "; ".join(part for part in (made_of, origin) if part) or "not recorded",
        "Network": learned_from.network,
        "Input": f"RGB images resized to {image_size} x {image_size} (bilinear), divided by 255, then normalised with mean "
        f"{_numbers(MEAN.flatten().tolist())} and standard deviation {_numbers(STD.flatten().tolist())}; "
        "masks resized to the same square (nearest), 1 on the object and 0 elsewhere",
        "Signature": signature,
        "Data": learned_from.data,
        "Trained on": learned_from.classes,
        "Never seen": learned_from.novel_classes,
        "Training images that hold a novel class": learned_from.novel_pixels,
        "Training episodes": learned_from.episodes,
    }
    body = "\n".join(f"| {key} | {escaped(value)} |" for key, value in rows.items() if value)
    terms = "\n".join(f"- {escaped(line)}" for line in learned_from.terms) or "Not recorded."
    return (
        f"# {escaped(name)}\n\nFew-shot segmentation: outlines in a query the object that masks outline in supports.\n\n"
        f"| | |\n|---|---|\n{body}\n\n## Scores\n\n{_scores(learned_from.scores, learned_from.remarks)}\n\n"
        f"## Terms\n\n{terms}\n"
    )


def _scores(scores: Sequence[Mapping[str, Any]], remarks: Sequence[str]) -> str:
    said = [escaped(line) for line in remarks]
    if not scores:
        return "\n\n".join(said or ["No recorded scores."])
    about = "In percent, on the classes never seen; pixels are pooled over all episodes."
    head = f"| {' | '.join(_SCORES.values())} |\n|{'---|' * len(_SCORES)}"
    rows = [f"| {' | '.join(_cell(score.get(name)) for name in _SCORES)} |" for score in scores]
    return "\n".join([" ".join([about, *said]), "", head, *rows])


def _cell(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, float) else escaped(str(value))


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)
