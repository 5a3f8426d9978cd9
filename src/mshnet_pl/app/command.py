"""``mshnet-app``: the web page of a checkpoint; paint an object in one picture, have it outlined in others."""

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from mshnet_pl.arguments import parse
from mshnet_pl.errors import ConfigError, UserError
from mshnet_pl.segmenter import Segmenter

USAGE = "mshnet-app ckpt=FILE [port=7860] [host=127.0.0.1] [max_upload_mb=20] [device=cpu|cuda] [share=false]"
_KNOWN = {"ckpt": True} | dict.fromkeys(("port", "host", "max_upload_mb", "device", "share"), False)


def main() -> None:
    """``mshnet-app``: serve until Ctrl-C; exit code 2 for what cannot work."""
    parser = argparse.ArgumentParser(prog="mshnet-app", description=__doc__, usage=USAGE)
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="see README.md, In the browser")
    try:
        serve(parser.parse_args().settings)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def serve(settings: Sequence[str]) -> None:
    """Serve the page until the process is interrupted.

    Args:
        settings: as on the command line.

    Raises:
        ConfigError: a setting that is unknown, missing or impossible, or no Gradio.
    """
    values = parse(settings, _KNOWN, USAGE)
    port = _whole(values.get("port", "7860"), "port", 65535)
    max_upload_mb = _whole(values.get("max_upload_mb", "20"), "max_upload_mb", 1000)
    host, share, device = values.get("host", "127.0.0.1"), values.get("share", "false"), values.get("device")
    if share not in ("true", "false"):
        raise ConfigError(f"share={share}: give true (a public address, by way of gradio.live) or false")
    try:
        from mshnet_pl.app.page import launch
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise ConfigError("mshnet-app needs Gradio: pip install 'mshnet_pl[app]'") from error
    network = Segmenter.from_checkpoint(values["ckpt"], device)
    fresh = partial(Segmenter, network.method, network.image_size, device, guided=network.guided)
    try:
        launch(fresh, host, port, max_upload_mb, share == "true")
    except OSError as error:
        raise ConfigError(f"host={host} port={port}: {error}; give another port or host") from error


def _whole(value: str, key: str, most: int) -> int:
    if not (value.isdecimal() and 1 <= int(value) <= most):
        raise ConfigError(f"{key}={value}: give a whole number from 1 to {most}")
    return int(value)
