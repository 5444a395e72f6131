"""The demo from end to end on a few rows, and what survives an interruption."""

import io
import json
import os
import shutil
import signal
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fresh
import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftModel

import muscle_hf.demo.run as demo
import muscle_hf.demo.work as work
from muscle_hf import ConfigurationError, compare, generate_answers
from muscle_hf.cli import main
from muscle_hf.demo.contenders import (
    BOUND,
    CONTROL,
    FAIR_CONTROL,
    FULL,
    LONGER_CONTROL,
    NEW,
    OLD,
    STORY,
    UNLABELLED,
    Cast,
    Contender,
    DemoSettings,
)
from muscle_hf.demo.data import read_intents, read_sentences
from muscle_hf.demo.jobs import FACTS, Job, answers_of, jobs_of
from muscle_hf.demo.pretrain import pretraining_texts
from muscle_hf.demo.results import DemoResult, evaluate_answers, read_answers
from muscle_hf.demo.show import sentences, show
from muscle_hf.demo.task import (
    BASE_V1,
    BASE_V2,
    MAX_ANSWER_TOKENS,
    OLD_ADAPTER,
    load_base,
    load_tokenizer,
    read_rows,
    read_unlabelled,
    train_and_save,
)
from muscle_hf.locks import held_folder
from muscle_hf.training.cross_entropy import TrainingProgress
from muscle_hf.update.kept import what_is_kept

TINY = DemoSettings(
    training_rows=64, validation_rows=16, test_rows=24, task_epochs=1, update_epochs=1, unlabelled_ratio=2
)


def _rows(predictions: list[str], references: list[str], confidence: float) -> list[dict[str, object]]:
    return [
        {"prompt": f"q{index}", "prediction": one, "reference": gold, "mean_log_likelihood": confidence}
        for index, (one, gold) in enumerate(zip(predictions, references, strict=True))
    ]


def test_the_shipped_data_are_clinc150_whole() -> None:
    assert [len(read_intents(split)) for split in ("train", "val", "test")] == [15000, 3000, 4500]
    assert len({row["intent"] for row in read_intents("train")}) == 150
    assert len(read_sentences()) == 14750


def test_a_part_of_the_data_has_every_intent_equally_often() -> None:
    counts: dict[str, int] = {}
    for row in read_rows("train", 6000):
        counts[row["completion"]] = counts.get(row["completion"], 0) + 1
    assert len(counts) == 150
    assert set(counts.values()) == {40}


@pytest.mark.slow
def test_unlabelled_prompts_carry_a_label_or_are_among_the_labelled_ones() -> None:
    labelled = {row["prompt"] for row in read_rows("train", 3000)}
    rows = read_unlabelled(3000, 12000)
    assert {tuple(row) for row in rows} == {("prompt",)}
    prompts = {row["prompt"] for row in rows}
    assert not prompts & labelled
    assert len(rows) == len(prompts) == 12000
    assert prompts | labelled == {row["prompt"] for row in read_rows("train")}


def test_a_part_of_the_unlabelled_prompts_is_of_the_first_intents_only() -> None:
    intents = {row["prompt"]: row["completion"] for row in read_rows("train")}
    rows = read_unlabelled(3000, 1500)
    assert len(rows) == 1500
    assert len({intents[row["prompt"]] for row in rows}) == 150


def test_no_test_utterance_is_pretrained_on_or_trained_on() -> None:
    # A few utterances stand in several splits of CLINC150 as published; beyond those nothing may leak.
    published = {row["text"] for row in read_intents("train")} & {row["text"] for row in read_intents("test")}
    seen = set(pretraining_texts())
    assert {row["text"] for row in read_intents("test")} & seen - published <= set(read_sentences())


def test_every_intent_fits_into_the_answer_and_every_prompt_into_the_context() -> None:
    tokenizer = load_tokenizer()
    answers = {row["completion"] for row in read_rows("train")}
    assert max(len(tokenizer(answer + tokenizer.eos_token)["input_ids"]) for answer in answers) <= MAX_ANSWER_TOKENS


def test_the_shipped_models_are_small_and_name_no_machine() -> None:
    for folder in (BASE_V1, BASE_V2):
        assert sum(path.stat().st_size for path in folder.iterdir()) <= 3_000_000
    for path in [*BASE_V1.iterdir(), *BASE_V2.iterdir(), *OLD_ADAPTER.iterdir()]:
        if path.suffix == ".json":
            text = path.read_text(encoding="utf-8")
            assert "/tmp" not in text  # noqa: S108 - looked for, not used
            assert str(Path.home()) not in text


