"""What the Hub refuses in the front matter of a card, and what it warns of.

The words are the Hub's where they are known from what people report; the rules are no wider than the ones that a card
of this package can meet.
"""

import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import yaml

from .front_matter import read

# As its message lists them.
_LICENSES_LISTED = """
    apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
    afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5
    cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
    cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0
    lgpl lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl
    openmdw-1.0 openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr deepfloyd-if-license
    fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 grok2-community gemma unknown
    other
"""
_LICENSES = frozenset(_LICENSES_LISTED.split())
# The ones for text; of the rest, the Hub says no more than that it does not know the word.
_TASKS_LISTED = """
    any-to-any feature-extraction fill-mask image-text-to-text question-answering reinforcement-learning robotics
    sentence-similarity summarization table-question-answering tabular-classification text-classification
    text-generation text-ranking text-to-image text-to-speech token-classification translation zero-shot-classification
    automatic-speech-recognition image-classification other
"""
_TASKS = frozenset(_TASKS_LISTED.split())
_RELATIONS = ("adapter", "merge", "quantized", "finetune")
_COLOURS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
_SDKS = ("gradio", "docker", "static")
_WORDS_FOR_LANGUAGES = ("code", "multilingual")
_ID = re.compile(r"[A-Za-z0-9][\w.\-]*(/[\w.\-]+)?")
_EMPTY = (
    "empty or missing yaml metadata in repo card (https://huggingface.co/docs/hub/model-cards#model-card-metadata)"
)


def problems(card: str, kind: str) -> tuple[list[str], list[str]]:
    """Give the errors and the warnings of a card."""
    try:
        data = read(card)
    except yaml.YAMLError as error:
        return [f"YAML parse error: {error}"], []
    if data is None:
        return [], [_EMPTY]
    if not isinstance(data, dict):
        return ["YAML metadata must be an object"], []
    errors = list(_common(data))
    if kind == "model":
        errors += [*_model(data), *_index(data.get("model-index"))]
    if kind == "space":
        errors += _space(data)
    warnings = []
    task = data.get("pipeline_tag")
    if isinstance(task, str) and task not in _TASKS:
        warnings.append(
            f'The pipeline tag "{task}" is not in the official list: https://huggingface.co/docs/hub/models-tasks'
        )
    return errors, warnings


def _common(data: dict[str, Any]) -> Iterator[str]:
    for place, value in _each(data, "license", ("text", "array")):
        if value not in _LICENSES:
            yield f'"{place}" must be one of [{", ".join(_LICENSES_LISTED.split())}, array]'
    for place, value in _each(data, "language", ("text", "array")):
        if value != value.lower():
            yield f'"{place}" must only contain lowercase characters'
        elif not re.fullmatch(r"[a-z]{2,3}(-[a-z0-9]+)*", value) and value not in _WORDS_FOR_LANGUAGES:
            yield (
                f'"{place}" with value "{value}" is not valid. It must be an ISO 639-1, 639-2 or 639-3 code '
                '(two/three letters), or a special value like "code", "multilingual".'
            )
    for name in ("tags", "metrics", "widget"):
        if name in data and not isinstance(data[name], list):
            yield f'"{name}" must be an array'
    for place, value in _each(data, "tags", ("array",)):
        if not value.strip():
            yield f'"{place}" is not allowed to be empty'
    yield from _ids(data, "datasets", "If possible, use a dataset id from https://hf.co/datasets.")
    for name in ("library_name", "pipeline_tag", "license_name", "license_link", "title"):
        if name in data and not isinstance(data[name], str):
            yield f'"{name}" must be a string'
    for name in ("license", "language", "base_model", "new_version", "datasets", "tags"):
        found = data.get(name, "")
        for place, value in (
            [(f"{name}[{n}]", each) for n, each in enumerate(found)] if isinstance(found, list) else [(name, found)]
        ):
            if not isinstance(value, str):
                yield f'"{place}" must be a string'


