"""`muscle-hf disagreements` as its user sees it."""

import csv
import json
from pathlib import Path

import pytest

from muscle_hf.cli import main


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two columns of one table: they disagree on 40 of 60 answers, and the new one is right on 30 of these."""
    monkeypatch.chdir(tmp_path)
    lines = [f"q{i},Which {i}?,{'A' if i < 20 else 'B'},{'A' if i < 50 else 'C'}" for i in range(60)]
    Path("answers.csv").write_text("\n".join(["id,question,v1,v2", *lines]))
    return ["disagreements", "answers.csv:v1", "answers.csv:v2"]


def _fill(path: str, rows: int) -> None:
    """Label the first rows: A is right."""
    with Path(path).open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    for row in table[:rows]:
        row["right_answer"] = "A"
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)


def test_rows_are_listed_written_labelled_and_judged(pair: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*pair, "--label", "3"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[:2] == [
        "v1 -> v2",
        "The versions disagree on 40 of 60 answers (66.7 %); only there can accuracy change.",
    ]
    assert shown[3].split() == ["id", "old", "answer", "new", "answer", "question"]
    assert len(shown) == 7

    assert main([*pair, "--label", "12", "--output", "labels.csv"]) == 0
    assert "wrote labels.csv with 12 rows; fill in right_answer or right_model" in capsys.readouterr().err
    assert main([*pair, "--labels", "labels.csv"]) == 0
    assert "Cannot tell: there are no labels yet." in capsys.readouterr().out
    _fill("labels.csv", 12)
    assert main([*pair, "--labels", "labels.csv"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[2].startswith("12 labels on 40 disagreements: old answer right 0, new answer right ")
    assert shown[-1].startswith("Better: accuracy rises by ")

    assert main([*pair, "--labels", "labels.csv", "--label", "60", "--output", "all.csv"]) == 0
    assert "wrote all.csv with all 40 rows" in capsys.readouterr().err
    _fill("all.csv", 40)
    assert main([*pair, "--labels", "all.csv", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["disagreements"], said["labelled"]["verdict"], said["labelled"]["new_right"]) == (40, "better", 30)
    assert said["labelled"]["accuracy_change"] == {"estimate": 0.5, "interval": [0.5, 0.5]}


def test_json_lists_the_rows(pair: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*pair, "--label", "2", "--seed", "3", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["schema"] == "muscle_hf.disagreements"
    assert [row["order"] for row in said["rows"]] == [1, 2]
    assert said["draw"].startswith("3:40:")


def test_versions_that_agree_leave_nothing_to_label(pair: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["disagreements", "answers.csv:v1", "answers.csv:v1", "--output", "labels.csv"]) == 0
    printed = capsys.readouterr()
    assert "disagree on 0 of 60 answers" in printed.out
    assert "nothing to label, so labels.csv is not written" in printed.err
    assert not Path("labels.csv").exists()


def test_what_is_wrong_is_one_line_and_exit_code_2(pair: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*pair, "--label", "5", "--output", "labels.csv", "--seed", "4"]) == 0
    _fill("labels.csv", 5)
    capsys.readouterr()
    for words, message in [
        (["--label", "0"], "--label 0 would list nothing"),
        (["--level", "95"], "level is 95.0"),
        (["--output", "labels.csv"], "labels.csv is there, and may hold labels"),
        (["--output", "labels.xlsx"], "let it end in .csv or .jsonl"),
        (["--labels", "labels.csv", "--label", "9"], "--label and --output go together"),
        (["--labels", "labels.csv", "--seed", "5"], "was drawn with --seed 4; leave --seed 5 out"),
        (["--labels", "labels.csv", "--label", "4", "--output", "n.csv"], "which has them up to row 5"),
        (["--labels", "answers.csv"], "has no column 'draw'"),
        (["--columns", "id"], "is not of the form WHAT=NAME"),
        (["--lable", "5"], "did you mean --label?"),
    ]:
        assert main([*pair, *words]) == 2
        complaint = capsys.readouterr().err
        assert message in complaint
        assert complaint.startswith("muscle-hf disagreements: ")
        assert complaint.count("\n") == 1
    assert main([*pair, "--labels", "labels.csv"]) == 0
