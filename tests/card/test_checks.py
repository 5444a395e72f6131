"""A card that is there already: what the Hub would refuse, changes of single fields, and the data beside it."""

import doctest
import json
import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from local_hub import yaml_rules

from muscle_hf.card import AdapterCard, check, checks, front_matter, with_front_matter
from muscle_hf.card.lineage import Lineage
from muscle_hf.card.public import HubName
from muscle_hf.errors import InputError
from muscle_hf.flips.comparison import compare, compare_correct
from muscle_hf.runs.outcomes import Instance

LINEAGE = Lineage("org/base-v2", "org/task-v2", "org/base-v1", "org/task-v1", "ab" * 20, None, "v1", None)


def _full(**changes: Any) -> AdapterCard:
    ours = compare(old=list("aabbab"), new=list("abbaac"), references=list("aaaaaa"))
    plain = compare_correct(old=[True, True, False, False, True, False], new=[False] * 6)
    example = Instance("t", 3, "negative_flip", "q\n---\n", None, "a", "b", 1.0, math.nan, {"topic": None})
    card = AdapterCard(
        title="my adapter",
        lineage=LINEAGE,
        adapter_type="lora",
        training={"mask": "student_wrong", "learning rate": 1e-05, "steps": 3, "scaled": True, "temperature": 2.0},
        comparisons={"plain update": plain, "compatibility adapter": ours},
        p_values={"plain update": {"accuracy": 0.25, "negative_flips": math.nan}},
        slices={"topic": {"x": ours}},
        examples=(example,),
        split="six questions",
        dataset="org/rows:full",
        evaluated_on="org/rows",
        evaluated_split="test",
        repository="org/compat",
        license="apache-2.0",
        language=("en", "de"),
        tags=("banking",),
        caveats=("One more.",),
    )
    return replace(card, **changes)


@pytest.mark.parametrize("module", [checks, front_matter])
def test_the_examples_in_the_documentation_are_true(module: Any) -> None:
    assert doctest.testmod(module).failed == 0


# Against the Hub's rules ---------------------------------------------------------------------------------------------


def test_a_card_of_ours_passes() -> None:
    assert check(_full().render()) == []
    assert check(AdapterCard("t", Lineage(None, None, None, None), None, {}).render()) == []


def test_the_rules_of_the_local_hub_find_nothing_in_a_card_of_ours() -> None:
    for card in (_full(), _full(adapter_type=None, task="token-classification"), _full(comparisons={}, slices={})):
        assert yaml_rules.problems(card.render(), "model") == ([], [])


@pytest.mark.parametrize(
    ("front", "complaint"),
    [
        ("license: apache", "license is 'apache'"),
        ("license: [mit, nope]", "license[1] is 'nope'"),
        ("license: 4", "license is 4"),
        ("base_model: /home/x/base", "base_model is '/home/x/base'"),
        ("base_model: ./base", "base_model is './base'"),
        ("base_model: [org/a, a/b/c]", "base_model[1] is 'a/b/c'"),
        ("base_model_relation: lora", "base_model_relation is 'lora'"),
        ("new_version: https://huggingface.co/a/b", "new_version is"),
        ("datasets: ['my rows']", "datasets[0] is 'my rows'"),
        ("language: no", "language is False, which YAML takes for no text"),
        ("language: English", "language is 'English'"),
        ("language: [en, xx-]", "language[1] is 'xx-'"),
        ("tags: muscle", "tags is 'muscle'; a list"),
        ("tags: [a, 3]", "tags[1] is 3"),
        ("tags: [a, '']", "tags[1] is ''"),
        ("library_name: [peft]", "library_name is ['peft']"),
        ("pipeline_tag: 3", "pipeline_tag is 3"),
        ("model-index: {}", "model-index is no list"),
        ("model-index: [{name: a}]", "model-index[0].results is missing"),
        ("model-index: [{results: []}]", "model-index[0].name is missing"),
        ("model-index: [3]", "model-index[0].results is missing"),
        ("model-index: [{name: a, results: [3]}]", "model-index[0].results[0] has no fields"),
        (
            "model-index: [{name: a, results: [{task: {type: x}, dataset: {name: d, type: d}}]}]",
            "model-index[0].results[0].metrics is missing",
        ),
        (
            "model-index: [{name: a, results: [{task: {}, dataset: {name: d}, metrics: [{type: x, value: .nan}]}]}]",
            "model-index[0].results[0].metrics[0].value is nan",
        ),
        ("a: [", "no YAML"),
        ("- a", "a list; fields"),
        ("x: 2024-13-45", "no YAML"),
    ],
)
def test_what_the_hub_refuses_is_said_before_anything_is_sent(front: str, complaint: str) -> None:
    found = check(f"---\n{front}\n---\n# A card\n")
    assert any(complaint in one for one in found), found


