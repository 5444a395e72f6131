"""Names of lighteval's tasks: one task under two names is compared, two tasks are not taken for one."""

from pathlib import Path

import pyarrow as pa
import pytest
from lighteval_details import Row, detail, old, run_file, write

from muscle_hf import InputError, compare_runs
from muscle_hf.readers.lighteval_names import is_same_task, numbered

DATE = "2025-04-04T00-00-00.000000"
SAME = [
    ("leaderboard|arc:challenge|25", "arc:challenge|25"),
    ("leaderboard|arc:challenge|25", "leaderboard|arc:challenge|25|0"),
    ("leaderboard|arc:challenge|25|1", "arc:challenge|25"),
    ("arc:challenge|25|0", "arc:challenge|25"),
    ("leaderboard_arc:challenge_25", "leaderboard|arc:challenge|25"),
    ("leaderboard_arc_challenge_25", "arc:challenge|25"),
    ("arc%7Cchallenge%7C25", "arc:challenge|25"),
    ("leaderboard:arc:challenge:25", "arc:challenge|25"),
    ("arc_challenge_25", "leaderboard|arc:challenge|25"),
]
OTHER = [
    ("leaderboard|arc:challenge|25", "leaderboard|arc:challenge|0"),
    ("leaderboard|arc:challenge|25", "arc:challenge|5"),
    ("leaderboard|mmlu:anatomy|5", "original|mmlu:anatomy|5"),
    ("leaderboard|arc:challenge|25", "arc:easy|25"),
    ("gpqa1|0", "gpqa|10"),
    ("leaderboard_arc:challenge_2", "arc:challenge|25"),
]


def _rows(likely: int) -> list[Row]:
    return [detail(key, response={"logprobs": [-1.0 - likely, -2.0 + likely]}, acc=1.0 - likely) for key in range(2)]


def _runs(folder: Path, first: list[str], second: list[str]) -> tuple[Path, Path]:
    for side, names in (("v1", first), ("v2", second)):
        for name in names:
            write(run_file(folder / side, "m", DATE, name), _rows(0))
    return folder / "v1", folder / "v2"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "other"), SAME)
@pytest.mark.parametrize("is_swapped", [False, True], ids=["", "swapped"])
def test_a_task_under_two_names_is_compared_and_a_note_says_so(
    name: str, other: str, is_swapped: bool, tmp_path: Path
) -> None:
    first, second = (other, name) if is_swapped else (name, other)
    old_run, new_run = _runs(tmp_path, [first, "hellaswag|10"], [second, "hellaswag|10"])
    result = compare_runs(old_run, new_run)
    assert sorted(part.name for part in result.tasks) == sorted([first, "hellaswag|10"])
    assert not result.missing_tasks
    assert f"{new_run}: {second!r} is taken for {first!r} of {old_run}" in result.notes


@pytest.mark.slow
@pytest.mark.parametrize(("name", "other"), OTHER)
def test_two_tasks_are_not_taken_for_one(name: str, other: str, tmp_path: Path) -> None:
    result = compare_runs(*_runs(tmp_path, [name, "hellaswag|10"], [other, "hellaswag|10"]), allow_missing=True)
    assert [part.name for part in result.tasks] == ["hellaswag|10"]
    assert result.missing_tasks == (name,)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "other"), OTHER[:-1])
def test_two_runs_of_one_task_each_are_refused_where_the_tasks_differ(name: str, other: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="another suite, task or number of few-shot examples is another task"):
        compare_runs(*_runs(tmp_path, [name], [other]))


def test_a_name_that_could_be_two_tasks_is_left_alone(tmp_path: Path) -> None:
    both = ["leaderboard|mmlu:anatomy|5", "original|mmlu:anatomy|5"]
    old_run, new_run = _runs(tmp_path, [*both, "x|0"], ["mmlu:anatomy|5", "x|0"])
    result = compare_runs(old_run, new_run, allow_missing=True)
    assert [part.name for part in result.tasks] == ["x|0"]
    assert list(result.missing_tasks) == both


def test_an_equal_name_comes_before_a_like_one(tmp_path: Path) -> None:
    old_run, new_run = _runs(tmp_path, ["arc|25"], ["leaderboard|arc|25", "arc|25"])
    result = compare_runs(old_run, new_run)
    assert [part.name for part in result.tasks] == ["arc|25"]
    assert f"only in {new_run}, not compared: leaderboard|arc|25" in result.notes


def test_a_task_is_chosen_by_either_of_its_names(tmp_path: Path) -> None:
    old_run, new_run = _runs(tmp_path, ["leaderboard|arc|25", "x|0"], ["arc|25", "x|0"])
    for name in ("leaderboard|arc|25", "arc|25"):
        assert [part.name for part in compare_runs(old_run, new_run, tasks=[name]).tasks] == ["leaderboard|arc|25"]


def test_many_tasks_under_other_names_are_one_note(tmp_path: Path) -> None:
    names = [f"mmlu:{subject}|5" for subject in ("anatomy", "law", "virology")]
    old_run, new_run = _runs(tmp_path, [f"leaderboard|{name}" for name in names], names)
    result = compare_runs(old_run, new_run)
    assert [part.name for part in result.tasks] == [f"leaderboard|{name}" for name in names]
    (note,) = [note for note in result.notes if "taken for" in note]
    assert "'mmlu:anatomy|5' is taken for 'leaderboard|mmlu:anatomy|5'" in note and "2 more" in note


def test_a_seed_floor_of_another_version_is_used(tmp_path: Path) -> None:
    old_run, new_run = _runs(tmp_path, ["leaderboard|arc|25", "x|0"], ["arc|25", "x|0"])
    floor = compare_runs(old_run, new_run, seed_floor=[new_run, old_run]).tasks[0].seed_floor
    assert floor is not None and floor.runs == 2


def test_an_old_layout_in_the_seed_floor_is_matched_by_document(tmp_path: Path) -> None:
    old_run, new_run = _runs(tmp_path, ["leaderboard|arc|25"], ["arc|25"])
    floors = [run_file(tmp_path / f"seed{seed}", "m", DATE, "leaderboard|arc|25") for seed in range(2)]
    for seed, path in enumerate(floors):
        write(path, [old(row) for row in _rows(seed)])
    floor = compare_runs(old_run, new_run, seed_floor=floors).tasks[0].seed_floor
    assert floor is not None and floor.negative_flip_rate == 0.5


def test_the_second_of_two_documents_that_are_alike_is_told_from_the_first() -> None:
    assert numbered(pa.array(["a", "b", "a"])).to_pylist() == ["a", "b", "a 2"]


def test_a_name_without_its_suite_is_the_same_task_and_another_number_of_examples_is_not() -> None:
    assert is_same_task("leaderboard|arc:challenge|25", "arc:challenge|25")
    assert not is_same_task("arc|25", "arc|0")
