"""The floors of the package: a folder imports what stands below it and nothing else, read off the syntax trees."""

import ast
import importlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import ROOT
from mshnet_pl.models import MSHNet

PACKAGE = ROOT / "src" / "mshnet_pl"
FLOORS = (
    ("cli",),
    ("bench", "deploy"),
    ("runs",),
    ("training", "report", "app"),
    ("inference", "evaluation"),
    ("models", "config"),
    ("backbones", "similarity", "data", "results"),
    ("utils", "episode", "options"),
    ("errors",),
)
"""From top to bottom: folders, and the files at the package's root."""
DATA_FLOORS = (
    ("datamodule", "folder", "fss1000", "own_images", "pascal", "source"),
    ("loading", "prepare"),
    ("sources",),
    ("io", "protocol"),
)
OUTSIDE = {
    "hydra": {"config", "runs", "bench", "cli"},
    "omegaconf": {"config", "runs", "bench", "cli"},
    "pytorch_lightning": {"training", "runs", "data.datamodule"},
    "lightning_fabric": {"training"},
    "wandb": {"training"},
    "matplotlib": {"report", "app"},
    "jinja2": {"report"},
    "gradio": {"app"},
    "huggingface_hub": {"inference"},
    "ray": {"runs.worker_pools"},
    "pyarrow": {"runs", "utils.parquet"},
}
"""Who may know a library that not everybody needs."""


def files(package: Path) -> list[Path]:
    return sorted(path for path in package.rglob("*.py") if "conf" not in path.relative_to(package).parts)


def module(package: Path, path: Path) -> str:
    """Dotted, without the package's name; of an ``__init__`` the folder's."""
    parts = path.relative_to(package).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    """What a file imports, names taken from a package too, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def wrong_arrows(package: Path, *paths: Path) -> list[str]:
    """Imports of these files, or of all, that do not lead down."""
    found = []
    for path in paths or files(package):
        name = module(package, path)
        for imported in dict.fromkeys(imports(path)):
            top, *rest = imported.split(".")
            if top in OUTSIDE and not any(name == allowed or name.startswith(f"{allowed}.") for allowed in OUTSIDE[top]):
                found.append(f"{name} imports {imported}")
            if top == "mshnet_pl" and rest and name and not _down(name.split("."), rest):
                found.append(f"{name} imports {imported}")
    return found


def _down(importer: list[str], imported: list[str]) -> bool:
    for floors, depth in ((FLOORS, 0), (DATA_FLOORS, 1)):
        if depth and importer[0] != "data":
            return True
        if len(importer) <= depth or len(imported) <= depth or importer[depth] == imported[depth]:
            continue
        level = {name: number for number, names in enumerate(floors) for name in names}
        if imported[depth] in level:
            return level[importer[depth]] < level[imported[depth]]
        if imported[depth] != "__version__":
            return depth > 0  # a name that a package exports
    return True


def circles(package: Path) -> list[list[str]]:
    """Groups of files that import each other, by Tarjan's algorithm on what runs at import."""
    graph: dict[str, set[str]] = {}
    names = {module(package, path): path for path in files(package)}
    for name, path in names.items():
        tree = ast.parse(path.read_text())
        at_import = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        graph[name] = set()
        for node in at_import:
            source = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
            wanted = [f"{source}.{alias.name}" if f"{source}.{alias.name}"[10:] in names else source for alias in node.names]
            graph[name] |= {one[10:] for one in wanted if one[10:] in names and one.startswith("mshnet_pl.")} - {name}
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph[node]:
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = [stack.pop()]
            while group[-1] != node:
                group.append(stack.pop())
            if len(group) > 1:
                found.append(sorted(group))

    for node in graph:
        if node not in index:
            visit(node)
    return found


def test_imports_lead_down() -> None:
    named = {name for floor in FLOORS for name in floor}
    there = {module(PACKAGE, path).split(".")[0] for path in files(PACKAGE)} - {""}
    assert there == named, f"not on a floor, or on one without being there: {there ^ named}"
    inside = {module(PACKAGE, path).split(".")[1] for path in files(PACKAGE / "data") if path.parent != PACKAGE / "data"}
    assert inside | {*DATA_FLOORS[0]} == {name for floor in DATA_FLOORS for name in floor}
    assert not wrong_arrows(PACKAGE)
    assert not circles(PACKAGE)


def forbidden(floors: tuple[tuple[str, ...], ...]) -> list[tuple[str, str]]:
    """Pairs of which the second may not import the first: it stands beside it or below."""
    below = {
        name: [n for floor in floors[i:] for n in floor if n != name] for i, names in enumerate(floors) for name in names
    }
    return [(upper, lower) for upper, lowers in below.items() for lower in lowers]


def test_a_reversed_arrow_fails(tmp_path: Path) -> None:
    """On a doctored copy: for every two parts the import that may not be."""
    copy = tmp_path / "mshnet_pl"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for prefix, floors in (("", FLOORS), ("data.", DATA_FLOORS)):
        for upper, lower in forbidden(floors):
            place = copy.joinpath(*f"{prefix}{lower}".split("."))
            path = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
            before = path.read_text()
            path.write_text(f"{before}\nfrom mshnet_pl.{prefix}{upper} import anything\n")
            assert any(f"imports mshnet_pl.{prefix}{upper}" in line for line in wrong_arrows(copy, path)), (upper, lower)
            path.write_text(before)
    (copy / "utils" / "files.py").write_text("import hydra\n")
    assert wrong_arrows(copy, copy / "utils" / "files.py") == ["utils.files imports hydra"]
    (copy / "similarity" / "masks.py").write_text("from mshnet_pl.similarity.cosine import CosineSimilarity\n")
    assert any({"similarity.cosine", "similarity.masks"} <= {*group} for group in circles(copy))


def test_sizes() -> None:
    lengths = sorted(len(path.read_text().splitlines()) for path in files(PACKAGE))
    assert lengths[-1] <= 350 and lengths[len(lengths) // 2] < 100
    assert len([*PACKAGE.glob("*.py")]) <= 6


@pytest.mark.parametrize(
    ("module", "names", "place"),
    [
        ("folder", ["Folder"], "sources.folder"),
        ("fss1000", ["Fss1000"], "sources.fss1000"),
        ("own_images", ["read_mask"], "io.masks"),
        ("pascal", ["Pascal5i"], "sources.pascal5i"),
        ("source", ["Subset"], "sources.base"),
    ],
)
def test_names_that_scripts_know(module: str, names: list[str], place: str) -> None:
    known, there = (importlib.import_module(f"mshnet_pl.data.{one}") for one in (module, place))
    assert all(getattr(known, name) is getattr(there, name) for name in names)


@pytest.mark.parametrize("word", ["../shared", "/work/"])
def test_no_path_of_this_machine(word: str) -> None:
    for path in [*files(PACKAGE), *(ROOT / "conf").rglob("*.yaml"), ROOT / "README.md"]:
        assert word not in path.read_text(), path


def test_the_paper_is_found_in_short_files() -> None:
    """Those that MSHNet's docstring names."""
    named = sorted({*re.findall(r"[\w/]+\.py", MSHNet.__doc__ or "")} - {"training/losses.py"})
    assert len(named) == 5
    assert all(len((PACKAGE / name).read_text().splitlines()) < 130 for name in named)
