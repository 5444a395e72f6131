"""The demo from end to end on a few rows, and what survives an interruption."""

import json
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftModel

import muscle_hf.demo.run as demo
from muscle_hf import ConfigurationError, compare, generate_answers
from muscle_hf.cli import main
from muscle_hf.demo.data import read_intents, read_sentences
from muscle_hf.demo.kept import what_is_kept
from muscle_hf.demo.pretrain import pretraining_texts
from muscle_hf.demo.run import (
    BOUND,
    CANDIDATES,
    CONTENDERS,
    CONTROL,
    LONGER_CONTROL,
    NEW,
    OLD,
    UNLABELLED,
    UPDATES,
    DemoSettings,
    evaluate_answers,
)
from muscle_hf.demo.show import sentences
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
    first, second, third = CANDIDATES
    fine, bad = _rows(list("abcd"), gold, -1.0), _rows(list("xxxx"), gold, -1.0)
    same = {contender.name: fine for contender in CONTENDERS}
    validation = same | {first.name: bad, third.name: bad}
    test = same | {second.name: bad}
    assert evaluate_answers(validation, test).chosen == second


def test_the_bound_takes_the_surer_answer_of_old_and_new() -> None:
    gold = ["a", "b"]
    test = {contender.name: _rows(["a", "b"], gold, -1.0) for contender in CONTENDERS}
    test[OLD.name] = _rows(["a", "x"], gold, -0.5)
    test[NEW.name] = [*_rows(["y"], ["a"], -2.0), *_rows(["b"], ["b"], -0.1)]
    result = evaluate_answers(test, test)
    assert [row["prediction"] for row in result.answers[BOUND]] == ["a", "b"]


def _result(wrong: dict[str, int]) -> demo.DemoResult:
    """Return a demo of 20 questions: the old model knows the first ten, and others err on the first few of those."""
    gold = ["a"] * 20
    test = {
        contender.name: _rows(
            ["x"] * wrong.get(contender.name, 0) + ["a"] * (20 - wrong.get(contender.name, 0)), gold, -1
        )
        for contender in CONTENDERS
    }
    test[OLD.name] = _rows(["a"] * 10 + ["x"] * 10, gold, -1.0)
    return evaluate_answers(test, test)


def test_p_values_compare_with_its_own_control_on_what_the_old_model_got_right() -> None:
    result = _result({CONTROL.name: 8, LONGER_CONTROL.name: 6})
    # Eight discordant pairs, all in favour: 2 * (1/2)^8; and six.
    for candidate in CANDIDATES:
        pairs = 6 if candidate == UNLABELLED else 8
        assert set(result.p_values[candidate.name]) == {candidate.control.name, NEW.name}
        assert result.p_values[candidate.name][candidate.control.name]["negative_flips"] == pytest.approx(
            2 * 0.5**pairs
        )


def test_an_adapter_that_loses_to_its_control_is_praised() -> None:
    first, second, third = CANDIDATES
    lost = {NEW.name: 7, CONTROL.name: 5, LONGER_CONTROL.name: 2, first.name: 4, second.name: 5, third.name: 3}
    assert sentences(_result(lost)) == [
        "The update breaks 7 answers that were right. Asking both models each time would break 7.",
        f"- {first.name}: breaks 4, fewer than the 5 of a plain adapter trained for as many steps (paired p = 1, "
        "which may be chance).",
        f"- {second.name}: breaks 5, as many as the 5 of a plain adapter trained for as many steps (paired p = 1).",
        f"- {third.name}: breaks 3, more than the 2 of a plain adapter trained for as many steps (paired p = 1, "
        "which may be chance).",
        # Four discordant pairs: 2 * (1/2)^4.
        f"Validation chose {third.name}. Against the plain update itself its paired p = 0.12.",
    ]


def test_a_separator_in_an_answer_does_not_break_the_demo_folder(tmp_path: Path) -> None:
    row = {"id": 0, "prediction": "a\u2028b", "reference": "a", "mean_log_likelihood": -1.0}
    path = tmp_path / "predictions" / "test-old.jsonl"
    path.parent.mkdir()
    path.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    assert demo._ask(OLD, tmp_path, "test", read_rows("test", 1)) == [row]


