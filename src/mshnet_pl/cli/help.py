"""``--help`` of the commands under Hydra, made from the settings' descriptions and from ``hydra.help`` in their files."""

import textwrap
from collections.abc import Iterator

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue

from mshnet_pl.config.reference import choice_groups, choices, type_text, value_text
from mshnet_pl.config.settings import Setting, settings

_WIDTH = 100
_LAUNCHER = "hydra/launcher"
_AUTOMATIC = "adaptation"
"""Follows from other choices."""
_LISTS = ("callbacks", "similarity")
"""Groups of which any number is chosen; Hydra does not record those."""
_NODES = {*choice_groups(), "data.source"}


def text(*, _root_: DictConfig) -> str:
    """What a command does, an example, its choices and its settings with the values that the command line gives.

    As a template of Hydra's, in which ``$`` stands for itself if it is doubled.
    """
    about, groups = _root_.hydra.help, [*_groups(_root_)]
    parts = [
        f"{about.app_name} [GROUP=CHOICE ...] [SETTING=VALUE ...]",
        _wrapped(about.header),
        f"For example:\n{textwrap.indent(about.footer, '  ')}",
        *(["\n".join(["Choices, and which is taken:", *groups])] if groups else []),
        "\n".join(["Settings, and their values:", *_settings(_root_)]),
        "--cfg job prints every setting with the values of this command line, the arguments of choices too.\n"
        "docs/settings.md explains all settings and choices. --hydra-help explains Hydra's own options.",
    ]
    return "\n\n".join(parts).replace("$", "$$")


def _groups(root: DictConfig) -> Iterator[str]:
    taken = dict(root.hydra.runtime.choices)
    if "model" in taken:  # else the checkpoint has chosen
        taken |= {group: [*(root[group] or ())] or None for group in _LISTS}
    if "sweep" not in (root.hydra.callbacks or {}):
        taken.pop(_LAUNCHER, None)
    for group in choice_groups():
        if group not in taken or group == _AUTOMATIC:
            continue
        names = {one.name for one in choices(group)}
        if group == _LAUNCHER:  # those of plugins, too
            names |= {name.removesuffix(".yaml") for name in ConfigStore.instance().list(group)}
        yield _wrapped(f"  {group}={value_text(taken[group])}: {', '.join(sorted(names))}", after="      ")


def _settings(root: DictConfig) -> Iterator[str]:
    schema = OmegaConf.get_type(root)
    assert schema is not None
    for one in settings(schema):
        values = {f"{one.key}.{name}": (about, about.kind) for name, about in one.about.arguments.items()}
        if one.key not in _NODES:
            values[one.key] = one.about, one.kind
        for key, (about, kind) in values.items():
            value = _value(root, key)
            if not OmegaConf.is_dict(value) and (key == one.key or value is not None):
                yield _setting(key, type_text(kind), value, about)


def _value(root: DictConfig, key: str) -> object:
    try:
        return OmegaConf.select(root, key, throw_on_missing=True)
    except MissingMandatoryValue:
        return MISSING


def _setting(key: str, kind: str, value: object, about: Setting) -> str:
    known = value_text([*value] if isinstance(value, ListConfig) else value)
    words = ", ".join(filter(None, (kind, about.range.removeprefix("of "))))
    return f"  {key}={known}  ({words})\n{_wrapped(about.doc, '      ', '      ')}"


def _wrapped(line: str, after: str = "", before: str = "") -> str:
    return textwrap.fill(line, _WIDTH, initial_indent=before, subsequent_indent=after, break_on_hyphens=False)