def _model(data: dict[str, Any]) -> Iterator[str]:
    yield from _ids(data, "base_model", "Use a model id from https://hf.co/models.")
    yield from _ids(data, "new_version", "Use a model id from https://hf.co/models.")
    if isinstance(data.get("new_version"), list):
        yield '"new_version" must be a string'
    if "base_model_relation" in data and data["base_model_relation"] not in _RELATIONS:
        yield f'"base_model_relation" must be one of [{", ".join(_RELATIONS)}]'


def _space(data: dict[str, Any]) -> Iterator[str]:
    if data.get("sdk") not in _SDKS:
        yield f'"sdk" must be one of [{", ".join(_SDKS)}]'
    for name in ("colorFrom", "colorTo"):
        if name in data and data[name] not in _COLOURS:
            yield f'"{name}" must be one of [{", ".join(_COLOURS)}]'
    if "pinned" in data and not isinstance(data["pinned"], bool):
        yield '"pinned" must be a boolean'
    for name in ("sdk_version", "app_file", "emoji", "short_description"):
        if name in data and not isinstance(data[name], str):
            yield f'"{name}" must be a string'
    if len(str(data.get("short_description", ""))) > 60:
        yield '"short_description" length must be less than or equal to 60 characters long'


def _index(index: Any) -> Iterator[str]:
    """The results of a model."""
    if index is None:
        return
    if not isinstance(index, list):
        yield '"model-index" must be an array'
        return
    for number, model in enumerate(index):
        place = f"model-index[{number}]"
        yield from _needs(model, place, {"name": _is_text, "results": _is_list})
        results = model.get("results") if isinstance(model, dict) else None
        for which, result in enumerate(results if isinstance(results, list) else []):
            yield from _result(result, f"{place}.results[{which}]")


def _result(result: Any, place: str) -> Iterator[str]:
    yield from _needs(result, place, {"task": _is_object, "metrics": _is_list})
    if not isinstance(result, dict):
        return
    if "task" in result:
        yield from _needs(result["task"], f"{place}.task", {"type": _is_text})
    yield from _needs(result, place, {"dataset": _is_object})
    if "dataset" in result:
        yield from _needs(result["dataset"], f"{place}.dataset", {"type": _is_text, "name": _is_text})
    metrics = result.get("metrics")
    for number, metric in enumerate(metrics if isinstance(metrics, list) else []):
        yield from _needs(metric, f"{place}.metrics[{number}]", {"type": _is_text, "value": _is_value})


def _is_text(value: Any) -> str | None:
    return None if isinstance(value, str) else "must be a string"


def _is_list(value: Any) -> str | None:
    return None if isinstance(value, list) else "must be an array"


def _is_object(value: Any) -> str | None:
    return None if isinstance(value, dict) else "must be of type object"


def _is_value(value: Any) -> str | None:
    """A figure, or what JSON can carry of another kind: it has no word for `nan`."""
    return "must be a number" if value is None or (isinstance(value, float) and not math.isfinite(value)) else None


def _needs(value: Any, place: str, rules: dict[str, Callable[[Any], str | None]]) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f'"{place}" must be of type object'
        return
    for name, rule in rules.items():
        if name not in value:
            yield f'"{place}.{name}" is required'
        elif (problem := rule(value[name])) is not None:
            yield f'"{place}.{name}" {problem}'


def _each(data: dict[str, Any], name: str, allowed: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Give the texts of a field with the places they have."""
    value = data.get(name)
    if isinstance(value, list) and "array" in allowed:
        yield from ((f"{name}[{place}]", each) for place, each in enumerate(value) if isinstance(each, str))
    elif isinstance(value, str) and "text" in allowed:
        yield name, value


def _ids(data: dict[str, Any], name: str, advice: str) -> Iterator[str]:
    for place, value in _each(data, name, ("text", "array")):
        if not _ID.fullmatch(value) or ".." in value:
            yield f'"{place}" with value "{value}" is not valid. {advice}'
