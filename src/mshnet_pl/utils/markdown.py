"""Text for Markdown."""


def escaped(text: str) -> str:
    """Text that Markdown shows as it is: no column, no HTML, no link or picture, no new line."""
    return " ".join(text.split("\n")).replace("|", r"\|").replace("<", "&lt;").replace("](", r"]\(")
