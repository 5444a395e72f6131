"""`muscle-hf compare --suspects`, `--to-check` and `--verdicts` as their user sees them."""

import csv
import json
from pathlib import Path

import pytest

from muscle_hf.cli import main

LEETCODE = Path(__file__).parents[2] / "examples" / "data" / "llmdrift_leetcode" / "verdicts.csv"
COMPARE = [
    "compare",
    f"{LEETCODE}@model=gpt-4-0314",
    f"{LEETCODE}@model=gpt-4-0613",
    "--metric",
    "accepted_as_written",
]
FEATURES = ["--recognised-by", "has_code_fence", "--right-by", "accepted_without_fence"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def fill(path: str) -> None:
    """Write down what is right without its fence."""
    with LEETCODE.open() as file:
        right = {
            row["id"]: row["accepted_without_fence"] for row in csv.DictReader(file) if row["model"] == "gpt-4-0613"
        }
    with Path(path).open(newline="") as file:
        rows = list(csv.DictReader(file))
    with Path(path).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(row | {"new_answer_right": right[row["id"]]} for row in rows)


def test_suspects_are_listed_drawn_checked_and_the_rate_corrected(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COMPARE, *FEATURES, "--suspects", "10", "--to-check", "check.csv"]) == 0
    said = capsys.readouterr()
    assert "suspects: has_code_fence: 44 of 50 new answers, none of the old ones" in said.out
    assert said.out.count("0.88") == 10
    assert "wrote check.csv with 10 rows; write true into new_answer_right" in said.err
    fill("check.csv")
    assert main([*COMPARE, *FEATURES, "--verdicts", "check.csv", "--html", "page.html"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("10 verdicts on 23 negative flips: 8 made by the grader, 2 by the update")
    assert lines[3] == "audited NFR: 4.0 % of these answers [4.0, 16.0], marked 46.0 %"
    assert "The grader&#x27;s mistakes</h2>" in Path("page.html").read_text()
    assert main([*COMPARE, *FEATURES, "--verdicts", "check.csv", "--json", "--max-nfr", "0.1"]) == 1
    said = capsys.readouterr()
    content = json.loads(said.out)
    assert content["audit"]["negative_flip_rate"]["estimate"] == 0.04
    assert len(content["suspects"]["flips"]) == 23
    assert "the gate judges the NFR as it is marked" in said.err
    assert main([*COMPARE, *FEATURES, "--verdicts", "check.csv", "--suspects", "2", "--markdown"]) == 0
    shown = capsys.readouterr().out
    assert "audited NFR: 4.0 %" in shown and shown.count("| 0.88 |") == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--suspects", "0"], "--suspects 0 would list nothing"),
        (["--recognised-by", "fence"], "--recognised-by without --suspects or --verdicts would do nothing"),
        (["--to-check", "a.csv"], "--to-check needs --suspects N"),
        (["--suspects", "5", "--to-check", "a.txt"], "let it end in .csv or .jsonl"),
        (["--suspects", "5", "--to-check", "no/a.csv"], "there is no folder no"),
        (["--suspects", "5"], "there are no texts to read features from"),
        (["--suspects", "5", "--recognised-by", "fenced"], "fenced"),
        (["--suspects", "1", *FEATURES, "--to-check", "a.csv"], "count from 2 up"),
        (["--verdicts", "none.csv"], "none.csv"),
        (["--verdicts", str(LEETCODE), *FEATURES], "no column 'new_answer_right', 'draw'"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*COMPARE, *options]) == 2
    told = capsys.readouterr()
    assert said in told.err and len(told.err.splitlines()) == 1
    assert not told.out


def test_verdicts_of_another_draw_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COMPARE, *FEATURES, "--suspects", "10", "--to-check", "check.csv"]) == 0
    fill("check.csv")
    assert main([*COMPARE, "--recognised-by", "has_code_fence", "--verdicts", "check.csv"]) == 2
    assert "other features or options were named" in capsys.readouterr().err
    assert main([*COMPARE, *FEATURES, "--suspects", "10", "--to-check", "check.csv"]) == 2
    assert "may hold labels, so it is not replaced" in capsys.readouterr().err
