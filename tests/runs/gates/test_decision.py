"""A decision can be reproduced: what was read, asked and found is in it, and another one is told from it."""

import copy
import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from compared_rows import compared, right
from decisions import BOUNDS, decided, table
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from muscle_hf import InputError, compare_runs
from muscle_hf.runs.gates.bounds import Bound
from muscle_hf.runs.gates.decision import SCHEMA, SCHEMA_VERSION, Decision
from muscle_hf.runs.gates.gate import judge
from muscle_hf.runs.gates.policy import read_policy
from muscle_hf.runs.run_comparison import RunComparison


def _schema(name: str) -> Any:
    return json.loads((resources.files("muscle_hf") / name).read_text(encoding="utf-8"))


_GATE = Resource.from_contents(_schema("run_comparison.schema.json"))
VALIDATOR = Draft202012Validator(
    _schema("decision.schema.json"),
    registry=Registry().with_resource("run_comparison.schema.json", _GATE),
    format_checker=Draft202012Validator.FORMAT_CHECKER,
)


# What is in it -------------------------------------------------------------------------------------------------------


def test_a_decision_is_what_the_schema_says_and_comes_back_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("max_nfr: {value: 0.01, owner: me, reason: why}\nrequired_tasks: [quiz]", encoding="utf-8")
    policy, path = read_policy(file), table(tmp_path / "quiz.csv")
    result = compare_runs(f"{path}:v1", f"{path}:v2", seed_floor=[f"{path}:v1", f"{path}:v2"], allow_identical=True)
    gate = judge(result, policy.bounds, **policy.judging)
    decision = Decision.of(result, gate, policy.bounds, policy=policy, options={"tolerance": None, "by": ["a"]})
    document = json.loads(decision.to_json())
    VALIDATOR.validate(document)
    assert (document["schema"], document["schema_version"]) == (SCHEMA, SCHEMA_VERSION)
    assert document["policy"]["sha256"] == policy.sha256
    assert len(document["inputs"]["seed_floor"]) == 2
    assert document["asked"]["options"] == {"level": 0.95, "gate_on": "interval", "tolerance": None, "by": ["a"]}
    written = decision.write(tmp_path / "decision.json")
    assert Decision.read(written) == decision
    assert (decision.verdict, decision.names) == (gate.verdict, ("v1", "v2"))


def test_scores_and_what_is_refused_are_decisions_too(tmp_path: Path) -> None:
    path = tmp_path / "sums.csv"
    path.write_text("id,score\n" + "".join(f"{i},0.{i}\n" for i in range(1, 10)), encoding="utf-8")
    result = compare_runs(path, path)
    decision = Decision.of(result, judge(result, BOUNDS), BOUNDS)
    VALIDATOR.validate(json.loads(decision.to_json()))
    assert decision.verdict == "refused"
    assert decision.rows["all"].is_score


