"""The arrows between the package's rooms, read off the syntax trees."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import ROOT

PACKAGE = ROOT / "src" / "mshnet_pl"
FILES = sorted(PACKAGE.rglob("*.py"))
ALLOWED_OUTSIDE = {
    "hydra": {"config", "build", "cli", "jobs", "bench.settings", "bench.measure"},
    "omegaconf": {"config", "schema", "build", "cli", "jobs", "run", "replay", "energy_figure", "bench"},
    "pytorch_lightning": {"module", "callbacks", "data.datamodule", "build", "run", "replay", "keeping"},
    "wandb": {"callbacks", "build"},
    "matplotlib": {"report.figures", "report.charts", "report.energy", "app.session"},
    "jinja2": {"report.page"},
    "gradio": {"app.page"},
}
NETWORK = {"episode", "backbones", "similarity", "models", "losses", "metrics"}
ALLOWED_INSIDE = {
    "energy": {"models", "data", "episode", "report"},
    "episode": set(),
    "errors": set(),
    "schedules": set(),
    "labels": {"episode", "errors"},
    "tiles": {"labels", "errors"},
    "support_file": {"models", "errors"},
    "checkpoint": {"models", "similarity", "backbones", "errors"},
    "stored": {"checkpoint", "schema", "errors"},
    "segmenter": {
        "checkpoint",
        "support_file",
        "tiles",
        "labels",
        "data",
        "models",
        "backbones",
        "evaluation",
        "guided",
        "errors",
    },
    "backbones": {"backbones", "episode"},
    "similarity": {"similarity", "episode"},
    "models": {"models", "similarity", "backbones", "episode"},
    "losses": {"episode"},
    "metrics": {"episode"},
    "data": {"data", "arguments", "episode", "errors"},
    "arguments": {"errors"},
    "use": {"use", "segmenter", "results", "tiles", "labels", "data", "arguments", "errors", "__version__"},
    "app": {"app", "use", "segmenter", "labels", "data", "models", "arguments", "errors"},
    "evaluation": set(),
    "guided": {"labels"},
    "refine": {"models", "evaluation", "guided", "episode"},
    "module": {"models", "refine", "backbones", "data", "labels", "losses", "metrics", "episode"},
    "keeping": {"module", "data", "backbones", "errors"},
    "exchange": {
        "exchange",
        "arguments",
        "build",
        "checkpoint",
        "config",
        "data",
        "episode",
        "errors",
        "evaluation",
        "models",
        "module",
        "results",
        "run",
    },
    "allocation": set(),
    "schema": {"data", "evaluation"},
    "problems": {"data", "evaluation", "schema"},
    "bench": {
        "allocation",
        "bench",
        "build",
        "config",
        "data",
        "devices",
        "errors",
        "losses",
        "models",
        "results",
        "run",
        "schema",
    },
    "results": {"errors", "files"},
    "files": {"errors"},
    "interruption": {"errors"},
    "devices": {"errors"},
    "processes": set(),
    "pictures": {"data", "episode", "files", "metrics"},
    "report": {"report", "results", "episode", "errors"},
}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names if node.module == "mshnet_pl")


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_arrows(path: Path) -> None:
    name = name_of(path)
    room = name.split(".")[0]
    for imported in imports(path):
        top, *rest = imported.split(".")
        if top in ALLOWED_OUTSIDE:
            assert {name, room} & ALLOWED_OUTSIDE[top], f"{name} imports {imported}"
        if top == "mshnet_pl" and rest and room in ALLOWED_INSIDE:
            assert rest[0] in ALLOWED_INSIDE[room], f"{name} imports {imported}"


def test_sizes() -> None:
    lengths = sorted(len(path.read_text().splitlines()) for path in FILES)
    assert lengths[-1] <= 350 and lengths[len(lengths) // 2] < 100


def test_no_path_of_this_machine() -> None:
    for path in [*FILES, *(ROOT / "conf").rglob("*.yaml"), ROOT / "README.md"]:
        assert "../shared" not in path.read_text(), path
