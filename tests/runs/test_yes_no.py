"""Yes/no questions in compared files: what means yes, what is right, the scores at hand, reports and the gate."""

import csv
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparisons import answers, run
from harness_samples import choice, generation, write
from jsonschema import Draft202012Validator

from muscle_hf.cli import main
from muscle_hf.errors import InputError
from muscle_hf.flips.yes_no.negative_bias import compare_yes_no
from muscle_hf.runs.compare import compare_runs
from muscle_hf.runs.gates.gate import judge, parse_bound
from muscle_hf.runs.gates.policy import read_policy
from muscle_hf.runs.run_comparison import RunComparison

PRIME = Path(__file__).parents[2] / "examples" / "data" / "llmdrift_prime" / "answers.csv"
SCHEMA = json.loads((resources.files("muscle_hf") / "run_comparison.schema.json").read_text(encoding="utf-8"))

OLD = ["yes", "yes", "yes", "no", "no", "no", "no", "yes"]
NEW = ["yes", "no", "no", "no", "no", "no", None, "Yes."]
GOLD = ["yes"] * 4 + ["no"] * 4
TOPIC = ["law", "art"] * 4


def prime(**options: Any) -> RunComparison:
    return compare_runs(
        f"{PRIME}:gpt-4-0314", f"{PRIME}:gpt-4-0613", columns={"reference": "answer"}, yes_no="yes,no", **options
    )


def quiz(task: str = "quiz") -> tuple[Any, Any]:
    slices = {"topic": TOPIC}
    return (
        answers(OLD, GOLD, task=task, slices=slices),
        answers(NEW, GOLD, task=task, source="v2.jsonl", slices=slices),
    )


def runs_of(*pairs: tuple[Any, Any]) -> tuple[Any, Any]:
    first, second = zip(*pairs, strict=True)
    return run("v1", *first), run("v2", *second)


# Figures and reports -------------------------------------------------------------------------------------------------


def test_files_give_what_lists_give() -> None:
    (part,) = prime().tasks
    with PRIME.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = [[row[name] or None for row in rows] for name in ("gpt-4-0314", "gpt-4-0613", "answer")]
    expected = compare_yes_no(**dict(zip(("old", "new", "references"), columns, strict=True)))
    assert part.yes_no is not None
    assert part.yes_no.to_dict() == expected.to_dict()
    assert part.yes_no.negative_flips.tolist() == part.comparison.negative_flips.tolist()


def test_every_report_says_it_first_and_says_what_scores_would_add(tmp_path: Path) -> None:
    result = prime()
    told = str(result)
    sentence = 'The update turned answers towards "no": bias -0.276 -> +0.974, shift +1.250 [+1.204, +1.293].'
    assert told.splitlines()[2] == sentence
    assert "It also tells yes from no less well: d' 2.50 -> 0.79" in told
    assert "bias, FNR - FPR: > 0 leans to no   -0.276 [-0.318, -0.235]" in told
    assert "note: what a moved threshold would repair is not known without scores" in told
    assert 'turned answers towards "no": bias -0.276 -&gt; +0.974' in result.to_markdown()
    page = result.to_html(tmp_path / "page.html").read_text(encoding="utf-8")
    assert '<h2 id="yes-no">Yes or no</h2>' in page
    assert '<a href="#yes-no">' in page
    assert "yes-no" not in compare_runs(*runs_of(quiz())).to_html(tmp_path / "plain.html").read_text(encoding="utf-8")


def test_slices_tasks_and_their_pool_have_their_own_rows_and_the_json_is_what_the_schema_says() -> None:
    result = compare_runs(*runs_of(quiz(), quiz("trivia")), yes_no=("yes", "no"), by="topic")
    document = json.loads(result.to_json())
    errors = [f"{error.json_path}: {error.message}" for error in Draft202012Validator(SCHEMA).iter_errors(document)]
    assert not errors
    assert result.pooled is not None
    assert result.pooled.yes_no is not None
    assert result.pooled.yes_no.n == 16
    assert result.pooled.yes_no.new.unknown == {"Yes.": 2}
    for part in result.slices["topic"]:
        assert part.yes_no is not None
        rows = [i for i in range(8) if TOPIC[i] == part.name] * 2
        alone = compare_yes_no(
            old=[OLD[i] for i in rows], new=[NEW[i] for i in rows], references=[GOLD[i] for i in rows]
        )
        assert part.yes_no.to_dict() == alone.to_dict()
    told = str(result)
    assert "the new model says neither yes nor no on 4 questions: 2 missing; 2 neither label: 'Yes.' (2)" in told
    assert "broken to no" in told


