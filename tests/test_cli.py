"""The command line as a script meets it: exit codes, one clear line on stderr, and help that answers at once."""

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

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
    assert out == f"{muscle_hf.compare(old=OLD.values(), new=NEW.values(), references=['x'] * 4)}\n"
    assert "4 instances, 2 negative and 1 positive flips" in out


def _no_constants(name: str) -> None:
    pytest.fail(f"{name} is not JSON")


def test_json_can_be_parsed_strictly_and_names_the_flipped_ids(
    files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *files, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    found = json.loads(out, parse_constant=_no_constants)
    assert found.pop("ids") == {"negative_flips": ["a", "b"], "positive_flips": ["c"]}
    comparison = muscle_hf.compare(old=OLD.values(), new=NEW.values(), references=["x"] * 4)
    assert found == json.loads(comparison.to_json())


def test_an_undefined_rate_is_null_in_json_and_not_nan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(_write(tmp_path / "wrong.jsonl", {"a": None, "b": "y"}))
    assert main(["compare", path, path, "--json"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=_no_constants)
    assert found["rates"]["relative_negative_flip_rate"]["estimate"] is None


@pytest.mark.parametrize("text", ["\ud800", "\x00", "\u2028", "🙂", "NaN", "</script>"])
def test_strange_answers_and_ids_are_printed_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    old = _write(tmp_path / "old.jsonl", {text: text, "b": None}, reference=text)
    new = _write(tmp_path / "new.jsonl", {"b": None, text: None}, reference=text)
    assert main(["compare", str(old), str(new), "--json"]) == 0
    out = capsys.readouterr().out
    assert out.isascii()
    assert json.loads(out)["ids"]["negative_flips"] == [text]


def test_integers_beyond_64_bits_are_compared_exactly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, prediction in (("old", 2**64), ("new", 2**64 + 1)):
        row = {"id": 1, "prediction": prediction, "reference": 2**64}
        (tmp_path / name).write_text(json.dumps(row), encoding="utf-8")
    assert main(["compare", str(tmp_path / "old"), str(tmp_path / "new"), "--max-nfr", "0.9"]) == 1
    assert "1 negative and 0 positive flips" in capsys.readouterr().out


# The gate ------------------------------------------------------------------------------------------------------------


def test_a_broken_gate_says_so_on_stderr_and_still_prints_the_table(
    files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *files, "--max-nfr", "0.25"]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("4 instances")
    assert err == "muscle-hf compare: the negative flip rate 0.5 (2 of 4) is above --max-nfr 0.25\n"


def test_a_broken_gate_leaves_the_json_on_stdout_alone(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *files, "--json", "--max-nfr", "0"]) == 1
    assert json.loads(capsys.readouterr().out)["n"] == 4


@pytest.mark.parametrize("bound", ["0.5", "1", "5e-1", "0.50"])
def test_a_rate_on_the_bound_does_not_break_the_gate(
    files: list[str], capsys: pytest.CaptureFixture[str], bound: str
) -> None:
    assert main(["compare", *files, "--max-nfr", bound]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("flips", "n"), [(1, 50), (3, 100), (7, 10), (29, 100), (1, 3)])
def test_a_bound_is_met_exactly_and_not_up_to_rounding(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flips: int, n: int
) -> None:
    old = _write(tmp_path / "old", {str(index): "x" for index in range(n)})
    new = _write(tmp_path / "new", {str(index): "y" if index < flips else "x" for index in range(n)})
    for bound, code in ((flips / n, 0), (math.nextafter(flips / n, 0), 1)):
        assert main(["compare", str(old), str(new), "--max-nfr", repr(bound)]) == code
    assert f"({flips} of {n})" in capsys.readouterr().err


@pytest.mark.parametrize("bound", ["nan", "inf", "-0.1", "1.1", "2%", "", "x"])
def test_a_bound_that_no_rate_could_break_is_refused(
    files: list[str], capsys: pytest.CaptureFixture[str], bound: str
) -> None:
    assert main(["compare", *files, f"--max-nfr={bound}"]) == 2
    assert _one_line(capsys) == (
        f"muscle-hf compare: argument --max-nfr: {bound!r} is not a rate between 0 and 1, such as 0.02 for 2 % "
        "(see muscle-hf compare --help)"
    )


# Bad input -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds no answers"),
        (b"{", "line 1 is not JSON"),
        (b"\xff\xfe{", "line 1 is not UTF-8"),
        (b"[" * 100_000, "line 1 "),
        (b'{"id": 1, "prediction": 1.5, "reference": 1}', "prediction is 1.5"),
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
    assert _one_line(capsys).startswith("muscle-hf compare: no where.jsonl cannot be read (No such file or directory)")


def test_answers_as_text_against_answers_as_integers_are_refused(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "integers.jsonl"
    path.write_text("".join(f'{{"id": "{key}", "prediction": 1, "reference": 1}}\n' for key in OLD), encoding="utf-8")
    assert main(["compare", files[0], str(path)]) == 2
    assert "the references of 4 of 4 ids differ" in _one_line(capsys)


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ([], "muscle-hf: the following arguments are required: COMMAND (see muscle-hf --help)"),
        (["comparee"], "muscle-hf: argument COMMAND: invalid choice: 'comparee'"),
        (["--nonsense"], "muscle-hf: "),
        (["compare"], "muscle-hf compare: the following arguments are required: old, new"),
        (["compare", "old"], "muscle-hf compare: the following arguments are required: new"),
        (["compare", "old", "new", "third"], "muscle-hf: unrecognized arguments: third"),
        (["compare", "old", "new", "--max", "0.1"], "muscle-hf: unrecognized arguments: --max"),
        (["demo", "--seed", "one"], "muscle-hf demo: argument --seed: 'one' is not a seed"),
    ],
)
def test_bad_arguments_are_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], argv: list[str], line: str
) -> None:
    assert main(argv) == 2
    assert _one_line(capsys).startswith(line)


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


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGPIPE and reports a closed pipe in another way")
def test_nobody_reading_at_all_changes_no_exit_code(files: list[str]) -> None:
    assert _into_a_closed_pipe("compare", *files, "--max-nfr", "0.1", both=True)[0] == 1
    assert _into_a_closed_pipe("compare", "nowhere", "nowhere", both=True)[0] == 2
    assert _into_a_closed_pipe("--help", both=True)[0] == 0


