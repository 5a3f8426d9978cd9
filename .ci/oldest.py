"""Prints the oldest versions of its dependencies that ``pyproject.toml`` allows, as constraints for pip."""

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
for dependency in project["dependencies"]:
    name, version = re.fullmatch(r"([\w-]+)>=([\w.]+)", dependency).groups()
    print(f"{name}=={version}")
