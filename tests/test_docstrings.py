"""The examples in docstrings give what they say."""

import doctest
from importlib import import_module

import pytest

from conftest import ROOT

PACKAGE = ROOT / "src"
WITH_EXAMPLES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    for path in (PACKAGE / "mshnet_pl").rglob("*.py")
    if ">>> " in path.read_text()
)


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples(module: str) -> None:
    failed, attempted = doctest.testmod(import_module(module))
    assert attempted and not failed
