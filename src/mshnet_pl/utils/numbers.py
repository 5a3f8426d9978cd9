"""Numbers that settings bring, and shares in percent."""


def is_number(value: object, low: int | float, high: int | float) -> bool:
    """Whether ``value`` is a number, no truth value, from ``low`` to ``high``."""
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def percent(part: int | float, whole: int | float) -> float:
    """``part`` of ``whole`` in percent, as of intersection and union; 0 where the whole is 0."""
    return float(100 * part / whole) if whole else 0.0
