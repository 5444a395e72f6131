"""The benchmark of updates: what is kept after a kill, who is held against whom, and how sure its table is."""

import json
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fresh
import numpy as np
import pytest
import torch

import muscle_hf

ROOT = Path(__file__).parents[2]
KEY = ("minilm", "massive")


@pytest.fixture
def updates(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.updates import (
        __main__,
        cells,
        classifier_rows,
        combining,
        kinds,
        language,
        language_bases,
        language_rows,
        models,
        run,
        smoke,
        strategies,
        table,
        tasks,
    )

    return SimpleNamespace(
        main=__main__,
        cells=cells,
        classifier_rows=classifier_rows,
        combining=combining,
        kinds=kinds,
        language=language,
        language_bases=language_bases,
        language_rows=language_rows,
        models=models,
        run=run,
        smoke=smoke,
        strategies=strategies,
        table=table,
        tasks=tasks,
    )


@pytest.fixture
def work(updates: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A run whose rows are made at once: of four questions the old model is right on two, the new one on three."""
    answers = {"old": "aabb", "plain": "abbb", "control": "abab", "eq1": "aaab"}
    rows = [{"text": str(number), "intent": gold} for number, gold in enumerate("abab")]
    task = updates.tasks.Task(*[rows] * 6)

    def make(name: str) -> Callable[..., Any]:
        def made(setting: Any, options: Any) -> Any:
            logits = np.eye(2, dtype=np.float32)[[("ab").index(letter) for letter in answers[name]]]
            given = updates.models.Answers(logits, ["a", "b"])
            return updates.strategies.Outcome(given, steps=1, labels=4, validation=given)

        return made

    kind = updates.kinds.KINDS["classifier"]
    known = {name: replace(row, make=make(name)) for name, row in kind.strategies.items() if name in answers}
    monkeypatch.setitem(updates.kinds.KINDS, "classifier", replace(kind, strategies=known))

    def save(folder: Path, model: Any, tokenizer: Any, kept: Any) -> None:
        folder.mkdir(parents=True)
        np.savez(folder / "answers.npz", classes=np.array(["a", "b"]), **{k: v.logits for k, v in kept.items()})

    monkeypatch.setattr(updates.models, "save", save)
    monkeypatch.setattr(updates.run.time, "sleep", lambda _: pytest.fail("nobody else is at a cell"))
    update = {"minilm": updates.classifier_rows.UPDATES["minilm"]}
    yield updates.run.Run(update, {"massive": task}, tmp_path, tmp_path / "results", tmp_path / "work")


def test_a_killed_cell_is_not_there_and_the_same_call_goes_on(
    updates: SimpleNamespace, work: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keys, known = (
        work.keys([0, 1], updates.kinds.KINDS["classifier"].strategies),
        updates.kinds.KINDS["classifier"].strategies,
    )
    assert [key[2:] for key in keys[:3]] == [("old", 0), ("old", 1), ("plain", 0)]

    def killed(setting: Any, options: Any) -> None:
        setting.folder.mkdir()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setitem(known, "control", replace(known["control"], make=killed))
        with pytest.raises(KeyboardInterrupt):
            work.work_off(keys, math.inf)
    control = keys[4].file(work.results)
    assert not control.exists() and keys[4].file(work.work, ".part").exists()
    before = {path: path.stat().st_mtime_ns for path in work.results.rglob("*.json")}
    assert len(before) == 4
    assert work.work_off(keys, math.inf)
    assert len(list(work.results.rglob("*.json"))) == len(keys) == 8
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())
    assert not keys[4].file(work.work, ".part").exists()
    cell = json.loads(control.read_text(encoding="utf-8"))
    compared = muscle_hf.compare(old=list("aabb"), new=list("abab"), references=list("abab"))
    assert (cell["n"], cell["accuracy"]) == (4, compared.new_accuracy)
    assert cell["rates"]["negative_flip_rate"] == compared.negative_flip_rate == 0
    assert cell["rates"]["balanced_negative_flip_rate"] == compared.balanced_negative_flip_rate
    assert updates.cells.unpacked(cell["references"]) == list("abab")
    # A cell of before has neither.
    del cell["references"], cell["rates"]["balanced_negative_flip_rate"]
    control.write_text(json.dumps(cell), encoding="utf-8")
    assert updates.cells.read(control).references == ""
    capsys.readouterr()
    updates.main.main(["--table", "--results", str(work.results)])
    shown = capsys.readouterr().out
    assert "(n = 4 test questions; old model 50.0 % right)" in shown
    assert "| plain update: the new model (plain) | 2 | 75.00 [" in shown
    updates.main.main(["--against", "control", "--results", str(work.results)])
    shown = capsys.readouterr().out
    # The old model is right on two of four, the control on all: of its rates there is none, of accuracies there is.
    assert "| plain | 2 |  |  | undefined (2) | -25.00 [" in shown and "| control | 2 |  |  |  |  |" in shown
    with pytest.raises(SystemExit, match="no strategy contrl"):
        updates.main.main(["--against", "contrl", "--results", str(work.results)])


def test_what_a_row_says_of_its_gradients_is_lost_or_made_up(updates: SimpleNamespace, work: Any) -> None:
    assert work.work_off(work.keys([0, 1], updates.kinds.KINDS["classifier"].strategies), math.inf)
    cells = list(updates.cells.read_all(work.results))
    looked = [
        replace(cell, gradients={"gradient_cosine": 0.1 + cell.seed / 5, "share_of_conflicts": cell.seed / 4})
        if cell.strategy == "eq1"
        else cell
        for cell in cells
    ]
    from benchmarks.updates.differences import differences

    lines = differences(looked, ["plain", "eq1-ce"]).splitlines()
    assert next(line for line in lines if line.startswith("| eq1 |")).startswith("| eq1 | 2 | +0.200 | 0.125 |")
    assert next(line for line in lines if line.startswith("| control |")).startswith("| control | 2 |  |  |")
    assert differences(looked, ["eq1-ce"]) == "No cell of eq1-ce is finished."


def test_balanced_rows_have_the_classes_as_they_come_or_too_few_rows(updates: SimpleNamespace, tmp_path: Path) -> None:
    rows = [{"text": str(number), "intent": "rare" if number == 0 else "common"} for number in range(20)]
    update = replace(updates.classifier_rows.UPDATES["minilm"], second_training={"max_steps": 50})
    setting = SimpleNamespace(task=SimpleNamespace(labelled=rows), update=update, seed=3)
    drawn = updates.classifier_rows.balanced_rows(setting)
    assert len(drawn) == 50 * 32
    assert abs(sum(row["intent"] == "rare" for row in drawn) - 800) < 100
    assert drawn == updates.classifier_rows.balanced_rows(setting)


def test_a_cell_that_fails_is_named_and_the_others_are_made(
    updates: SimpleNamespace, work: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known = updates.kinds.KINDS["classifier"].strategies

    def fails(setting: Any, options: Any) -> None:
        raise ValueError("no such thing")

    monkeypatch.setitem(known, "control", replace(known["control"], make=fails))
    assert not work.work_off(work.keys([0], known), math.inf)
    assert [key.strategy for key in work.failed] == ["control"]
    assert "minilm/massive/control, seed 0: failed" in capsys.readouterr().out
    assert {path.stem for path in work.results.rglob("*.json")} == {"old-0", "plain-0", "eq1-0"}
    # Without the models that rows start from nothing waits for ever.
    monkeypatch.setitem(known, "old", replace(known["old"], make=fails))
    again = replace(work, results=work.results / "other", work=work.work / "other")
    assert not again.work_off(again.keys([0], known), math.inf)


def test_time_that_is_up_starts_no_cell_and_a_cell_of_another_process_is_left_to_it(
    updates: SimpleNamespace, work: Any
) -> None:
    keys = work.keys([0], ["old"])
    assert not work.work_off(keys, -math.inf)
    lock = keys[0].file(work.work, ".cell")
    lock.parent.mkdir(parents=True)
    with updates.run.held_file(lock, "a test", "wait"):
        assert not work._run_if_free(keys[0])
    assert not list(work.results.rglob("*.json"))
    assert work._run_if_free(keys[0]) and work.is_done(keys[0])


def test_cells_of_other_settings_or_other_models_are_mixed(
    updates: SimpleNamespace, work: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = updates.kinds.KINDS["classifier"].strategies
    work.work_off(work.keys([0], known), math.inf)
    with monkeypatch.context() as patch:
        patch.setitem(known, "eq1", replace(known["eq1"], options={"temperature": 1.0}))
        with pytest.raises(SystemExit, match=r"eq1-0.json was made with other settings than .*'temperature': 1.0"):
            work.work_off(work.keys([0], known), math.inf)
    other = replace(work, tasks={"massive": updates.tasks.Task(*[[{"text": "0", "intent": "b"}]] * 6)})
    with pytest.raises(SystemExit, match=r"old-0.json was made with other settings than .*'rows'"):
        other.work_off(other.keys([0], known), math.inf)
    cells = list(updates.cells.read_all(work.results))
    changed = [replace(cell, answers="0") if cell.strategy == "plain" else cell for cell in cells]
    with pytest.raises(SystemExit, match="control, seed 0 was made from another 'plain' than is there"):
        updates.table.rendered(changed)
    wrong = [
        replace(cell, right=updates.cells.bits([False] * 4)) if cell.strategy == "control" else cell for cell in cells
    ]
    with pytest.raises(SystemExit, match="control, seed 0 counts other flips"):
        updates.table.rendered(wrong)
    # A model that is made again elsewhere, and answers otherwise.
    key = work.keys([0], ["plain"])[-1]
    (key.file(work.work, "") / "answers.npz").unlink()
    key.file(work.work, "").rmdir()
    monkeypatch.setitem(known, "plain", replace(known["plain"], make=known["old"].make))
    assert not work.work_off([key], math.inf)
    assert not key.file(work.work, "").exists()


@pytest.mark.parametrize("content", ["{", "[]", '{"n": 1}'])
def test_a_file_that_is_no_cell_is_named(updates: SimpleNamespace, tmp_path: Path, content: str) -> None:
    path = tmp_path / "minilm" / "massive" / "old-0.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(SystemExit, match=r"old-0.json is no cell"):
        list(updates.cells.read_all(tmp_path))


def test_a_moved_cell_is_taken_for_another(updates: SimpleNamespace, work: Any) -> None:
    work.work_off(work.keys([0], ["old"]), math.inf)
    path = work.keys([0], ["old"])[0].file(work.results)
    path.rename(path.with_name("old-1.json"))
    with pytest.raises(SystemExit, match="holds another cell: minilm/massive/old, seed 0"):
        list(updates.cells.read_all(work.results))


def test_the_flags_of_a_cell_are_lost(updates: SimpleNamespace) -> None:
    for n in (1, 8, 13):
        flags = np.random.default_rng(n).random(n) < 0.5
        assert (updates.cells.flags(updates.cells.bits(flags), n) == flags).all()


def test_the_page_of_evidence_shows_other_figures_than_the_committed_cells(updates: SimpleNamespace) -> None:
    page = (ROOT / "docs" / "evidence.md").read_text(encoding="utf-8")
    cells = list(updates.cells.read_all(ROOT / "benchmarks" / "updates" / "results"))
    assert updates.table.in_page(page, cells) == page, "python -m benchmarks.updates --into docs/evidence.md"


def test_the_readme_claims_other_figures_than_the_committed_cells(updates: SimpleNamespace) -> None:
    rows: dict[str, dict[int, Any]] = {}
    for cell in updates.cells.read_all(ROOT / "benchmarks" / "updates" / "results"):
        if (cell.update, cell.task) == ("minilm", "massive"):
            rows.setdefault(cell.strategy, {})[cell.seed] = cell
    plain, product, control, bound, average = (
        updates.table.figures(rows[name], rows["old"], range(5))["nfr"]
        for name in ("plain", "texts-product", "texts-new", "bound", "average-new")
    )
    low, high = (control - product).interval()
    both = [updates.table.figures(rows[name], rows["old"], rows["focal-ce"]) for name in ("focal-ce", "plain")]
    gain, seeds = (both[0]["accuracy"] - both[1]["accuracy"]).mean, {6: "six", 8: "eight"}[len(rows["focal-ce"])]
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    for claim in (
        f"the plain update breaks {100 * plain.mean:.1f} % of the answers",
        f'(`preset="product"`) breaks {100 * product.mean:.1f} % at the same accuracy',
        f"breaks {100 * control.mean:.1f} %: {100 * (control - product).mean:.1f} points more "
        f"(95 % interval {100 * low:.1f} to {100 * high:.1f})",
        f"Both models asked together break {100 * bound.mean:.1f} %",
        f"a second new model in the old one's place as a teacher does nearly as much: {100 * average.mean:.1f} %",
        f'(`preset="focal"`, {seeds} seeds): {100 * both[0]["nfr"].mean:.1f} %, {100 * gain:.1f}'.replace(
            ", 0.", ", ."
        ),
    ):
        assert claim in readme


def test_a_copy_of_the_old_model_is_what_better_rows_are_held_against(updates: SimpleNamespace) -> None:
    def cell(right: Any) -> Any:
        right = np.asarray(right)
        kept = updates.cells.bits(right)
        lost = int((old & ~right).sum())
        return SimpleNamespace(right=kept, n=len(right), counts={"negative_flips": lost}, key="")

    number = np.arange(200)
    last = number % 10
    old, new = last < 6, (last > 1) & (last < 9)  # 60 and 70 % right
    answers = {
        "old": old,
        "plain": new,
        "refresh": old,
        "control": new | (number == 0),
        "texts-product": (last > 0) & (last < 9),
    }
    rows = {name: {0: cell(right)} for name, right in answers.items()}
    found = {name: updates.table.figures(row, rows["old"]) for name, row in rows.items()}
    references = {name: rows[name] for name in ("plain", "refresh", "control")}
    name, ours, theirs = updates.table._best_reference("texts-product", rows, references, found)
    assert name == "control" and found["refresh"]["relative"].mean == 0
    assert (ours["nfr"] - theirs["nfr"]).mean == pytest.approx(-0.095)


def test_a_page_without_place_for_the_table_or_what_follows_it_is_written_over(updates: SimpleNamespace) -> None:
    with pytest.raises(SystemExit, match="has no line '## The table'"):
        updates.table.in_page("# A page\n", [])
    made = "a\n\n## The table\n\nNo cell is finished.\n"
    for after in ("", "\n## Next\n\nb\n"):
        assert updates.table.in_page(f"a\n\n## The table\nold\n\nolder\n{after}", []) == made + after
        assert updates.table.in_page(made + after, []) == made + after


def test_linearised_figures_are_off_what_one_answer_more_or_less_changes(updates: SimpleNamespace) -> None:
    random = np.random.default_rng(0)
    old, new = random.random((2, 400)) < 0.7, random.random((2, 400)) < 0.8
    found = updates.table.estimates(old, new)
    for seed in range(2):
        compared = muscle_hf.compare_correct(old=old[seed].tolist(), new=new[seed].tolist())
        assert found["relative"].of_seeds[seed] == pytest.approx(compared.relative_negative_flip_rate)
        assert found["nfr"].of_seeds[seed] == pytest.approx(compared.negative_flip_rate)
    for number in range(5):
        fewer = updates.table.estimates(np.delete(old, number, 1), np.delete(new, number, 1))
        for name, estimate in found.items():
            change = (estimate.of_seeds - fewer[name].of_seeds) * 399
            assert change == pytest.approx(estimate.moved[:, number], rel=0.02, abs=0.01), name


def test_the_interval_of_one_seed_is_that_of_questions_and_equal_seeds_add_nothing(updates: SimpleNamespace) -> None:
    old = np.ones((1, 100), dtype=bool)
    new = np.arange(100)[None] >= 20
    one = updates.table.estimates(old, new)["nfr"].interval()
    half = 1.984 * math.sqrt(0.2 * 0.8 / 99)  # Student's t of 99 degrees of freedom
    assert one == pytest.approx((0.2 - half, 0.2 + half), abs=1e-4)
    three = updates.table.estimates(old.repeat(3, 0), new.repeat(3, 0))["nfr"].interval()
    assert three == pytest.approx(one)


def test_the_variance_over_seeds_and_questions_leaves_one_of_them_out(updates: SimpleNamespace) -> None:
    random = np.random.default_rng(0)
    estimated = []
    for _ in range(200):
        shown = random.normal(size=(1, 100)) + 0.2 * random.normal(size=(4, 1)) + random.normal(size=(4, 100))
        means = shown.mean(1, keepdims=True)
        estimated.append(updates.table.Estimate(means[:, 0], shown - means).variance)
    variances, freedoms = zip(*estimated, strict=True)
    assert np.mean(variances) == pytest.approx(1 / 100 + 0.2**2 / 4 + 1 / 400, rel=0.1)
    assert 3 < np.median(freedoms) < 99


def test_a_class_that_the_old_model_lacks_can_still_win_at_inference(updates: SimpleNamespace) -> None:
    answers = updates.models.Answers
    old = answers(np.log(np.array([[0.9, 0.1], [0.6, 0.4]], dtype=np.float32)), ["a", "b"])
    new = answers(np.log(np.array([[0.1, 0.1, 0.8], [0.1, 0.7, 0.2]], dtype=np.float32)), ["b", "a", "c"])
    held = updates.combining.Validation(old, new, ["c", "a"])
    ways = {name: way(old, new, held).names for name, way in updates.combining.WAYS.items()}
    assert ways["surer"] == ["a", "a"]
    assert ways["product"] == ["c", "a"]  # .8² against .9 · .1; .6 · .7
    assert ways["mean"] == ["c", "a"]  # .8 against (.9 + .1) / 2; (.6 + .7) / 2


def test_the_truth_behind_both_answers_follows_from_how_often_classes_are_confused(updates: SimpleNamespace) -> None:
    def saying(names: str) -> Any:
        return updates.models.Answers(np.eye(2, dtype=np.float32)[[("ab").index(name) for name in names]], ["a", "b"])

    # The old model calls every a a b, the new one is right on 6 of 8 of either class.
    held = updates.combining.Validation(saying("b" * 16), saying("aaaaaabb" + "bbbbbbaa"), "a" * 8 + "b" * 8)
    found = updates.combining.latent_truth(saying("ab"), saying("ba"), held)
    # Of 5 rows a class that lean, as many are right as of all: of the old model 8.5 of 17, of the new one 12.5 of 17.
    right = 5 * 12.5 / 17
    of_new = np.array([6 + right, 7 - right]) / 13
    assert found.logits[1].tolist() == pytest.approx(np.log(10.5 / 13 / 2 * of_new).tolist())
    assert found.logits[0].tolist() == pytest.approx(np.log(2.5 / 13 / 2 * of_new[::-1]).tolist())


def test_the_surer_answer_is_not_taken_or_the_old_one_where_both_are_as_sure(
    updates: SimpleNamespace,
) -> None:
    texts = updates.language.Texts
    found = updates.language_rows.surer(
        texts(["a b c", "d", "e"], np.array([0.8, 0.4, 0.5])), texts(["a", "f", "g"], np.array([0.7, 0.6, 0.5]))
    )
    assert found.names == ["a b c", "f", "g"] and found.confidence.tolist() == [0.8, 0.6, 0.5]


def test_weights_are_rounded_to_other_numbers_than_bits_and_groups_say(updates: SimpleNamespace) -> None:
    weights = torch.tensor([[7.0, -3.4, 0.6, 0.0], [0.0, 0.0, 1.0, -0.3]])
    rounded = updates.language_bases.rounded_weights(weights, 4, 2)
    # By groups of two the steps are 1 and .6 / 7, then none and 1 / 7.
    assert torch.allclose(rounded, torch.tensor([[7.0, -3.0, 0.6, 0.0], [0.0, 0.0, 1.0, -2 / 7]]))
    assert len(updates.language_bases.rounded_weights(torch.randn(1, 4096), 4, 4096).unique()) <= 15


def test_rows_of_one_name_stand_for_one_thing_in_all_kinds(updates: SimpleNamespace) -> None:
    of_classifiers, *others = (kind.strategies for kind in updates.kinds.KINDS.values())
    for rows in others:
        for name in rows.keys() & of_classifiers.keys():
            row, other = rows[name], of_classifiers[name]
            assert (row.is_reference, row.is_model, row.against) == (other.is_reference, other.is_model, other.against)
            assert row.needs == other.needs, name


def test_a_base_is_made_twice_or_while_another_process_makes_it(
    updates: SimpleNamespace, work: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def make(old: Path, folder: Path, options: dict[str, int]) -> None:
        folder.mkdir()
        asked.append((old, dict(options)))
        if len(asked) == 1:
            raise KeyboardInterrupt

    made = updates.strategies.MadeBase(make, {"bits": 4})
    work = replace(work, updates={"minilm": replace(updates.classifier_rows.UPDATES["minilm"], made=made)})
    with pytest.raises(KeyboardInterrupt):
        work.work_off(work.keys([0], ["plain"]), math.inf)
    assert not list((work.work / "bases").glob("*-l6")) and len(list(work.results.rglob("*.json"))) == 1  # the old one
    lock = work.work / "bases" / "minilm-l6.base"
    with updates.run.held_file(lock, "a test", "wait"):
        assert not work._run_if_free(work.keys([0], ["plain"])[-1])
    assert work.work_off(work.keys([0, 1], updates.kinds.KINDS["classifier"].strategies), math.inf)
    assert asked == [(work.bases / "minilm-l3", {"bits": 4})] * 2


def test_made_up_texts_are_known_ones_or_twice_the_same(updates: SimpleNamespace) -> None:
    texts = [row["text"] for row in updates.tasks.massive(None).unlabelled[:50]]
    made = updates.tasks.made_texts(texts, 300)
    assert len({*made}) == 300 and not {*made} & {*texts} and all(made)
    assert {word for text in made for word in text.split()} <= {word for text in texts for word in text.split()}
    assert made == updates.tasks.made_texts(texts, 300)
    with pytest.raises(ValueError, match="2 texts cannot be made of 1"):
        updates.tasks.made_texts(["word"], 2)


@pytest.mark.parametrize("name", ["massive", "clinc150", "clinc150-oos", "clinc150-text", "arithmetic"])
def test_test_questions_are_trained_on_or_too_few(updates: SimpleNamespace, name: str, tmp_path: Path) -> None:
    (tmp_path / "clinc150").mkdir()
    for split, count in (("train", 5), ("val", 5), ("test", 600)):
        rows = [json.dumps({"text": f"{split} {number}", "intent": "oos"}) for number in range(count)]
        (tmp_path / "clinc150" / f"oos_{split}.jsonl").write_text("\n".join(rows), encoding="utf-8")
    task = updates.tasks.TASKS[name](tmp_path)
    parts = (task.old_labelled, task.old_validation, task.labelled, task.validation, task.unlabelled)
    asked = {row["text"] for row in task.test}
    assert len(task.test) >= 1000 and min(map(len, parts)) > 300
    assert not asked & {row["text"] for part in parts for row in part}
    assert not {row["text"] for row in task.unlabelled} & {row["text"] for row in task.labelled + task.validation}
    if name == "clinc150-oos":
        assert sum(row["intent"] == "oos" for row in task.test) == 500


# A worker that only says that it is there, and the process that starts two of them.
WORKER = """#!{python}
import os, signal
from benchmarks.updates import __main__ as updates
updates.run = lambda options: os.write(1, b"there\\n") and signal.pause()
updates.main(["--worker", "inf"])
"""
STARTER = """
import sys
from types import SimpleNamespace
from benchmarks.updates.__main__ import run_side_by_side
sys.executable = sys.argv[1]
run_side_by_side(SimpleNamespace(until=float("inf"), processes=2), [])
"""


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_workers_go_on_when_the_process_that_started_them_is_killed(tmp_path: Path, sent: signal.Signals) -> None:
    worker = tmp_path / "worker"
    worker.write_text(WORKER.format(python=sys.executable), encoding="utf-8")
    worker.chmod(0o755)
    starter = fresh.Process(
        [sys.executable, "-c", STARTER, str(worker)], env=os.environ | {"PYTHONPATH": str(ROOT)}, warm=True
    )
    assert [starter.stdout.readline() for _ in range(2)] == ["there\n"] * 2
    starter.send_signal(sent)
    assert starter.communicate() == ("", "")  # once the last process that can write there has ended


@pytest.mark.slow
def test_every_way_of_training_runs_on_tiny_models(
    updates: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ["old", "plain", "bound", "bare", "control", "eq1", "focal-texts", "refresh", "copied", "random-start"]
    monkeypatch.setattr(updates.smoke, "ROWS", 48)
    monkeypatch.setattr(updates.smoke, "TEXT_ROWS", 32)
    assert updates.main.main(["--smoke", "--strategies", *rows]) == 0
    shown = capsys.readouterr().out
    assert "smoke/massive/refresh, seed 0:" in shown and "failed" not in shown
    assert "| Eq. 1 (MUSCLE) (eq1) | 1 |" in shown
    assert "smoke-language/clinc150-text/random-start, seed 0:" in shown
    assert "| Eq. 1 (MUSCLE), on the whole text (eq1) | 1 |" in shown
