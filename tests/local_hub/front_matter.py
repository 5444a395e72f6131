"""The front matter of a card, read as the Hub reads it, and the tags that the Hub makes of it."""

import re
from collections.abc import Iterator
from typing import Any

import yaml

from .repository import Files, Repository

_BLOCK = re.compile(r"^(\s*---[\r\n]+)([\S\s]*?)([\r\n]+---(\r\n|\n|$))")
_ARXIV = re.compile(r"arxiv\.org/(?:abs|pdf)/(\d{4}\.\d{4,5})|arxiv:(\d{4}\.\d{4,5})", re.IGNORECASE)


class _Loader(yaml.SafeLoader):
    """YAML 1.2 where it matters: `no` is a word (and Norwegian), and a key may not come twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"duplicated mapping key: {key}", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def read(card: str) -> Any:
    """Give what stands between the first two lines of three dashes, or None; yaml.YAMLError where it is no YAML."""
    block = _BLOCK.search(card)
    return None if block is None else yaml.load(block[2], Loader=_Loader)  # noqa: S506 - a safe loader


def metadata(files: Files) -> dict[str, Any]:
    """Give the front matter of a repository's card; nothing where it has none that can be read."""
    card = files.get("README.md")
    try:
        found = read(card.content.decode("utf-8", "replace")) if card else None
    except yaml.YAMLError:
        return {}
    return found if isinstance(found, dict) else {}


def texts(value: Any) -> list[str]:
    """Give a text, or those of a list."""
    return [
        str(each) for each in (value if isinstance(value, list) else [value]) if isinstance(each, str | int | float)
    ]


def library(files: Files, data: dict[str, Any]) -> str | None:
    """Give the library that a model says it is for, or that its files are of."""
    if isinstance(data.get("library_name"), str):
        return str(data["library_name"])
    if "adapter_config.json" in files:
        return "peft"
    return "transformers" if "config.json" in files else None


def relation(files: Files, data: dict[str, Any]) -> str:
    """Give what a model is to its base."""
    if isinstance(data.get("base_model_relation"), str):
        return str(data["base_model_relation"])
    if "adapter_config.json" in files:
        return "adapter"
    return "merge" if len(texts(data.get("base_model"))) > 1 else "finetune"


def tags(repository: Repository) -> list[str]:
    """Give the tags of a repository: its card's, and those that the Hub makes of the front matter and the files."""
    files = repository.head.files
    return list(dict.fromkeys(_tags(repository, files, metadata(files))))


def _tags(repository: Repository, files: Files, data: dict[str, Any]) -> Iterator[str]:
    if repository.kind == "model":
        if (named := library(files, data)) is not None:
            yield named
        if any(path.endswith(".safetensors") for path in files):
            yield "safetensors"
        yield from texts(data.get("pipeline_tag"))
    if repository.kind == "space":
        yield from texts(data.get("sdk", repository.sdk))
    if repository.kind == "dataset":
        yield from (f"task_categories:{task}" for task in texts(data.get("task_categories")))
    yield from texts(data.get("tags"))
    languages = texts(data.get("language"))
    yield from (f"language:{each}" if repository.kind == "dataset" else each for each in languages)
    yield from (f"dataset:{each}" for each in texts(data.get("datasets")))
    card = files["README.md"].content.decode("utf-8", "replace") if "README.md" in files else ""
    yield from (f"arxiv:{found[1] or found[2]}" for found in _ARXIV.finditer(card))
    bases = texts(data.get("base_model"))
    yield from (f"base_model:{base}" for base in bases)
    yield from (f"base_model:{relation(files, data)}:{base}" for base in bases)
    yield from (f"license:{each}" for each in texts(data.get("license")))
    if data.get("model-index"):
        yield "model-index"
    yield "region:us"
