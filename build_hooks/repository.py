"""Where the repository is, by the one setting of pyproject.toml, and where its files lead to from elsewhere."""

import posixpath
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
# The target of a Markdown link or image, or of an <img>; not what stands in `code`.
_TARGET = re.compile(r'(?P<before>\]\(|<img src=")(?P<path>[^)\s"#]+)(?P<anchor>#[^)\s"]*)?(?=[)"])')


def repository() -> str | None:
    """Return the repository's page, or None where the setting is still the placeholder, which leads nowhere."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    name: str = settings["tool"]["muscle_hf"]["repository"]
    return None if name.startswith("OWNER/") else f"https://github.com/{name}"


def relative_links(text: str) -> list[str]:
    """Return the targets of a text that are files beside it, without anchors."""
    return [match["path"] for match in _TARGET.finditer(text) if "://" not in match["path"]]


def with_links(text: str, place: Callable[[str], str]) -> str:
    """Replace every relative target of a text by what `place` gives for it."""

    def replaced(match: re.Match[str]) -> str:
        if "://" in match["path"]:
            return match[0]
        return f"{match['before']}{place(match['path'])}{match['anchor'] or ''}"

    return _TARGET.sub(replaced, text)


def without_links(text: str) -> str:
    """Keep the words of every relative link, and take out pictures that lie beside the text."""
    text = re.sub(r'<img src="(?![a-z]+://)[^>]*>\n*', "", text)
    return re.sub(r"\[([^\]]*)\]\((?![a-z]+://)[^)]*\)", r"\1", text)


def path_of(target: str, page: str) -> str:
    """Return the path in the repository of what a page of the repository links to."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), target))
