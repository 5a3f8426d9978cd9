"""``mshnet-app``: the web page of a checkpoint; paint an object in one picture, have it outlined in others."""

from mshnet_pl.cli.arguments import run
from mshnet_pl.cli.entry import entry
from mshnet_pl.config.commands import AppConfig


@entry
def main() -> None:
    """``mshnet-app``: serve until Ctrl-C."""
    run("mshnet-app", AppConfig, _serve, "mshnet-app\nmshnet-app ckpt=runs/.../last.ckpt port=8000")


def _serve(config: AppConfig) -> None:
    from mshnet_pl.app.serve import serve

    serve(config)
