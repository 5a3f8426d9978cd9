"""Checks of numbers that settings bring."""


def is_number(value: object, low: int | float, high: int | float) -> bool:
    """Whether ``value`` is a number, no truth value, from ``low`` to ``high``."""
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
