"""An adapter's folder made ready for the Hub: what goes, with a card that is complete and names of the Hub only."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..card import AdapterCard
from ..card.checks import check
from ..card.front_matter import read_front_matter, with_front_matter
from ..card.names import CARD, PICTURE, RECORD
from ..card.public import HubName, hub_id, leaks_of_values
from ..card.public_files import checked_texts, leaking
from ..card.record import to_json
from ..errors import ConfigurationError, InputError
from ..hub.names import BASE_TAG, check_repository
from ..hub.shipped_files import shipped_files
from ..text import printable

_ADAPTER = "adapter_config.json"
_BASE = "base_model_name_or_path"
# Where libraries note what a thing was loaded from: only for information, but for an adapter's base.
_NAMES = (_BASE, "name_or_path", "_name_or_path", "tokenizer_name_or_path")
_READ = (
    _ADAPTER,
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "preprocessor_config.json",
    "processor_config.json",
)


@dataclass(frozen=True)
class PackedAdapter:
    """What a push sends."""

    repository: str  # "owner/name"
    files: dict[str, bytes | Path]  # path in the repository -> content, or a file that has it
    base_model: str | None  # id of the base that the adapter belongs to; None for a whole model that names none
    old_adapter: str | None  # id of the adapter that it takes the place of, where it is on the Hub
    notices: tuple[str, ...] = ()  # what was done otherwise than one might expect, a sentence each

    @property
    def sizes(self) -> dict[str, int]:
        """Path in the repository -> bytes."""
        return {
            name: len(content) if isinstance(content, bytes) else content.stat().st_size
            for name, content in self.files.items()
        }


def pack_adapter(
    folder: str | Path,
    repository: str,
    *,
    predictions: str | Path | None = None,
    base_model: str | None = None,
    license: str | None = None,  # noqa: A002 - the Hub's name of it
    language: str | Sequence[str] | None = None,
    dataset: str | None = None,
) -> PackedAdapter:
    """Make an adapter's folder ready for the Hub, without a network and without changing the folder."""
    check_repository(repository)
    languages = [language] if isinstance(language, str) else list(language or ())
    details = {
        "base_model": base_model,
        "license": license,
        "language": languages or None,
        "datasets": [dataset] if dataset else None,
    }
    if any(details.values()) and (problems := check(with_front_matter("", **details))):
        raise ConfigurationError(problems[0])
    files: dict[str, bytes | Path] = dict(shipped_files(folder, predictions=predictions))
    root, notices = Path(folder), []
    configs = {name: _object(root / name) for name in _READ if name in files}
    base = _base_of(configs.get(_ADAPTER), base_model)
    for name, config in configs.items():
        if _without_local_names(config, base):
            files[name] = _json(config)
            instead = f"with {base} for the base, and without any other" if base else "without it"
            notices.append(f"{name} names a path of this machine; it is sent {instead}.")
        if leaks := leaks_of_values(config):
            raise leaking(root / name, leaks)
    card = AdapterCard.read(root)
    if card is None and files.pop(RECORD, None) is not None:
        notices.append(f"{RECORD} is not the evidence of a card, so it is not sent.")
    notices += checked_texts({name: path for name, path in files.items() if name not in (*configs, CARD)})
    text = _text_of_card(root, card)
    if card is not None and text == card.render():
        card = replace(card, has_picture=PICTURE in files)
        where = root.resolve()
        if card.title in (where.name, where.parent.name):
            # What nobody chose as a title: the name of a folder of this machine.
            card = replace(card, title=repository.rpartition("/")[2])
        files |= _completed(card, repository, base, license, languages, dataset)
    else:
        changed = _edited(text, details | {"base_model": base_model and base})
        files[CARD] = changed.encode()
        kept = " but for the fields given" if changed != text else ""
        notices.append(f"{CARD} is not as muscle_hf wrote it, so it is sent as it is{kept}.")
        text = changed
    sent = files[CARD]
    if problems := check(sent.decode() if isinstance(sent, bytes) else sent.read_bytes().decode()):
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise InputError(f"{root / CARD} cannot go to the Hub: {printable(problems[0])}{more}")
    old = card.lineage.old_adapter if card is not None else None
    return PackedAdapter(repository, files, base, hub_id(old), tuple(notices))