def test_an_interrupted_demo_asks_all_utterances_again_or_promises_what_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, asked, original = read_rows("test", 12), [], demo.generate_answers

    def interrupted(model: object, tokenizer: object, prompts: list[str], **options: object) -> object:
        if len(asked) == 2:
            asked.append(0)
            raise KeyboardInterrupt
        asked.append(len(prompts))
        return original(model, tokenizer, prompts, **options)

    assert what_is_kept(tmp_path) == "Nothing is kept: the same command starts anew."
    whole = demo._ask(OLD, tmp_path / "whole", "test", rows)
    monkeypatch.setattr(demo, "generate_answers", interrupted)
    monkeypatch.setattr(demo, "_ASKED_AT_ONCE", 4)
    folder = tmp_path / "pieces"
    with pytest.raises(KeyboardInterrupt):
        demo._ask(OLD, folder, "test", rows)
    (folder / NEW.folder).mkdir()
    (folder / NEW.folder / "finished").touch()
    assert what_is_kept(folder) == (
        f"Kept in {folder}: {NEW.name}, finished; the test set asked of {OLD.name}, 8 answers. The same command goes "
        "on there."
    )
    pieces = demo._ask(OLD, folder, "test", rows)
    assert sum(asked) == 12
    assert [path.name for path in (folder / "predictions").iterdir()] == ["test-old.jsonl"]
    for one, other in zip(pieces, whole, strict=True):
        assert one | {"mean_log_likelihood": 0} == other | {"mean_log_likelihood": 0}
        assert one["mean_log_likelihood"] == pytest.approx(other["mean_log_likelihood"], rel=1e-4)


def test_a_damaged_folder_and_a_meaningless_seed_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "settings.json").write_text("[1", encoding="utf-8")
    assert main(["demo", "--output-dir", str(tmp_path)]) == 2
    assert "is damaged" in capsys.readouterr().err
    for seed in ("-1", "4294967296", "x"):
        assert main(["demo", f"--seed={seed}", "--output-dir", str(tmp_path / "new")]) == 2
        assert "is not a seed" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_checkpoint_that_was_cut_off_does_not_stop_the_demo_for_good(tmp_path: Path) -> None:
    class StoppedError(Exception):
        pass

    class Trainer:
        args = type("Arguments", (), {"output_dir": str(tmp_path)})

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
            (tmp_path / f"checkpoint-{step}" / name).touch()
        if text is not None:
            (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(text, encoding="utf-8")
    with pytest.raises(StoppedError, match="checkpoint-2"):
        train_and_save(Trainer())


@pytest.mark.slow
def test_an_interrupted_demo_goes_on_and_leaves_an_adapter_that_plain_peft_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(DemoSettings, "fast", classmethod(lambda cls, seed=0: TINY))
    trained: list[str] = []
    train_update = demo._train_update

    def interrupted(contender: demo.Contender, *arguments: object) -> int:
        trained.append(contender.name)
        if contender == UPDATES[1] and trained.count(contender.name) == 1:
            raise KeyboardInterrupt
        return train_update(contender, *arguments)

    monkeypatch.setattr(demo, "_train_update", interrupted)
    arguments = ["demo", "--fast", "--output-dir", str(tmp_path / "out")]
    assert main(arguments) == 130
    assert main(arguments) == 0
    names = [contender.name for contender in UPDATES]
    assert trained == [*names[:2], *names[1:]]
    shown = capsys.readouterr().out
    assert "inconsistency" in shown
    assert "p, NFR" in shown
    assert all(name in shown for name in (NEW.name, *names, BOUND))

    out = tmp_path / "out"
    evidence = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    answers = {
        contender.name: [
            json.loads(line)
            for line in (out / "predictions" / f"test-{contender.folder}.jsonl").read_text("utf-8").splitlines()
        ]
        for contender in CONTENDERS
    }
    old = answers[OLD.name]
    for name in (NEW.name, CONTROL.name):
        again = compare(
            old=[row["prediction"] for row in old],
            new=[row["prediction"] for row in answers[name]],
            references=[row["reference"] for row in old],
        )
        rates = evidence["old_model_against"][name]["rates"]
        assert rates["negative_flip_rate"]["estimate"] == again.negative_flip_rate

    # 64 labelled and 128 unlabelled rows in batches of 32; some answers of the old model may not end.
    steps = {one.name: json.loads((out / one.folder / "finished").read_text("utf-8"))["steps"] for one in UPDATES}
    assert steps[CONTROL.name] == 2
    assert 2 < steps[UNLABELLED.name] <= 6
    assert steps[LONGER_CONTROL.name] == steps[UNLABELLED.name]
    chosen = next(c for c in CONTENDERS if c.name == evidence["chosen_on_validation"])
    card = (out / "adapter" / "README.md").read_text(encoding="utf-8")
    assert chosen.name in card
    assert str(tmp_path) not in card
    assert not {path.name for path in out.rglob("*")} & {"training_args.bin"} & set((out / "adapter").iterdir())
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
