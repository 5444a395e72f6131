"""From two evaluations to a comparison: which tasks are paired, what is noted, and what a folder gives."""

import json
from functools import wraps
from pathlib import Path

import pytest
from comparisons import answers, run, sample, scored

import muscle_hf
from muscle_hf import InputError, RunComparison, compare_runs


def _jsonl(path: Path, said: str, gold: str = "aaaa", **more: object) -> str:
    rows = [
        {"id": i, "prediction": a, "reference": b, **more} for i, (a, b) in enumerate(zip(said, gold, strict=True))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_two_files_are_compared_whatever_their_names(tmp_path: Path) -> None:
    result = compare_runs(_jsonl(tmp_path / "old.jsonl", "aabb"), tmp_path / _jsonl(tmp_path / "new.jsonl", "abab"))
    assert isinstance(result, RunComparison)
    assert [part.name for part in result.tasks] == ["all"]
    assert (result.old_name, result.new_name) == ("old.jsonl", "new.jsonl")
    assert result.tasks[0].comparison.negative_flips.tolist() == [1]


def test_what_read_gave_and_a_path_give_the_same(tmp_path: Path) -> None:
    old, new = _jsonl(tmp_path / "old.jsonl", "aabb"), _jsonl(tmp_path / "new.jsonl", "abab")
    assert compare_runs(old, new).to_json() == compare_runs(muscle_hf.read(old), new).to_json()


def test_models_of_one_name_are_told_apart_by_where_they_lie() -> None:
    old, new = (muscle_hf.readers.Run("model", source, {"quiz": answers("ab", "aa")}) for source in ("a/x", "b/x"))
    result = compare_runs(old, new)
    assert (result.old_name, result.new_name) == ("a/x", "b/x")


def test_tasks_that_only_one_run_has_are_named_and_not_dropped_in_silence() -> None:
    old = run("v1", answers("ab", "aa"), answers("ab", "aa", task="old only"), answers("ab", "aa", task="both"))
    new = run("v2", answers("ab", "aa"), answers("ab", "aa", task="both"), answers("ab", "aa", task="new only"))
    result = compare_runs(old, new)
    assert [part.name for part in result.tasks] == ["quiz", "both"]
    assert result.not_compared == {"old only": "v2.jsonl lacks it"}
    assert "only in v2.jsonl, not compared: new only" in result.notes


def test_runs_without_a_common_task_are_refused_with_both_lists() -> None:
    old = run("v1", answers("ab", "aa", task="a"), answers("ab", "aa", task="b"))
    new = run("v2", answers("ab", "aa", task="c"), answers("ab", "aa", task="d"))
    with pytest.raises(InputError, match="no task in common: the first has a, b; the second c, d"):
        compare_runs(old, new)


def test_other_metrics_on_both_sides_are_refused() -> None:
    with pytest.raises(InputError, match=r"'rougeL' .* 'bleu'"):
        compare_runs(run("v1", scored([0.5])), run("v2", scored([0.5], metric="bleu")))


def test_a_pair_of_dates_goes_to_old_and_new(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, object]] = []

    @wraps(muscle_hf.read)
    def read(source: str, **options: object) -> object:
        seen.append((source, options["run"]))
        return run(source, answers("ab", "aa"))

    monkeypatch.setattr("muscle_hf.readers.sources.read", read)
    compare_runs("a", "b", run=("2025", "2026"))
    compare_runs("a", "b", run="2026")
    assert seen == [("a", "2025"), ("b", "2026"), ("a", "2026"), ("b", "2026")]


def test_a_misspelt_option_is_an_error_and_not_ignored(tmp_path: Path) -> None:
    path = _jsonl(tmp_path / "old.jsonl", "aabb")
    with pytest.raises(TypeError, match=r"compare_runs has no argument metrics; did you mean metric\?"):
        compare_runs(path, path, metrics="acc")
    with pytest.raises(TypeError, match=r"did you mean cluster\?"):
        compare_runs(path, path, clusters="question")


def test_options_of_reading_are_not_ignored_where_everything_is_read() -> None:
    task = run("v1", answers("ab", "aa"))
    with pytest.raises(InputError, match="everything is read already, so metric would do nothing"):
        compare_runs(task, task, metric="acc")


def test_a_run_that_was_read_without_its_slices_says_how_to_read_it(tmp_path: Path) -> None:
    old = muscle_hf.read(_jsonl(tmp_path / "old.jsonl", "ab", "aa", topic="x"))
    with pytest.raises(InputError, match=r"read it with slices=\['topic'\]"):
        compare_runs(old, old, by="topic")


def test_a_run_given_twice_is_no_seed_floor(tmp_path: Path) -> None:
    old, new = _jsonl(tmp_path / "old.jsonl", "aabb"), _jsonl(tmp_path / "new.jsonl", "abab")
    with pytest.raises(InputError, match=r"new.jsonl more than once; .*allow_identical=True"):
        compare_runs(old, new, seed_floor=[new, new])
    floor = compare_runs(old, new, seed_floor=[new, new], allow_identical=True).tasks[0].seed_floor
    assert floor is not None
    assert floor.negative_flip_rate == 0


