"""What other programs read of a comparison: the JSON is what the schema says, and the schema allows nothing else."""

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from compared_rows import compared, right
from jsonschema import Draft202012Validator

from muscle_hf.flips.rates import strict_json
from muscle_hf.readers.identical import find_identical
from muscle_hf.readers.join import Aligned
from muscle_hf.runs.gates.gate import GATE_ON, RATES, judge, parse_bound
from muscle_hf.runs.measure import Part
from muscle_hf.runs.outcomes import SCHEMA, SCHEMA_VERSION
from muscle_hf.runs.run_comparison import RunComparison
from muscle_hf.runs.suspects.audited import audited_rate
from muscle_hf.runs.suspects.ranking import suspect_flips

SCHEMA_FILE = json.loads((resources.files("muscle_hf") / "run_comparison.schema.json").read_text(encoding="utf-8"))
VALIDATOR = Draft202012Validator(SCHEMA_FILE)

QUIZ = right(both=5, broken=3, repaired=2, neither=2) | {
    "category": ["law", "art", None] * 4,
    "first": [True, False] * 6,
    "second": [False, True, True] * 4,
}
SUMMARIES: dict[str, list[Any]] = {
    "old": [0.5, 0.25, 0.5, 0.5],
    "new": [0.25, 0.5, 0.5, 0.5],
    "category": ["law", "law", "art", None],
    "first": [0.5, 0.25, 0.25, 0.5],
    "second": [0.5, 0.5, 0.75, 0.0],
}
RUNS = ("first", "second")


def _samples() -> Iterator[tuple[str, RunComparison]]:
    yield "answers", compared({"quiz": QUIZ})
    yield "answers of two tasks", compared({"quiz": QUIZ, "trivia": QUIZ})
    yield "scores", compared({"summaries": SUMMARIES})
    yield "scores of two tasks", compared({"summaries": SUMMARIES, "letters": SUMMARIES}, tolerance=0.1)
    yield "slices", compared({"quiz": QUIZ}, by=["category"], level=0.8)
    yield "floor", compared({"quiz": QUIZ, "trivia": QUIZ}, floor=RUNS, by=["category"])
    yield "floor of scores", compared({"summaries": SUMMARIES}, floor=RUNS)
    yield "sampled answers", compared({"quiz": SUMMARIES}, samples=4, by=["category"])
    yield "answers and scores", compared({"quiz": QUIZ, "summaries": SUMMARIES}, by=["category"], floor=RUNS)
    yield "no flips", compared({"quiz": right(both=2), "trivia": right(neither=1)})
    yield (
        "one instance",
        compared({"summaries": {"old": [0.5], "new": [0.25], "first": [0.5], "second": [0.25]}}, floor=RUNS),
    )

    found = compared({"quiz": QUIZ, "trivia": QUIZ})
    fence = [0] * 24, [1, 0] * 12
    suspects = suspect_flips(found, {"fence": fence, "words": ([3] * 24, [5, 4, 6] * 8)})
    draw = suspects.draw(3)
    yield "suspects", found.with_suspects(suspects)
    verdicts = dict.fromkeys([(flip.task, flip.id) for flip in draw][:2], True)
    yield "audit", found.with_suspects(suspects, audited_rate(found, verdicts, draw=draw))


SAMPLES = dict(_samples())


def _data(result: RunComparison) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(result.to_json())
    return found


def _with_gate() -> dict[str, Any]:
    """Give a document in which every object of the schema is there, with as few rows as can be."""
    return copy.deepcopy(_with_everything())


@cache
def _with_everything() -> dict[str, Any]:
    result = compared({"quiz": QUIZ, "trivia": QUIZ, "summaries": SUMMARIES}, floor=RUNS, by=["category"])
    sampled = compared({"summaries": SUMMARIES}, samples=4)
    found = _data(result)
    found["tasks"][2] = _data(sampled)["tasks"][0] | {"seed_floor": found["tasks"][2]["seed_floor"]}
    found["slices"]["category"] = found["slices"]["category"][:1]
    found["gate"] = judge(result, [parse_bound("max_nfr", f"quiz:{bound}") for bound in (0.5, 0.01, 0.1)]).to_dict()
    found["identical"] = [item.to_dict() for item in find_identical(result.pairs | {"x": _one(result)})]
    return found


def _one(result: Any) -> Aligned:
    """Give a pair of runs that are one."""
    side = replace(result.pairs["summaries"].old, scores=np.sqrt(np.arange(12) + 2.5), ids=pa.array(range(12)))
    return Aligned(side, replace(side, source="other"))


