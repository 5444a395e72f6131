"""`muscle-hf power` as its user sees it."""

import json
from pathlib import Path

import pytest

from muscle_hf.cli import main


@pytest.mark.slow
def test_a_newcomer_is_told_what_is_assumed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["power", "--questions", "500"]) == 0
    shown = capsys.readouterr().out
    assert "Not given, so assumed: 10 % of the answers flip; a neutral update" in shown
    assert "500 questions show, with probability 0.8," in shown


def test_one_question_is_told_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["power", "--questions", "1", "--flip-rate", "1", "--max-nfr", "0.02"]) == 0
    shown = capsys.readouterr().out
    assert "1 question shows, with" in shown
    assert "with 1 question, even if" in shown
    assert "1 questions" not in shown


def test_json_holds_the_same_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["power", "--questions", "200", "--max-nfr", "0.02", "--test", "one-sided", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "muscle_hf.power"
    assert found["questions"] == 200
    assert found["test"] == "one-sided"
    assert found["bounds"][0]["questions_without_a_flip"] == 183
    assert found["bounds"][0]["chances"][0]["meaning"] == "expected"


@pytest.mark.slow
def test_rates_come_from_an_earlier_comparison(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, wrong in (("old", {0, 1, 2}), ("new", {2, 3})):
        rows = [
            {"id": number, "prediction": "b" if number in wrong else "a", "reference": "a"} for number in range(40)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    runs = [str(tmp_path / "old.jsonl"), str(tmp_path / "new.jsonl")]
    assert main(["power", "--like", *runs, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["questions"], found["nfr"]) == (40, pytest.approx(0.025))
    assert (found["flip_rate"], found["change"]) == (pytest.approx(0.075), pytest.approx(0.025))
    assert found["assumed"] == []
    assert main(["compare", *runs, "--json"]) == 0
    (tmp_path / "earlier.json").write_text(capsys.readouterr().out)
    assert main(["power", "--like", str(tmp_path / "earlier.json"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == found
    capsys.readouterr()
    assert main(["compare", *runs, "--cluster", "reference", "--json"]) == 0
    (tmp_path / "clustered.json").write_text(capsys.readouterr().out)
    clustered = ["power", "--like", str(tmp_path / "clustered.json"), "--margin", "0.05", "--json"]
    assert main(clustered) == 0
    assert "the answers of --like are in 1 cluster, and taken as independent here" in capsys.readouterr().err
    assert main([*clustered, "--cluster-size", "40", "--icc", "0.5"]) == 0
    assert not capsys.readouterr().err
    assert main(["power", "--like", *runs, "--nfr", "0.05"]) == 2
    assert "--like takes the rates from two runs, and --nfr would be others" in capsys.readouterr().err
    (tmp_path / "scores.jsonl").write_text('{"id": 1, "score": 0.25}\n{"id": 2, "score": 0.5}\n')
    assert main(["power", "--like", str(tmp_path / "scores.jsonl"), str(tmp_path / "scores.jsonl")]) == 2
    assert "these are scores" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("written", "names", "message"),
    [
        ("[1", ["one"], "For two files of answers give OLD NEW"),
        ('{"schema": "muscle_hf.power"}', ["one"], "is not what muscle-hf compare --json printed"),
        ("{}", ["one", "one", "one"], "OLD NEW or one file"),
        (None, ["one"], "cannot be read as JSON"),
    ],
)
def test_what_is_no_comparison_is_refused(
    written: str | None, names: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if written is not None:
        (tmp_path / "one").write_text(written)
    assert main(["power", "--like", *(str(tmp_path / name) for name in names)]) == 2
    assert message in capsys.readouterr().err


def test_bad_input_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["power", "--margin", "2"]) == 2
    assert capsys.readouterr().err == (
        "muscle-hf power: margin is 2.0, but must be from 0 to below 1, such as 0.01 for one point.\n"
    )
