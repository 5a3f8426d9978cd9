"""Measurements to rows: what may be averaged, and what must stay apart."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from mshnet_pl.options import EVERY_FOLD
from mshnet_pl.report.config_names import OF_EPISODES, OF_NETWORKS, backbone, data, of_result
from mshnet_pl.report.measured import Measured
from mshnet_pl.report.row import AS_TESTED, EVERY_CLASS, EVERYTHING, NOTHING_TRAINED, Key, Row
from mshnet_pl.results import Result, Training
from mshnet_pl.utils.records import as_record
from mshnet_pl.utils.targets import class_name, network_name

_Settings = tuple[tuple[str, str], ...]


def rows(tests: Iterable[Measured]) -> list[Row]:
    """All rows, in the order of tables: what needs no training first. A test that occurs twice counts once, the newest."""
    ordered = sorted(tests, key=lambda measured: measured.result.date)
    shots = {
        measured.result.training.get("checkpoint_sha256"): int(measured.result.config["shot"])
        for measured in ordered
        if measured.result.command == "train"
    }
    found: dict[tuple[Key, _Settings], Row] = {}
    for measured in ordered:
        for key, settings in _places(measured, shots):
            found.setdefault((key, tuple(settings.items())), Row(key, settings)).add(measured)
    in_order = sorted(found.values(), key=order)
    _tell_apart(in_order)
    return in_order


def _places(measured: Measured, shots: Mapping[str | None, int]) -> Iterator[tuple[Key, dict[str, str]]]:
    """Key and settings of the rows that a test belongs to: its network's, and that of everything called foreground."""
    own = _key(measured, shots)
    yield own, of_result(measured.result, OF_NETWORKS if own.weights in NOTHING_TRAINED else ())
    baseline = Key(own.data, "", EVERYTHING, "", _every_class(measured.result))
    yield baseline, of_result(measured.result, OF_EPISODES)


def _tell_apart(rows: Sequence[Row]) -> None:
    """Note in which settings rows of one key differ, and number each distinct set of differences in the rows' order."""
    by_key: dict[Key, list[Row]] = defaultdict(list)
    for row in rows:
        by_key[row.key].append(row)
    differing = {key: _differing([row.settings for row in group]) for key, group in by_key.items()}
    marks: dict[_Settings, str] = {}
    for row in rows:
        row.differences = {name: row.settings.get(name, "(not set)") for name in differing[row.key]}
        if row.differences:
            row.mark = marks.setdefault(tuple(row.differences.items()), f"#{len(marks) + 1}")


def _differing(settings: Sequence[Mapping[str, str]]) -> list[str]:
    names = sorted({name for one in settings for name in one})
    return [name for name in names if len({one.get(name) for one in settings}) > 1]


def _every_class(result: Result) -> str:
    """What keeps a test of every class apart from those of folds; empty for these."""
    return EVERY_CLASS if result.config["fold"] == EVERY_FOLD else ""


def _key(measured: Measured, shots: Mapping[str | None, int]) -> Key:
    result, weights = measured.result, measured.test.weights
    config = result.config
    trained = _every_class(result)
    if weights not in NOTHING_TRAINED:
        of_checkpoint = result.training.get("shot", shots.get(result.training.get("checkpoint_sha256")))
        shot = config["shot"] if result.command == "train" else of_checkpoint
        other = [] if shot == measured.test.shot else [f"{'?' if shot is None else f'{shot}-shot'} training"]
        trained = ", ".join([*other, *_classes_trained(result, weights)]) or AS_TESTED
    return Key(data(config), backbone(config), network_name(config), weights, trained)


def _classes_trained(result: Result, weights: str) -> Iterator[str]:
    """On which other data a network was trained, whether from another's weights, and which tested classes were trained."""
    told = result.training
    if "trainings" in told:
        past = [as_record(Training, one) for one in told["trainings"]]
        past = past[:-1] if weights == "start" and told["steps"] else past
        names, tested = [*dict.fromkeys(one.data for one in past)], told["tested_on"]
        if names != [tested]:
            elsewhere = f", tested on {tested}" if names[-1:] != [tested] else ""
            yield f"trained on {', then '.join(names)}{elsewhere}"
        elif any(one.tuned for one in past):
            yield "fine-tuned"
        trained = len(told["tested_classes_trained"])
        count = told.get("tested_classes", len(result.tests[0].class_iou))  # older versions told none: those that occurred
        every = _every_class(result)
        if trained:
            all_trained = "every class trained" if every else "tested classes trained"
            yield all_trained if trained >= count else f"{trained} of {count} tested classes trained"
        elif every:
            yield every
        return
    source, fold = (told.get(key) for key in ("data", "fold"))  # as older versions told it
    if source is not None and class_name(source) != data(result.config):
        yield f"trained on {class_name(source)}"
    elif fold is not None and fold != result.config["fold"]:
        yield "tested classes trained"


def order(row: Row) -> tuple[object, ...]:
    """A key to sort rows by: data, backbone, what needs no training, method, settings."""
    key = row.key
    return (
        key.data,
        not row.is_baseline,
        key.backbone,
        key.weights not in NOTHING_TRAINED,
        key,
        tuple(row.settings.items()),
    )