def _objects(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Give the path of every object whose fields are fixed."""
    if isinstance(value, dict):
        if path not in (("slices",), ("hierarchical_coin_flips",), ("not_compared",)):
            yield path
        for name, item in value.items():
            yield from _objects(item, (*path, name))
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from _objects(item, (*path, place))


def _at(document: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        document = document[step]
    return document


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA_FILE)


@pytest.mark.parametrize("name", SAMPLES)
def test_every_kind_of_comparison_is_what_the_schema_says(name: str) -> None:
    errors = [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(_data(SAMPLES[name]))]
    assert not errors


def test_the_samples_have_every_part_of_the_schema() -> None:
    document = _with_gate()
    VALIDATOR.validate(document)
    assert {row["kind"] for row in document["tasks"]} == {"answers", "scores"}
    assert all(row["seed_floor"] for row in document["tasks"])
    assert document["tasks"][2]["reliable_change"]
    assert document["pooled"]
    assert document["hierarchical_coin_flips"]
    assert document["gate"]["violations"]


def test_the_schema_is_of_the_version_that_is_written() -> None:
    assert SCHEMA_FILE["properties"]["schema_version"]["const"] == SCHEMA_VERSION
    assert SCHEMA_FILE["properties"]["schema"]["const"] == SCHEMA


@pytest.mark.slow
def test_a_field_too_many_or_too_few_does_not_pass_unseen() -> None:
    document = _with_gate()
    for path in _objects(document):
        changed = copy.deepcopy(document)
        _at(changed, path)["surplus"] = 1
        assert not VALIDATOR.is_valid(changed), f"a field can be added to {path}"
        for name in _at(document, path):
            # Not every document has these.
            if (*path, name) == ("gate",) or name in ("classes", "answers_of_no_class"):
                continue
            changed = copy.deepcopy(document)
            del _at(changed, path)[name]
            assert not VALIDATOR.is_valid(changed), f"{name} of {path} can be left out"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema_version",), 1),
        (("level",), 95),
        (("tasks",), []),
        (("tasks", 0, "kind"), "scores"),
        (("tasks", 0, "n"), 0),
        (("tasks", 0, "p_value"), None),
        (("tasks", 0, "ids", "negative_flips"), [0.5]),
        (("tasks", 0, "rates", "negative_flip_rate", "estimate"), "0.1"),
        (("pooled",), {}),
        (("slices", "category"), []),
        (("gate", "gate_on"), "upper"),
        (("gate", "violations", 0, "rate"), "max_pfr"),
    ],
)
def test_a_value_that_cannot_be_does_not_pass(path: tuple[str | int, ...], value: object) -> None:
    document = _with_gate()
    _at(document, path[:-1])[path[-1]] = value
    assert not VALIDATOR.is_valid(document)


def test_a_rate_without_interval_in_a_gate_is_null_and_not_nan() -> None:
    result = compared({"summaries": SUMMARIES})
    shown = {"gate": judge(result, [parse_bound("max_regression", "1")]).to_dict()}
    document = json.loads(strict_json(result.to_dict() | shown))
    (bound,) = document["gate"]["bounds"]
    assert (bound["estimate"], bound["low"], bound["adjusted_level"], bound["verdict"]) == (
        0.25,
        None,
        None,
        "cannot tell",
    )
    VALIDATOR.validate(document)


def test_the_schema_knows_every_rate_and_every_bound() -> None:
    violation = SCHEMA_FILE["$defs"]["judgement"]["properties"]
    assert violation["rate"]["enum"] == list(RATES)
    assert SCHEMA_FILE["properties"]["gate"]["properties"]["gate_on"]["enum"] == list(GATE_ON)
    fields = SCHEMA_FILE["$defs"]["fields"]
    for name, branch in (("answers", fields["then"]), ("scores", fields["else"])):
        (part,) = (
            part for sample in (SAMPLES["answers"], SAMPLES["scores"]) for part in sample.tasks if _is(part, name)
        )
        assert list(part.to_dict()["rates"]) == list(branch["properties"]["rates"]["properties"])


def _is(part: Part, kind: str) -> bool:
    return part.has_scores == (kind == "scores")


def test_every_field_is_described() -> None:
    def described(schema: Any) -> None:
        for name, field in schema.get("properties", {}).items():
            if name in ("kind",) and list(field) == ["const"]:  # the condition, not the field
                continue
            assert field.get("description", "").endswith("."), f"{name} is not described"
        for nested in schema.values() if isinstance(schema, dict) else ():
            if isinstance(nested, dict):
                described(nested)

    described(SCHEMA_FILE)