def test_both_versions_share_one_tokenizer() -> None:
    assert (BASE_V1 / "tokenizer.json").read_bytes() == (BASE_V2 / "tokenizer.json").read_bytes()


def test_the_adapter_is_chosen_on_validation_and_never_on_test() -> None:
    gold = list("abcd")
    first, second, third = FULL.candidates
    fine, bad = _rows(list("abcd"), gold, -1.0), _rows(list("xxxx"), gold, -1.0)
    same = {contender.name: fine for contender in FULL.contenders}
    validation = same | {first.name: bad, third.name: bad}
    test = same | {second.name: bad}
    assert evaluate_answers(FULL, validation, test).chosen == second
    # The story has one adapter, and asks no validation set of anybody.
    assert evaluate_answers(STORY, {}, test).chosen == UNLABELLED


def test_the_bound_takes_the_surer_answer_of_old_and_new() -> None:
    gold = ["a", "b"]
    test = {contender.name: _rows(["a", "b"], gold, -1.0) for contender in STORY.contenders}
    test[OLD.name] = _rows(["a", "x"], gold, -0.5)
    test[NEW.name] = [*_rows(["y"], ["a"], -2.0), *_rows(["b"], ["b"], -0.1)]
    result = evaluate_answers(STORY, {}, test)
    assert [row["prediction"] for row in result.answers[BOUND]] == ["a", "b"]


def _result(cast: Cast, wrong: dict[str, int]) -> DemoResult:
    """Return a demo of 20 questions: the old model knows the first ten, and others err on the first few of those."""
    gold = ["a"] * 20
    test = {
        contender.name: _rows(
            ["x"] * wrong.get(contender.name, 0) + ["a"] * (20 - wrong.get(contender.name, 0)), gold, -1
        )
        for contender in cast.contenders
    }
    test[OLD.name] = _rows(["a"] * 10 + ["x"] * 10, gold, -1.0)
    return evaluate_answers(cast, test, test)


def test_p_values_compare_every_row_with_an_adapter_on_what_the_old_model_got_right() -> None:
    result = _result(FULL, {CONTROL.name: 8, LONGER_CONTROL.name: 6, FAIR_CONTROL.name: 5})
    # Eight discordant pairs, all in favour: 2 * (1/2)^8; and so on.
    pairs = {CONTROL.name: 8, LONGER_CONTROL.name: 6, FAIR_CONTROL.name: 5}
    for candidate in FULL.candidates:
        tests = result.p_values[candidate.name]
        assert set(tests) == {NEW.name, BOUND, *(one.name for one in FULL.updates)} - {candidate.name}
        for name, count in pairs.items():
            assert tests[name]["negative_flips"] == pytest.approx(2 * 0.5**count)


def test_the_claim_is_made_against_the_weaker_of_two_controls() -> None:
    better = _result(STORY, {LONGER_CONTROL.name: 4, FAIR_CONTROL.name: 6})
    assert better.better_control(UNLABELLED) == LONGER_CONTROL
    better = _result(STORY, {LONGER_CONTROL.name: 4, FAIR_CONTROL.name: 3})
    assert better.better_control(UNLABELLED) == FAIR_CONTROL


def test_an_adapter_that_loses_to_its_control_is_praised() -> None:
    first, second, third = FULL.candidates
    lost = {NEW.name: 7, CONTROL.name: 5, LONGER_CONTROL.name: 2, FAIR_CONTROL.name: 4}
    lost |= {first.name: 4, second.name: 5, third.name: 3}
    assert sentences(_result(FULL, lost)) == [
        "The update breaks 7 answers that were right. Asking both models each time would break 7.",
        f"- {first.name}: breaks 4, fewer than the 5 of a plain adapter trained for as many steps (paired p = 1, "
        "which may be chance).",
        f"- {second.name}: breaks 5, as many as the 5 of a plain adapter trained for as many steps (paired p = 1).",
        f"- {third.name}: breaks 3, more than the 2 of a plain adapter trained for as many steps (paired p = 1, "
        "which may be chance) and fewer than the 4 of one that got the same prompts, answered by the new model "
        "(paired p = 1, which may be chance).",
        # Four discordant pairs: 2 * (1/2)^4.
        f"Validation chose {third.name}. Against the plain update itself its paired p = 0.12.",
    ]


