"""Whether the Hub would take a card, as far as that can be told without asking it."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import InputError
from .front_matter import read_front_matter
from .public import is_hub_id, leaks

# As of August 2026: https://huggingface.co/docs/hub/repositories-licenses.
_LICENSES = """
    afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0
    bigscience-openrail-m bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5
    cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0
    cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 cdla-sharing-1.0 creativeml-openrail-m deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0 etalab-2.0
    eupl-1.1 eupl-1.2 fair-noncommercial-research-license gemma gfdl gpl gpl-2.0 gpl-3.0 grok2-community h-research
    intel-research isc lgpl lgpl-2.1 lgpl-3.0 lgpl-lr llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 lppl-1.3c mit
    mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 openmdw-1.0 openmdw-1.1 openrail openrail++ osl-3.0 other pddl postgresql
    unknown unlicense wtfpl zlib
"""
LICENSES = frozenset(_LICENSES.split())


_RELATIONS = ("adapter", "merge", "quantized", "finetune")
_TEXTS = ("license_name", "license_link", "library_name", "pipeline_tag", "new_version", "base_model_relation")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z0-9]+)*|code|multilingual")
_IDS = {"base_model": "the id of a model", "new_version": "the id of a model", "datasets": "the id of a data set"}


def check(text: str) -> list[str]:
    """Check a card against the Hub's rules, without a network: what it refuses, and what nobody should publish.

    Args:
        text: The card.

    Returns:
        A sentence for each problem; empty where there is none.

    Example:
        >>> check("---\\nlicense: apache-2.0\\nbase_model: org/base-v2\\n---\\n# My adapter\\n")
        []
        >>> check("---\\nlicense: apache\\nbase_model: /home/somebody/base\\n---\\n")[0]
        "license is 'apache', which the Hub does not know; see https://huggingface.co/docs/hub/repositories-licenses."
    """
    try:
        data = read_front_matter(text)
    except InputError as error:
        return [str(error)]
    if data is None:
        return ["the card has no front matter: fields between two lines of ---, from the first line on."]
    return [
        *_licenses(data),
        *_names(data),
        *_words(data),
        *_results(data.get("model-index")),
        *(f"the card holds {leak}." for leak in leaks(text)),
    ]


def _each(data: Mapping[str, Any], name: str) -> Iterator[tuple[str, Any]]:
    """Give a field's value, or the values of its list, with their places."""
    value = data.get(name)
    if isinstance(value, list):
        yield from ((f"{name}[{place}]", one) for place, one in enumerate(value))
    elif value is not None:
        yield name, value


def _licenses(data: Mapping[str, Any]) -> Iterator[str]:
    for place, value in _each(data, "license"):
        if not isinstance(value, str) or value not in LICENSES:
            yield (
                f"{place} is {_said(value)}, which the Hub does not know; see "
                "https://huggingface.co/docs/hub/repositories-licenses."
            )


def _names(data: Mapping[str, Any]) -> Iterator[str]:
    for name, what in _IDS.items():
        for place, value in _each(data, name):
            if not isinstance(value, str) or not is_hub_id(value):
                yield f"{place} is {_said(value)}; {what} on the Hub is needed, org/name, and no path."
    relation = data.get("base_model_relation")
    if isinstance(relation, str) and relation not in _RELATIONS:
        yield f"base_model_relation is {_said(relation)}; one of {', '.join(_RELATIONS)} is needed."


def _words(data: Mapping[str, Any]) -> Iterator[str]:
    for place, value in _each(data, "language"):
        if not isinstance(value, str):
            yield f"{place} is {_said(value)}, which YAML takes for no text; put it into quotes."
        elif not _LANGUAGE.fullmatch(value):
            yield f"{place} is {_said(value)}; a code of two or three small letters is needed, such as en."
    for name in ("tags", "datasets", "metrics"):
        value = data.get(name)
        if value is not None and not isinstance(value, list) and not (name == "datasets" and isinstance(value, str)):
            yield f"{name} is {_said(value)}; a list is needed."
    for place, value in _each(data, "tags"):
        if not isinstance(value, str) or not value.strip():
            yield f"{place} is {_said(value)}; a text is needed, in quotes where YAML takes it for something else."
    for name in _TEXTS:
        if name in data and not isinstance(data[name], str):
            yield f"{name} is {_said(data[name])}; a text is needed."


def _results(index: Any) -> Iterator[str]:
    if index is None:
        return
    if not isinstance(index, list) or not index:
        yield "model-index is no list of models."
        return
    for place, model in _numbered("model-index", index):
        yield from _lacks(model, place, ("name",))
        results = model.get("results") if isinstance(model, dict) else None
        if not isinstance(results, list):
            yield f"{place}.results is missing or no list."
            continue
        for where, result in _numbered(f"{place}.results", results):
            yield from _result(result, where)


def _result(result: Any, place: str) -> Iterator[str]:
    if not isinstance(result, dict):
        yield f"{place} has no fields."
        return
    yield from _lacks(result.get("task"), f"{place}.task", ("type",))
    yield from _lacks(result.get("dataset"), f"{place}.dataset", ("type", "name"))
    dataset = result.get("dataset")
    for name in ("config", "split", "revision"):
        value = dataset.get(name) if isinstance(dataset, dict) else None
        if value is not None and not isinstance(value, str):
            yield f"{place}.dataset.{name} is {_said(value)}; a text is needed."
    metrics = result.get("metrics")
    if not isinstance(metrics, list) or not metrics:
        yield f"{place}.metrics is missing or empty."
        return
    for where, metric in _numbered(f"{place}.metrics", metrics):
        yield from _lacks(metric, where, ("type",))
        value = metric.get("value") if isinstance(metric, dict) else None
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            yield f"{where}.value is {_said(value)}; a number is needed, and undefined ones are left out."


def _numbered(name: str, values: list[Any]) -> Iterator[tuple[str, Any]]:
    return ((f"{name}[{number}]", value) for number, value in enumerate(values))


def _lacks(value: Any, place: str, names: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        found = value.get(name) if isinstance(value, dict) else None
        if not isinstance(found, str) or not found.strip():
            yield f"{place}.{name} is missing or no text."


def _said(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 100 else f"{shown[:100]}…"
