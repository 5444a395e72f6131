"""The command line as a script meets it: exit codes, one clear line on stderr, and help that answers at once."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import wraps
from pathlib import Path

import pytest
from comparisons import answers, run, scored
from processor_time import seconds_of_children

import muscle_hf
from muscle_hf import cli
from muscle_hf.cli import COMMANDS, main

HEAVY = ("torch", "transformers", "trl", "peft", "datasets", "evaluate", "scipy", "numpy", "pandas", "rich")

# Reference "x" everywhere: of four answers two break, one is won, one stays wrong.
OLD = {"a": "x", "b": "x", "c": "y", "d": "z"}
NEW = {"a": "y", "b": "z", "c": "x", "d": "z"}


def _write(path: Path, answers: dict[str, str | None], reference: str = "x") -> Path:
    rows = [{"id": key, "prediction": said, "reference": reference} for key, said in answers.items()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    reverse = dict(reversed(NEW.items()))
    return [str(_write(tmp_path / "old.jsonl", OLD)), str(_write(tmp_path / "new.jsonl", reverse))]


def _command(*words: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "muscle_hf", *words]


def _process(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603
        _command(*words), capture_output=True, text=True, encoding="utf-8", env=os.environ | environment, check=False
    )


def _one_line(capsys: pytest.CaptureFixture[str]) -> str:
    out, err = capsys.readouterr()
    assert out == "", "a failed command prints nothing that a script could take for a result"
    assert err.endswith("\n")
    assert len(err.splitlines()) == 1, err
    return err[:-1]


# The comparison ------------------------------------------------------------------------------------------------------


def test_people_get_a_table_joined_by_id(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *files]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out == f"{muscle_hf.compare_runs(*files)}\n"
    assert "Of 4 answers the update breaks 2 that were right (50.0 %) and repairs 1 (25.0 %)" in out


def _no_constants(name: str) -> None:
    pytest.fail(f"{name} is not JSON")


def test_json_can_be_parsed_strictly_and_names_the_flipped_ids(
    files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *files, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    found = json.loads(out, parse_constant=_no_constants)
    assert found == json.loads(muscle_hf.compare_runs(*files).to_json())
    (task,) = found["tasks"]
    assert task["ids"] == {"negative_flips": ["a", "b"], "positive_flips": ["c"]}


def test_an_undefined_rate_is_null_in_json_and_not_nan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(_write(tmp_path / "wrong.jsonl", {"a": None, "b": "y"}))
    assert main(["compare", path, path, "--json"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=_no_constants)
    assert found["tasks"][0]["rates"]["relative_negative_flip_rate"]["estimate"] is None


@pytest.mark.parametrize("text", ["\x00", "\u2028", "🙂", "NaN", "</script>", "שלום"])
def test_strange_answers_and_ids_are_printed_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    old = _write(tmp_path / "old.jsonl", {text: text, "b": None}, reference=text)
    new = _write(tmp_path / "new.jsonl", {"b": None, text: None}, reference=text)
    assert main(["compare", str(old), str(new), "--json"]) == 0
    out = capsys.readouterr().out
    assert out.isascii()
    assert json.loads(out)["tasks"][0]["ids"]["negative_flips"] == [text]


def test_integers_beyond_64_bits_are_compared_exactly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, prediction in (("old", 2**64), ("new", 2**64 + 1)):
        row = {"id": 1, "prediction": prediction, "reference": 2**64}
        (tmp_path / name).write_text(json.dumps(row), encoding="utf-8")
    assert (
        main(["compare", str(tmp_path / "old"), str(tmp_path / "new"), "--max-nfr", "0.9", "--gate-on", "estimate"])
        == 1
    )
    assert "Of 1 answer the update breaks 1 that were right (100.0 %) and repairs 0" in capsys.readouterr().out


def test_a_wide_table_is_compared_column_by_column(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "table.csv"
    table.write_text("key,gold,topic,v1,v2\n1,A,x,A,B\n2,B,x,A,B\n3,C,y,C,C\n", encoding="utf-8")
    pair = [f"{table}:v1", f"{table}:v2"]
    assert main(["compare", *pair, "--reference", "gold", "--columns", "id=key", "--by", "topic", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["old"]["name"], found["new"]["name"]) == ("v1", "v2")
    assert found["tasks"][0]["ids"] == {"negative_flips": ["1"], "positive_flips": ["2"]}
    assert [(part["name"], part["n"]) for part in found["slices"]["topic"]] == [("x", 2), ("y", 1)]


def test_every_file_is_written_and_the_table_still_printed(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    targets = {name: tmp_path / f"report.{name}" for name in ("html", "png", "jsonl")}
    options = [word for name, path in targets.items() for word in (f"--{name}", str(path))]
    assert main(["compare", *files, *options]) == 0
    assert "the update breaks" in capsys.readouterr().out
    assert targets["html"].read_text(encoding="utf-8").lower().startswith("<!doctype html>")
    assert targets["png"].read_bytes().startswith(b"\x89PNG")
    flips = targets["jsonl"].read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["id"] for line in flips] == ["a", "b", "c"]
    assert sorted(path.name for path in tmp_path.glob("report*")) == ["report.html", "report.jsonl", "report.png"]


@pytest.mark.parametrize("name", ["html", "png", "jsonl"])
def test_a_target_that_cannot_be_written_is_told_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert main(["compare", "nowhere", "nowhere", f"--{name}", str(tmp_path / "no" / f"file.{name}")]) == 2
    assert "there is no folder" in _one_line(capsys)
    assert main(["compare", "nowhere", "nowhere", f"--{name}", str(tmp_path)]) == 2
    assert "is no ordinary file" in _one_line(capsys)


@pytest.mark.parametrize("name", ["html", "png", "jsonl"])
def test_no_output_takes_the_place_of_an_input_or_of_another_output(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    before, both = Path(files[0]).read_bytes(), str(tmp_path / "both.png")
    assert main(["compare", *files, f"--{name}", files[0]]) == 2
    assert f"would replace {files[0]}" in _one_line(capsys)
    for chosen in (":x", "@model=v1", "@model=v1:x"):
        assert main(["compare", f"{files[0]}{chosen}", files[1], f"--{name}", files[0], "--force"]) == 2
        assert "would replace" in _one_line(capsys)
    assert main(["compare", *files, "--references", f"{both}:x", f"--{name}", both]) == 2
    assert "would replace" in _one_line(capsys)
    assert main(["compare", *files, "--html", both, "--png", both]) == 2
    assert "would replace --html" in _one_line(capsys)
    assert Path(files[0]).read_bytes() == before


@pytest.mark.parametrize("name", ["html", "png", "jsonl"])
def test_a_file_of_somebody_else_is_replaced_only_when_that_is_said(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    path = tmp_path / f"mine.{name}"
    for content in (b"<!doctype html>\n<p>mine", b"\x89PNG\r\n\x1a\n mine", b'{"task": "mine"}\n'):
        path.write_bytes(content)
        assert main(["compare", *files, f"--{name}", str(path)]) == 2
        assert "would replace a file that compare has not written" in _one_line(capsys)
        assert path.read_bytes() == content
    for words in (["--force"], []):  # once it is ours, the next run may replace it
        assert main(["compare", *files, f"--{name}", str(path), *words]) == 0
        assert capsys.readouterr().err == f"muscle-hf compare: wrote {path}\n"
    assert path.read_bytes() != content


def test_a_write_that_fails_names_the_option_and_not_a_temporary_file(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    assert main(["compare", *files, "--html", str(tmp_path / "page.html")]) == 2
    assert f"--html {tmp_path / 'page.html'} cannot be written (No space left on device)." in _one_line(capsys)


def test_a_device_is_not_replaced_by_a_file(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *files, "--jsonl", os.devnull]) == 2
    assert "is no ordinary file" in _one_line(capsys)
    assert not Path(os.devnull).is_file()


def test_a_link_stays_a_link_and_its_file_gets_the_text(files: list[str], tmp_path: Path) -> None:
    real, link = tmp_path / "real.jsonl", tmp_path / "link.jsonl"
    real.touch()
    link.symlink_to(real)
    assert main(["compare", *files, "--jsonl", str(link)]) == 0
    assert link.is_symlink()
    assert len(real.read_text(encoding="utf-8").splitlines()) == 3


def test_a_picture_is_not_written_under_the_name_of_another_format(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *files, "--png", str(tmp_path / "x.pdf")]) == 2
    assert "end in .png" in _one_line(capsys)


def test_markdown_for_a_pull_request_has_the_table_and_the_broken_bound(
    files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *files, "--markdown", "--max-nfr", "0.05"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("### old.jsonl -> new.jsonl\n")
    assert "| task | n |" in out
    assert "**✗ Broken: 1 of 1 bound, held to 95 % intervals**" in out
    assert "| all | broken | NFR | 50.0 % [6.8, 93.2] | ≤ 5 % | 4 |" in out


def test_a_seed_floor_stands_beside_the_flips(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *files, "--seed-floor", files[0], files[1], "--json"]) == 0
    floor = json.loads(capsys.readouterr().out)["tasks"][0]["seed_floor"]
    # Between the two, either way: (2 + 1) of 2 * 4 ordered pairs.
    assert (floor["runs"], floor["negative_flip_rate"]) == (2, 0.375)


def test_options_of_statistics_reach_the_result(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *files, "--json", "--level", "0.9", "--prior", "5", "7", "--test", "one-sided"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["level"], found["test"]) == (0.9, "one-sided")
    assert found["tasks"][0]["coin_flips"]["prior"] == "Beta(5, 7)"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--columns", "id"], "'id' is not of the form WHAT=NAME"),
        (["--columns", "id=a", "--columns", "id=b"], "two columns are named for id: 'a' and 'b'"),
        (["--reference", "a", "--columns", "reference=b"], "two columns are named for reference"),
        (["--columns", "key=a"], "'key' is nothing that a column can be"),
        (["--run", "1", "--run", "2", "--run", "3"], "run holds 3 choices"),
        (["--run", "2026"], "is a file, so run='2026' would choose nothing"),
        (["--filter", "strict-match"], "has no filter 'strict-match'"),
        (["--metric", "f1"], "has no column 'f1'"),
        (["--by", "topic"], "has no column 'topic' to slice or cluster by"),
        (["--cluster", "topic"], "has no column 'topic' to slice or cluster by"),
        (["--gate-on", "interval"], "--gate-on without a bound would check nothing"),
        (["--undecided", "fail"], "--undecided without a bound would check nothing"),
        (["--level", "95"], "level is 95.0"),
        (["--test", "onesided"], "did you mean 'one-sided'?"),
        (["--prior", "0", "1"], "prior"),
        (["--tolerance", "0.1"], "only right and wrong answers to compare"),
        (["--seed-floor", "{0}"], "two or more runs"),
    ],
)
def test_an_option_that_cannot_be_is_one_line_and_exit_code_2(
    files: list[str], capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    assert main(["compare", *files, *(option.format(*files) for option in options)]) == 2
    assert words in _one_line(capsys)


# The gate ------------------------------------------------------------------------------------------------------------


def test_a_broken_gate_says_so_on_stderr_and_still_prints_the_table(
    files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *files, "--max-nfr", "0.05"]) == 1
    out, err = capsys.readouterr()
    assert "the update breaks 2 that were right" in out
    assert len(err.splitlines()) == 1
    assert err.startswith("muscle-hf compare: ")
    for words in ("2 of 4 answers, 50.0 % [6.8, 93.2]: broken", "--max-nfr 0.05"):
        assert words in err


def test_a_gate_that_so_few_rows_cannot_judge_is_no_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    same = str(_write(tmp_path / "old.jsonl", OLD)), str(_write(tmp_path / "new.jsonl", OLD))
    for more, code in (([], 3), (["--undecided", "fail"], 1), (["--undecided", "pass"], 0)):
        assert main(["compare", *same, "--max-nfr", "0.05", "--allow-identical", *more]) == code
        out, err = capsys.readouterr()
        assert out.splitlines()[1] == "? Cannot tell: 1 of 1 bound, held to 95 % intervals"
        assert "cannot be met with 4 questions even without a flip: 72 are needed" in err


def test_a_broken_gate_leaves_the_json_on_stdout_alone(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *files, "--json", "--max-nfr", "0"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["tasks"][0]["n"] == 4
    assert found["gate"]["gate_on"] == "interval"
    assert [broken["row"] for broken in found["gate"]["violations"]] == ["all"]


def test_a_gate_that_holds_says_so_in_json(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *files, "--json", "--max-nfr", "1"]) == 0
    gate = json.loads(capsys.readouterr().out)["gate"]
    assert (gate["gate_on"], gate["verdict"], gate["refusals"], gate["violations"]) == ("interval", "kept", [], [])
    (bound,) = gate["bounds"]
    assert (bound["row"], bound["estimate"], bound["bound"], bound["verdict"]) == ("all", 0.5, 1.0, "kept")


def test_the_bounds_of_a_file_and_of_options_are_all_checked(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bounds = tmp_path / "policy.yaml"
    bounds.write_text("gate_on: interval\nmax_nfr: 0.6\n", encoding="utf-8")
    assert main(["compare", *files, "--policy", str(bounds)]) == 3, "0.5 is within, its interval is not"
    assert main(["compare", *files, "--policy", str(bounds), "--gate-on", "estimate"]) == 0
    assert main(["compare", *files, "--policy", str(bounds), "--max-nfr", "0.05"]) == 1
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 4


def test_a_plain_bound_says_which_tasks_with_scores_it_leaves_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = answers("aa", "aa"), answers("aa", "aa", task="trivia"), scored([0.5, 0.7])
    monkeypatch.setattr(
        "muscle_hf.readers.sources.read", wraps(muscle_hf.read)(lambda source, **_: run(source, *tasks))
    )
    assert main(["compare", "a", "b", "--max-nfr", "0.9"]) == 0
    assert "summaries with scores can be bounded by name" in capsys.readouterr().err
    assert main(["compare", "a", "b", "--max-nfr", "*:0.9"]) == 0
    assert capsys.readouterr().err == ""


def test_a_task_that_vanished_does_not_pass_the_gate(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = {
        "old": run("v1", answers("aa", "aa"), answers("aa", "aa", task="trivia"), answers("aa", "aa", task="b")),
        "new": run("v2", answers("aa", "aa"), answers("aa", "aa", task="b")),
    }
    monkeypatch.setattr("muscle_hf.readers.sources.read", wraps(muscle_hf.read)(lambda source, **_: runs[source]))
    for gate in ([], ["--max-nfr", "*:0.9"]):
        assert main(["compare", "old", "new", *gate]) == 2
        out, err = capsys.readouterr()
        assert "\nquiz " in out, "what was compared is shown"
        assert err.startswith(
            "muscle-hf compare: 1 of 3 tasks not compared. trivia: v2.jsonl lacks it. --allow-missing"
        )
        assert main(["compare", "old", "new", *gate, "--allow-missing"]) == 0
        assert ("the gate does not judge what was not compared: trivia" in capsys.readouterr().err) == bool(gate)


@pytest.mark.parametrize("bound", ["0.5", "1", "5e-1", "0.50"])
def test_a_rate_on_the_bound_does_not_break_the_gate(
    files: list[str], capsys: pytest.CaptureFixture[str], bound: str
) -> None:
    assert main(["compare", *files, "--max-nfr", bound, "--gate-on", "estimate"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("flips", "n"), [(1, 50), (3, 100), (7, 10), (29, 100), (1, 3)])
def test_a_bound_is_met_exactly_and_not_up_to_rounding(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flips: int, n: int
) -> None:
    old = _write(tmp_path / "old", {str(index): "x" for index in range(n)})
    new = _write(tmp_path / "new", {str(index): "y" if index < flips else "x" for index in range(n)})
    for bound, code in ((flips / n, 0), (math.nextafter(flips / n, 0), 1)):
        assert main(["compare", str(old), str(new), "--max-nfr", repr(bound), "--gate-on", "estimate"]) == code
    assert f"breaks {flips} of {n} answers" in capsys.readouterr().err


@pytest.mark.parametrize("bound", ["nan", "inf", "-0.1", "1.1", "2%", "", "x"])
def test_a_bound_that_no_rate_could_break_is_refused_before_anything_is_read(
    capsys: pytest.CaptureFixture[str], bound: str
) -> None:
    assert main(["compare", "nowhere", "nowhere", f"--max-nfr={bound}"]) == 2
    line = _one_line(capsys)
    assert line.startswith("muscle-hf compare: ")
    assert "rate from 0 to 1" in line


# Bad input -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"{", "line 1 is not JSON"),
        (b"\xff\xfe{", "line 1 is not UTF-8"),
        (b"[" * 100_000, "line 1"),
        (b'{"id": 1.5, "prediction": 1, "reference": 1}', "1.5 in row 1; a string or an integer"),
        (b'{"id": "a", "prediction": "x", "reference": "x"}', "lacks 3 of the 4 ids"),
    ],
)
def test_a_bad_file_is_one_line_and_exit_code_2(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, words: str
) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content)
    for pair in ([files[0], str(path)], [str(path), files[0]]):
        assert main(["compare", *pair, "--max-nfr", "1"]) == 2
        line = _one_line(capsys)
        assert line.startswith(f"muscle-hf compare: {path}")
        assert words in line


def test_a_missing_file_is_one_line_also_with_a_line_break_in_its_name(
    files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", files[0], "no\nwhere.jsonl"]) == 2
    assert _one_line(capsys).startswith("muscle-hf compare: no where.jsonl cannot be read (no such file or folder)")


def test_answers_as_text_against_answers_as_integers_are_refused(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "integers.jsonl"
    path.write_text("".join(f'{{"id": "{key}", "prediction": 1, "reference": 1}}\n' for key in OLD), encoding="utf-8")
    assert main(["compare", files[0], str(path)]) == 2
    assert "1 and '1' are different answers" in _one_line(capsys)


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ([], "muscle-hf: the following arguments are required: COMMAND (see muscle-hf --help)"),
        (["comparee"], "muscle-hf: argument COMMAND: invalid choice: 'comparee'"),
        (["--nonsense"], "muscle-hf: "),
        (["compare"], "muscle-hf compare: the following arguments are required: old, new"),
        (["compare", "old"], "muscle-hf compare: the following arguments are required: new"),
        (
            ["compare", "old", "new", "third"],
            "muscle-hf compare: unrecognized arguments: third (see muscle-hf compare --help)",
        ),
        (["compare", "old", "new", "--max", "0.1"], "muscle-hf compare: unrecognized arguments: --max"),
        (["demo", "--seed", "one"], "muscle-hf demo: argument --seed: 'one' is not a seed"),
    ],
)
def test_bad_arguments_are_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], argv: list[str], line: str
) -> None:
    assert main(argv) == 2
    assert _one_line(capsys).startswith(line)


@pytest.mark.parametrize(
    ("words", "proposed"),
    [
        (["comparee", "old", "new"], "compare"),
        (["compare", "--colums"], "--columns"),
        (["compare", "old", "new", "--colums", "id=key"], "--columns"),
        (["compare", "old", "new", "--max-nrf=0.1"], "--max-nfr"),
        (["find", "--base-modell", "org/base"], "--base-model"),
        (["predict", "adapter", "data", "--batchsize", "2"], "--batch-size"),
        (["push", "--privat", "folder"], "--private"),
        (["compare", "old", "new", "--max_nfr", "0.1"], "--max-nfr"),
        (["find", "--compatible", "org/base"], "--compatible-with"),
        (["compare", "old", "new", "--gate-on", "intervall"], "'interval'"),
        (["compare", "old", "new", "--gate-on", "nothing like it"], None),
        (["metrics", "pussh"], "'push'"),
        (["compare", "old", "new", "--nothing-like-it"], None),
        (["compare", "--bogus"], None),
        (["compare", "old", "new", "third"], None),
        (["update", "--learning-rate", "1", "--new-base"], None),
    ],
)
def test_a_misspelt_word_is_told_with_the_right_one(
    capsys: pytest.CaptureFixture[str], words: list[str], proposed: str | None
) -> None:
    assert main(words) == 2
    line = _one_line(capsys)
    assert (f"; did you mean {proposed}? (see muscle-hf" in line) if proposed else ("did you mean" not in line)


@pytest.mark.slow
def test_errors_of_the_process_carry_no_traceback(files: list[str]) -> None:
    found = _process("compare", files[0], "nowhere.jsonl")
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith("muscle-hf compare: nowhere.jsonl cannot be read")
    assert len(found.stderr.splitlines()) == 1


# How it ends ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("argv", [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)])
def test_help_is_an_exit_code_and_not_an_exception(capsys: pytest.CaptureFixture[str], argv: list[str]) -> None:
    assert main(argv) == 0
    out, err = capsys.readouterr()
    assert out
    assert err == ""


def test_help_lists_every_command_with_its_summary(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for name, module in COMMANDS.items():
        assert f"{name} {(module.__doc__ or '').splitlines()[0]}" in shown


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--version"])
    assert capsys.readouterr().out == f"muscle_hf {muscle_hf.__version__}\n"


class _Raises:
    """A command that ends in an exception."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def configure(self, parser: object) -> None:
        pass

    def run(self, arguments: object) -> int:
        raise self.error


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (KeyboardInterrupt(), 130, "muscle-hf fails: interrupted"),
        (muscle_hf.ConfigurationError("two\nlines"), 2, "muscle-hf fails: two lines"),
        (PermissionError(13, "Permission denied", "out"), 2, "muscle-hf fails: [Errno 13] Permission denied: 'out'"),
    ],
)
def test_an_exception_that_is_expected_becomes_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, line: str
) -> None:
    monkeypatch.setattr(cli, "COMMANDS", {"fails": _Raises(error)})
    assert main(["fails"]) == code
    assert _one_line(capsys) == line


