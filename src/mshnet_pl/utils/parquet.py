"""Parquet files, which not everybody needs."""

from typing import Any

from mshnet_pl.errors import ConfigError


def parquet(setting: str) -> Any:  # noqa: ANN401 - a module without types
    """The module ``pyarrow.parquet``.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError(f"{setting} needs pyarrow; pip install 'mshnet_pl[scale]'") from error
    return pyarrow.parquet