def test_the_files_that_were_read_are_digested_and_the_column_is_told(tmp_path: Path) -> None:
    path = table(tmp_path / "quiz.csv")
    old = decided(path).document["inputs"]["old"]
    (file,) = old["files"]
    assert (file["name"], file["bytes"], old["column"], old["revision"]) == (
        "quiz.csv",
        path.stat().st_size,
        "v1",
        None,
    )
    assert file["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_answers_in_memory_are_no_evidence_that_could_be_found_again() -> None:
    result = compared({"quiz": right(both=5, broken=1)})
    with pytest.raises(InputError, match="was not read from files or a commit of the Hub"):
        Decision.of(result, judge(result, BOUNDS), BOUNDS)


def test_of_a_folder_whose_reader_names_no_files_all_are_digested(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    table(tmp_path / "run" / "a.csv")
    table(tmp_path / "run" / "b.csv", broken=1)
    result = compare_runs(f"{tmp_path}/run/a.csv:v1", f"{tmp_path}/run/b.csv:v2")
    origins = tuple(origin._replace(source=str(tmp_path / "run"), files=()) for origin in result.origins)
    found: RunComparison = replace(result, origins=origins)
    files = Decision.of(found, judge(found, BOUNDS), BOUNDS).document["inputs"]["new"]["files"]
    assert [file["name"] for file in files] == ["a.csv", "b.csv"]


# What makes it another one -------------------------------------------------------------------------------------------


def test_the_same_answers_and_bounds_are_the_same_decision_wherever_the_files_lie(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    here, there = table(tmp_path / "quiz.csv"), table(tmp_path / "elsewhere" / "moved.csv")
    asked = Bound("max_nfr", "all", 0.5, owner="me", reason="why", source="--max-nfr 0.5")
    first, second = decided(here, Bound("max_nfr", "all", 0.5)), decided(there, asked)
    assert first.digest == second.digest
    assert second.asked_since(first) == second.came_since(first) == second.versions_since(first) == []


@pytest.mark.parametrize(
    ("broken", "bounds", "level", "options", "told", "came"),
    [
        (4, BOUNDS, 0.95, {}, ["other old answers and new answers"], "all: NFR 0.075 -> 0.1"),
        (30, BOUNDS, 0.95, {}, ["other old answers and new answers"], "verdict kept -> broken"),
        (
            3,
            (Bound("max_nfr", "all", 0.01), BOUNDS[1]),
            0.95,
            {},
            ["max_nfr all 0.5 -> 0.01"],
            "NFR kept -> broken",
        ),
        (3, BOUNDS[:1], 0.95, {}, ["max_nfr * 0.5 -> not asked"], "quiz: NFR kept -> not judged"),
        (3, BOUNDS, 0.9, {}, ["level 0.95 -> 0.9"], ""),
        (3, BOUNDS, 0.95, {"metric": "acc"}, ['metric not asked -> "acc"'], ""),
    ],
)
def test_what_is_another_is_told(
    tmp_path: Path, broken: int, bounds: Any, level: float, options: Any, told: list[str], came: str
) -> None:
    path = tmp_path / "quiz.csv"
    before = decided(table(path))
    now = decided(table(path, broken=broken), *bounds, level=level, **options)
    assert now.digest != before.digest
    assert now.asked_since(before) == told
    assert came in "; ".join(now.came_since(before))


def test_another_tier_is_another_decision_and_an_edited_comment_is_told(tmp_path: Path) -> None:
    path, file = table(tmp_path / "quiz.csv"), tmp_path / "policy.yaml"
    result = compare_runs(f"{path}:v1", f"{path}:v2")
    made = []
    for text in ("max_nfr: 0.5", "max_nfr: 0.5 # a comment", "max_nfr: {value: 0.5, tier: advisory}"):
        file.write_text(text, encoding="utf-8")
        policy = read_policy(file)
        made.append(Decision.of(result, judge(result, policy.bounds), policy.bounds, policy=policy))
    first, comment, advisory = made
    assert first.digest == comment.digest != advisory.digest
    assert comment.asked_since(first) == ["the policy file was edited, its bounds and options are the same"]
    assert advisory.asked_since(first) == ["max_nfr all 0.5 -> not asked", "max_nfr all (advisory) not asked -> 0.5"]


def test_two_bounds_of_one_rate_on_one_row_are_both_compared(tmp_path: Path) -> None:
    path = table(tmp_path / "quiz.csv")
    before = decided(path, Bound("max_nfr", "all", 0.5), Bound("max_nfr", "all", 0.4))
    now = decided(path, Bound("max_nfr", "all", 0.5), Bound("max_nfr", "all", 0.001))
    assert now.asked_since(before) == ["max_nfr all (2) 0.4 -> 0.001"]
    assert now.came_since(before) == ["verdict kept -> broken", "all: NFR (2) kept -> broken"]


# Files that are none -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: "{}",
        lambda text: text.replace('"muscle_hf.decision"', '"muscle_hf.comparison"'),
        lambda text: text.replace('"schema_version": 1', '"schema_version": 2'),
        lambda text: text.replace('"value": 0.5', '"value": 0.6'),
        lambda text: text.replace('"bytes": ', '"bytes": "x'),
        lambda text: text.replace('"verdict": "kept"', '"verdict": "broken"', 1),
        lambda text: text.replace('"rows": [', '"rows": [1, '),
        lambda text: text.replace('"estimate": 0.', '"estimate": true, "x": 0.'),
        lambda text: text.replace('"date": "2', '"date": "in 2'),
        lambda text: text.replace('"inputs": {', '"inputs": [1], "outputs": {'),
        lambda text: text.replace('"gate": {', '"gate": 3, "gates": {'),
        lambda text: "[" * 100_000,
    ],
)
def test_what_was_cut_off_or_changed_is_refused_by_name(tmp_path: Path, change: Any) -> None:
    path = decided(table(tmp_path / "quiz.csv")).write(tmp_path / "decision.json")
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(InputError, match=r"decision\.json is no decision of muscle_hf .*Restore it, or remove it\.$"):
        Decision.read(path)


def test_a_decision_that_is_not_there_is_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a file that --decision wrote is needed"):
        Decision.read(tmp_path / "decision.json")


def _paths(value: Any, *path: Any) -> Iterator[tuple[Any, ...]]:
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from _paths(value[key], *path, key)


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return json.loads(decided(table(tmp_path_factory.mktemp("made") / "quiz.csv")).to_json())


_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.just(10**400), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=3), inner, max_size=2)),
    max_leaves=4,
)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(data=st.data(), value=_JSON)
def test_whatever_stands_in_a_field_it_is_a_decision_or_refused(
    document: Any, data: st.DataObject, value: Any
) -> None:
    made = copy.deepcopy(document)
    *path, last = data.draw(st.sampled_from([path for path in _paths(document) if path]))
    place = made
    for key in path:
        place = place[key]
    place[last] = value
    before = Decision.parse(json.dumps(document).encode(), "before")
    try:
        found = Decision.parse(json.dumps(made).encode(), "F")
    except InputError as error:
        assert str(error).startswith("F is no decision of muscle_hf")
    else:
        assert found.asked_since(before) == []
        for told in (found.came_since(before), found.versions_since(before), found.files_since(before)):
            assert all(isinstance(text, str) for text in told)
