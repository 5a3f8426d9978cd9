"""What is known of a setting beside its type and its default; checks, hashes, reports and the reference all read it here."""

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from enum import Enum
from math import inf
from typing import Any, NamedTuple, TypeVar, cast, get_type_hints

_T = TypeVar("_T")


class Effect(Enum):
    """Whether a setting changes a result by more than rounding."""

    YES = "yes"
    """Reports keep results apart that differ in it."""
    NAMED = "yes, and named"
    """As ``YES``, but a report shows it in a column of its own, or another setting repeats it."""
    ENDS = "not at its default"
    """The default ends the run where another value goes on, so a finished run has the same result with both."""
    NO = "no"

    @property
    def text(self) -> str:
        """For readers, whom it does not concern how a report shows it."""
        return self.value.partition(",")[0]


@dataclass(frozen=True)
class Setting:
    """Description of a setting.

    Attributes:
        doc: its meaning, one sentence of plain text.
        min: the smallest number that it may be, of a list each element.
        max: the largest one.
        effect: whether it changes a result.
        kind: the type of an argument of a node; of a field, its annotation says it.
        arguments: what is known of a node's arguments.
        name: what the command line calls it, where that cannot be a field's name.
    """

    doc: str
    min: int | float | None = None
    max: int | float | None = None
    effect: Effect = Effect.YES
    kind: Any = Any
    arguments: Mapping[str, "Setting"] = field(default_factory=dict)
    name: str = ""

    def allows(self, value: object) -> bool:
        """Whether a number is finite and in range where there is one; whatever is no number has none."""
        if not self.range or not isinstance(value, int | float):
            return True
        low, high = (-inf if self.min is None else self.min), (inf if self.max is None else self.max)
        return low <= value <= high and value < inf

    @property
    def range(self) -> str:
        """``of at least 1``, ``from 0 to 1``, or nothing."""
        if self.min is None:
            return "" if self.max is None else f"of at most {_digits(self.max)}"
        low = _digits(self.min)
        return f"of at least {low}" if self.max is None else f"from {low} to {_digits(self.max)}"


def _digits(bound: int | float) -> str:
    return str(bound) if isinstance(bound, int) else f"{bound:g}"


def setting(
    default: _T,
    doc: str,
    *,
    min: int | float | None = None,
    max: int | float | None = None,
    effect: Effect = Effect.YES,
    arguments: Mapping[str, Setting] | None = None,
    name: str = "",
) -> _T:
    """A dataclass field with its description; the arguments are those of ``Setting``."""
    metadata = {"setting": Setting(doc, min, max, effect, arguments=arguments or {}, name=name)}
    if isinstance(default, list):
        return cast(_T, field(default_factory=lambda: [*default], metadata=metadata))
    return field(default=default, metadata=metadata)


class Described(NamedTuple):
    """A setting of a schema."""

    key: str
    """Dotted name."""
    kind: Any
    """Type, as the annotation says it."""
    default: Any
    """``???`` where there is none."""
    about: Setting


def settings(schema: type, prefix: str = "") -> Iterator[Described]:
    """Every setting of a schema and of the groups in it, in their order.

    Args:
        schema: a dataclass whose fields are made by ``setting`` or are dataclasses, the groups.
        prefix: of the names.
    """
    hints = get_type_hints(schema)
    for one in fields(schema):
        kind = hints[one.name]
        if is_dataclass(kind) and isinstance(kind, type):
            yield from settings(kind, f"{prefix}{one.name}.")
        else:
            about: Setting = one.metadata["setting"]
            yield Described(f"{prefix}{about.name or one.name}", kind, _default(one), about)


def groups(schema: type, prefix: str = "") -> Iterator[tuple[str, type]]:
    """Dotted names and dataclasses of a schema's groups."""
    for name, kind in get_type_hints(schema).items():
        if is_dataclass(kind) and isinstance(kind, type):
            yield f"{prefix}{name}", kind
            yield from groups(kind, f"{prefix}{name}.")


def effects(schema: type) -> dict[str, Effect]:
    """What every setting of a schema changes, by dotted name; of nodes also the arguments that are described."""
    found = {}
    for one in settings(schema):
        found[one.key] = one.about.effect
        found |= {f"{one.key}.{name}": about.effect for name, about in one.about.arguments.items()}
    return found


def _default(one: "Field[Any]") -> Any:  # noqa: ANN401 - of the field's type
    return one.default if one.default_factory is MISSING else one.default_factory()
