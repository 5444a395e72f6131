"""The policy, the decision and the history of `muscle-hf compare`, as their users type and read them."""

import json
from pathlib import Path

import pytest
from decisions import table

from muscle_hf.cli import main


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    table(tmp_path / "quiz.csv", broken=3, n=200)
    (tmp_path / "policy.yaml").write_text("max_nfr: {value: 0.1, owner: support}\n", encoding="utf-8")
    return tmp_path


COMPARE = ["compare", "quiz.csv:v1", "quiz.csv:v2"]


def _run(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str, str]:
    code = main([*COMPARE, *options])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


@pytest.mark.usefixtures("here")
def test_a_policy_gives_the_exit_code_and_bounds_of_the_command_line_come_beside_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _run(capsys, "--policy", "policy.yaml")[0] == 0
    code, _, err = _run(capsys, "--policy", "policy.yaml", "--max-nfr", "0.001")
    assert code == 1
    assert "--max-nfr 0.001" in err


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        ("max_nfr: {value: 0.001, tier: advisory}", 0, "broken, more than 0.1 %"),
        ("max_nfr: 0.02", 3, "cannot tell"),
        ("max_nfr: 0.02\nundecided: pass", 0, "cannot tell"),
        ("max_nfr: 0.02\nundecided: fail", 1, "cannot tell"),
        ("max_nfr: 0.02\ngate_on: estimate", 0, ""),
        ("max_nfr: 0.5\nrequired_tasks: [gsm8k]", 2, "The task 'gsm8k' is required and was not compared"),
        ("relative_margin: 0.1", 0, ""),
        ("max_nfr: 0.5\nlevle: 0.9", 2, "policy.yaml, line 2: 'levle' of the file is not known (did you mean level?)"),
    ],
)
def test_what_a_policy_says_is_what_happens(
    here: Path, capsys: pytest.CaptureFixture[str], text: str, code: int, told: str
) -> None:
    (here / "policy.yaml").write_text(text, encoding="utf-8")
    found, _, err = _run(capsys, "--policy", "policy.yaml")
    assert (found, told in err) == (code, True)


def test_the_columns_of_a_policys_slices_need_no_option(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"{i},A,A,A,{'law' if i % 2 else 'art'}\n" for i in range(200))
    (here / "quiz.csv").write_text(f"id,reference,v1,v2,category\n{rows}", encoding="utf-8")
    (here / "policy.yaml").write_text('slices: {category: {"*": {max_nfr: 0.5}}}', encoding="utf-8")
    code, out, _ = _run(capsys, "--policy", "policy.yaml", "--allow-identical", "--json")
    assert code == 0
    assert [bound["row"] for bound in json.loads(out)["gate"]["bounds"]] == ["category=art", "category=law"]


def test_an_option_beats_the_policy_and_that_is_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "policy.yaml").write_text("max_nfr: 0.02\nundecided: fail\nlevel: 0.9\n", encoding="utf-8")
    code, _, err = _run(capsys, "--policy", "policy.yaml", "--undecided", "pass", "--level", "0.9")
    assert code == 0
    assert err.splitlines()[0] == (
        "muscle-hf compare: note: --undecided pass in place of fail, which policy.yaml says"
    )
    assert "--level" not in err


@pytest.mark.usefixtures("here")
def test_a_decision_is_written_added_to_a_history_once_and_checked(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--policy", "policy.yaml", "--history", "history.jsonl"]
    code, out, err = _run(capsys, *asked, "--decision", "decision.json")
    assert (code, json.loads(Path("decision.json").read_text())["verdict"]) == (0, "kept")
    assert "history: this is the first decision of the history" in out
    assert "added to history.jsonl" in err
    code, out, err = _run(capsys, *asked, "--check", "decision.json", "--decision", "decision2.json")
    assert code == 0
    assert "not added again to history.jsonl" in err
    assert "in decision.json is reproduced: the same answers, bounds and verdict" in err
    assert len(Path("history.jsonl").read_text().splitlines()) == 1


def test_a_decision_that_is_not_come_to_again_says_why_and_is_no_pass(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(capsys, "--policy", "policy.yaml", "--decision", "decision.json")[0] == 0
    table(here / "quiz.csv", broken=4, n=200)
    code, _, err = _run(capsys, "--policy", "policy.yaml", "--check", "decision.json")
    assert code == 2
    for told in ("is not reproduced: other old answers and new answers; all: NFR 0.015 -> 0.02", "quiz.csv."):
        assert told in err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--decision", "d.json"], "--decision without a bound would check nothing"),
        (["--history", "h.jsonl"], "--history without a bound would check nothing"),
        (["--check", "d.json", "--max-nfr", "1"], "d.json cannot be read"),
        (["--policy", "none.yaml"], "none.yaml cannot be read"),
        (["--max-nfr", "1", "--history", "quiz.csv"], "quiz.csv, line 1 is no decision"),
        (["--max-nfr", "1", "--decision", "quiz.csv"], "--decision quiz.csv would replace quiz.csv"),
        (["--policy", "policy.yaml", "--decision", "policy.yaml"], "would replace policy.yaml"),
        (["--max-nfr", "1", "--decision", "a.json", "--history", "a.json"], "would replace --decision a.json"),
        (["--max-nfr", "1", "--decision", "none/a.json"], "there is no folder none"),
        (["--gate", "none.yaml"], "none.yaml cannot be read"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read_or_written(
    here: Path, capsys: pytest.CaptureFixture[str], options: list[str], told: str
) -> None:
    before = sorted(here.iterdir())
    code, out, err = _run(capsys, *options)
    assert (code, out) == (2, "")
    assert told in err
    assert sorted(here.iterdir()) == before


@pytest.mark.usefixtures("here")
def test_a_decision_replaces_a_decision_and_no_other_file(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--policy", "policy.yaml", "--decision", "decision.json"]
    assert _run(capsys, *asked)[0] == _run(capsys, *asked)[0] == 0
    Path("decision.json").write_text('{"a": 1}', encoding="utf-8")
    code, _, err = _run(capsys, *asked)
    assert code == 2
    assert "would replace a file that compare has not written" in err
