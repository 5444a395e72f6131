"""What broke in each class of right answers, as tables, page and JSON show it; and where they rather do not."""

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from jsonschema import Draft202012Validator

from muscle_hf import InputError, compare_runs
from muscle_hf.readers.answers import Run, TaskAnswers
from muscle_hf.runs.gates.bounds import Bound
from muscle_hf.runs.gates.gate import judge
from muscle_hf.runs.gates.policy import read_policy
from muscle_hf.runs.page import render_html
from muscle_hf.runs.run_comparison import RunComparison

SCHEMA = json.loads((resources.files("muscle_hf") / "run_comparison.schema.json").read_text(encoding="utf-8"))
# Class -> rows, old right, broken.
INTENTS = {"weather": (80, 70, 7), "alarm": (20, 15, 3), "taxi": (4, 4, 3)}
# By hand: of each its NFR, and their mean.
BALANCED = (7 / 80 + 3 / 20 + 3 / 4) / 3


def answers(classes: dict[Any, tuple[int, int, int]], wrong: Any = "other") -> tuple[list[Any], list[Any], list[Any]]:
    gold, old, new = list[Any](), list[Any](), list[Any]()
    for name, (rows, right, broken) in classes.items():
        gold += [name] * rows
        old += [name] * right + [wrong] * (rows - right)
        new += [wrong] * broken + [name] * (right - broken) + [wrong] * (rows - right)
    return gold, old, new


def compared(tasks: dict[str, tuple[list[Any], list[Any], list[Any]]], by: Sequence[str] = ()) -> RunComparison:
    def run(side: int) -> Run:
        return Run(
            f"v{side}",
            f"v{side}.jsonl",
            {
                name: TaskAnswers(
                    task=name,
                    source=f"v{side}.jsonl",
                    ids=pa.array(range(len(columns[0]))),
                    answers=pa.array(columns[side]),
                    references=pa.array(columns[0]),
                    slices={"half": pa.array([f"{row % 2}" for row in range(len(columns[0]))])} if by else {},
                )
                for name, columns in tasks.items()
            },
        )

    return compare_runs(run(1), run(2), by=by)


def test_the_table_has_both_rates_and_the_classes_that_broke_most() -> None:
    text = str(compared({"intents": answers(INTENTS)}))
    assert "balanced NFR ↓, %" in text
    assert f"{100 * BALANCED:.1f} [" in text
    assert "3 classes of right answers, of 4 to 80 rows" in text
    assert f"the update breaks {100 * BALANCED:.1f} % [" in text
    assert "against 12.5 % of all rows" in text
    rows = [line.split() for line in text.splitlines() if line.startswith(("weather", "alarm", "taxi"))]
    assert [row[:5] for row in rows] == [
        ["taxi", "4", "4", "3", "75.0"],
        ["alarm", "20", "15", "3", "15.0"],
        ["weather", "80", "70", "7", "8.8"],
    ]
    assert "Answered, and the right answer of no row: other" in text
    assert "Balanced NFR: the mean over classes" in text


def test_many_classes_are_cut_and_it_is_said_how_many() -> None:
    many = {f"class {i:02}": (10 + 5 * i, 8, 1 if i % 2 else 0) for i in range(30)}
    result = compared({"intents": answers(many)})
    for text in (str(result), result.to_markdown()):
        assert sum(line.lstrip("| ").startswith("class ") for line in text.splitlines()) == 10
        assert "… and 20 classes more, in which 5 are broken; --json has all" in text
    assert len(result.to_dict()["tasks"][0]["classes"]) == 30


def test_json_has_every_class_and_is_what_the_schema_says() -> None:
    found = json.loads(
        compared({"intents": answers(INTENTS), "numbers": answers({1: (9, 8, 1), 2: (9, 9, 0)}, 7)}).to_json()
    )
    assert not list(Draft202012Validator(SCHEMA).iter_errors(found))
    intents, numbers = found["tasks"]
    assert [(row["name"], row["n"], row["old_right"], row["negative_flips"]) for row in intents["classes"]] == [
        ("taxi", 4, 4, 3),
        ("alarm", 20, 15, 3),
        ("weather", 80, 70, 7),
    ]
    assert intents["answers_of_no_class"] == ["other"]
    assert intents["rates"]["balanced_negative_flip_rate"]["estimate"] == pytest.approx(BALANCED)
    assert [row["name"] for row in numbers["classes"]] == [1, 2]
    assert numbers["answers_of_no_class"] == [7]
    # A class of one task is none of another.
    assert found["pooled"]["rates"]["balanced_negative_flip_rate"]["estimate"] is None


def test_the_page_has_them_escaped_and_leads_to_them() -> None:
    page = render_html(compared({"intents": answers(INTENTS | {"<b>": (9, 9, 9)})}))
    assert '<a href="#classes">Classes</a>' in page
    section = page.partition('<h2 id="classes">')[2].partition("</section>")[0]
    assert section.index("&lt;b&gt;") < section.index("taxi") < section.index("alarm") < section.index("weather")
    assert "<b>" not in section
    assert "balanced NFR ↓" in page


