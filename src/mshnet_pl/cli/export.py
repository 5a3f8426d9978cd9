"""``mshnet-export``: a trained network as one file that runs without this package."""

from mshnet_pl.cli.arguments import run
from mshnet_pl.cli.entry import entry
from mshnet_pl.config.commands import ExportConfig


@entry
def main() -> None:
    """``mshnet-export``."""
    run("mshnet-export", ExportConfig, _export, "mshnet-export ckpt=runs/.../last.ckpt format=onnx out=net.onnx")


def _export(config: ExportConfig) -> None:
    from mshnet_pl.deploy import export, output

    path = export.export(config.ckpt, config.format, config.out, config.image_size, config.shots, config.overwrite)
    print(f"{path}, described in {output.card_path(path)}")