def test_a_mistake_in_the_package_is_not_passed_off_as_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "COMMANDS", {"fails": _Raises(KeyError("x"))})
    with pytest.raises(KeyError):
        main(["fails"])


def _into_a_closed_pipe(*words: str, both: bool = False) -> tuple[int, str]:
    """Run a command whose reader is gone before it writes: `muscle-hf ... | true`, or `2>&1 | true`."""
    read, write = os.pipe()
    os.close(read)
    with subprocess.Popen(_command(*words), stdout=write, stderr=write if both else subprocess.PIPE, text=True) as run:  # noqa: S603
        os.close(write)
        err = "" if run.stderr is None else run.stderr.read()
    return run.returncode, err


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGPIPE and reports a closed pipe in another way")
@pytest.mark.parametrize("style", [["--json"], []])
def test_a_reader_that_stops_early_sees_no_traceback_and_the_gate_still_holds(
    tmp_path: Path, style: list[str]
) -> None:
    # More than a pipe or a buffer takes: 3,000 flips.
    keys = [str(index) for index in range(3_000)]
    pair = [str(_write(tmp_path / said, dict.fromkeys(keys, said), reference="x")) for said in ("x", "y")]
    assert _into_a_closed_pipe("compare", *pair, *style) == (0, "")
    code, err = _into_a_closed_pipe("compare", *pair, *style, "--max-nfr", "0.5")
    assert (code, len(err.splitlines())) == (1, 1)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGPIPE and reports a closed pipe in another way")
