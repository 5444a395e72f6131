"""Docstrings of the package, as the reference page reads them."""

import re
from typing import Any

import griffe

# [`name`], [`name`][module.name]
_REFERENCE = re.compile(r"\[`(?P<shown>[^`\]]+)`\](?:\[[^\]]*\])?")
_EXAMPLE = re.compile(r"^(\s*)Example:", re.MULTILINE)
# Headings among the arguments of a config, which TRL has in its own.
_HEADING = re.compile(r"^\s*> .*\n", re.MULTILINE)
# "#(both right) / N" says a number, and would be a heading.
_NUMBER = re.compile(r"^(\s*)#", re.MULTILINE)


class PublicDocstrings(griffe.Extension):
    """Lets a reference to a public name lead to it; any other becomes the name alone, since it has no place here."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Rewrite the docstrings of the whole package once it is loaded."""
        self._rewrite(pkg, {str(name) for name in pkg.exports or ()})

    def _rewrite(self, item: griffe.Object, public: set[str]) -> None:
        if item.docstring:
            text = _NUMBER.sub(r"\1\\#", _HEADING.sub("", _EXAMPLE.sub(r"\1Examples:", item.docstring.value)))
            item.docstring.value = _REFERENCE.sub(lambda match: _linked(match["shown"], public), text)
        for member in item.members.values():
            if isinstance(member, griffe.Object):
                self._rewrite(member, public)


def _linked(shown: str, public: set[str]) -> str:
    return f"[`{shown}`][muscle_hf.{shown}]" if shown.partition(".")[0] in public else f"`{shown}`"