def test_runs_of_the_seed_floor_need_no_slice_column(tmp_path: Path) -> None:
    old, new = _jsonl(tmp_path / "old.jsonl", "aabb", topic="x"), _jsonl(tmp_path / "new.jsonl", "abab", topic="x")
    seeds = [_jsonl(tmp_path / f"{name}.jsonl", "aabb") for name in ("s1", "s2")]
    assert compare_runs(old, new, by="topic", seed_floor=seeds).slices["topic"][0].seed_floor is not None


def test_notes_call_a_task_as_the_table_does(tmp_path: Path) -> None:
    old, new = _jsonl(tmp_path / "old.jsonl", "aabb"), _jsonl(tmp_path / "new.jsonl", "aab", "aaa")
    result = compare_runs(old, new, allow_missing=True)
    assert [note.partition(":")[0] for note in result.notes] == [result.tasks[0].name]


def test_tasks_that_vanished_are_told_apart_from_those_that_cannot_be_compared() -> None:
    old = run("v1", answers("ab", "aa"), answers("ab", "aa", task="b"), answers("ab", "aa", task="gone"))
    tasks = {task.task: task for task in (answers("ab", "aa"), answers("ab", "aa", task="b"))}
    result = compare_runs(old, muscle_hf.readers.Run("v2", "v2", tasks))
    assert (result.missing_tasks, result.not_compared) == (("gone",), {"gone": "v2 lacks it"})
    result = compare_runs(old, muscle_hf.readers.Run("v2", "v2", tasks, not_compared={"gone": "cut off"}))
    assert (result.missing_tasks, result.not_compared) == ((), {"gone": "cut off"})


# The seed floor ------------------------------------------------------------------------------------------------------


def test_a_floor_is_matched_task_by_task() -> None:
    result = sample(tasks=("quiz", "trivia"), floor=True)
    assert all(part.seed_floor and part.seed_floor.runs == 3 for part in (*result.tasks, result.pooled) if part)


def test_a_task_that_a_floor_run_lacks_has_no_floor_and_says_so() -> None:
    def version(name: str, *tasks: str) -> muscle_hf.readers.answers.Run:
        return run(name, *(answers("ab", "aa", task=task) for task in tasks))

    result = compare_runs(
        version("v1", "a", "b"), version("v2", "a", "b"), seed_floor=[version("s1", "a", "b"), version("s2", "a")]
    )
    assert [part.seed_floor is None for part in result.tasks] == [False, True]
    assert "b: no seed floor, 1 of its 2 runs lack the task" in result.notes


def test_a_floor_of_other_tasks_is_refused() -> None:
    old = run("v1", answers("ab", "aa"), answers("ab", "aa", task="b"))
    others = [run(name, answers("ab", "aa", task="x"), answers("ab", "aa", task="y")) for name in ("s1", "s2")]
    with pytest.raises(InputError, match=r"the seed floor has none of the compared tasks \(quiz, b\)"):
        compare_runs(old, old, seed_floor=others)


def test_floor_files_with_names_of_their_own_serve_a_single_task(tmp_path: Path) -> None:
    files = [
        _jsonl(tmp_path / f"{name}.jsonl", said) for name, said in (("old", "aabb"), ("s1", "aaab"), ("s2", "aabb"))
    ]
    part = compare_runs(files[0], files[1], seed_floor=files[1:]).tasks[0]
    assert part.seed_floor is not None
    assert part.seed_floor.negative_flip_rate == 1 / 8


# What it gives -------------------------------------------------------------------------------------------------------


def test_flips_are_written_as_json_lines_with_both_answers(tmp_path: Path) -> None:
    result = compare_runs(_jsonl(tmp_path / "old.jsonl", "aabb"), _jsonl(tmp_path / "new.jsonl", "abab"))
    path = result.to_jsonl(tmp_path / "flips.jsonl")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [(row["id"], row["kind"], row["old_answer"], row["new_answer"]) for row in rows] == [
        (1, "negative_flip", "a", "b"),
        (2, "positive_flip", "b", "a"),
    ]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = sample()
    path = tmp_path / "flips.jsonl"
    path.write_text("old", encoding="utf-8")
    monkeypatch.setattr("muscle_hf.runs.outcomes.Outcomes.flips", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        result.to_jsonl(path)
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path], "no temporary file stays behind"


def test_printing_shows_the_verdict_and_the_table() -> None:
    shown = str(sample(by=True, floor=True))
    assert "the update breaks" in shown
    assert "seed floor, %" in shown
    assert "category" in shown


def test_the_result_cannot_be_changed_by_accident() -> None:
    with pytest.raises(AttributeError):
        sample().level = 0.9  # type: ignore[misc]