@pytest.mark.parametrize("cast", [STORY, FULL])
def test_eighty_columns_cut_a_name_an_interval_or_a_p_value(
    cast: Cast, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = _result(cast, {NEW.name: 7, LONGER_CONTROL.name: 5, FAIR_CONTROL.name: 9})
    show(result, Path("demo_output"), fast=False)
    shown = capsys.readouterr().out
    assert max(len(line) for line in shown.splitlines() if "muscle-hf compare" not in line) <= 80
    assert "…" not in shown
    rows = shown.split("\n")
    for name, compared in result.comparisons.items():
        row = next(index for index, line in enumerate(rows) if line.startswith(name))
        low, high = compared.confidence_interval("negative_flip_rate")
        assert f"[{100 * low:.1f}, {100 * high:.1f}]" in rows[row + 1]
    assert "0.0039" in shown  # nine discordant pairs of those against the fair control
    assert "share of all questions that the old model gets right" in " ".join(shown.split())
    assert ("muscle-hf demo --full" in shown) == (cast == STORY)


def test_a_separator_in_an_answer_does_not_break_the_demo_folder(tmp_path: Path) -> None:
    row = {"id": 0, "prediction": "a\u2028b", "reference": "a", "mean_log_likelihood": -1.0}
    path = answers_of(tmp_path, OLD, "test")
    path.parent.mkdir()
    path.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    assert read_answers(path) == [row]


@pytest.mark.slow
def test_an_interrupted_demo_asks_all_utterances_again_or_promises_what_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = [job for job in jobs_of(STORY, TINY) if job.name == "test-old"]
    settings, asked, original = DemoSettings(test_rows=12), [], work.generate_answers

    def interrupted(model: object, tokenizer: object, prompts: list[str], **options: object) -> object:
        if len(asked) == 2:
            asked.append(0)
            raise KeyboardInterrupt
        asked.append(len(prompts))
        return original(model, tokenizer, prompts, **options)

    assert what_is_kept(tmp_path) == "Nothing is kept: the same command starts anew."
    work.do(job, tmp_path / "whole", settings)
    whole = read_answers(answers_of(tmp_path / "whole", OLD, "test"))
    monkeypatch.setattr(work, "generate_answers", interrupted)
    monkeypatch.setattr(work, "_ASKED_AT_ONCE", 4)
    folder = tmp_path / "pieces"
    with pytest.raises(KeyboardInterrupt):
        work.do(job, folder, settings)
    assert what_is_kept(folder) == (
        f"Kept in {folder}: {OLD.name}, test set, 8 answers. The same command goes on there."
    )
    work.do(job, folder, settings)
    assert what_is_kept(folder) == (
        f"Kept in {folder}: {OLD.name}, test set, finished. The same command goes on there."
    )
    assert sum(asked) == 12
    assert [path.name for path in (folder / "predictions").iterdir()] == ["test-old.jsonl"]
    for one, other in zip(read_answers(answers_of(folder, OLD, "test")), whole, strict=True):
        assert one | {"mean_log_likelihood": 0} == other | {"mean_log_likelihood": 0}
        assert one["mean_log_likelihood"] == pytest.approx(other["mean_log_likelihood"], rel=1e-4)


def test_a_second_demo_spoils_the_files_of_the_first_or_of_its_last_process(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with held_folder(tmp_path, "muscle-hf demo", "wait"):
        assert main(["demo", "--fast", "--output-dir", str(tmp_path)]) == 2
    assert f"{tmp_path} is in use: process {os.getpid()} on" in capsys.readouterr().err
    # The demo was killed, and the process that trains for it saves its step.
    (job,) = [job for job in jobs_of(STORY, TINY) if job.name == "new"]
    stages = tmp_path / "stages"
    with held_folder(stages, "muscle-hf demo", "wait", part="new"), pytest.raises(ConfigurationError, match="in use"):
        work.do(job, tmp_path, TINY)
    assert not list(tmp_path.iterdir())


def test_a_damaged_folder_and_a_meaningless_seed_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "new.json").write_text("[1", encoding="utf-8")
    assert main(["demo", "--output-dir", str(tmp_path)]) == 2
    shown = capsys.readouterr().err
    assert "is damaged" in shown
    assert shown.count("\n") == 1
    for seed in ("-1", "4294967296", "x"):
        assert main(["demo", f"--seed={seed}", "--output-dir", str(tmp_path / "new")]) == 2
        assert "is not a seed" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_checkpoint_that_was_cut_off_does_not_stop_the_demo_for_good(tmp_path: Path) -> None:
    class StoppedError(Exception):
        pass

    class Trainer:
        args = SimpleNamespace(output_dir=str(tmp_path), load_best_model_at_end=False)
        callback_handler = SimpleNamespace(callbacks=[])
        is_fsdp_enabled = is_deepspeed_enabled = False

        def remove_callback(self, callback: object) -> None:
            pass

        def add_callback(self, callback: object) -> None:
            pass

        def train(self, resume_from_checkpoint: str | None) -> None:
            raise StoppedError(resume_from_checkpoint)

    state = json.dumps({"global_step": 2, "max_steps": 9, "stateful_callbacks": {}})
    for step, text in ((2, state), (4, None), (5, state[:20])):
        (tmp_path / f"checkpoint-{step}").mkdir()
        for name in ("optimizer.pt", "scheduler.pt"):
            torch.save({}, tmp_path / f"checkpoint-{step}" / name)
        if text is not None:
            (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(text, encoding="utf-8")
    with pytest.raises(StoppedError, match="checkpoint-2"):
        train_and_save(Trainer())


@dataclass(frozen=True)
class _Story:
    """A demo in one process that was interrupted in its second training and went on."""

    folder: Path
    codes: tuple[int, int]  # of both commands
    told: str  # what the interrupted one said
    trained: list[str]  # whose training was begun, in order


def _in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DemoSettings, "fast", classmethod(lambda cls, seed=0: TINY))
    monkeypatch.setattr(demo, "processes_here", lambda: 1)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> _Story:
    trained: list[str] = []
    train_on = work._train_on

    def interrupted(contender: Contender, *arguments: object) -> int:
        trained.append(contender.name)
        if len(trained) == 2:
            raise KeyboardInterrupt
        return train_on(contender, *arguments)

    out, told = tmp_path_factory.mktemp("story") / "out", io.StringIO()
    words = ["demo", "--fast", "--output-dir", str(out)]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()):
        _in_one_process(patch)
        patch.setattr(work, "_train_on", interrupted)
        with redirect_stderr(told):
            first = main(words)
        with redirect_stderr(io.StringIO()):
            second = main(words)
    return _Story(out, (first, second), told.getvalue(), trained)


