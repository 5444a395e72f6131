"""One bad task: it is told with its reason wherever results are shown, the others are compared, and no gate passes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lighteval_details
import pytest
from comparisons import check
from harness_samples import generation, write

from muscle_hf import InputError, compare_runs, read
from muscle_hf.cli import main
from muscle_hf.readers.not_compared import each_task, incomplete
from muscle_hf.runs.gates.gate import parse_bound
from muscle_hf.text import listed

DATE = "2026-01-02T03-04-05.678901"
TASKS = ("arc", "piqa", "wino")


def _file(folder: Path, task: str) -> Path:
    return folder / f"samples_{task}_{DATE}.jsonl"


def _folder(folder: Path, said: str = "4", tasks: tuple[str, ...] = TASKS) -> Path:
    for task in tasks:
        write(_file(folder, task), [generation(i, said if i == 0 else "4") for i in range(4)])
    return folder


def _rewrite(change: Callable[[list[dict[str, Any]]], Any]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        change(rows)
        write(path, rows)

    return apply


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "other documents": (_rewrite(lambda rows: [row.update(doc_hash="x") for row in rows]), "the documents of 4 of 4"),
    "other right answers": (_rewrite(lambda rows: rows[0].update(target_hash="x")), "the right answers of 1 of 4"),
    "no number": (_rewrite(lambda rows: rows[2].update(exact_match=float("nan"))), "1 of 4 scores"),
    "an id twice": (_rewrite(lambda rows: rows.append(rows[0])), "1 ids stand more than once"),
    "an id missing": (_rewrite(lambda rows: rows.pop()), "lacks 1 of the 4 ids"),
    "another metric": (
        _rewrite(lambda rows: [row.update(metrics=["f1"], f1=row.pop("exact_match")) for row in rows]),
        "both must hold the same",
    ),
    "cut off": (_cut, "was it cut off"),
    "empty": (lambda path: path.write_text(""), "is empty"),
    "not there": (Path.unlink, "lacks it"),
    "no metric": (_rewrite(lambda rows: [row.update(metrics=[]) for row in rows]), "no metric gives one number"),
}


@pytest.fixture(params=["old", "new"])
def folders(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Path, Path, Path]:
    """Two runs, and the one of them that a test spoils."""
    old, new = _folder(tmp_path / "v1"), _folder(tmp_path / "v2", said="5")
    return old, new, {"old": old, "new": new}[request.param]


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_task_is_told_and_the_others_are_compared(folders: tuple[Path, Path, Path], fault: str) -> None:
    old, new, bad = folders
    spoil, reason = FAULTS[fault]
    spoil(_file(bad, "piqa"))
    if fault == "not there" and bad == old:
        assert compare_runs(old, new).not_compared == {}, "nothing of the old model's is lost"
        return
    result = compare_runs(old, new)
    assert [part.name for part in result.tasks] == ["arc", "wino"]
    assert result.overall is not None and result.overall.comparison.negative_flip_rate == 0.25
    assert list(result.not_compared) == ["piqa"]
    assert reason in result.not_compared["piqa"]
    for shown in (str(result), result.to_markdown(), result.to_html(old.parent / "page.html").read_text("utf-8")):
        assert "1 of 3 tasks not compared: piqa" in shown
        assert reason in shown
    assert json.loads(result.to_json())["not_compared"] == dict(result.not_compared)


@pytest.mark.parametrize("fault", FAULTS)
def test_alone_a_bad_task_is_the_error_that_it_is_as_a_file(folders: tuple[Path, Path, Path], fault: str) -> None:
    old, new, bad = folders
    for folder in (old, new):
        for task in ("arc", "wino"):
            _file(folder, task).unlink()
    spoil, reason = FAULTS[fault]
    spoil(_file(bad, "piqa"))
    if fault == "not there":
        reason = "holds no samples"
    with pytest.raises(InputError, match=reason):
        compare_runs(old, new)
    if fault != "not there":
        with pytest.raises(InputError, match=reason):
            compare_runs(_file(old, "piqa"), _file(new, "piqa"))


@pytest.mark.slow
@pytest.mark.parametrize("style", ["", "--json", "--markdown"])
def test_a_gate_never_passes_over_a_bad_task_in_silence(
    folders: tuple[Path, Path, Path], style: str, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new, bad = folders
    _cut(_file(bad, "piqa"))
    page = old.parent / "page.html"
    command = ["compare", str(old), str(new), "--html", str(page), *filter(None, [style])]
    # A handful of rows can break a bound, but not keep it at the worse end of an interval.
    for bound, allowed in (([], 0), (["--max-nfr", "0.5"], 0), (["--max-nfr", "arc:0.1"], 1)):
        gate = [*bound, "--gate-on", "estimate"] if bound else []
        page.unlink(missing_ok=True)
        assert main([*command, *gate]) == 2
        out, err = capsys.readouterr()
        assert "wino" in out and page.is_file(), "what was compared is shown before"
        assert "1 of 3 tasks not compared. piqa: " in err and "--allow-missing" in err
        assert main([*command, *gate, "--allow-missing"]) == allowed
        out, err = capsys.readouterr()
        words = "not judged, because not compared: piqa"
        assert (words in page.read_text(encoding="utf-8")) == bool(gate)
        assert (words in out) == (bool(gate) and style != "--json")
        assert ("the gate does not judge what was not compared: piqa" in err) == bool(gate)
    assert main([*command, "--allow-missing", "--max-nfr", "piqa:0.5"]) == 2, "a bound on what was not compared"
    out, err = capsys.readouterr()
    assert "wino" in out and "no row 'piqa', because it was not compared: " in err


@pytest.mark.slow
def test_a_task_of_corpus_scores_ends_a_rightly_made_suite_as_a_fault(
    folders: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    old, new, bad = folders
    parts = _rewrite(lambda rows: [row.update(metrics=["bleu"], bleu=["4", "4"]) for row in rows])
    parts(_file(bad, "piqa"))
    command = ["compare", str(old), str(new), "--max-nfr", "0.5", "--gate-on", "estimate"]
    assert main(command) == 2, "the other side has a number for each instance"
    parts(_file({old: new, new: old}[bad], "piqa"))
    capsys.readouterr()
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert "1 of 3 tasks not compared: piqa" in out and "not judged, because not compared: piqa" in out
    assert "the gate does not judge what was not compared: piqa" in err
    assert main([*command, "--max-nfr", "piqa:0.5"]) == 2
    assert main([*command, "--metric", "exact_match"]) == 2, "it was asked for"


def test_a_gate_in_python_does_not_pass_over_a_bad_task(tmp_path: Path) -> None:
    old, new = _folder(tmp_path / "v1"), _folder(tmp_path / "v2")
    _cut(_file(new, "piqa"))
    with pytest.raises(InputError, match="1 of 3 tasks not compared"):
        check(compare_runs(old, new), [parse_bound("max_nfr", "0.5")])
    assert check(compare_runs(old, new, allow_missing=True), [parse_bound("max_nfr", "*:0.5")]) == []


def test_where_nothing_is_left_every_reason_is_told(tmp_path: Path) -> None:
    old, new = _folder(tmp_path / "v1", tasks=("arc", "piqa")), _folder(tmp_path / "v2", tasks=("arc", "piqa"))
    _cut(_file(old, "arc"))
    FAULTS["other documents"][0](_file(new, "piqa"))
    with pytest.raises(InputError, match=r"none of the tasks can be compared\. arc: .* cut off.* piqa: the documents"):
        compare_runs(old, new)


def test_what_is_left_of_two_runs_is_not_taken_for_one_task(tmp_path: Path) -> None:
    old, new = _folder(tmp_path / "v1", tasks=("arc", "piqa")), _folder(tmp_path / "v2", tasks=("arc", "piqa"))
    _cut(_file(old, "arc"))
    _cut(_file(new, "piqa"))
    with pytest.raises(InputError, match=r"none of the tasks can be compared\. arc: .* piqa: "):
        compare_runs(old, new)


def test_options_for_the_bad_task_do_not_stop_the_others(tmp_path: Path) -> None:
    for name in ("v1", "v2"):
        _folder(tmp_path / name, tasks=("arc",))
        rows = [generation(i, "4", doc={"question": "?", "topic": "x"}, f1=0.5) for i in range(4)]
        write(_file(tmp_path / name, "piqa"), rows)
    folders = tmp_path / "v1", tmp_path / "v2"
    options: dict[str, Any] = {"by": "topic", "tolerance": 0.1}
    assert list(compare_runs(*folders, **options).slices) == ["topic"]
    _cut(_file(folders[1], "piqa"))
    result = compare_runs(*folders, **options)
    assert [part.name for part in result.tasks] == ["arc"]
    assert "no compared task has a column 'topic' to slice by" in result.notes
    with pytest.raises(InputError, match="only right and wrong answers"):
        compare_runs(*folders, tolerance=0.1, tasks="arc")


def test_one_reason_for_many_tasks_is_told_once(tmp_path: Path) -> None:
    old, new = _folder(tmp_path / "v1"), _folder(tmp_path / "v2", tasks=("arc",))
    assert f"note: piqa, wino: not compared: {new} lacks it" in str(compare_runs(old, new))


def test_a_task_that_is_bad_on_both_sides_has_both_reasons(tmp_path: Path) -> None:
    old, new = _folder(tmp_path / "v1"), _folder(tmp_path / "v2")
    _cut(_file(old, "piqa"))
    _file(new, "piqa").write_text("")
    reason = compare_runs(old, new).not_compared["piqa"]
    assert "was it cut off" in reason and "is empty" in reason


def test_a_bad_task_that_the_old_run_lacks_is_only_noted(tmp_path: Path) -> None:
    old, new = _folder(tmp_path / "v1", tasks=("arc", "piqa")), _folder(tmp_path / "v2")
    _cut(_file(new, "wino"))
    result = compare_runs(old, new)
    assert result.not_compared == {}
    assert f"only in {new}, not compared: wino" in result.notes


@pytest.mark.parametrize("fault", ["cut off", "no number", "an id missing", "not there"])
def test_a_bad_task_of_the_seed_floor_costs_no_more_than_its_floor(tmp_path: Path, fault: str) -> None:
    old, new, *seeds = (_folder(tmp_path / name) for name in ("v1", "v2", "s1", "s2"))
    FAULTS[fault][0](_file(seeds[1], "piqa"))
    result = compare_runs(old, new, seed_floor=seeds)
    assert result.not_compared == {}
    assert [part.seed_floor is None for part in result.tasks] == [False, True, False]
    (note,) = [note for note in result.notes if note.startswith("piqa: no seed floor")]
    assert fault == "not there" or FAULTS[fault][1].replace("lacks 1 of the 4", "lacks 1 of the 4 compared") in note


def test_what_is_left_of_a_floor_is_not_taken_for_the_only_task(tmp_path: Path) -> None:
    old, new, *seeds = (_folder(tmp_path / name, tasks=("arc", "piqa")) for name in ("v1", "v2", "s1", "s2"))
    for folder in (old, new):
        _file(folder, "piqa").unlink()
    for folder in seeds:
        _cut(_file(folder, "arc"))
    with pytest.raises(InputError, match=r"none of the tasks has a seed floor: .* cut off"):
        compare_runs(old, new, seed_floor=seeds)


def test_a_file_that_cannot_be_read_is_told_as_well() -> None:
    def make(name: str) -> str:
        if name == "b":
            raise OSError("Input/output error")
        return name

    assert each_task("abc", make) == ({"a": "a", "c": "c"}, {"b": "Input/output error"})
    with pytest.raises(OSError, match="Input/output error"):
        each_task("b", make)


def test_read_gives_the_reasons(tmp_path: Path) -> None:
    _cut(_file(_folder(tmp_path), "piqa"))
    assert "was it cut off" in read(tmp_path).not_compared["piqa"]


@pytest.mark.parametrize("name", [b"model_response", b"truncated_tokens_count", b"query"])
def test_details_whose_column_names_are_broken_are_a_bad_task_too(tmp_path: Path, name: bytes) -> None:
    rows = [lighteval_details.detail(i, response={"logprobs": [0.0, -1.0]}, acc=1) for i in range(3)]
    for task in ("arc|0", "piqa|0"):
        path = lighteval_details.write(lighteval_details.run_file(tmp_path, "v1", DATE, task), rows)
    path.write_bytes(path.read_bytes().replace(name, b"\x88" + name[1:]))
    run = read(tmp_path)
    assert list(run.tasks) == ["arc|0"]
    assert list(run.not_compared) == ["piqa|0"]
    with pytest.raises(InputError):
        read(path)


def test_a_fault_of_the_program_is_no_reason_of_a_task() -> None:
    with pytest.raises(KeyError, match="b"):
        each_task("ab", {"a": 1}.__getitem__)
    assert each_task("ab", str.upper, {"c": "it is cut off"}) == ({"a": "A", "b": "B"}, {"c": "it is cut off"})
    assert str(incomplete({"gpqa": "v2 lacks it."}, 1)) == (
        "1 of 2 tasks not compared. gpqa: v2 lacks it. --allow-missing (allow_missing=True) accepts that, and --tasks "
        "(tasks=) names the tasks to compare."
    )


def test_names_with_line_breaks_stay_on_the_line_of_a_message() -> None:
    assert listed(["a  b", "c\n\x1bd"]) == "a  b, c �d"