def test_a_card_without_front_matter_is_said() -> None:
    assert "no front matter" in check("# A card\n")[0]


def test_two_results_lack_what_they_lack() -> None:
    front = "model-index: [{name: a, results: [{task: {}, dataset: {name: d}, metrics: [{value: 1}]}]}]"
    found = check(f"---\n{front}\n---\n")
    assert [one.split(" is ")[0].rpartition("results[0].")[2] for one in found] == [
        "task.type", "dataset.type", "metrics[0].type",
    ]  # fmt: skip


def test_a_leak_in_an_edited_card_is_said_and_a_token_not_repeated() -> None:
    token = f"hf_{'a1' * 17}"
    found = check(f"---\nlicense: mit\n---\nrun in /home/bob/x with {token}\n")
    assert len(found) == 2
    assert "/home/bob/x" in found[0]
    assert token not in "".join(found)


# Changes of single fields --------------------------------------------------------------------------------------------

EDITED = """---
# Written by hand.
license: mit   # for now
tags:
- a
# not b
- c

language: [en]
widget: {text: |
  x}
new_version: org/old
---
# A card

---
license: not this one
---
"""


def test_one_field_changes_and_no_other_byte() -> None:
    text = EDITED.replace("widget: {text: |\n  x}\n", "")
    changed = with_front_matter(text, new_version="org/new")
    assert changed == text.replace("new_version: org/old", "new_version: org/new")
    changed = with_front_matter(text, tags=["x", "y"])
    assert changed == text.replace("- a\n# not b\n- c\n", "- x\n- y\n")
    assert with_front_matter(text, tags=["a", "c"]) is text


def test_a_field_is_added_and_taken_away() -> None:
    text = "---\nlicense: mit\n---\nx"
    added = with_front_matter(text, base_model="org/b", language=("en", "de"))
    assert added == "---\nlicense: mit\nbase_model: org/b\nlanguage:\n- en\n- de\n---\nx"
    assert with_front_matter(added, base_model=None, language=None) == text
    assert with_front_matter(text, base_model=None) is text


def test_a_card_without_front_matter_gets_some() -> None:
    assert with_front_matter("# A card\n", license="mit") == "---\nlicense: mit\n---\n\n# A card\n"
    assert with_front_matter("# A card\n", license=None) == "# A card\n"


def test_the_line_ends_of_another_system_stay() -> None:
    text = "---\r\nlicense: mit\r\ntags:\r\n- a\r\n---\r\n# A\r\n"
    changed = with_front_matter(text, tags=["b"], new_version="org/n")
    assert changed == "---\r\nlicense: mit\r\ntags:\r\n- b\r\nnew_version: org/n\r\n---\r\n# A\r\n"


@pytest.mark.parametrize(
    "front", ["{license: mit, tags: [a]}", "license: &x mit\nother: *x", "? license\n: mit", "'license': mit", ""]
)
def test_front_matter_in_any_form_says_what_it_should_afterwards(front: str) -> None:
    before = yaml.safe_load(front) or {}
    after = with_front_matter(f"---\n{front}\n---\nbody\n", license="apache-2.0", new_version="org/n")
    assert after.endswith("\n---\nbody\n")
    found = yaml.safe_load(after.removeprefix("---\n").split("\n---\n")[0])
    assert found == before | {"license": "apache-2.0", "new_version": "org/n"}


