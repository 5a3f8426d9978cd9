"""Text for Markdown."""

from mshnet_pl.errors import one_line


def escaped(text: str) -> str:
    """Text that Markdown shows as it is: no column, HTML, link, picture or new line, and nothing that steers a terminal."""
    shown = one_line(" ".join(text.split("\n")))
    return shown.replace("|", r"\|").replace("<", "&lt;").replace("](", r"]\(")