def _base_of(adapter: dict[str, Any] | None, base_model: str | None) -> str | None:
    """Return the base's id on the Hub; an adapter whose base nobody else can find is refused."""
    if adapter is None:
        return base_model
    named = adapter.get(_BASE)
    known = hub_id(named) if isinstance(named, str) else None
    if known is None and base_model is None:
        what = f"{printable(named)}, a path of this machine" if isinstance(named, str) and named else "no base model"
        raise InputError(f"{_ADAPTER} names {what}; give base_model (--base-model ID), the base's id on the Hub.")
    if known is not None and base_model not in (None, known):
        raise ConfigurationError(
            f"{_ADAPTER} names {known} as the base, and base_model is {base_model}; leave it out, or correct the file."
        )
    return base_model or known


def _without_local_names(config: dict[str, Any], base: str | None) -> bool:
    """Put the base's id in place of paths of this machine; True where there were any."""
    has_more = [_drop_local_names(value) for value in config.values()]
    local = [key for key in _NAMES if isinstance(config.get(key), str) and hub_id(config[key]) is None]
    if _BASE in config and not config[_BASE]:
        local.append(_BASE)
    for key in dict.fromkeys(local):
        if base is None:
            del config[key]
        else:
            config[key] = base
    return bool(local) or any(has_more)


def _drop_local_names(value: object) -> bool:
    """Take the paths out of the parts of a configuration; of those, nobody knows which base they mean."""
    local: list[str] = []
    if isinstance(value, dict):
        local = [
            key for key in _NAMES if isinstance(value.get(key), str) and value[key] and hub_id(value[key]) is None
        ]
        for key in local:
            del value[key]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    has_more = [_drop_local_names(part) for part in parts]
    return bool(local) or any(has_more)


def _text_of_card(root: Path, card: AdapterCard | None) -> str:
    try:
        return (root / CARD).read_bytes().decode()  # with the ends of its lines as they are
    except FileNotFoundError:
        if card is None:
            raise InputError(
                f"{root} holds no {CARD}, and no {RECORD} to make it from; write one that says what this is."
            ) from None
        return card.render()
    except UnicodeDecodeError as error:
        raise InputError(f"{root / CARD} is no UTF-8 text ({error}).") from error


def _completed(
    card: AdapterCard,
    repository: str,
    base: str | None,
    license: str | None,  # noqa: A002
    languages: list[str],
    dataset: str | None,
) -> dict[str, bytes | Path]:
    """Write the card anew with what is known now, and return its files."""
    known: dict[str, Any] = {"repository": repository}
    if base is not None:
        known |= {"lineage": replace(card.lineage, new_base=HubName(base)), "base_import": None}
    if license is not None:
        known["license"] = license
    if languages:
        known["language"] = tuple(languages)
    if dataset is not None:
        known["dataset"] = HubName(dataset)
    # Not `write`: the picture stays the one that is there, whatever draws on this machine.
    complete = replace(card, **known).public()
    return {CARD: complete.render().encode(), RECORD: to_json(complete).encode()}


def _edited(text: str, details: dict[str, Any]) -> str:
    """Change the fields that were given in a card that somebody else wrote."""
    fields = {name: value for name, value in details.items() if value}
    tags = (read_front_matter(text) or {}).get("tags")
    if "base_model" in fields and isinstance(tags, list):
        others = [tag for tag in tags if not str(tag).startswith(BASE_TAG)]
        fields["tags"] = others + ([f"{BASE_TAG}{fields['base_model']}"] if len(others) < len(tags) else [])
    return with_front_matter(text, **fields)


def _object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON ({error}); save the model again.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is no JSON object; save the model again.")
    return content


def _json(value: dict[str, Any]) -> bytes:
    return f"{json.dumps(value, indent=2, ensure_ascii=False)}\n".encode()
