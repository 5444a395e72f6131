"""Logs of inspect_ai: counted against the JSON; letters, epochs, errors, runs that did not end, broken files."""

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from muscle_hf import InputError, compare_runs, read
from muscle_hf.readers.answers import TaskAnswers
from muscle_hf.readers.formats import inspect_log
from muscle_hf.readers.formats.head import Head
from muscle_hf.readers.formats.inspect_ai import read_log

LOGS = Path(__file__).parents[2] / "data" / "inspect_ai"


def _sample(key: int | str, value: Any, *, epoch: int = 1, scorer: str = "match", **more: Any) -> dict[str, Any]:
    scores = {} if value is None else {scorer: {"value": value, "answer": "x"}}
    return {"id": key, "epoch": epoch, "input": f"q{key}", "target": "a", "scores": scores, **more}


def _log(samples: Sequence[Mapping[str, Any]], *, status: str = "success", **more: Any) -> dict[str, Any]:
    run = {"task": "t", "model": "m", "created": "2026-01-01T00:00:00+00:00", **more.pop("eval", {})}
    return {"version": 2, "status": status, "eval": run, "results": {}, **more, "samples": list(samples)}


def _json(file: Path, log: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(log))
    return file


def _eval(file: Path, log: Mapping[str, Any], *, header: str = "header.json") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(header, json.dumps({name: value for name, value in log.items() if name != "samples"}))
        for sample in log["samples"]:
            archive.writestr(f"samples/{sample['id']}_epoch_{sample['epoch']}.json", json.dumps(sample))
    return file


def _task(file: Path, **options: Any) -> TaskAnswers:
    (task,) = read(file, **options).tasks.values()
    return task


def _right_by_hand(folder: Path, scorer: str) -> dict[int, bool]:
    """Count from the archive itself, with nothing of the reader."""
    (file,) = folder.glob("*.eval")
    right = {}
    with zipfile.ZipFile(file) as archive, file.open("rb") as raw:
        for info in archive.infolist():
            if info.filename.startswith("samples/"):
                raw.seek(info.header_offset + 30 + len(info.filename))
                packed = raw.read(info.compress_size)
                sample = json.loads(pa.decompress(packed, info.file_size, "zstd").to_pybytes())
                right[sample["id"]] = sample["scores"][scorer]["value"] == "C"
    return right


