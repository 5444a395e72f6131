"""The words of a command line and the keys of a YAML file as fields of dataclasses, as `trl.TrlParser` reads them."""

import argparse
import difflib
import os
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

import yaml
from trl import TrlParser

from ..errors import InputError
from ..files import refuse_pointer
from ..text import nearest_choice, printable


def read_words(kinds: tuple[type, ...], words: Sequence[str], *, command: str) -> dict[str, Any]:
    """Read the words after a command; the command line wins over the YAML file that `--config` names.

    Each field of the dataclasses is an option, with underscores or dashes, and a key of the file; what was given comes
    back.
    """
    words, file = _without_config(words)
    parser = _Parser(kinds, prog=f"muscle-hf {command}", allow_abbrev=False, add_help=False)
    names = sorted({action.dest for action in parser._actions})
    switches = {field.name for kind in kinds for field in fields(kind) if field.type == bool | None}
    for action in parser._actions:
        if action.dest in switches and action.nargs is None:
            # `--bf16` says what it says, though its default is neither yes nor no.
            action.nargs, action.const = "?", True
        # So that what comes back is what was given.
        action.default, action.required = argparse.SUPPRESS, False
    if file is not None:
        entries = _yaml(file)
        _set_environment(file, entries.pop("env", None))
        for key, value in entries.items():
            if key not in names:
                raise InputError(f"{file}: {_unknown(key, names)}")
            if value is False and key.endswith("_strategy"):
                entries[key] = "no"  # A bare `no` is false for YAML.
        parser.set_defaults_with_config(**entries)
    parsed, others = parser.parse_known_args(words)
    for word in others:
        if not word.startswith("--"):
            continue
        options = [f"--{name.replace('_', '-')}" for name in names]
        raise InputError(_unknown(word.partition("=")[0].replace("_", "-"), options))
    if others:
        raise InputError(f"{others[0]!r} is no option, and everything is given by options here, as in --dataset FILE.")
    chosen: dict[str, Any] = vars(parsed)
    return chosen


class _Parser(TrlParser):  # type: ignore[misc]  # trl is untyped
    """TRL's parser; a complaint is an exception of one line."""

    def error(self, message: str) -> NoReturn:
        near = nearest_choice(message)
        hint = f" Did you mean {near!r}?" if near else ""
        raise InputError(f"{message.rstrip('.')}.{hint}")


def _without_config(words: Sequence[str]) -> tuple[list[str], Path | None]:
    """Take `--config FILE` or `--config=FILE` out of the words."""
    rest: list[str] = []
    files: list[str] = []
    following = iter(words)
    for word in following:
        name, equals, value = word.partition("=")
        if name != "--config":
            rest.append(word)
            continue
        files.append(value if equals else next(following, ""))
    if len(files) > 1 or "" in files:
        raise InputError("--config takes one YAML file, once.")
    return rest, Path(files[0]) if files else None


def _yaml(path: Path) -> dict[str, Any]:
    """Read a flat YAML file; of a key that stands twice PyYAML would keep the last value without a word."""
    refuse_pointer(path)
    try:
        text = path.read_bytes().decode("utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}); a YAML file is needed.") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8.") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:  # A date such as 2024-13-01 is a ValueError.
        raise InputError(f"{path}: not YAML: {printable(str(error))}.") from None
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise InputError(f"{path} must hold options as `name: value`, such as `new_base: org/base-v2`.")
    keys = [key.value for key, _ in root.value] if isinstance(root, yaml.MappingNode) else []
    twice = [key for key in keys if keys.count(key) > 1]
    if twice:
        raise InputError(f"{path}: {twice[0]} stands there twice; leave one out.")
    return content


def _set_environment(file: Path, variables: Any) -> None:
    """Set the variables of the key `env`, as TRL does."""
    if variables is None:
        return
    if not isinstance(variables, dict):
        raise InputError(f"{file}: env must hold variables as `NAME: value`.")
    os.environ.update({str(name): str(value) for name, value in variables.items()})


def _unknown(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"there is no option {name}.{hint}"