def test_names_of_our_own_class_do_not_become_python_objects_in_yaml() -> None:
    assert with_front_matter("---\na: b\n---\n", base_model=HubName("org/b")) == "---\na: b\nbase_model: org/b\n---\n"


def test_a_letter_that_yaml_takes_for_the_end_of_a_line_is_not_lost() -> None:
    text = with_front_matter("---\na: b\n---\n", license="x\x85y\u2028z")
    assert front_matter.read_front_matter(text) == {"a": "b", "license": "x\x85y\u2028z"}


def test_broken_front_matter_is_refused_and_not_replaced() -> None:
    with pytest.raises(InputError, match="no YAML"):
        with_front_matter("---\na: [\n---\n", license="mit")


_VALUES = st.text(max_size=20) | st.integers() | st.lists(st.text(max_size=5), max_size=3)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(
    before=st.dictionaries(st.from_regex(r"[a-z_]{1,6}", fullmatch=True), _VALUES, max_size=4),
    changes=st.dictionaries(st.sampled_from(["license", "tags", "new_version"]), _VALUES | st.none(), max_size=3),
)
def test_after_a_change_the_front_matter_holds_just_that(before: dict[str, Any], changes: dict[str, Any]) -> None:
    before = before | {"license": "mit", "tags": ["a"]}
    text = f"---\n{yaml.safe_dump(before)}---\nbody\n"
    after = with_front_matter(text, **changes)
    assert after.endswith("---\nbody\n")
    wanted = {name: value for name, value in (before | changes).items() if value is not None}
    assert front_matter.read_front_matter(after) == wanted


# The data beside the card --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_card_that_is_read_again_is_the_same_byte_for_byte(tmp_path: Path) -> None:
    text = _full().write(tmp_path).read_text(encoding="utf-8")
    again = AdapterCard.read(tmp_path)
    assert again is not None
    assert again.render() == text
    assert again.write(tmp_path).read_text(encoding="utf-8") == text
    assert (again.training, again.language, again.lineage) == (_full().training, ("en", "de"), LINEAGE)


def test_no_field_of_a_card_is_lost_in_its_record(tmp_path: Path) -> None:
    further = {"embedding_rows": 321, "base_import": "from tiny import BASE", "task": "text-classification"}
    names = {"name_of_this": "compatibility", "plain_update": "plain", "control": "longer", "version": "0.0.9"}
    # Without a row of this adapter there is no picture.
    other = compare(old=["a", "a"], new=["b", "a"], references=["a", "a"])
    assert other.balanced_negative_flip_rate == 0.5
    card = _full(**further, **names, comparisons={"other": other}).public()
    card.write(tmp_path)
    again = AdapterCard.read(tmp_path)
    for field in fields(card):
        value = getattr(again, field.name)
        assert value not in (None, (), {}, field.default), f"{field.name} is at its default, so nothing is shown"
        if field.name == "comparisons":
            assert value["other"].to_dict() == card.comparisons["other"].to_dict()
        elif field.name == "slices":
            assert value["topic"]["x"].to_dict() == card.slices["topic"]["x"].to_dict()
        elif field.name not in ("examples", "p_values", "has_picture"):  # these hold nan
            assert value == getattr(card, field.name)
    assert str(again.examples) == str(card.examples) and str(again.p_values) == str(card.p_values)


@pytest.mark.slow
def test_a_card_that_was_read_can_be_completed(tmp_path: Path) -> None:
    _full(repository=None, license=None).write(tmp_path)
    again = AdapterCard.read(tmp_path)
    assert again is not None
    assert (
        replace(again, repository="me/other", license="mit").render()
        == _full(repository="me/other", license="mit").render()
    )


