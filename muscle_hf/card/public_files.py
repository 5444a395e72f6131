"""Whether files that lie beside a card may be read by everybody."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..errors import InputError
from ..text import printable
from .public import A_TOKEN, leaks, leaks_of_values

# Words of a language, among which anything may be found; and what is no text.
_NOT_TEXT = (".safetensors", ".png", ".model", ".parquet")
_VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "added_tokens.json")


def checked_texts(files: Mapping[str, bytes | Path]) -> list[str]:
    """Refuse files that tell about this machine, and return what is to be said of answers that seem to."""
    notices = []
    for name, path in files.items():
        if not isinstance(path, Path) or name in _VOCABULARIES or name.endswith(_NOT_TEXT):
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        try:
            found = _leaks_of_json(name, text) if name.endswith(".json") else leaks(text)
        except (ValueError, RecursionError):
            found = leaks(text)
        is_answer = name.startswith("predictions/")
        if A_TOKEN in found or (found and not is_answer):
            raise leaking(path, [A_TOKEN] if A_TOKEN in found else found)
        if found:
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            notices.append(f"{name} holds {found[0]}{more}; everybody will be able to read it.")
    return notices


def _leaks_of_json(name: str, text: str) -> list[str]:
    value = json.loads(text)
    if name.endswith("config.json"):
        return leaks_of_values(value)
    # Not as JSON writes it, where a path of Windows has twice its backslashes.
    return leaks("\n".join(_texts(value)))


def _texts(value: object) -> Iterator[str]:
    """Give every text of what JSON holds, names included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (text for pair in value.items() for one in pair for text in _texts(one))
    elif isinstance(value, list):
        yield from (text for one in value for text in _texts(one))


def leaking(path: Path, found: list[str]) -> InputError:
    """Return the error of a file that may not be read by everybody."""
    return InputError(f"{path} holds {printable(found[0])}; take it out before everybody can read it.")