@pytest.mark.parametrize(
    "columns",
    [
        # Texts and numbers to be found: each its own.
        ([f"text {i}" for i in range(40)], [f"text {i}" for i in range(40)], ["x"] * 40),
        # Places of choices: of nearly one size, so that the rate says nothing else.
        answers({name: (10 + place, 9, 2) for place, name in enumerate("ABCD")}, "E"),
        # No answers but right and wrong of one class.
        answers({"right": (12, 10, 2)}, "wrong"),
    ],
)
def test_where_the_rate_says_nothing_of_its_own_no_report_shows_it(columns: tuple[list[Any], ...]) -> None:
    result = compared({"task": columns})  # type: ignore[dict-item]
    page = render_html(result)
    for text in (str(result), result.to_markdown(), page.partition("<h2")[0]):
        assert "balanced" not in text.lower()
        assert "classes" not in text
    assert 'id="classes"' not in page


def test_no_answer_is_no_class_and_slices_have_their_own_rate_without_a_column() -> None:
    gold, old, new = answers(INTENTS, None)
    result = compared({"intents": (gold, old, new)}, by=["half"])
    assert result.to_dict()["tasks"][0]["answers_of_no_class"] == []
    for part in result.slices["half"]:
        rows = [place for place in range(len(gold)) if f"{place % 2}" == part.name]
        rates = [
            np.mean([old[place] == name != new[place] for place in rows if gold[place] == name]) for name in INTENTS
        ]
        assert getattr(part.comparison, "balanced_negative_flip_rate") == pytest.approx(np.mean(rates))  # noqa: B009
    assert str(result).count("balanced NFR ↓, %") == 1


def test_a_bound_holds_the_rate_in_which_classes_count_the_same() -> None:
    result = compared({"intents": answers(INTENTS)})
    for value, verdict, told in (
        (0.05, "broken", "more than 5 %"),
        (0.3, "cannot tell", "whether at most 30 %"),
        (0.6, "kept", "at most 60 %"),
    ):
        (judged,) = judge(result, [Bound("max_balanced_nfr", "all", value)]).judgements
        assert judged.verdict == verdict
        assert judged.estimate == pytest.approx(BALANCED)
        assert "of 3 classes, each counting the same (13 of 104 answers)" in judged.message
        assert told in judged.message
        assert judged.cells[0] == "balanced NFR"
    (judged,) = judge(result, [Bound("max_balanced_nfr", "*", 0.3)], gate_on="estimate").judgements
    assert judged.verdict == "broken"
    document = json.loads(result.to_json()) | {
        "gate": judge(result, [Bound("max_balanced_nfr", "all", 0.3)]).to_dict()
    }
    assert not list(Draft202012Validator(SCHEMA).iter_errors(document))
    assert "allows 100 %" in " ".join(judge(result, [Bound("max_balanced_nfr", "all", 1)]).notes)


def test_a_bound_where_there_are_no_classes_is_refused_with_the_reason() -> None:
    texts = ([f"text {i}" for i in range(40)], [f"text {i}" for i in range(40)], ["x"] * 40)
    result = compared({"texts": texts, "intents": answers(INTENTS)})
    bounds = {where: Bound("max_balanced_nfr", where, 0.3) for where in ("all", "texts", "intents", "*")}
    with pytest.raises(InputError, match=r"'texts' has no balanced_nfr.*40 different right answers.*no classes"):
        judge(result, [bounds["texts"]])
    with pytest.raises(InputError, match=r"'all' has no balanced_nfr.*known of a single task"):
        judge(result, [bounds["all"]])
    # Of each task that has them, as for other rates that only some have.
    assert [judged.row for judged in judge(result, [bounds["*"], bounds["intents"]]).judgements] == ["intents"] * 2


def test_a_policy_can_ask_for_it(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("max_balanced_nfr: {value: 0.05, owner: support}")
    policy = read_policy(file)
    assert judge(compared({"intents": answers(INTENTS)}), policy.bounds, **policy.judging).verdict == "broken"


def test_errors_of_the_harness_leave_a_rate_of_classes_open(tmp_path: Path) -> None:
    gold, old, new = answers({"weather": (80, 70, 0), "taxi": (10, 10, 0)})
    for name, said in (("old", old), ("new", [*new[:-1], None])):
        rows = [{"id": row, "reference": gold[row], "prediction": answer} for row, answer in enumerate(said)]
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    result = compare_runs(tmp_path / "old.jsonl", tmp_path / "new.jsonl", missing="harness-error")
    (judged,) = judge(result, [Bound("max_balanced_nfr", "all", 0.5)]).judgements
    assert judged.verdict == "cannot tell"
    assert "1 error of the harness, of whose classes nobody knows" in judged.message


def test_scores_know_no_classes() -> None:
    def run(name: str, scores: list[float]) -> Run:
        task = TaskAnswers(task="t", source=name, ids=pa.array([1, 2]), scores=np.array(scores), metric="rougeL")
        return Run(name, name, {"t": task})

    result = compare_runs(run("v1", [0.5, 0.25]), run("v2", [0.25, 0.25]))
    assert "classes" not in result.to_dict()["tasks"][0]
    assert "classes" not in render_html(result).partition("<h2")[0]