def test_nobody_reading_at_all_changes_no_exit_code(files: list[str]) -> None:
    assert _into_a_closed_pipe("compare", *files, "--max-nfr", "0.05", both=True)[0] == 1
    assert _into_a_closed_pipe("compare", "nowhere", "nowhere", both=True)[0] == 2
    assert _into_a_closed_pipe("--help", both=True)[0] == 0


def test_a_command_cut_off_by_its_reader_before_a_result_does_not_look_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "COMMANDS", {"fails": _Raises(BrokenPipeError(32, "Broken pipe"))})
    assert main(["fails"]) == 141
    assert capsys.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_a_terminal_without_arrows_still_gets_the_table(files: list[str], encoding: str) -> None:
    found = subprocess.run(  # noqa: S603
        _command("compare", *files),
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": encoding},
        check=False,
    )
    assert (found.returncode, found.stderr) == (0, b"")
    assert b"the update breaks 2 that were right" in found.stdout


# Help answers at once ------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("argv", [["--help"], *([name, "--help"] for name in COMMANDS)])
def test_help_does_not_keep_people_waiting(argv: Sequence[str]) -> None:
    # One of several: the first one reads the disk, and other work slows down any of them.
    assert any(seconds_of_children(lambda: _process(*argv).check_returncode()) < 0.5 for _ in range(4))


@pytest.mark.slow
def test_help_and_refused_arguments_load_no_heavy_library() -> None:
    every = [["--help"], ["compare"], *([name, "--help"] for name in COMMANDS)]
    code = (
        "import sys\n"
        "from muscle_hf.cli import main\n"
        f"for argv in {every!r}:\n"
        "    main(argv)\n"
        f"    print('loaded by', argv, [name for name in {HEAVY!r} if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    told = [line for line in found.stdout.splitlines() if line.startswith("loaded by ")]
    assert told == [f"loaded by {argv} []" for argv in every]


@pytest.mark.slow
def test_a_comparison_does_not_load_torch(files: list[str]) -> None:
    code = (
        "import sys\n"
        "from muscle_hf.cli import main\n"
        f"main({['compare', *files]!r})\n"
        "print('loaded:', *[name for name in ('torch', 'transformers', 'datasets') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, encoding="utf-8")  # noqa: S603
    assert found.stdout.splitlines()[-1] == "loaded:"


def test_the_installed_command_is_this_main() -> None:
    from importlib.metadata import entry_points

    (found,) = entry_points(group="console_scripts", name="muscle-hf")
    assert found.load() is main
