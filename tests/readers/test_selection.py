"""Which tasks are compared, and whose answers: no side is scored by another filter than the other unless asked."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from harness_samples import generation, with_plain_values, without_filter, write, write_array

from muscle_hf import InputError, compare_runs, read
from muscle_hf.cli import main
from muscle_hf.readers.selection import FilterChoice, both_sides, choose_tasks, parse_filters

DATE = "2026-01-02T03-04-05.678901"
STRICT, LOOSE, NONE = "strict-match", "flexible-extract", "none"
# What each filter takes from the same responses: the strict one nothing.
TAKEN = {STRICT: "[invalid]", LOOSE: "4", NONE: "4"}


def _samples(*filters: str, taken: dict[str, str] = TAKEN) -> list[dict[str, Any]]:
    return [generation(i, "so 4", taken.get(name, "4"), name=name) for name in filters for i in range(4)]


def _named(path: Path, *filters: str) -> Path:
    return write(path, _samples(*filters))


def _unnamed(path: Path, *filters: str) -> Path:
    """As 0.4.3 to 0.4.6 wrote it, without its results file."""
    return write(path, [without_filter(row) for row in _samples(*filters)])


def _array(path: Path, *filters: str) -> Path:
    """As 0.4.0 to 0.4.2 wrote it, without its results file."""
    return write_array(path, [with_plain_values(row) for row in _samples(*filters)])


def _table(path: Path, *_: str) -> Path:
    rows = [{"id": i, "prediction": "4", "reference": "4", "exact_match": 1} for i in range(4)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


FORMS = {"named": _named, "unnamed": _unnamed, "array": _array, "table": _table}
# Form and filters of one file and the other -> whether both are scored by the same filter as far as anyone knows.
PAIRS = {
    "the same": (("named", STRICT), ("named", STRICT), True),
    "the same first": (("named", STRICT, LOOSE), ("named", STRICT), True),
    "in another order": (("named", STRICT, LOOSE), ("named", LOOSE, STRICT), False),
    "another one": (("named", STRICT, LOOSE), ("named", LOOSE), False),
    "none of its own": (("named", STRICT, LOOSE), ("named", NONE), False),
    "one and none of its own": (("named", LOOSE), ("named", NONE), False),
    "unnamed beside named": (("unnamed", STRICT, LOOSE), ("named", STRICT, LOOSE), False),
    "array beside named": (("array", STRICT, LOOSE), ("named", LOOSE, STRICT), False),
    "unnamed, as many": (("unnamed", STRICT, LOOSE), ("unnamed", STRICT, LOOSE), True),
    "unnamed, not as many": (("unnamed", STRICT, LOOSE), ("unnamed", LOOSE), False),
    "unnamed, the only one": (("unnamed", NONE), ("named", NONE), True),
    "array, the only one": (("array", NONE), ("named", NONE), True),
    "a table beside the only one": (("table",), ("named", NONE), True),
    "unnamed beside a name": (("unnamed", LOOSE), ("named", LOOSE), False),
    "a table beside a name": (("table",), ("named", LOOSE), False),
    "a table beside several": (("table",), ("named", LOOSE, STRICT), False),
}


@pytest.mark.slow
@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("pair", PAIRS)
def test_two_filters_are_never_compared_as_two_models(tmp_path: Path, pair: str, swapped: bool) -> None:
    first, second, same = PAIRS[pair]
    files = [FORMS[form](tmp_path / f"{name}.jsonl", *filters)
             for name, (form, *filters) in zip("ab", (first, second), strict=True)]  # fmt: skip
    old, new = reversed(files) if swapped else files
    options: dict[str, Any] = {"metric": "exact_match"}
    if same:
        assert compare_runs(old, new, **options).tasks[0].comparison.flip_rate == 0
        return
    with pytest.raises(InputError, match="filter") as caught:
        compare_runs(old, new, **options)
    message = str(caught.value)
    for file, (form, *filters) in zip(files, (first, second), strict=True):
        assert str(file) in message
        assert form != "named" or filters[0] in message
    assert "--filter" in message and "filter=" in message


def test_filters_that_were_chosen_for_each_side_are_compared_and_noted(tmp_path: Path) -> None:
    old, new = _named(tmp_path / "a.jsonl", STRICT, LOOSE), _named(tmp_path / "b.jsonl", LOOSE, STRICT)
    assert compare_runs(old, new, filter=LOOSE).tasks[0].comparison.flip_rate == 0
    result = compare_runs(old, new, filter=(STRICT, LOOSE))
    assert result.tasks[0].comparison.positive_flip_rate == 1
    assert f"all: filters differ, as chosen: '{STRICT}' in {old} and '{LOOSE}' in {new}" in result.notes
    runs = read(old, filter=STRICT), read(new, filter=LOOSE)
    assert compare_runs(*runs).tasks[0].comparison.positive_flip_rate == 1
    with pytest.raises(InputError, match="is scored by the filter"):
        compare_runs(read(old), read(new))
    with pytest.raises(InputError, match="is scored by the filter"):
        compare_runs(read(old), read(new, filter=LOOSE))


def test_unnamed_filters_are_chosen_by_their_number(tmp_path: Path) -> None:
    old, new = _unnamed(tmp_path / "a.jsonl", STRICT, LOOSE), _named(tmp_path / "b.jsonl", LOOSE, STRICT)
    assert compare_runs(old, new, filter=("filter 2", LOOSE)).tasks[0].comparison.flip_rate == 0
    assert main(["compare", str(old), str(new), "--filter", "filter 2", "--filter", LOOSE]) == 0


def test_a_table_is_compared_with_a_filter_that_was_chosen(tmp_path: Path) -> None:
    table, samples = _table(tmp_path / "a.jsonl"), _named(tmp_path / "b.jsonl", STRICT, LOOSE)
    for pair in ((table, samples), (samples, table)):
        command = ["compare", *map(str, pair), "--metric", "exact_match"]
        assert main([*command, "--filter", f"b:{LOOSE}", "--max-nfr", "0", "--gate-on", "estimate"]) == 0
        assert main([*command, "--filter", LOOSE]) == 2, "the table has none"


def test_a_seed_floor_is_scored_by_the_same_filter_too(tmp_path: Path) -> None:
    old, new, first = (_named(tmp_path / f"{name}.jsonl", STRICT, LOOSE) for name in "abc")
    second = _named(tmp_path / "d.jsonl", LOOSE, STRICT)
    with pytest.raises(InputError, match="is scored by the filter"):
        compare_runs(old, new, seed_floor=[first, second])
    result = compare_runs(old, new, seed_floor=[first, second], filter=(LOOSE, STRICT))
    assert result.tasks[0].seed_floor is not None
    assert result.tasks[0].seed_floor.negative_flip_rate == 0


@pytest.mark.parametrize("change", [{}, {"group_select": -1}, {"regex_pattern": "(.*)"}])
def test_one_name_for_two_filters_is_no_common_filter(tmp_path: Path, change: dict[str, Any]) -> None:
    files = []
    for side, more in (("v1", {}), ("v2", change)):
        files.append(_named(tmp_path / side / f"samples_gsm_{DATE}.jsonl", STRICT, LOOSE))
        step = {"function": "regex", "regex_pattern": "#### (.*)"} | more
        config = {"gsm": {"filter_list": [{"name": STRICT, "filter": [step]}, {"name": LOOSE}]}}
        (tmp_path / side / f"results_{DATE}.json").write_text(json.dumps({"configs": config}), encoding="utf-8")
    if not change:
        assert compare_runs(*files).tasks[0].comparison.flip_rate == 0
        return
    with pytest.raises(InputError, match="they take other answers from the same responses"):
        compare_runs(*files)
    assert any("#### (.*)" in note for note in compare_runs(*files, filter=STRICT).notes)
    assert compare_runs(*files, filter=LOOSE).tasks[0].comparison.flip_rate == 0


def test_functions_among_the_filters_are_not_told_apart_by_their_address(tmp_path: Path) -> None:
    for side in ("v1", "v2"):
        _folder(tmp_path / side, gsm=(STRICT,))
        step = {"function": "custom", "filter_fn": f"<function take at 0x7f{side}>"}
        config = {"gsm": {"filter_list": [{"name": STRICT, "filter": [step]}]}}
        (tmp_path / side / f"results_{DATE}.json").write_text(json.dumps({"configs": config}), encoding="utf-8")
    assert compare_runs(tmp_path / "v1", tmp_path / "v2").tasks[0].comparison.flip_rate == 0


# Folders -------------------------------------------------------------------------------------------------------------


def _folder(folder: Path, **tasks: Sequence[str]) -> Path:
    for task, filters in tasks.items():
        _named(folder / f"samples_{task}_{DATE}.jsonl", *filters)
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    old = _folder(tmp_path / "v1", gsm=(STRICT, LOOSE), math=(STRICT, LOOSE), mmlu_a=(NONE,), mmlu_b=(NONE,))
    new = _folder(tmp_path / "v2", gsm=(LOOSE, STRICT), math=(STRICT, LOOSE), mmlu_a=(NONE,), mmlu_b=(NONE,))
    return [str(old), str(new)]


def test_a_bad_task_with_the_chosen_filter_is_told_and_not_the_filter_blamed(folders: list[str]) -> None:
    for folder in folders:
        (Path(folder) / f"samples_math_{DATE}.jsonl").unlink()
    (Path(folders[0]) / f"samples_gsm_{DATE}.jsonl").write_text("{", encoding="utf-8")
    result = compare_runs(*folders, filter=STRICT)
    assert [part.name for part in result.tasks] == ["mmlu_a", "mmlu_b"]
    assert "is not JSON" in result.not_compared["gsm"]


def test_a_task_with_other_filters_does_not_stop_the_others(folders: list[str]) -> None:
    result = compare_runs(*folders)
    assert [part.name for part in result.tasks] == ["math", "mmlu_a", "mmlu_b"]
    assert "--filter 'gsm:NAME'" in result.not_compared["gsm"]


def _rates(folders: list[str], *options: str, capsys: pytest.CaptureFixture[str]) -> dict[str, tuple[float, float]]:
    """Mean of both sides of each task."""
    assert main(["compare", *folders, "--json", *options]) == 0
    found = json.loads(capsys.readouterr().out)
    return {
        task["name"]: tuple(task["rates"][f"{side}_accuracy"]["estimate"] for side in ("old", "new"))
        for task in found["tasks"]
    }  # type: ignore[misc]


@pytest.mark.parametrize(
    ("options", "gsm", "math"),
    [
        (["--filter", STRICT], (0, 0), (0, 0)),
        (["--filter", LOOSE], (1, 1), (1, 1)),
        (["--filter", STRICT, "--filter", LOOSE], (0, 1), (0, 1)),
        (["--filter", f"gsm:{LOOSE}"], (1, 1), (0, 0)),
        (["--filter", f"gsm:{LOOSE}", "--filter", STRICT], (1, 1), (0, 0)),
        (["--filter", f"gsm:{STRICT}", "--filter", f"gsm:{LOOSE}"], (0, 1), (0, 0)),
        (["--filter", f"gsm:{STRICT}", "--filter", f"math:{LOOSE}", "--filter", f"gsm:{LOOSE}"], (0, 1), (1, 1)),
    ],
)
def test_filters_are_chosen_for_each_side_and_task(
    folders: list[str],
    options: list[str],
    gsm: tuple[int, int],
    math: tuple[int, int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = _rates(folders, *options, capsys=capsys)
    assert (found["gsm"], found["math"]) == (gsm, math)
    assert found["mmlu_a"] == (1, 1), "a task without filters has nothing to choose"


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ({"gms": STRICT}, "has no task 'gms'; did you mean 'gsm'?"),
        ((STRICT, LOOSE, NONE), "filter holds 3 choices"),
        ({"mmlu_a": STRICT}, "there is no filter 'strict-match'; it has 'none'"),
    ],
)
def test_a_choice_that_chooses_nothing_is_refused_or_told(folders: list[str], choice: FilterChoice, told: str) -> None:
    try:
        reasons = compare_runs(*folders, filter=choice).not_compared
    except InputError as error:
        assert told in str(error)
    else:
        assert told in reasons["mmlu_a"]


@pytest.mark.parametrize("texts", [["a", "b", "c"], ["gsm:"], [":a"], [""], ["x:a", "x:b", "x:c"]])
def test_a_filter_that_says_nothing_is_refused(texts: list[str]) -> None:
    with pytest.raises(InputError, match="--filter"):
        parse_filters(texts)


# Tasks ---------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "tasks"),
    [
        (["--tasks", "math"], ["math"]),
        (["--tasks", "mmlu_b, math"], ["math", "mmlu_b"]),
        (["--tasks", "mmlu_b", "--tasks", "math"], ["math", "mmlu_b"]),
        (["--tasks", "mmlu_*"], ["mmlu_a", "mmlu_b"]),
        (["--tasks", "m*"], ["math", "mmlu_a", "mmlu_b"]),
    ],
)
def test_tasks_that_were_not_chosen_are_neither_compared_nor_missed(
    folders: list[str], options: list[str], tasks: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (Path(folders[0]) / f"samples_gsm_{DATE}.jsonl").write_text("{", encoding="utf-8")
    assert list(_rates(folders, *options, "--max-nfr", "*:0", "--gate-on", "estimate", capsys=capsys)) == tasks
    capsys.readouterr()
    assert main(["compare", *folders]) == 2, "the bad task counts where it is not left out"


@pytest.mark.parametrize("missing", ["both", "old", "new"])
def test_a_task_that_is_not_there_is_refused_with_the_nearest_names(folders: list[str], missing: str) -> None:
    name = "mmul_a" if missing == "both" else "math"
    for folder, side in zip(folders, ("old", "new"), strict=True):
        if missing == side:
            (Path(folder) / f"samples_math_{DATE}.jsonl").unlink()
    with pytest.raises(InputError, match=f"has no task '{name}'.* It has gsm, "):
        compare_runs(*folders, tasks=[name])
    with pytest.raises(InputError, match=f"has no task '{name}'"):
        compare_runs(*map(read, folders), tasks=name)


def test_a_chosen_task_that_is_bad_is_not_passed_over(folders: list[str]) -> None:
    (Path(folders[0]) / f"samples_math_{DATE}.jsonl").write_text("{", encoding="utf-8")
    assert main(["compare", *folders, "--tasks", "m*"]) == 2
    assert list(compare_runs(*folders, tasks="m*").not_compared) == ["math"]
    assert list(compare_runs(*map(read, folders), tasks="m*").not_compared) == ["math"]


def test_files_are_of_the_chosen_task_or_refused(tmp_path: Path) -> None:
    files = [_named(tmp_path / name / f"samples_gsm_{DATE}.jsonl", NONE) for name in ("v1", "v2")]
    assert compare_runs(*files, tasks="gsm").tasks[0].name == "gsm"
    with pytest.raises(InputError, match="has no task 'arc'"):
        compare_runs(*files, tasks="arc")


def test_a_name_with_the_signs_of_a_pattern_is_found_by_its_name() -> None:
    assert choose_tasks(["a[b]", "ab"], "a[b]", "x") == ["a[b]"]


def test_one_choice_is_for_both_sides_and_two_are_for_one_each() -> None:
    assert both_sides("run", "2026") == ("2026", "2026")
    assert both_sides("run", ["2025", None]) == ("2025", None)
    assert parse_filters(["strict-match"]) == {"*": "strict-match"}
    assert parse_filters(["strict-match", "flexible-extract"]) == ({"*": "strict-match"}, {"*": "flexible-extract"})
