"""Every setting is described once, and its bounds, ``--help`` and ``docs/settings.md`` follow from that."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from conftest import ROOT, Command
from mshnet_pl import config
from mshnet_pl.config.commands import COMMANDS
from mshnet_pl.config.reference import choice_groups, choices, markdown
from mshnet_pl.config.settings import Described, Setting, settings
from mshnet_pl.errors import ConfigError

SCHEMAS = (config.Config, config.EnergyConfig, config.BenchConfig)
SMALLEST = 1e-3


def descriptions(schema: type) -> Iterator[tuple[str, Setting]]:
    for one in settings(schema):
        yield one.key, one.about
        yield from ((f"{one.key}.{name}", about) for name, about in one.about.arguments.items())


@pytest.mark.parametrize("schema", (*SCHEMAS, *COMMANDS.values()))
def test_every_setting_is_described(schema: type) -> None:
    for key, about in descriptions(schema):
        assert about.doc.endswith(".") and len(about.doc) > 10, key
        assert "`" not in about.doc, f"{key}: printed by --help, too"


def test_every_choice_is_described() -> None:
    for group in choice_groups():
        for choice in choices(group):
            assert choice.doc, f"conf/{group}/{choice.name}.yaml: begin it with a comment that says what it is"


def test_the_page_is_what_the_code_prints() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    assert page == markdown(), "python -m mshnet_pl.config.reference > docs/settings.md"
    for schema in (config.BenchConfig, *COMMANDS.values()):
        for key, _ in descriptions(schema):
            assert f"| `{key}` |" in page


@cache
def composed(schema: type) -> DictConfig:
    made = OmegaConf.merge(OmegaConf.structured(schema), OmegaConf.to_container(config.compose()))
    assert isinstance(made, DictConfig)
    return made


def changed(schema: type, key: str, value: object) -> list[str]:
    """The problems of a configuration that has ``value`` at ``key``."""
    raw = composed(schema).copy()
    OmegaConf.update(raw, key, value, force_add=True)
    try:
        config.typed(raw)
    except ConfigError as error:
        return [line for line in str(error).splitlines() if line.startswith(f"{key}=")]
    return []


def bounded(schema: type) -> list[Described]:
    return [one for one in settings(schema) if one.about.range and one.key in own(schema)]


def own(schema: type) -> set[str]:
    inherited = set() if schema is config.Config else {one.key for one in settings(config.Config)}
    return {one.key for one in settings(schema)} - inherited


@pytest.mark.parametrize("schema", SCHEMAS)
def test_bounds(schema: type) -> None:
    assert bounded(schema)
    for one in bounded(schema):
        real, many = "float" in str(one.kind), "list" in str(one.kind)
        step = SMALLEST if real else 1
        inside: list[Any] = [bound for bound in (one.about.min, one.about.max) if bound is not None]
        outside = [one.about.min - step] if one.about.min is not None else []
        outside += [one.about.max + step] if one.about.max is not None else []
        outside += [float("nan"), float("inf")] if real else []
        for value in inside:
            assert not changed(schema, one.key, [value] if many else value), one.key
        for value in outside:
            (line,) = changed(schema, one.key, [value] if many else value)
            assert line.startswith(f"{one.key}={value}: give "), line
        if many and one.default != []:
            (line,) = changed(schema, one.key, [])
            assert line.startswith(f"{one.key}=[]: give at least one"), line


def test_bounds_of_the_trainers_arguments() -> None:
    found = {key: about for key, about in descriptions(config.Config) if key.startswith("trainer.") and about.range}
    assert len(found) >= 5
    for key, about in found.items():
        assert about.min is not None and not changed(config.Config, key, about.min)
        for value in (about.min - 1, "abc", True, [1]):
            (line,) = changed(config.Config, key, value)
            assert about.range in line
    assert not changed(config.Config, "trainer.max_epochs", None) and changed(config.Config, "trainer.max_steps", None)


def test_help_shows_what_the_command_line_chooses(command: Command) -> None:
    out = command("mshnet-train", "data=pascal5i", "similarity=[cosine]", "test.seeds=[3,4]", "--help").out
    assert "  data=pascal5i  (choice)" in out and "  similarity=[cosine]  (list of choices)" in out
    assert "  test.seeds=[3,4]  (" in out and "  data.image_size=473  (" in out and "  backbone=resnet50  (" in out
    assert "  data.root=...  (text or null, required)" in out