def test_a_task_of_other_questions_is_named_and_left_out_of_it() -> None:
    other = answers(["A", "B"], ["A", "A"], task="letters"), answers(["A", "A"], ["A", "A"], task="letters")
    result = compare_runs(*runs_of(quiz(), other), yes_no="yes,no")
    assert [part.yes_no is not None for part in result.tasks] == [True, False]
    assert result.pooled is not None
    assert result.pooled.yes_no is None
    told = str(result)
    assert "note: letters: not among the yes/no questions: no right answer is 'yes' or 'no'" in told
    assert "quiz: The update " in told


# Scores --------------------------------------------------------------------------------------------------------------


def _judged(path: Path, moved: float, model: int, metric: str = "acc") -> Path:
    """Write samples of a judge whose scores moved, the choices "no" and "yes" in this order, as of BoolQ."""
    draw = np.random.default_rng(7)
    gold = np.repeat([1, 0], 60)
    latent = draw.normal(np.where(gold == 1, 0.9, -0.9)) + 0.1 * np.random.default_rng(model).normal(size=120)
    return write(
        path / "samples_boolq_2026-01-01T00-00-00.000000.jsonl",
        [
            choice(
                i,
                [-1.0 - value + moved / 2, -1.0 + value - moved / 2],
                target=int(right),
                texts=("no ", "yes"),
                **{metric: float((value > moved / 2) == right)},
            )
            for i, (value, right) in enumerate(zip(latent.tolist(), gold.tolist(), strict=True))
        ],
    )


def test_two_choices_of_the_harness_bring_labels_right_answers_and_scores(tmp_path: Path) -> None:
    old, new = _judged(tmp_path / "v1", 0.0, 1), _judged(tmp_path / "v2", 2.0, 2)
    result = compare_runs(old, new, yes_no="yes,no")
    (part,) = result.tasks
    b = part.yes_no
    assert b is not None
    assert b.cells.sum(axis=(1, 2)).tolist() == [60, 60]
    assert b.old.accuracy == part.comparison.old_accuracy
    assert b.new.accuracy == part.comparison.new_accuracy
    assert b.score_shift == pytest.approx(2.0, abs=0.1)
    assert b.confidence_interval("shift")[0] > 0.2
    assert b.moved_threshold is not None
    assert len(b.moved_threshold.repaired) > 0.8 * len(b.negative_flips)
    told = str(result)
    assert "would repair" in told
    assert "not known without scores" not in told
    # By likelihoods over lengths something else is chosen by than these.
    by_length = [_judged(tmp_path / f"n{model}", 0.0, model, metric="acc_norm") for model in (1, 2)]
    (part,) = compare_runs(*by_length, yes_no="yes,no").tasks
    assert part.yes_no is not None
    assert part.yes_no.threshold_repairs is None
    # One question with yes as its right answer leaves none to fit a threshold on.
    rare = [
        write(
            tmp_path / f"r{model}" / "samples_boolq_2026-01-01T00-00-00.000000.jsonl",
            [choice(i, [-1.0, -2.0 - model], target=int(not i), texts=("no", "yes")) for i in range(4)],
        )
        for model in (1, 2)
    ]
    (part,) = compare_runs(*rare, yes_no="yes,no").tasks
    assert part.yes_no is not None
    assert part.yes_no.score_shift == pytest.approx(1.0)
    assert part.yes_no.threshold_repairs is None
    # Other choices than yes and no are no yes/no questions.
    with pytest.raises(InputError, match=r"is 'yes' .120 of 120 are neither.*, but each must be 'true'"):
        compare_runs(old, new, yes_no="true,false")


def test_right_answers_of_generated_texts_are_read_with_them(tmp_path: Path) -> None:
    rows = [("yes", "yes"), ("no", "yes"), ("no", "no"), ("perhaps", "no")]
    paths = [
        write(
            tmp_path / model / "samples_judge_2026-01-01T00-00-00.000000.jsonl",
            [
                generation(i, said if model == "v2" else right, target=right, exact_match=float(said == right))
                for i, (said, right) in enumerate(rows)
            ],
        )
        for model in ("v1", "v2")
    ]
    (part,) = compare_runs(*paths, yes_no="yes,no").tasks
    assert part.yes_no is not None
    assert part.yes_no.new.counts.tolist() == [[1, 1, 0], [0, 1, 1]]
    assert part.yes_no.new.unknown == {"perhaps": 1}


def _table(path: Path, columns: Mapping[str, Sequence[Any]]) -> str:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return str(path)


def test_columns_of_a_table_give_scores_one_for_each_side(tmp_path: Path) -> None:
    table = _table(
        tmp_path / "judge.csv",
        {
            "id": range(8),
            "reference": GOLD,
            "v1": OLD,
            "v2": [answer or "" for answer in NEW],
            "s1": [-1, -1, -1, 1, 1, 1, 1, -1],
            "s2": [-1, 0.5, 0.5, 1, 2, 2, 2, 2],
        },
    )
    result = compare_runs(f"{table}:v1", f"{table}:v2", yes_no="yes,no", yes_no_scores=["s1", "s2"])
    b = result.tasks[0].yes_no
    assert b is not None
    assert b.score_shift == pytest.approx(np.mean([0, 1.5, 1.5, 0, 1, 1, 1, 3]))
    assert b.moved_threshold is not None
    assert 0.5 < b.moved_threshold.threshold < 2
    assert "s1" not in result.pairs["judge"].old.slices


