"""``mshnet-export``: a trained network as one file that runs without this package."""

from pathlib import Path
from typing import Any

from mshnet_pl.cli.arguments import CKPT, REQUIRED, Option, run
from mshnet_pl.cli.entry import entry

OPTIONS = {
    "ckpt": CKPT,
    "format": Option("what is written", default=REQUIRED, choices=("onnx", "torch_export")),
    "out": Option("the file, its model card beside it", Path, REQUIRED),
    "image_size": Option("side of the images; free if left out", int, low=32),
    "shots": Option("number of supports; free if left out", int, low=1),
    "overwrite": Option("replace a file that is there", bool, False),
}


@entry
def main() -> None:
    """``mshnet-export``."""
    run("mshnet-export", "Write the network of a checkpoint as ONNX or as a torch.export archive.", OPTIONS, _export)


def _export(values: dict[str, Any]) -> None:
    from mshnet_pl.deploy import export, output

    path = export.export(
        values["ckpt"], values["format"], values["out"], values["image_size"], values["shots"], values["overwrite"]
    )
    print(f"{path}, described in {output.card_path(path)}")