@pytest.mark.slow
def test_an_interrupted_demo_goes_on_and_leaves_an_adapter_that_plain_peft_loads(
    story: _Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _in_one_process(monkeypatch)
    assert story.codes == (130, 0)
    assert f"{NEW.name}, training, finished; " in story.told
    trained = list(story.trained)
    assert sorted(trained) == sorted([*(one.name for one in STORY.updates), trained[1]])
    out = tmp_path / "out"
    shutil.copytree(story.folder, out)
    story_answers = answers_of(out, UNLABELLED, "test").read_bytes()
    train_on = work._train_on
    monkeypatch.setattr(
        work, "_train_on", lambda contender, *rest: trained.append(contender.name) or train_on(contender, *rest)
    )
    assert main(["demo", "--fast", "--output-dir", str(out), "--full"]) == 0
    # What the story has made is not made again.
    assert len(trained) == len(FULL.updates) + 1
    assert answers_of(out, UNLABELLED, "test").read_bytes() == story_answers
    told = capsys.readouterr()
    names = [contender.name for contender in FULL.updates]
    assert all(name in told.out for name in (NEW.name, *names, BOUND))
    assert "p NFR" in told.out
    assert "4 of 5" in told.err

    evidence = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    answers = {contender.name: read_answers(answers_of(out, contender, "test")) for contender in FULL.contenders}
    old = answers[OLD.name]
    for name in (NEW.name, CONTROL.name):
        again = compare(
            old=[row["prediction"] for row in old],
            new=[row["prediction"] for row in answers[name]],
            references=[row["reference"] for row in old],
        )
        rates = evidence["old_model_against"][name]["rates"]
        assert rates["negative_flip_rate"]["estimate"] == again.negative_flip_rate

    # 64 labelled and 128 unlabelled rows in batches of 32; answers of the old model that do not end are left out.
    facts = {one.name: json.loads((out / one.folder / FACTS).read_text("utf-8")) for one in FULL.updates}
    steps = {name: of_training["optimizer steps"] for name, of_training in facts.items()}
    ended = sum(row["finished"] for row in read_answers(answers_of(out, OLD, "prompts")))
    assert steps[CONTROL.name] == 2
    assert steps[UNLABELLED.name] == -(-(64 + ended) // 32) > 2
    assert steps[LONGER_CONTROL.name] == steps[FAIR_CONTROL.name] == steps[UNLABELLED.name]
    chosen = next(c for c in FULL.contenders if c.name == evidence["chosen_on_validation"])
    card = (out / "adapter" / "README.md").read_text(encoding="utf-8")
    assert chosen.name in card
    assert str(tmp_path) not in card
    assert not {path.name for path in (out / "adapter").iterdir()} & {"training_args.bin", FACTS}
    assert not list(out.rglob("checkpoint-*"))
    prompts = [row["prompt"] for row in read_rows("test", TINY.test_rows)]
    for model in (
        AutoPeftModelForCausalLM.from_pretrained(out / "adapter", dtype=torch.float32),
        PeftModel.from_pretrained(load_base(BASE_V2), out / "adapter"),
    ):
        loaded = generate_answers(
            model, load_tokenizer(), prompts, max_new_tokens=MAX_ANSWER_TOKENS, show_progress=False
        )
        assert [text.strip() for text in loaded.texts] == [row["prediction"] for row in answers[chosen.name]]

    with pytest.raises(ConfigurationError, match=r"seed 0 there, 5 now"):
        demo.run_demo(out, DemoSettings(**TINY.__dict__ | {"seed": 5}))
    capsys.readouterr()
    assert main(["demo", "--output-dir", str(out)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
def test_a_training_that_goes_on_within_an_epoch_draws_another_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = DemoSettings(training_rows=160, validation_rows=16, task_epochs=2)
    job = jobs_of(STORY, settings)[0]
    work.do(job, tmp_path / "whole", settings)
    on_step_end = TrainingProgress.on_step_end
    for last in (3, 8):
        pieces = tmp_path / f"to step {last}"

        def interrupted(
            self: TrainingProgress, args: object, state: Any, control: object, last: int = last, **more: object
        ) -> None:
            on_step_end(self, args, state, control, **more)
            if state.global_step == last:
                os.kill(os.getpid(), signal.SIGTERM)

        with monkeypatch.context() as patch:
            patch.setattr(TrainingProgress, "on_step_end", interrupted)
            with pytest.raises(KeyboardInterrupt):
                work.do(job, pieces, settings)
        assert f"step {last} of 10" in what_is_kept(pieces)
        work.do(job, pieces, settings)
        weights = [folder / NEW.folder / "adapter_model.safetensors" for folder in (tmp_path / "whole", pieces)]
        assert weights[0].read_bytes() == weights[1].read_bytes()


# What trains has been imported by the process that forks both. Each closes the ends of the one that it answers, which
# it has been forked with.
_IN_TWO_PROCESSES = """
import json, multiprocessing, sys
from pathlib import Path
from types import SimpleNamespace
import muscle_hf.demo.processes as processes
import muscle_hf.demo.run as demo
import muscle_hf.demo.work

forking, work, ends = multiprocessing.get_context("fork"), processes._work, []

def pipe():
    both = forking.Pipe()
    ends.append(both[0])
    return both

def close_and_work(connection, do):
    for end in ends:
        end.close()
    work(connection, do)

context = SimpleNamespace(Pipe=pipe, Process=forking.Process)
processes._work = close_and_work
processes.multiprocessing = SimpleNamespace(
    get_context=lambda method: context, parent_process=multiprocessing.parent_process
)
demo.run_demo(Path(sys.argv[1]), demo.DemoSettings(**json.loads(sys.argv[2])), processes=2)
"""


@pytest.mark.slow
def test_two_processes_come_to_another_adapter_than_one(
    story: _Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-W", "ignore", "-c", _IN_TWO_PROCESSES, str(tmp_path), json.dumps(asdict(TINY))]
    fresh.run(command, warm=True, check=True)
    left: list[Job] = []
    monkeypatch.setattr(demo, "run_jobs", lambda jobs, *_: left.extend(jobs))
    result = demo.run_demo(tmp_path, TINY)
    assert not left
    assert result.answers.keys() == {BOUND, *(contender.name for contender in STORY.contenders)}
    for contender in STORY.contenders:
        assert result.answers[contender.name] == read_answers(answers_of(story.folder, contender, "test"))
    for contender in (NEW, *STORY.updates):
        weights = [folder / contender.folder / "adapter_model.safetensors" for folder in (story.folder, tmp_path)]
        assert weights[0].read_bytes() == weights[1].read_bytes()