# Gate ----------------------------------------------------------------------------------------------------------------


def test_a_gate_holds_the_shift_to_either_side_and_says_which() -> None:
    forward = prime()
    back = compare_runs(f"{PRIME}:gpt-4-0613", f"{PRIME}:gpt-4-0314", columns={"reference": "answer"}, yes_no="yes,no")
    for result, side in ((forward, "towards no (-0.276 -> +0.974)"), (back, "towards yes (+0.974 -> -0.276)")):
        (judged,) = judge(result, [parse_bound("max_bias_shift", "0.1")]).judgements
        assert judged.verdict == "broken"
        assert judged.message == (
            f"all: the bias of 1,000 answers moved by 1.250 [1.205, 1.295] {side}: broken, by more than 0.1 "
            "(max_bias_shift all:0.1)"
        ).replace("(max_bias_shift all:0.1)", "(--max-bias-shift 0.1)")
        for value, verdict in (("1.3", "kept"), ("1.25", "cannot tell")):
            assert judge(result, [parse_bound("max_bias_shift", value)]).verdict == verdict
        assert judge(result, [parse_bound("max_bias_shift", "1.2")], gate_on="estimate").verdict == "broken"


def test_a_gate_on_an_absent_class_cannot_tell_and_one_without_labels_is_refused() -> None:
    only_yes = compare_runs(
        run("v1", answers(["yes", "no"], ["yes", "yes"])), run("v2", answers(["no", "yes"], ["yes", "yes"])),
        yes_no="yes,no",
    )  # fmt: skip
    (judged,) = judge(only_yes, [parse_bound("max_bias_shift", "0.1")]).judgements
    assert judged.verdict == "cannot tell"
    assert "cannot tell, the right answer of no instance is negative" in judged.message
    with pytest.raises(InputError, match="has no bias_shift, for which --yes-no"):
        judge(compare_runs(*runs_of(quiz())), [parse_bound("max_bias_shift", "0.1")])
    mixed = compare_runs(
        *runs_of(quiz(), (answers("ab", "ab", task="arc"), answers("aa", "ab", task="arc"))), yes_no="yes,no"
    )
    for where in ("", "arc:"):
        with pytest.raises(InputError) as error:
            judge(mixed, [parse_bound("max_bias_shift", f"{where}0.1")])
        assert str(error.value) == (
            f"--max-bias-shift {where}0.1: '{where[:-1] or 'all'}' has no bias_shift, because not all its questions "
            "are yes/no ones; those of 'quiz' are. Bound these, 'quiz:0.1' or '*:0.1'."
        )
    for where in ("quiz:", "*:"):
        (judged,) = judge(mixed, [parse_bound("max_bias_shift", f"{where}0.1")]).judgements
        assert judged.row == "quiz"
    with pytest.raises(InputError, match="a size from 0 to 2"):
        parse_bound("max_bias_shift", "2.5")


def test_a_policy_says_the_bound_and_what_means_yes(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("max_bias_shift: 0.1\nyes_no: yes,no\n")
    policy = read_policy(file)
    assert policy.options == {"yes_no": "yes,no", "by": ()}
    pair = [f"{PRIME}:gpt-4-0314", f"{PRIME}:gpt-4-0613", "--reference", "answer"]
    assert main(["compare", *pair, "--policy", str(file)]) == 1


# Refusals ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"yes_no": "yes"}, "must be what means yes and what means no, such as --yes-no yes,no"),
        ({"yes_no": ("yes", "no", "maybe")}, "must be what means yes and what means no"),
        ({"yes_no": ",no"}, "must be what means yes and what means no"),
        ({"yes_no": "no,no"}, "'no' is a positive and a negative label"),
        ({"yes_no": "true,false"}, r"quiz: references\[0\] is 'yes' \(8 of 8 are neither\)"),
        ({"yes_no": "yes,no", "cluster": "topic"}, "--yes-no .* takes every answer as independent"),
        ({"yes_no_scores": "s1"}, "--yes-no-scores .* would do nothing without --yes-no"),
        ({"yes_no": "yes,no", "yes_no_scores": ["a", "b", "c"]}, "yes_no_scores names 3 columns"),
        ({"yes_no": "yes,no", "yes_no_scores": "topic"}, "'topic' holds 'law' for id 'q0', but must hold log p"),
        ({"yes_no": "yes,no", "yes_no_scores": "margin"}, "has no column 'margin' with log p"),
    ],
)
def test_what_would_do_nothing_or_mean_nothing_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        compare_runs(*runs_of(quiz()), **options)