def test_a_command_cut_off_by_its_reader_before_a_result_does_not_look_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "COMMANDS", {"fails": _Raises(BrokenPipeError(32, "Broken pipe"))})
    assert main(["fails"]) == 141
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_a_terminal_without_arrows_still_gets_the_table(files: list[str], encoding: str) -> None:
    found = subprocess.run(  # noqa: S603
        _command("compare", *files),
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": encoding},
        check=False,
    )
    assert (found.returncode, found.stderr) == (0, b"")
    assert b"negative_flip_rate" in found.stdout


# Help answers at once ------------------------------------------------------------------------------------------------


def _fastest(run: Callable[[], object], times: int) -> float:
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return min(taken)


@pytest.mark.parametrize("argv", [["--help"], *([name, "--help"] for name in COMMANDS)])
def test_help_does_not_keep_people_waiting(argv: Sequence[str]) -> None:
    # The best of several: the first one reads the disk, and a busy machine slows down any of them.
    assert _fastest(lambda: _process(*argv).check_returncode(), times=4) < 0.5


@pytest.mark.parametrize("argv", [["--help"], ["compare"], *([name, "--help"] for name in COMMANDS)])
def test_help_and_refused_arguments_load_no_heavy_library(argv: Sequence[str]) -> None:
    code = (
        "import sys\n"
        "from muscle_hf.cli import main\n"
        f"main({list(argv)!r})\n"
        f"print('loaded:', *[name for name in {HEAVY!r} if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert found.stdout.splitlines()[-1] == "loaded:"


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