@pytest.mark.parametrize("library", [False, True])
def test_a_true_log_is_counted_as_its_json_says(library: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if library:
        pytest.importorskip("inspect_ai")
    else:
        monkeypatch.setattr(inspect_log, "by_library", lambda path: None)
    before, after = (_right_by_hand(LOGS / side, "match") for side in ("old", "new"))
    for side, right in (("old", before), ("new", after)):
        (file,) = (LOGS / side).glob("*.eval")
        (task,) = read_log(Head(file), "t", metric=None, slices=["continent"])
        assert dict(zip(task.ids.to_pylist(), task.scores, strict=True)) == right
        assert task.slices["continent"].to_pylist() == ["Europe"] * 3 + ["elsewhere"] * 3
        assert task.read_texts(np.array([3])) == [("Capital of Peru?", "Lima", "Lima", "Lima")]
    result = compare_runs(LOGS / "old", LOGS / "new", by="continent")
    found = result.overall.comparison
    assert [len(found.negative_flips), len(found.positive_flips)] == [
        sum(before[key] and not after[key] for key in before),
        sum(after[key] and not before[key] for key in before),
    ]
    assert result.old_name == "mockllm/old"
    assert {part.name for part in result.slices["continent"]} == {"Europe", "elsewhere"}


def test_scores_by_name_are_metrics_of_their_own_and_partial_credit_is_a_grade() -> None:
    right = compare_runs(LOGS / "old", LOGS / "new", metric="several/right").tasks[0]
    assert right.metric == "several/right"
    scores = [_task(next((LOGS / side).iterdir()), metric="several/right").scores for side in ("old", "new")]
    assert [side.tolist() for side in scores if side is not None] == [[1, 1, 0, 1, 0, 1], [1, 0, 1, 1, 0.5, 0.5]]
    with pytest.raises(InputError, match="'match', 'several/right', 'several/length'"):
        read(LOGS / "old", metric="nothing")


@pytest.mark.parametrize("write", [_json, _eval])
@pytest.mark.parametrize(
    ("value", "number"),
    [("C", 1), ("I", 0), ("P", 0.5), ("N", 0), (True, 1), (False, 0), ("yes", 1), ("No", 0), ("0.25", 0.25), (3, 3)],
)
def test_values_are_made_numbers_as_inspect_ai_does(tmp_path: Path, write: Any, value: Any, number: float) -> None:
    file = write(tmp_path / ("x.eval" if write is _eval else "x.json"), _log([_sample(1, value), _sample(2, "C")]))
    assert _task(file).scores.tolist() == [number, 1]


@pytest.mark.parametrize("value", ["B", "nan", "inf", [1, 0], ""])
def test_what_is_no_number_is_never_taken_for_wrong(tmp_path: Path, value: Any) -> None:
    file = _json(tmp_path / "x.json", _log([_sample(1, value), _sample(2, "C")]))
    with pytest.raises(InputError, match="no metric gives one number"):
        read(file)


def test_epochs_are_sampled_answers_of_one_instance(tmp_path: Path) -> None:
    values = {1: "CCIC", 2: "IIIC"}
    samples = [_sample(key, v, epoch=e) for key, letters in values.items() for e, v in enumerate(letters, 1)]
    log = _log(samples, eval={"config": {"epochs": 4, "epochs_reducer": ["at_least_2"]}})
    task = _task(_eval(tmp_path / "x.eval", log))
    assert task.scores.tolist() == [0.75, 0.25]
    assert task.samples is not None
    assert task.samples.tolist() == [4, 4]
    assert any("at_least_2" in note for note in task.notes)
    with pytest.raises(InputError, match="stands twice"):
        read(_json(tmp_path / "x.json", _log([*samples, samples[0]])))


@pytest.mark.parametrize("value", [None, float("nan")])
def test_a_sample_without_a_score_is_refused_and_counted(tmp_path: Path, value: Any) -> None:
    failed = _sample(2, value, error={"message": "no connection"})
    file = _json(tmp_path / "x.json", _log([_sample(1, "C"), failed]))
    assert any("1 of 2 samples ended with an error" in note for note in _task(file).notes)
    with pytest.raises(InputError, match="1 of 2 scores"):
        compare_runs(file, _json(tmp_path / "y.json", _log([_sample(1, "C"), _sample(2, "C")])))


@pytest.mark.parametrize(
    ("log", "told"),
    [
        (_log([_sample(1, "C")], status="started"), "still running"),
        (_log([_sample(1, "C")], status="error", error={"message": "no quota"}), r"ended with an error \(no quota\)"),
        (_log([_sample(1, "C")], status="cancelled"), "was cancelled"),
        (_log([_sample(1, "C")], invalidated=True), "marked as invalid"),
        (_log([_sample(1, "C")], results={"total_samples": 2}), "says that 2 were evaluated"),
        (_log([_sample(1, "C")], eval={"dataset": {"samples": 2}}), "says that 2 were evaluated"),
        (_log([_sample(1, "C")], eval={"dataset": {"sample_ids": [1]}, "config": {"epochs": 2}}), "says that 2"),
        (
            _log([_sample(1, "C")], results={"scores": [{"name": "match", "metrics": {"accuracy": {"value": 0.5}}}]}),
            "not those that its header was made from",
        ),
    ],
)
def test_a_log_that_is_not_whole_is_refused_unless_that_is_accepted(tmp_path: Path, log: Any, told: str) -> None:
    whole = _json(tmp_path / "whole.json", _log([_sample(1, "I")]))
    for file in (_json(tmp_path / "x.json", log), _eval(tmp_path / "x.eval", log)):
        with pytest.raises(InputError, match=told):
            compare_runs(whole, file)
        assert any("x." in note for note in compare_runs(whole, file, allow_missing=True).notes)


@pytest.mark.parametrize(
    "run",
    [
        {"dataset": {"samples": 9}, "config": {"limit": 1}},
        {"dataset": {"samples": 9}, "config": {"sample_id": [1]}},
        {"dataset": {"samples": 9, "sample_ids": [1]}},
        {},
    ],
)
def test_a_run_of_chosen_samples_is_whole(tmp_path: Path, run: Any) -> None:
    assert _task(_json(tmp_path / "x.json", _log([_sample(1, "C")], eval=run))).not_whole is None


def test_a_run_that_was_killed_has_no_header_and_is_told_so(tmp_path: Path) -> None:
    file = _eval(tmp_path / "x.eval", _log([_sample(1, "C")]), header="_journal/start.json")
    assert "still running" in str(_task(file).not_whole)


def test_a_sample_that_was_evaluated_again_counts_once(tmp_path: Path) -> None:
    log = _log([_sample(1, "I"), _sample(2, "C"), _sample(1, "C")])
    with pytest.warns(UserWarning, match="Duplicate name"):
        file = _eval(tmp_path / "x.eval", log)
    task = _task(file)
    assert (task.ids.to_pylist(), task.scores.tolist()) == ([1, 2], [1, 1])


def test_messages_are_one_question_although_their_ids_differ(tmp_path: Path) -> None:
    def chat(key: str, text: str) -> dict[str, Any]:
        said = [{"id": key, "role": "user", "content": [{"type": "text", "text": text}]}]
        return {**_sample(1, "C"), "input": said, "output": {"choices": [{"message": {"content": "a"}}]}}

    first, same, other = (
        _task(_json(tmp_path / f"{key}.json", _log([chat(key, text)])))
        for key, text in (("u", "Why?"), ("v", "Why?"), ("w", "How?"))
    )
    assert first.documents == same.documents != other.documents
    assert first.read_texts(np.array([0])) == [("Why?", "a", "x\n\na", "a")]


def test_the_newest_log_of_each_task_counts_and_a_folder_of_two_models_is_refused(tmp_path: Path) -> None:
    for day, value, task in (("01", "I", "t"), ("02", "C", "t"), ("01", "C", "u")):
        run = {"created": f"2026-01-{day}T00:00:00+00:00", "task": task}
        _eval(tmp_path / f"{day}_{task}.eval", _log([_sample(1, value)], eval=run))
    tasks = read(tmp_path).tasks
    assert {name: task.scores.tolist() for name, task in tasks.items()} == {"t": [1], "u": [1]}
    _eval(tmp_path / "z.eval", _log([_sample(1, "C")], eval={"model": "other"}))
    with pytest.raises(InputError, match="2 models"):
        read(tmp_path)


def test_a_broken_log_costs_a_folder_no_more_than_its_task(tmp_path: Path) -> None:
    for name, side in (("C", "old"), ("I", "new")):
        _eval(tmp_path / side / "good.eval", _log([_sample(1, name), _sample(2, "C")], eval={"model": side}))
        _cut(_eval(tmp_path / side / "2026-01-01T00-00-00+00-00_bad_x.eval", _log([_sample(1, "C")])), 200)
        (tmp_path / side / "other.json").write_text("{")
    result = compare_runs(tmp_path / "old", tmp_path / "new")
    assert [part.name for part in result.tasks] == ["t"]
    assert "cut off" in result.not_compared["bad"]


def test_a_task_is_the_same_with_and_without_its_package(tmp_path: Path) -> None:
    for side, task in (("old", "inspect_evals/gsm8k"), ("new", "gsm8k")):
        for name in (task, "other"):
            log = _log([_sample(1, "C")], eval={"task": name, "model": side})
            _eval(tmp_path / side / f"{name.replace('/', '-')}.eval", log)
    assert [part.name for part in compare_runs(tmp_path / "old", tmp_path / "new").tasks] == ["gsm8k", "other"]


def test_first_versions_kept_one_score_whose_name_stands_in_the_results(tmp_path: Path) -> None:
    sample = {**_sample(1, None), "score": {"value": "C"}}
    del sample["scores"]
    assert _task(_json(tmp_path / "x.json", _log([sample], results={"scorer": {"name": "includes"}}))).metric == (
        "includes"
    )


def _cut(file: Path, size: int) -> Path:
    file.write_bytes(file.read_bytes()[:size])
    return file


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda f: _cut(_eval(f, _log([_sample(1, "C")])), 200), "was it cut off"),
        (lambda f: _cut(_json(f, _log([_sample(1, "C")])), 150), "cut off"),
        (lambda f: _eval(f, _log([])), "holds no samples"),
        (lambda f: _json(f, {**_log([]), "samples": None}), "holds no samples"),
        (lambda f: _json(f, _log([{"id": 1}])), "not a log as inspect_ai writes it"),
        (lambda f: _json(f, _log([{**_sample(1, "C"), "scores": 3}])), "not a log as inspect_ai writes it"),
        (lambda f: _json(f, _log([{**_sample(1, "C"), "id": None}])), "an integer or a string is needed"),
        (lambda f: _json(f, {**_log([]), "samples": {"a": 1}}), "not a log as inspect_ai writes it"),
        (lambda f: _json(f, {"eval": 3, "results": [], "samples": [3]}), "not a log as inspect_ai writes it"),
        (lambda f: _json(f, _log([_sample(1, None)])), "inspect score"),
        (lambda f: _json(f, _log([_sample(1, None)], status="error", error={"message": "no quota"})), "no quota"),
        (lambda f: _eval(f, _log([_sample(1, "C")]), header="summaries.json"), "without a header.json"),
    ],
)
def test_a_broken_log_is_told_in_one_line(tmp_path: Path, make: Any, told: str) -> None:
    file = make(tmp_path / "x.log")
    with pytest.raises(InputError, match=told) as caught:
        read(file)
    assert len(str(caught.value).splitlines()) == 1


def test_a_member_that_was_changed_is_found(tmp_path: Path) -> None:
    (true,) = (LOGS / "old").glob("*.eval")
    content = bytearray(true.read_bytes())
    with zipfile.ZipFile(true) as archive:
        info = next(info for info in archive.infolist() if info.filename.startswith("samples/"))
    content[info.header_offset + 60 + len(info.filename)] ^= 0xFF
    file = tmp_path / "x.eval"
    file.write_bytes(content)
    with pytest.raises(InputError, match="no whole"):
        read(file)