def test_a_folder_without_data_has_no_card(tmp_path: Path) -> None:
    assert AdapterCard.read(tmp_path) is None
    (tmp_path / "comparison.json").write_text('{"old_model_against": {}}', encoding="utf-8")
    assert AdapterCard.read(tmp_path) is None


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The data of a card, which is drawn once."""
    card = _full().write(tmp_path_factory.mktemp("card"))
    return card.with_name("comparison.json").read_text(encoding="utf-8")


def _data(written: str) -> dict[str, Any]:
    found = json.loads(written)
    assert isinstance(found, dict)
    return found


@pytest.mark.slow
def test_hostile_ids_in_the_data_do_not_reach_a_card(written: str, tmp_path: Path) -> None:
    for field, name in (
        ("old_base", "x)\n\n# Run this first\n<img src=//evil/x.png>"),
        ("old_adapter", "/opt/bob/secret/adapter"),
        ("new_base", 'x"); __import__("os").system("x'),
    ):
        found = _data(written)
        found["lineage"][field] = name
        (tmp_path / "comparison.json").write_text(json.dumps(found), encoding="utf-8")
        with pytest.raises(InputError, match=f"{field} is .*no id of the Hub"):
            AdapterCard.read(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("split: ", "split: 2024 #", "dataset.split is 2024"),
        ("value: ", "value: many #", "value is 'many'"),
    ],
)
def test_a_result_that_the_hub_would_refuse_is_said(old: str, new: str, said: str) -> None:
    text = _full().render()
    assert old in text
    assert any(said in problem for problem in check(text.replace(old, new, 1)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"title": 3},
        {"title": None},
        {"lineage": {}},
        {"lineage": []},
        {"comparisons": {"a": {}}},
        {"comparisons": [1]},
        {"training": {"a": [1]}},
        {"task": "image-classification"},
        {"base_import": "import os; os.system('x')"},
        {"version": "1}\n```"},
        {"examples": [3]},
        {"p_values": {"a": {"b": "x"}}},
        {"tags": [3]},
        {"slices": {"a": 3}},
    ],
)
def test_damaged_data_is_one_sentence_and_no_code_of_others(
    change: dict[str, Any], written: str, tmp_path: Path
) -> None:
    found = _data(written) | change
    (tmp_path / "comparison.json").write_text(json.dumps(found), encoding="utf-8")
    with pytest.raises(InputError, match="is damaged"):
        AdapterCard.read(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"negative_flips": [1, 1]},
        {"negative_flips": [99]},
        {"negative_flips": [-1]},
        {"positive_flips": [1]},
        {"counts": {"both_right": -1, "both_wrong": 3, "both_wrong_same": 1}},
        {"counts": {"both_right": 1, "both_wrong": 1, "both_wrong_same": 2}},
    ],
)
def test_counts_that_contradict_each_other_are_no_evidence(
    change: dict[str, Any], written: str, tmp_path: Path
) -> None:
    found = _data(written)
    found["comparisons"]["compatibility adapter"] |= change
    (tmp_path / "comparison.json").write_text(json.dumps(found), encoding="utf-8")
    with pytest.raises(InputError, match="damaged"):
        AdapterCard.read(tmp_path)


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "\x00"])
def test_a_file_that_is_no_json_is_said(text: str, tmp_path: Path) -> None:
    (tmp_path / "comparison.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="no JSON"):
        AdapterCard.read(tmp_path)


@pytest.mark.slow
def test_data_of_a_newer_version_are_not_guessed_at(written: str, tmp_path: Path) -> None:
    found = _data(written) | {"schema_version": 2}
    (tmp_path / "comparison.json").write_text(json.dumps(found), encoding="utf-8")
    with pytest.raises(InputError, match="update muscle_hf"):
        AdapterCard.read(tmp_path)


@pytest.mark.parametrize(
    "fields", [{"task": "fill-mask"}, {"base_import": "import os"}, {"base_import": "from a import b\nimport os"}]
)
def test_a_card_that_would_show_code_that_cannot_run_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        _full(**fields)
