"""``mshnet-app``: the web page of a checkpoint; paint an object in one picture, have it outlined in others."""

from typing import Any

from mshnet_pl.cli.arguments import CKPT, Option, run
from mshnet_pl.cli.entry import entry

OPTIONS = {
    "ckpt": CKPT,
    "port": Option("where the page is served", int, 7860, low=1, high=65535),
    "host": Option("the address to listen at", default="127.0.0.1"),
    "hosts": Option("further names under which browsers reach the page, by way of a proxy for instance; comma-separated"),
    "max_upload_mb": Option("the largest file that a visitor may upload", int, 20, low=1, high=1000),
    "max_sessions": Option("how many visitors there may be at a time", int, 16, low=1, high=1000),
    "idle_minutes": Option("after how long without a click a visitor's session ends", float, 30.0, low=1, high=1440),
    "device": Option("such as cpu or cuda:1; CUDA where there is one, if left out"),
    "share": Option("offer the page at a public address too, by way of gradio.live", bool, False),
}


@entry
def main() -> None:
    """``mshnet-app``: serve until Ctrl-C."""
    run("mshnet-app", "Serve a page: paint an object in one picture, have it outlined in others.", OPTIONS, _serve)


def _serve(values: dict[str, Any]) -> None:
    from mshnet_pl.app.serve import serve

    serve(**values)
