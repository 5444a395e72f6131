"""An update on tiny models from end to end, what survives an interruption, and what is refused before any work."""

import csv
import dataclasses
import io
import json
import math
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import fresh
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from local_hub import serve
from peft import (
    AutoPeftModelForCausalLM,
    EvaConfig,
    LoraConfig,
    PeftConfig,
    PeftModel,
    PromptTuningConfig,
    get_peft_model,
)
from safetensors.torch import load_file
from tiny_models import CHAT_TEMPLATE, tiny_adapter, tiny_llama, tiny_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, TrainerCallback
from trl import SFTConfig, SFTTrainer

import muscle_hf.prediction.answer_file as answering_module
import muscle_hf.update.arguments as words_module
import muscle_hf.update.models as models_module
import muscle_hf.update.run as running
import muscle_hf.update.training as training_module
from muscle_hf import CompatibilityConfig, choose_answers, compare_runs, generate_answers
from muscle_hf.cli import main
from muscle_hf.errors import ConfigurationError, InputError, ModelMismatchError, UnsupportedAdapterError
from muscle_hf.locks import LOCK, held_folder
from muscle_hf.models import embedding_rows
from muscle_hf.models.ranks import pad_rank
from muscle_hf.prediction.questions import delimiter_of
from muscle_hf.training.checkpoints.kept_work import left_of_answers
from muscle_hf.update.encoding import encode_examples, optimizer_steps
from muscle_hf.update.estimate import cache_bytes, memory, readable, trainable_parameters, weight_bytes
from muscle_hf.update.evidence import OLD, weigh, write_evidence
from muscle_hf.update.models import fit_to, is_same, read_base
from muscle_hf.update.options import read_options
from muscle_hf.update.plan import Plan, make_plan
from muscle_hf.update.rows import Example, as_dataset, read_examples
from muscle_hf.update.settings import UpdateSettings
from muscle_hf.update.show import say, sentence
from muscle_hf.update.splits import split_examples
from muscle_hf.update.stage import Stage
from muscle_hf.update.stages import Stages
from muscle_hf.update.task_adapter import carried_over

WORDS = ("balance", "transfer", "freeze", "translate", "weather", "table")


def _rows(count: int = 30) -> list[dict[str, Any]]:
    return [
        {"prompt": f"what is it, number {number}?\n", "completion": WORDS[number % len(WORDS)]}
        for number in range(count)
    ]


def _write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two bases with tokenizers, a task adapter on each, and rows."""
    folder = tmp_path_factory.mktemp("models")
    tokenizer = tiny_tokenizer(chat_template=CHAT_TEMPLATE)
    for version in (1, 2):
        base = tiny_llama(version, tokenizer, hidden_size=16, layers=1, initializer_range=0.1)
        base.save_pretrained(folder / f"base-v{version}")
        tokenizer.save_pretrained(folder / f"base-v{version}")
        loaded = LlamaForCausalLM.from_pretrained(folder / f"base-v{version}")
        tiny_adapter(loaded, version, r=2, lora_alpha=6, lora_dropout=0.0, use_rslora=True).save_pretrained(
            folder / f"task-on-v{version}"
        )
    _write_rows(folder / "data.jsonl", _rows())
    _write_rows(folder / "prompts.jsonl", [{"prompt": "what else?\n"}])
    return folder


def _words(models: Path, out: Path, *more: str) -> list[str]:
    return [
        *("--old-adapter", str(models / "task-on-v1"), "--new-base", str(models / "base-v2")),
        *("--dataset", str(models / "data.jsonl"), "--output-dir", str(out)),
        *("--num-train-epochs", "2", "--per-device-train-batch-size", "4", "--use-cpu", "true", *more),
    ]


def _plan(models: Path, out: Path, *more: str) -> Plan:
    return make_plan(read_options(_words(models, out, *more)))


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_example_file_names_options_that_exist_and_models_that_are_real(tmp_path: Path) -> None:
    file = Path(__file__).parents[2] / "examples" / "configs" / "update.yaml"
    options = read_options(["--config", str(file), "--output-dir", str(tmp_path / "out")])
    settings, config = options.settings, options.compatibility_config(tmp_path)
    assert re.fullmatch(r"[\w.-]+/[\w.-]+", settings.new_base)
    assert (config.load_best_model_at_end, settings.control) == (True, True)


# What is asked for


def test_each_option_of_the_training_is_reachable_from_the_command_line_and_from_a_file(
    models: Path, tmp_path: Path
) -> None:
    own = {"old_adapter", "new_base", "dataset", "output_dir"}
    fixed = {"push_to_hub", "resume_from_checkpoint", "fsdp", "deepspeed", "use_cpu", "num_train_epochs"}
    # What transformers itself makes an error or a warning of, given on its own.
    fixed |= {"local_rank", "do_train", "do_eval", "do_predict", "debug", "per_device_train_batch_size"}
    fixed |= {"include_num_input_tokens_seen"}  # "no" comes back as False
    plain: dict[str, Any] = {
        one.name: one.default
        for one in dataclasses.fields(CompatibilityConfig)
        if one.init and isinstance(one.default, bool | int | float | str) and one.name not in own | fixed
    }
    assert {"mask", "divergence", "temperature", "cross_entropy_weight", "learning_rate", "packing"} <= plain.keys()
    file = tmp_path / "update.yaml"
    file.write_text(json.dumps(plain), encoding="utf-8")
    words = _words(models, tmp_path, "--validation-share", "0")
    from_file = read_options([*words, "--config", str(file)]).given
    for dashes in (False, True):
        options = [f"--{name.replace('_', '-') if dashes else name}={value}" for name, value in plain.items()]
        from_words = read_options([*words, *options]).given
        for name, value in plain.items():
            assert from_file[name] == value
            assert from_words[name] == value
    # And those without a plain default by name.
    names = {action.dest for action in words_module._Parser((CompatibilityConfig,))._actions}
    assert {one.name for one in dataclasses.fields(CompatibilityConfig) if one.init} <= names


def test_the_command_line_wins_over_the_file_and_the_file_over_the_default(models: Path, tmp_path: Path) -> None:
    file = tmp_path / "update.yaml"
    file.write_text(
        f"old_adapter: {models}/task-on-v1\nnew_base: {models}/base-v2\ndataset: {models}/data.jsonl\n"
        f"output_dir: {tmp_path}/out\nuse_cpu: true\nlearning_rate: 3e-4\nmask: old_right\ncontrol: false\n"
        "task_target_modules: all-linear\nmodel_init_kwargs: {dtype: bfloat16}\nmax_length: null\n"
    )
    options = read_options(["--config", str(file), "--mask", "none", "--task-learning-rate=1e-3"])
    config = options.compatibility_config(tmp_path / "x")
    assert (config.mask, config.learning_rate, config.temperature) == ("none", 3e-4, 2.0)
    assert (config.max_length, config.output_dir) == (None, str(tmp_path / "x"))
    assert config.model_init_kwargs == {"dtype": "bfloat16"}
    settings = options.settings
    assert (settings.control, settings.task_learning_rate, settings.task_target_modules) == (
        False,
        1e-3,
        ["all-linear"],
    )
    # The plain training differs in nothing but its loss.
    plain = options.cross_entropy_config(tmp_path / "x")
    assert (plain.learning_rate, plain.completion_only_loss, plain.metric_for_best_model) == (3e-4, False, "eval_loss")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rat: 1", "there is no option learning_rat. Did you mean learning_rate?"),
        ("new-base: x", "Did you mean new_base?"),
        ("mask: old_right\nmask: none", "mask stands there twice"),
        ("- a\n- b", "must hold options as"),
        ("", "must hold options as"),
        ("a: [1", "not YAML"),
        ("learning_rate: fast", "argument --learning_rate"),
        ("test_share: [1]", "test_share is [1]"),
        ("control: 3", "control is 3"),
        ("env: 3", "env must hold variables"),
    ],
)
def test_a_faulty_file_is_refused_and_says_what_is_wrong(
    models: Path, tmp_path: Path, text: str, message: str
) -> None:
    file = tmp_path / "update.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises((InputError, ConfigurationError), match=re.escape(message)):
        read_options([*_words(models, tmp_path), "--config", str(file)])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--learning-rat", "1"], "there is no option --learning-rat. Did you mean --learning-rate?"),
        (["--learning", "1"], "there is no option --learning."),
        (["--mask", "student_wrnog"], "'none'). Did you mean 'student_wrong'?"),
        (["extra"], "'extra' is no option"),
        (["--kind", "guess"], "argument --kind"),
        (["--mask", "nobody"], "nobody"),
        (["--test-share", "1.5"], "test_share is 1.5"),
        (["--test-share", "nan"], "test_share is nan"),
        (["--test-share", "0.5", "--validation-share", "0.5"], "must be below 1"),
        (["--test-share", "0"], "nothing can be compared"),
        (["--test-share", "0.1", "--test-dataset", "x.jsonl"], "test_share would do nothing"),
        (["--test-split", "test"], "test_split would do nothing"),
        (["--task-epochs", "0"], "task_epochs is 0"),
        (["--task-epochs", "1", "--new-adapter", "x"], "task_epochs would do nothing"),
        (["--kind", "choice", "--max-new-tokens", "3"], "max_new_tokens would do nothing"),
        (["--normalization", "characters"], "normalization would do nothing"),
        (["--ask-batch-size", "0"], "ask_batch_size is 0"),
        (["--split-seed", "-1"], "split_seed is -1"),
        (["--push-to-hub"], "push_to_hub cannot be given"),
        (["--full-fine-tune"], "full_fine_tune cannot be given: an update makes an adapter"),
        (["--resume-from-checkpoint", "x"], "goes on by itself"),
        (["--save-only-model", "true"], "could not go on from weights alone"),
        (["--enable-jit-checkpoint", "true"], "saves by itself"),
        (
            ["--save-strategy", "steps", "--eval-strategy", "epoch"],
            "save_strategy=steps and eval_strategy=epoch do",
        ),
        (["--eval-steps", "5", "--save-steps", "10"], "save_steps=10 and eval_steps=5 differ"),
        (["--eval-steps", "5", "--save-strategy", "epoch"], "Leave one of --save-strategy and --eval-strategy out"),
        (["--eval-strategy", "no"], "would do nothing"),
        (["--num-train-epochs", "0"], "trains nothing"),
        (["--per-device-train-batch-size", "0"], "must be 1 or more"),
        (["--model-init-kwargs", '{"dtype": "bfloat"}'], "'bfloat' is no type of torch"),
        (["--metric-for-best-model", "eval_cros_entropy"], "Did you mean eval_cross_entropy?"),
        (["--metric-for-best-model", "negative_flip_rate"], "needs the answers of --measure-flips"),
        (["--measure-flips", "--validation-share", "0"], "measure_flips asks the validation rows"),
        (["--unlabelled-split", "train"], "unlabelled_split would do nothing"),
        (["--eval-strategy", "epoch", "--validation-share", "0"], "has nothing to evaluate on"),
        (
            ["--teacher", "product", "--validation-share", "0"],
            "fitted on the validation rows, and validation_share is 0",
        ),
        (["--product-temperatures", "1", "2"], "product_temperatures=[1.0, 2.0] would be ignored without a product"),
        (["--teacher", "product", "--product-temperatures", "1"], "must be two positive numbers"),
        (["--cross-entropy-weight", "-1"], "cross_entropy_weight"),
        (["--lr-scheduler-type", "sideways"], "sideways"),
        (["--config"], "--config takes one YAML file"),
        (["--config", "a.yaml", "--config=b.yaml"], "--config takes one YAML file"),
        (["--config", "nowhere.yaml"], "nowhere.yaml cannot be read"),
    ],
)
def test_options_that_mean_nothing_are_refused(models: Path, tmp_path: Path, words: list[str], message: str) -> None:
    with pytest.raises((InputError, ConfigurationError), match=re.escape(message)):
        read_options(_words(models, tmp_path, *words))


def test_a_bare_no_of_yaml_is_no_strategy(models: Path, tmp_path: Path) -> None:
    file = tmp_path / "update.yaml"
    file.write_text("eval_strategy: no\nvalidation_share: 0\nsave_strategy: steps\nsave_steps: 3", encoding="utf-8")
    config = read_options([*_words(models, tmp_path), "--config", str(file)]).compatibility_config(tmp_path)
    assert (config.eval_strategy, config.save_strategy, config.save_steps) == ("no", "steps", 3)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--save-strategy steps", ("steps", 100, "steps", 100, True)),
        ("--save-strategy steps --save-steps 5", ("steps", 5, "steps", 5, True)),
        ("--save-steps 5", ("steps", 5, "steps", 5, True)),
        ("--eval-strategy steps", ("steps", 100, "steps", 100, True)),
        ("--eval-strategy steps --eval-steps 5", ("steps", 5, "steps", 5, True)),
        ("--eval-steps 5", ("steps", 5, "steps", 5, True)),
        ("--eval-steps 5 --save-steps 10 --load-best-model-at-end false", ("steps", 10, "steps", 5, False)),
        ("--save-steps 0.1", ("steps", 0.1, "steps", 0.1, True)),
        ("--save-strategy epoch", ("epoch", 500, "epoch", None, True)),
        ("--save-strategy best", ("best", 500, "epoch", None, True)),
        ("--save-strategy no", ("no", 500, "epoch", None, False)),
        ("--save-strategy no --eval-steps 5", ("no", 500, "steps", 5, False)),
        (
            "--save-strategy steps --eval-strategy epoch --load-best-model-at-end false",
            ("steps", 500, "epoch", None, False),
        ),
        ("--save-steps 5 --validation-share 0", ("steps", 5, "no", None, False)),
        ("--save-strategy steps --validation-share 0", ("steps", 500, "no", None, False)),
    ],
)
def test_a_strategy_on_its_own_is_refused_or_saves_what_is_not_evaluated(
    models: Path, tmp_path: Path, words: str, expected: tuple[Any, ...]
) -> None:
    options = read_options(_words(models, tmp_path, *words.split()))
    for config in (options.compatibility_config(tmp_path), options.cross_entropy_config(tmp_path)):
        found = (config.save_strategy, config.save_steps, config.eval_strategy, config.eval_steps)
        assert (*found, config.load_best_model_at_end) == expected


def test_without_validation_rows_the_last_epoch_is_kept(models: Path, tmp_path: Path) -> None:
    config = read_options(_words(models, tmp_path, "--validation-share", "0")).compatibility_config(tmp_path)
    assert (config.eval_strategy, config.save_strategy, config.load_best_model_at_end) == ("no", "epoch", False)
    config = read_options(_words(models, tmp_path)).compatibility_config(tmp_path)
    assert (config.eval_strategy, config.load_best_model_at_end) == ("epoch", True)
    assert (config.metric_for_best_model, config.greater_is_better) == ("eval_cross_entropy", False)


# The rows


def _examples(prompts: Sequence[str]) -> list[Example]:
    return [
        Example(number, f"row {number}", prompt, "yes", None, True, number, row={})
        for number, prompt in enumerate(prompts)
    ]


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    prompts=st.lists(st.sampled_from("abcdefghijkl"), min_size=12, max_size=60),
    test_share=st.sampled_from([0.2, 0.35]),
    validation_share=st.sampled_from([0.0, 0.1]),
    seed=st.integers(0, 5),
)
def test_no_prompt_stands_on_two_sides_and_no_row_is_lost(
    prompts: list[str], test_share: float, validation_share: float, seed: int
) -> None:
    prompts = [*"abcdefghijkl", *prompts]
    splits = split_examples(_examples(prompts), test_share=test_share, validation_share=validation_share, seed=seed)
    sides = [{one.prompt for one in part} for _, part in splits]
    assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]
    assert sorted(one.number for _, part in splits for one in part) == list(range(len(prompts)))
    assert len(splits.test) >= round(test_share * len(prompts))
    # The order of the file decides nothing.
    shuffled = split_examples(
        _examples(prompts)[::-1], test_share=test_share, validation_share=validation_share, seed=seed
    )
    assert shuffled == splits


def test_another_split_seed_gives_other_test_rows() -> None:
    examples = _examples([f"question {number}" for number in range(100)])
    first, again, other = (
        split_examples(examples, test_share=0.2, validation_share=0.1, seed=seed) for seed in (0, 0, 1)
    )
    assert first == again
    assert {one.number for one in first.test} != {one.number for one in other.test}


def test_what_the_test_set_asks_is_not_trained_on_and_that_is_said() -> None:
    splits = split_examples(
        _examples(["a", "b", "c", " A\n"]), test_share=0, validation_share=0, seed=0, test=_examples(["d", "a"])
    )
    assert [one.prompt for one in splits.training] == ["b", "c"]
    assert [one.prompt for one in splits.known] == ["a"]
    (note,) = splits.notes
    assert note.startswith("1 of the 2 test rows are asked in the data to train on too, for instance 'a': 2 rows are")
    splits = split_examples(_examples(["a", "b", "a", "c"]), test_share=0.3, validation_share=0, seed=0)
    assert splits.notes == ("2 rows share their prompt with another; such rows are kept on one side",)


def test_a_split_without_rows_is_refused() -> None:
    with pytest.raises(InputError, match="the split leaves no training rows"):
        split_examples(_examples(["a", "a"]), test_share=0.5, validation_share=0, seed=0)
    with pytest.raises(InputError, match="the split leaves no validation rows"):
        split_examples(_examples(["a", "b", "c"]), test_share=0.3, validation_share=0.1, seed=0)
    with pytest.raises(InputError, match="the test set asks all 1 rows of --dataset"):
        split_examples(_examples(["a"]), test_share=0, validation_share=0, seed=0, test=_examples(["a"]))


def test_files_of_all_kinds_give_the_same_rows(tmp_path: Path) -> None:
    rows = [{"prompt": 'a "b",\nc ', "completion": " x"}, {"prompt": "2024-01-01", "completion": "1"}]
    lines = _write_rows(tmp_path / "rows.jsonl", rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    with (tmp_path / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["completion", "prompt"])
        writer.writeheader()
        writer.writerows(rows)
    read = [
        read_examples(str(path), None, default_split="train", choices=False)[0]
        for path in (lines, tmp_path / "rows.parquet", tmp_path / "rows.csv")
    ]
    assert [(one.prompt, one.answer) for one in read[0]] == [(row["prompt"], row["completion"]) for row in rows]
    assert read[0] == read[1] == read[2]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({}, r"row 1: there is no 'w' \(weight_column\); the row has prompt, completion\."),
        ({"w": "2"}, "row 1: w is '2'; a number is needed"),
    ],
)
def test_a_column_of_weights_that_is_not_there_is_told_from_one_without_numbers(
    tmp_path: Path, row: dict[str, Any], message: str
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"prompt": "a", "completion": "b"} | row) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_examples(str(file), None, default_split="train", choices=False, weight="w")


def test_a_conversation_is_asked_up_to_its_last_message(tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "hello?"}, {"role": "assistant", "content": "yes "}]
    file = _write_rows(tmp_path / "rows.jsonl", [{"messages": talk}])
    ((one,), _) = read_examples(str(file), None, default_split="train", choices=False)
    assert (one.row, one.prompt, one.answer) == ({"messages": talk}, talk[:1], "yes ")
    file = _write_rows(tmp_path / "rows.jsonl", [{"prompt": talk[:1], "completion": talk[1:]}])
    ((one,), _) = read_examples(str(file), None, default_split="train", choices=False)
    assert (one.prompt, one.answer) == (talk[:1], "yes ")


_USER, _ASSISTANT = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "is empty|no rows"),
        (
            [{"text": "a"}],
            r"has the columns text, which is no shape that is known: prompt and .* --columns prompt=NAME",
        ),
        ([{"prompt": "a", "completion": 3}], "row 1: completion is 3; a text is needed"),
        ([{"prompt": "a", "completion": "b"}, {"prompt": "a", "completion": " "}], "row 2 has an empty completion"),
        ([{"prompt": "a", "completion": "b"}, {"prompt": " ", "completion": "b"}], "row 2: prompt is ' '"),
        ([{"prompt": "a", "completion": "b"}, *[{"prompt": "a"}] * 3], "2 more of the 4 rows cannot be read either"),
        ([{"prompt": "a", "completion": "b", "messages": [_USER, _ASSISTANT]}], "both prompt and messages could be"),
        ([{"messages": [_ASSISTANT]}], "a question comes before"),
        ([{"messages": [_USER]}], "must be one message of the assistant"),
        ([{"messages": [_USER, _USER]}], "must be one message of the assistant"),
        ([{"messages": "a"}], "messages with role and content are needed"),
        ([{"messages": [_USER, _ASSISTANT | {"tool_calls": ["x"]}]}], "a message has tool_calls"),
        ([{"prompt": [_USER], "completion": [_ASSISTANT], "tools": ["x"]}], "row 1 has tools"),
        ([{"prompt": "a", "completion": "b"}, {"messages": [_USER, _ASSISTANT]}], "Bring all rows to one form"),
        ([{"prompt": "a", "completion": "b"}, {"prompt": [_USER], "completion": "b"}], "Bring all rows to one form"),
    ],
)
def test_rows_that_are_no_task_are_named(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    file = _write_rows(tmp_path / "rows.jsonl", rows)
    with pytest.raises(InputError, match=message):
        read_examples(str(file), None, default_split="train", choices=False)


def test_sources_that_cannot_be_read_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    for source, split, message in (
        (str(tmp_path / "nowhere.jsonl"), None, "cannot be read"),
        (str(tmp_path), None, "neither a file"),
        ("org/task", None, "no file here, and the Hub does not give it"),
        (str(_write_rows(tmp_path / "rows.jsonl", _rows(1))), "train", "is a file, which has no split"),
    ):
        with pytest.raises(InputError, match=message):
            read_examples(source, split, default_split="train", choices=False)
    (tmp_path / "rows.csv").write_text("prompt,completion\na\n", encoding="utf-8")
    with pytest.raises(InputError, match="2 fields expected, 1 found"):
        read_examples(str(tmp_path / "rows.csv"), None, default_split="train", choices=False)


def test_what_stands_between_prompt_and_choice_is_read_off_the_completions(tmp_path: Path) -> None:
    def read(*rows: tuple[str, list[str]]) -> list[Example]:
        whole = [{"prompt": "a", "completion": completion, "choices": choices} for completion, choices in rows]
        return read_examples(
            str(_write_rows(tmp_path / "rows.jsonl", whole)), None, default_split="train", choices=True
        )[0]

    assert delimiter_of(read((" yes", ["yes", "no"]), (" no", ["yes", "no"]))) == " "
    assert delimiter_of(read((" yes", [" yes", " no"]))) == ""
    with pytest.raises(InputError, match="let all completions begin alike"):
        delimiter_of(read((" yes", ["yes", "no"]), ("no", ["yes", "no"])))
    with pytest.raises(InputError, match="which must be one of the choices"):
        read(("maybe", ["yes", "no"]))
    with pytest.raises(InputError, match="two or more"):
        read(("yes", ["yes"]))
    with pytest.raises(InputError, match="does not end with its choice"):
        delimiter_of(read(("yes ", ["yes", "no"])))


# The models


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "kind", "message"),
    [
        # `more` comes last on the command line, and the last one counts.
        ([*("--old-adapter", "{}/task-on-v2"), *("--new-base", "{}/base-v2")], ModelMismatchError, "are swapped"),
        (["--new-adapter", "{}/task-on-v1"], ModelMismatchError, "Old and new adapter are swapped"),
        (["--new-base", "{}/base-v1"], ModelMismatchError, "are swapped, or there is no update"),
        (["--old-base", "{}/base-v2"], ModelMismatchError, "no update to be compatible to"),
        (["--old-adapter", "{}/base-v1"], InputError, "cannot be read as an adapter"),
        (
            ["--new-adapter", "{}/nowhere"],
            InputError,
            "new_adapter='.*nowhere' cannot be read as an adapter: there is no folder of",
        ),
        (
            ["--new-base", "{}/nowhere"],
            InputError,
            "new_base='.*nowhere' cannot be read as a base model: there is no folder of that name, and on",
        ),
        (["--dataset", "{}/nowhere.jsonl"], InputError, "nowhere.jsonl cannot be read"),
        (["--max-new-tokens", "500"], InputError, "the old model cannot be asked the test rows: prompt 0 has"),
        (["--max-length", "5", "--completion-only-loss", "true"], InputError, "no token to train on"),
        (["--task-target-modules", "q_proj", "qkv"], ConfigurationError, "on qkv, which .* does not have; its layers"),
        (["--task-target-modules", "lm_head", "q_proj"], UnsupportedAdapterError, "weights of its own on the LM head"),
        (["--chat-template-path", "org/other"], InputError, "is no file here"),
        (["--unlabelled-ratio", "2"], ConfigurationError, "would be ignored without unlabelled_dataset"),
        (
            ["--unlabelled-dataset", "{}/prompts.jsonl", "--unlabelled-max-new-tokens", "500"],
            InputError,
            "the old model cannot be asked the unlabelled prompts: prompt 0 has",
        ),
        (["--unlabelled-dataset", "{}/data.jsonl", "--test-dataset", "{}/data.jsonl"], InputError, "asks all 30 rows"),
        (["--student-rank", "2"], ConfigurationError, "must be above the task adapter's rank, 2"),
        (["--eos-token", "<none>"], InputError, "<none>"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_trained(
    models: Path, tmp_path: Path, words: list[str], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        _plan(models, tmp_path / "out", *[word.format(models) for word in words])
    assert not (tmp_path / "out").exists()


def _copied(models: Path, name: str, target: Path, **changes: Any) -> Path:
    """Copy an adapter and change its configuration."""
    shutil.copytree(models / name, target)
    file = target / "adapter_config.json"
    config = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps(config | changes), encoding="utf-8")
    return target


def test_an_adapter_without_the_name_of_its_base_asks_for_it(models: Path, tmp_path: Path) -> None:
    nameless = str(_copied(models, "task-on-v1", tmp_path / "nameless", base_model_name_or_path=None))
    with pytest.raises(InputError, match="does not name its base; give it with --old-base"):
        _plan(models, tmp_path / "out", "--old-adapter", nameless)
    plan = _plan(models, tmp_path / "out", "--old-adapter", nameless, "--old-base", str(models / "base-v1"))
    assert plan.old_base.name == str(models / "base-v1")


def test_bases_of_one_last_part_are_told_apart_by_the_option(models: Path, tmp_path: Path) -> None:
    for version in (1, 2):
        shutil.copytree(models / f"base-v{version}", tmp_path / f"v{version}" / "model")
    moved = str(_copied(models, "task-on-v1", tmp_path / "moved", base_model_name_or_path="/gone/v1/model"))
    words = ["--old-adapter", moved, "--new-base", str(tmp_path / "v2" / "model")]
    with pytest.raises(ModelMismatchError, match="are swapped"):
        _plan(models, tmp_path / "out", *words)
    plan = _plan(models, tmp_path / "out", *words, "--old-base", str(tmp_path / "v1" / "model"))
    assert plan.old_base.name == str(tmp_path / "v1" / "model")


def test_an_adapter_of_other_shapes_is_refused_before_it_is_loaded(models: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(models / "base-v1")
    tiny_llama(3, tokenizer, hidden_size=32, layers=1).save_pretrained(tmp_path / "wider")
    tokenizer.save_pretrained(tmp_path / "wider")
    with pytest.raises(
        ModelMismatchError, match=r"does not fit on .*wider' \(.* has shape \(2, 32\) there and \(2, 64"
    ):
        _plan(models, tmp_path / "out", "--old-base", str(tmp_path / "wider"))


def test_virtual_tokens_are_refused(models: Path, tmp_path: Path) -> None:
    base = LlamaForCausalLM.from_pretrained(models / "base-v1")
    get_peft_model(base, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)).save_pretrained(
        tmp_path / "p"
    )
    with pytest.raises(UnsupportedAdapterError, match="virtual tokens"):
        _plan(models, tmp_path / "out", "--old-adapter", str(tmp_path / "p"))


def test_one_model_has_several_names_and_two_models_may_share_one(models: Path, tmp_path: Path) -> None:
    assert is_same("org/base-v1", "org/base-v1")
    assert is_same("/home/somebody/base-v1", "org/base-v1")
    assert is_same(str(models / "base-v1"), str(models / "x" / ".." / "base-v1")) is not (models / "x").exists()
    assert not is_same("org/base", "team/base")
    assert not is_same(str(models / "base-v1"), str(models / "base-v2"))
    for name in ("a", "b"):
        (tmp_path / name / "checkpoint").mkdir(parents=True)
    assert not is_same(str(tmp_path / "a" / "checkpoint"), str(tmp_path / "b" / "checkpoint"))


def _carry(models: Path, same_tokenizer: bool = True, override: list[str] | None = None, **fields: Any) -> Any:
    options = {"task_type": "CAUSAL_LM", "target_modules": ["q_proj", "v_proj"]} | fields
    base = read_base(str(models / "base-v2"), {}, "new_base")
    old = LoraConfig(base_model_name_or_path="old", **options)
    return carried_over(old, base, same_tokenizer=same_tokenizer, target_modules=override)


def test_the_old_adapters_hyper_parameters_are_taken_over_whole(models: Path) -> None:
    given: dict[str, Any] = {
        "r": 3,
        "lora_alpha": 7,
        "lora_dropout": 0.25,
        "bias": "lora_only",
        "use_rslora": True,
        "use_dora": True,
        "rank_pattern": {"v_proj": 5},
        "alpha_pattern": {"layers.0.self_attn.q_proj": 9},
        "modules_to_save": ["norm"],
        "layers_to_transform": [0],
        "exclude_modules": {"o_proj"},
        "init_lora_weights": "gaussian",
    }
    found = _carry(models, **given)
    assert {name: getattr(found, name) for name in given} == given
    assert (found.target_modules, found.base_model_name_or_path) == ({"q_proj", "v_proj"}, str(models / "base-v2"))
    assert not found.inference_mode
    # A regular expression stays one, and so does "all-linear".
    for kept in ("all-linear", r".*\.(q|v)_proj"):
        assert _carry(models, target_modules=kept).target_modules == kept
    assert _carry(models, override=["all-linear"], target_modules=["c_attn"]).target_modules == "all-linear"
    assert _carry(models, override=["up_proj"], target_modules=["c_attn"]).target_modules == {"up_proj"}


@pytest.mark.parametrize(
    ("fields", "kind", "message"),
    [
        (
            {"target_modules": ["q_proj", "c_attn"]},
            ConfigurationError,
            "is on c_attn, which .* does not have; its layers are down_proj, embed_tokens, gate_proj, k_proj",
        ),
        ({"target_modules": r".*c_attn"}, ConfigurationError, "does not go on"),
        (
            {"modules_to_save": ["ln_f"]},
            ConfigurationError,
            "modules_to_save has ln_f, which .* does not have; it has",
        ),
        ({"rank_pattern": {"c_attn": 4}}, ConfigurationError, "rank_pattern names c_attn"),
        ({"alpha_pattern": {"layers.7.mlp": 4}}, ConfigurationError, "alpha_pattern names layers.7.mlp"),
        ({"trainable_token_indices": [3]}, UnsupportedAdapterError, "these ids stand for other tokens"),
        ({"init_lora_weights": "eva", "eva_config": EvaConfig()}, UnsupportedAdapterError, "initialized by 'eva'"),
        ({"target_modules": ["lm_head"]}, UnsupportedAdapterError, "weights of its own on the LM head"),
    ],
)
def test_what_cannot_be_taken_over_is_named_with_what_there_is(
    models: Path, fields: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        _carry(models, same_tokenizer=False, **fields)


def test_trained_tokens_are_taken_over_with_the_same_tokenizer(models: Path) -> None:
    assert _carry(models, trainable_token_indices=[3]).trainable_token_indices == [3]


# The rows as tokens, and what a training takes


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, {"max_length": 24}, {"max_length": 60, "packing": True}, {"max_length": None}])
def test_rows_are_counted_as_the_trainer_encodes_them(models: Path, tmp_path: Path, more: dict[str, Any]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(models / "base-v2")
    options = {"gradient_accumulation_steps": 3, "num_train_epochs": 2.5, "per_device_train_batch_size": 2} | more
    config = SFTConfig(str(tmp_path), bf16=False, use_cpu=True, report_to="none", completion_only_loss=True, **options)
    examples, _ = read_examples(str(models / "data.jsonl"), None, default_split="train", choices=False)
    found = encode_examples(examples, tokenizer, config, "training")
    trainer = SFTTrainer(
        LlamaForCausalLM.from_pretrained(models / "base-v2"),
        args=config,
        train_dataset=as_dataset(examples),
        processing_class=tokenizer,
    )
    texts = [f"{row['prompt']}{row['completion']}{tokenizer.eos_token}" for row in _rows()]
    lengths = [len(ids) for ids in tokenizer(texts)["input_ids"]]
    limit = more.get("max_length", 1024) or 10**6
    assert (found.rows, found.tokens, found.longest) == (30, sum(lengths), max(lengths))
    assert found.cut_rows == sum(length > limit for length in lengths)
    assert found.lost_tokens == sum(max(0, length - limit) for length in lengths)
    assert found.sequences == len(trainer.train_dataset)
    labels = [label for row in trainer.train_dataset["labels"] for label in row]
    assert found.trained_tokens == sum(label != -100 for label in labels)
    if not config.packing:
        assert sum(len(ids) for ids in trainer.train_dataset["input_ids"]) <= found.tokens - found.lost_tokens
    steps = optimizer_steps(found.sequences, config, epochs=2.5, max_steps=-1)
    assert steps == trainer.set_initial_training_values(config, trainer.get_train_dataloader())[-1]


def test_a_conversation_without_a_template_is_refused(models: Path, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    one = Example(0, "row 0", [_USER], "b", None, True, 0, row={"messages": [_USER, _ASSISTANT]})
    config = SFTConfig(str(tmp_path), bf16=False, use_cpu=True, report_to="none")
    with pytest.raises(InputError, match=r"no chat template\. Name one with --chat-template-path"):
        encode_examples([one], tokenizer, config, "training")


@pytest.mark.slow
def test_the_estimate_counts_the_very_weights(models: Path, tmp_path: Path) -> None:
    plan = _plan(models, tmp_path / "out", "--new-adapter", str(models / "task-on-v2"))
    base = LlamaForCausalLM.from_pretrained(models / "base-v2", dtype=torch.float32)
    assert weight_bytes(plan.new_base) == sum(one.nbytes for one in base.parameters())
    weights = load_file(models / "task-on-v2" / "adapter_model.safetensors")
    assert trainable_parameters(plan) == sum(one.numel() for one in weights.values())
    needed = memory(plan, compatibility=True)
    assert needed.adapter == 20 * trainable_parameters(plan)
    assert needed.total > memory(plan, compatibility=False).total
    half = _plan(models, tmp_path / "out", "--model-init-kwargs", '{"dtype": "bfloat16"}')
    assert weight_bytes(half.new_base) == weight_bytes(plan.new_base) // 2 == weight_bytes(half.old_base)
    # A padded student trains more; a cache takes the old base's place, and disk for each trained token.
    wider = _plan(models, tmp_path / "out", "--student-rank", "8", "--teacher-cache", "topk", "--teacher-cache-k", "5")
    base = LlamaForCausalLM.from_pretrained(models / "base-v2")
    padded = pad_rank(PeftModel.from_pretrained(base, models / "task-on-v2", is_trainable=True), 8)
    student = sum(one.numel() for one in padded.parameters() if one.requires_grad)
    assert memory(wider, compatibility=True).adapter == 20 * student
    assert (memory(wider, compatibility=True).old_base, memory(plan, compatibility=True).old_base > 0) == (0, True)
    trained = sum(one.trained_tokens for one in wider.encoded.values())
    assert (cache_bytes(plan), cache_bytes(wider)) == (0, trained * 2 * (5 * 5 + 11))
    assert readable(999) == "999 B" and readable(2e12) == "2 TB"


def test_a_large_base_is_not_laid_out_for_each_look_at_one_adapter(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    put = models_module.get_peft_model
    monkeypatch.setattr(
        models_module, "get_peft_model", lambda *given, **more: made.append(given) or put(*given, **more)
    )
    plan = make_plan(read_options(_words(models, tmp_path / "out")))
    counted = len(made)
    assert counted == 2, "the old adapter on the old base, and one like it on the new base"
    assert trainable_parameters(plan) == trainable_parameters(plan)
    assert memory(plan, compatibility=True).adapter > memory(plan, compatibility=False).adapter
    assert len(made) == counted
    # With another rank, or on a base of another size, it is another one.
    assert trainable_parameters(plan, 7) > trainable_parameters(plan)
    assert len(made) == counted + 1
    plan.new_base.model.config.vocab_size += 1
    assert trainable_parameters(plan, 7) > trainable_parameters(plan)
    assert len(made) == counted + 3


def test_a_metric_that_gets_better_when_lower_never_keeps_the_worst_epoch(models: Path, tmp_path: Path) -> None:
    for name, greater in (("cross_entropy", False), ("eval_divergence_to_old_model", False), ("eval_loss", False)):
        config = read_options(_words(models, tmp_path, "--metric-for-best-model", name)).compatibility_config(tmp_path)
        assert config.greater_is_better is greater
    words = _words(models, tmp_path, "--metric-for-best-model", "eval_mean_token_accuracy")
    assert read_options(words).compatibility_config(tmp_path).greater_is_better is True


_CLIENT = """
import json, sys
from muscle_hf.update.rows import read_examples
for source, split in json.loads(sys.argv[1]):
    found, _ = read_examples(source, split, default_split="train", choices=False)
    print(json.dumps([[one.prompt, one.answer] for one in found]))
"""


@pytest.mark.slow
def test_a_data_set_of_the_hub_is_read_at_its_split_and_revision(tmp_path: Path) -> None:
    def lines(name: str) -> bytes:
        return (json.dumps({"prompt": name, "completion": "yes", "extra": 1}) + "\n").encode()

    contents = {
        "org/task": {
            revision: {f"{split}.jsonl": lines(f"{split} {revision}") for split in ("train", "test")}
            for revision in ("main", "v2")
        }
    }
    asked = [("org/task", None), ("org/task", "test"), ("org/task@v2", "test")]
    with serve(contents) as address:
        environment = os.environ | {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path)}
        command = [sys.executable, "-W", "ignore", "-c", _CLIENT, json.dumps(asked)]
        done = fresh.run(command, env=environment, check=True)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert found == [[["train main", "yes"]], [["test main", "yes"]], [["test v2", "yes"]]]


def test_of_an_adapter_of_the_hub_the_header_alone_is_read(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = models / "task-on-v2" / "adapter_model.safetensors"
    weights = load_file(file)
    asked: list[tuple[str, str]] = []

    def header(repository: str, name: str) -> Any:
        asked.append((repository, name))
        shapes = {key: SimpleNamespace(shape=list(one.shape)) for key, one in weights.items()}
        return SimpleNamespace(tensors=shapes)

    monkeypatch.setattr(embedding_rows, "parse_safetensors_file_metadata", header)
    base = read_base(str(models / "base-v2"), {}, "new_base")
    config = PeftConfig.from_pretrained(models / "task-on-v2")
    fit_to(base, "org/task-on-v2", config, "new_adapter")
    assert asked == [("org/task-on-v2", "adapter_model.safetensors")]
    del weights[next(key for key in weights)]
    weights = {f"other.{key}": one for key, one in weights.items()}
    with pytest.raises(ModelMismatchError, match="no layer fits"):
        fit_to(base, "org/task-on-v2", config, "new_adapter")


@pytest.mark.slow
def test_too_little_memory_says_what_to_lower(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def out_of_memory(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(running, "train_task_adapter", out_of_memory)
    assert main(["update", *_words(models, tmp_path / "out")]) == 2
    complaint = capsys.readouterr().err
    assert "the new task adapter: the GPU has too little memory (CUDA out of memory" in complaint
    assert "--per-device-train-batch-size" in complaint


def test_a_reader_that_is_gone_does_not_end_hours_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            if text:
                raise BrokenPipeError
            return 0

    monkeypatch.setattr(sys, "stdout", Gone())
    say("a stage")


# Stages on disk


def _stage(folder: Path, *, is_quick: bool = False, **decided_by: Any) -> Stage:
    return Stage("training", "the training", folder, ("result",), decided_by, is_quick)


def test_answers_are_asked_again_where_other_rows_are_tested_and_not_where_others_are_trained_on(
    models: Path, tmp_path: Path
) -> None:
    def decided_by(rows: Sequence[dict[str, Any]], test: Sequence[dict[str, Any]]) -> dict[str, Any]:
        data = _write_rows(tmp_path / "data.jsonl", rows)
        words = ["--dataset", str(data), "--test-dataset", str(_write_rows(tmp_path / "test.jsonl", test))]
        plan = _plan(models, tmp_path / "out", *words, "--new-adapter", str(models / "task-on-v2"))
        return dict(Stages(plan).answers(OLD).decided_by)

    asked = [row | {"prompt": f"test: {row['prompt']}"} for row in _rows(6)]
    assert decided_by(_rows(), asked) == decided_by(_rows(20), asked)
    assert decided_by(_rows(), asked) != decided_by(_rows(), asked[:5])


def test_a_stage_is_made_once_and_again_where_it_was_interrupted(tmp_path: Path) -> None:
    made: list[str] = []

    def make() -> None:
        made.append("started")
        if len(made) == 1:
            raise KeyboardInterrupt
        (tmp_path / "result").touch()

    stage = _stage(tmp_path, rate=0.1)
    assert not stage.started
    with pytest.raises(KeyboardInterrupt):
        stage.once(make)
    assert stage.started and not stage.finished
    assert [stage.once(make), stage.once(make), len(made)] == [True, False, 2]
    # A mark without what it stands for counts for nothing.
    (tmp_path / "result").unlink()
    assert not stage.finished


def test_other_settings_are_refused_with_their_names(tmp_path: Path) -> None:
    _stage(tmp_path, rate=0.1, layers={"b": 1}, gone=1).once((tmp_path / "result").touch)
    other = _stage(tmp_path, rate=0.2, layers={"b": 1}, new=None)
    assert not other.finished
    with pytest.raises(
        ConfigurationError, match=r"\(gone 1 there, null now; new null there, null now; rate 0.1 there, 0.2"
    ):
        other.once(lambda: None)
    quick = _stage(tmp_path, is_quick=True, rate=0.2)
    assert quick.once((tmp_path / "result").touch) and quick.finished


@pytest.mark.parametrize("change", [lambda file: file.write_text('{"r": 3}'), Path.unlink])
def test_what_is_loaded_beside_damaged_weights_is_taken_for_what_was_made(
    tmp_path: Path, change: Callable[[Path], object]
) -> None:
    stage = Stage("task-adapter", "the adapter", tmp_path, ("task-adapter/weights",), {})

    def train() -> None:
        (tmp_path / "task-adapter").mkdir()
        for name in ("weights", "adapter_config.json", "README.md"):
            (tmp_path / "task-adapter" / name).write_text('{"r": 2}', encoding="utf-8")

    assert stage.once(train)
    # What no stage reads may go, and is told where it is another one.
    card = tmp_path / "task-adapter" / "README.md"
    card.write_text("a card that was edited", encoding="utf-8")
    with pytest.raises(
        ConfigurationError, match=r"README.md is not as .* No later stage reads it: delete it, or move"
    ):
        _ = stage.finished
    card.unlink()
    assert stage.finished
    change(tmp_path / "task-adapter" / "adapter_config.json")
    with pytest.raises(
        ConfigurationError, match=r"adapter_config.json is not as .*Delete .*weights to have the adapter"
    ):
        _ = stage.finished


def test_a_result_that_was_damaged_since_is_taken_for_what_was_made(tmp_path: Path) -> None:
    result = tmp_path / "result"

    def make() -> None:
        result.write_bytes(b"weights")

    stage = _stage(tmp_path)
    stage.once(make)
    assert stage.finished
    result.write_bytes(b"weightr")
    with pytest.raises(ConfigurationError, match=r"result is not as this update has written it.* Delete it to have"):
        stage.once(make)
    result.unlink()
    assert stage.once(make) and stage.finished
    # A card may be changed by hand.
    stage.mark.unlink()
    quick = _stage(tmp_path, is_quick=True)
    quick.once(make)
    result.write_bytes(b"edited")
    assert quick.finished
    # An adapter that is shipped, and damaged, is made anew; its card may be changed as well.
    shipped = Stage("evidence", "the comparison", tmp_path, ("adapter",), {}, is_quick=True)
    (tmp_path / "adapter").mkdir()
    for name in ("adapter_model.safetensors", "README.md"):
        (tmp_path / "adapter" / name).write_bytes(b"whole")
    assert shipped.once(lambda: None) and shipped.finished
    (tmp_path / "adapter" / "README.md").write_bytes(b"edited")
    assert shipped.finished
    (tmp_path / "adapter" / "adapter_model.safetensors").write_bytes(b"whold")
    assert not shipped.finished


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"decided_by": {}, "finished": true, "crc32": 1}',
        '{"decided_by": {}, "finished": 1}',
        "\udc80",
    ],
)
def test_a_damaged_mark_is_not_trusted(tmp_path: Path, text: str) -> None:
    stage = _stage(tmp_path)
    stage.mark.parent.mkdir()
    stage.mark.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigurationError, match="is damaged"):
        stage.once(lambda: None)
    # What takes a moment is made anew.
    assert _stage(tmp_path, is_quick=True).once((tmp_path / "result").touch)


@pytest.mark.parametrize("start", [0.3, 0.95])
def test_a_bit_of_a_mark_that_turned_is_taken_for_other_settings(tmp_path: Path, start: float) -> None:
    stage = _stage(tmp_path, metric="eval_loss", rows={"train": "0a1b"})
    stage.once((tmp_path / "result").touch)
    whole = stage.mark.read_bytes()
    for place in range(int(start * len(whole)), min(int(start * len(whole)) + 12, len(whole) - 2)):
        content = bytearray(whole)
        content[place] ^= 1
        stage.mark.write_bytes(content)
        try:
            assert stage.finished, "a turned bit is read as another update"  # such as in the name of the checksum
        except ConfigurationError as refusal:
            assert "is damaged, so that" in str(refusal)
    stage.mark.write_bytes(whole)
    # Those of an earlier version have no checksum.
    mark = {name: value for name, value in json.loads(whole).items() if name != "checksum"}
    stage.mark.write_text(json.dumps(mark), encoding="utf-8")
    assert stage.finished


# From the first stage to the last


@pytest.mark.slow
def test_the_whole_update_in_one_line_is_kept_and_shows_what_it_did(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["update", *_words(models, out, "--learning-rate", "3e-3", "--seed", "3")]
    before = _tree(models)
    assert main([*words, "--dry-run"]) == 0
    promised = capsys.readouterr().out
    assert not out.exists()
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert _tree(models) == before
    plan = make_plan(read_options(words[1:]))
    training = json.loads((out / "compatibility" / "training.json").read_text("utf-8"))["training"]
    steps = plan.steps(task=False)
    assert training["optimizer steps"] == steps == 2 * math.ceil(len(plan.data.training) / 4)
    assert f"the compatibility adapter: {steps} steps" in promised
    names = ("plain update", "control: same steps more", "relative NFR", "of the plain update")
    assert all(name in shown for name in names)

    # The task adapter has the old one's hyper-parameters.
    task, old = (PeftConfig.from_pretrained(path) for path in (out / "task-adapter", models / "task-on-v1"))
    assert (task.r, task.lora_alpha, task.use_rslora) == (2, 6, True)
    assert task.target_modules == old.target_modules
    assert task.base_model_name_or_path == str(models / "base-v2")

    # Answers, comparison and report say the same, and `muscle-hf compare` reads the answers.
    answers = {path.stem: _read_lines(path) for path in (out / "answers").iterdir()}
    assert sorted(answers) == ["compatibility", "control", "new", "old"]
    test = {row["id"]: row["reference"] for row in answers["old"]}
    assert test == {one.number: one.answer for one in plan.data.test}
    trained_on = {one.prompt.strip() for part in (plan.data.training, plan.data.validation) for one in part}
    assert not trained_on & {row["question"] for row in answers["old"]}
    evidence = json.loads((out / "comparison.json").read_text("utf-8"))
    for name, key in (("plain update", "new"), ("compatibility adapter", "compatibility")):
        again = compare_runs(out / "answers" / "old.jsonl", out / "answers" / f"{key}.jsonl").overall
        rates = evidence["old_model_against"][name]["rates"]
        assert rates["negative_flip_rate"]["estimate"] == again.comparison.negative_flip_rate
    page = (out / "report.html").read_text("utf-8")
    assert "compatibility adapter" in page
    assert str(tmp_path) not in page + (out / "adapter" / "README.md").read_text("utf-8")

    # What ships loads with plain peft, and answers as it did.
    prompts = [one.prompt for one in plan.data.test]
    loaded = generate_answers(
        AutoPeftModelForCausalLM.from_pretrained(out / "adapter", dtype=torch.float32),
        AutoTokenizer.from_pretrained(out / "adapter"),
        prompts,
        max_new_tokens=plan.max_new_tokens,
        show_progress=False,
    )
    assert [text.strip() for text in loaded.texts] == [row["prediction"] for row in answers["compatibility"]]
    card = (out / "adapter" / "README.md").read_text("utf-8")
    assert "compatibility adapter (this adapter)" in card and "held-out rows of data.jsonl" in card
    assert not {"training_args.bin", "training.json"} & {path.name for path in (out / "adapter").iterdir()}

    # A second call finds everything finished, with another batch that makes the same steps, too.
    made = _tree(out)
    again_words = [*words, "--per-device-train-batch-size", "2", "--gradient-accumulation-steps", "2"]
    for repeated in (words, again_words):
        assert main(repeated) == 0
        assert capsys.readouterr().out.count("finished before") == 7
        assert _tree(out) == made
    assert main([*words, "--dry-run"]) == 0
    assert capsys.readouterr().out.count("finished before") == 7

    # Other settings are refused in one line that names them.
    for more, name in (
        (["--learning-rate", "1e-3"], "learning_rate 0.003 there, 0.001 now"),
        (["--mask", "none"], 'mask "student_wrong" there, "none" now'),
        (["--split-seed", "1"], "training rows"),
        (["--max-new-tokens", "3"], "max_new_tokens"),
        (["--validation-share", "0.2"], "validation rows"),
    ):
        assert main([*words, *more]) == 2
        complaint = capsys.readouterr().err
        assert name in complaint
        assert complaint.count("\n") == 1
        assert _tree(out) == made

    # The comparison alone is made anew where it would show something else.
    assert main([*words, "--no-control"]) == 0
    assert "control" not in json.loads((out / "comparison.json").read_text("utf-8"))["made_from"]["answers"]
    shutil.rmtree(out / "task-adapter")
    assert main(words) == 2
    assert "is gone" in capsys.readouterr().err


def _read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


class _InterruptAtStep(TrainerCallback):
    """Interrupts a training at a step, as Ctrl-C would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["generation", "choice"])
def test_an_interruption_asks_test_rows_again_or_changes_an_answer(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    rows = [row | {"choices": list(WORDS)} for row in _rows()]
    data = _write_rows(tmp_path / "data.jsonl", rows)
    words = ["--new-adapter", str(models / "task-on-v2"), "--dataset", str(data), "--ask-batch-size", "2"]
    plan = _plan(models, tmp_path / "out", *words, "--kind", kind, "--test-share", "0.5")
    asked: list[int] = []
    stop: list[int] = []
    original = answering_module._answers

    def counted(engine: Any, questions: Sequence[Any], asking: Any) -> Any:
        if stop and len(asked) == stop[0]:
            raise KeyboardInterrupt
        asked.append(len(questions))
        return original(engine, questions, asking)

    monkeypatch.setattr(answering_module, "_answers", counted)
    monkeypatch.setattr(answering_module, "_KEPT_AFTER", 1)

    def write(name: str) -> Path:
        path = tmp_path / name / "new.jsonl"
        running.write_answers(plan, str(models / "task-on-v2"), path, old=False, decided_by={"model": "v2"})
        return path

    whole = write("whole").read_bytes()
    assert [row["reference"] for row in _read_lines(tmp_path / "whole" / "new.jsonl")] == [
        one.answer for one in plan.data.test
    ]
    asked.clear()
    stop.append(1)
    with pytest.raises(KeyboardInterrupt):
        write("pieces")
    part = tmp_path / "pieces" / "new.jsonl.part"
    assert left_of_answers(tmp_path / "pieces" / "new.jsonl") == f"{asked[0]} answers"
    # A kill in the middle of a line.
    part.write_bytes(part.read_bytes()[:-3])
    stop[0] = 2
    with pytest.raises(KeyboardInterrupt):
        write("pieces")
    stop.clear()
    assert write("pieces").read_bytes() == whole
    # A batch that was cut off is asked as a whole: in another one a figure may be rounded otherwise.
    assert sum(asked) == len(plan.data.test) + 2
    assert [path.name for path in (tmp_path / "pieces").iterdir()] == ["new.jsonl"]


def _canned(right: dict[str, int]) -> Callable[..., None]:
    """Answer in place of a model: so many test rows right."""

    def write(plan: Plan, adapter: str, path: Path, *, old: bool, **_: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [
            {"id": number, "question": "?", "prediction": "a" if number < right[path.stem] else "b", "reference": "a"}
            for number in range(20)
        ]
        _write_rows(path, rows)

    return write


@pytest.mark.slow
@pytest.mark.parametrize(
    ("right", "words", "told"),
    [
        ({"old": 16, "new": 0}, (), "is right on 0 of 20 test rows (0.0 %), the old model on 16 (80.0 %)"),
        ({"old": 16, "new": 0}, ("--new-adapter",), "check that --new-adapter was trained for this task"),
        ({"old": 16, "new": 0}, (), "--task-epochs, --task-learning-rate"),
        ({"old": 16, "new": 9}, (), None),
        ({"old": 3, "new": 0}, (), None),  # may be chance
        ({"old": 0, "new": 0}, (), "the old model is right on none of the 20 test rows, so there is nothing to keep"),
        ({"old": 0, "new": 0}, (), "written as those that it was trained on? Ctrl-C stops here"),
    ],
)
def test_a_task_adapter_that_learned_nothing_is_said_after_hours_of_compatibility_training(
    models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    right: dict[str, int],
    words: Sequence[str],
    told: str | None,
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "train_task_adapter", lambda *_, folder: shutil.copytree(
        models / "task-on-v2", folder, dirs_exist_ok=True
    ))  # fmt: skip
    monkeypatch.setattr(running, "write_answers", _canned(right))
    monkeypatch.setattr(running, "train_compatibility_adapter", interrupted)
    more = [*words, str(models / "task-on-v2")] if words else []
    assert main(["update", *_words(models, tmp_path / "out", *more)]) == 130
    shown = capsys.readouterr().out
    assert ("warning: " in shown) == (told is not None)
    assert told is None or told in shown


@pytest.mark.slow
@pytest.mark.parametrize("control", [True, False])
def test_a_card_and_a_page_hide_that_the_task_adapter_learned_nothing(
    models: Path, tmp_path: Path, control: bool
) -> None:
    out = tmp_path / "out"
    shutil.copytree(models / "task-on-v2", out / "compatibility")
    (out / "compatibility" / "training.json").write_text('{"adapter_type": "lora", "training": {}}')
    for name, count in {"old": 16, "new": 0, "control": 2, "compatibility": 3}.items():
        _canned({name: count})(None, "", out / "answers" / f"{name}.jsonl", old=False)  # type: ignore[arg-type]
    evidence = weigh(out, control=control)
    plan = _plan(models, out)
    write_evidence(plan, evidence, out / "compatibility", {})
    # Page and picture show all models; the card describes the picture.
    page = (out / "report.html").read_text("utf-8").partition("Models side by side")[2].partition("</section>")[0]
    named = re.findall(r'<th scope="row"><bdi>(.*?)</bdi>', page)
    assert named == ["old model", "plain update", *["control: same steps more"] * control, "compatibility adapter"]
    shown = (out / "adapter" / "README.md").read_text("utf-8")
    assert "rate of all models of the table side by side.](quadrants.png)" in shown
    for text in ((out / "report.html").read_text("utf-8"), shown):
        assert "is right on 0 of 20 test rows (0.0 %), the old model on 16 (80.0 %)" in text
    assert "which may be chance" in sentence(evidence)


@pytest.mark.slow
def test_an_update_interrupted_in_each_stage_goes_on_and_comes_to_the_same_adapter(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["update", *_words(models, tmp_path / "whole", "--learning-rate", "3e-3")]
    assert main(words) == 0
    words[words.index(str(tmp_path / "whole"))] = str(tmp_path / "pieces")
    done: list[str] = []
    interrupted: set[str] = set()

    def breaking(name: str, original: Callable[..., None]) -> Callable[..., None]:
        def run(*arguments: Any, **options: Any) -> None:
            key = f"{name} {options.get('folder', arguments[-1]).stem}"
            if key not in interrupted:
                interrupted.add(key)
                if name == "train":
                    # In the second epoch: the checkpoint of the first one is there.
                    with monkeypatch.context() as patch:
                        patch.setattr(training_module, "TrainingProgress", lambda _: _InterruptAtStep(8))
                        original(*arguments, **options)
                raise KeyboardInterrupt
            original(*arguments, **options)
            done.append(key)

        return run

    for name in ("train_task_adapter", "train_compatibility_adapter", "train_control"):
        monkeypatch.setattr(running, name, breaking("train", getattr(running, name)))
    monkeypatch.setattr(running, "write_answers", breaking("ask", running.write_answers))
    codes, said = [], []
    while not codes or codes[-1] == 130:
        codes.append(main(words))
        if codes[-1] == 130:
            said.append(capsys.readouterr().err)
    # Three trainings and four models asked: each was interrupted once, and made once.
    assert codes == [130] * 7 + [0]

    def kept(*parts: str) -> str:
        return f"Kept in {tmp_path / 'pieces'}: {'; '.join(parts)}. The same command goes on there.\n"

    finished = [f"{title}, finished" for title in ("the new task adapter", "the answers of the old model")]
    assert said[0].endswith(kept("the new task adapter, step 6 of 12"))
    assert said[1].endswith(kept(finished[0]))  # nothing was asked
    finished.append("the answers of the plain update, finished")
    assert said[3].endswith(kept(*finished, "the compatibility adapter, step 6 of 12"))
    assert said[4].endswith(kept(*finished, "the compatibility adapter, finished", "the control, step 6 of 12"))
    assert len(done) == len(set(done)) == 7 == len(interrupted)
    for name in ("task-adapter", "control", "compatibility", "adapter"):
        whole, pieces = (load_file(tmp_path / run / name / "adapter_model.safetensors") for run in ("whole", "pieces"))
        assert whole.keys() == pieces.keys()
        assert all(torch.equal(whole[key], pieces[key]) for key in whole)
        assert not list((tmp_path / "pieces" / name).glob("checkpoint-*"))
    for name in ("old", "new", "control", "compatibility"):
        assert len({(tmp_path / run / "answers" / f"{name}.jsonl").read_bytes() for run in ("whole", "pieces")}) == 1


def test_the_lock_of_a_killed_training_goes_with_what_its_folder_needs_no_more(tmp_path: Path) -> None:
    for name in (LOCK, "README.md", "checkpoint-2/trainer_state.json", "teacher_cache/manifest.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    training_module.clean(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


@pytest.mark.slow
def test_a_training_of_an_update_that_has_diverged_leaves_the_other_stages_to_go_on_with(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["update", *_words(models, tmp_path / "out", "--control", "false", "--task-learning-rate", "1e-3")]
    words += ["--max-grad-norm", "0", "--save-steps", "1", "--eval-strategy", "steps", "--eval-steps", "1"]
    unhealthy = [*words, "--max-steps", "4", "--learning-rate", "1e30"]
    assert main(unhealthy) == 2
    said = capsys.readouterr().err
    assert "the compatibility adapter: The training has diverged" in said and "Everything is kept" in said
    kept = re.search(r"whose weights are numbers, is (\S+checkpoint-(\d+))\.", said)
    assert kept is not None and Path(kept[1], "trainer_state.json").is_file()
    assert main(unhealthy) == 2, "the same command goes on from there"
    assert f"going on from step {kept[2]}" in capsys.readouterr().out
    task = (tmp_path / "out" / "task-adapter" / "adapter_model.safetensors").stat().st_mtime_ns
    assert main([*words, "--max-steps", "4", "--learning-rate", "1e-4"]) == 0
    said = capsys.readouterr().out
    assert "the new task adapter: finished before" in said and "going on from" not in said
    assert "what has diverged with other settings is kept in" in said
    assert (tmp_path / "out" / "compatibility.diverged" / Path(kept[1]).name / "trainer_state.json").is_file()
    assert (tmp_path / "out" / "task-adapter" / "adapter_model.safetensors").stat().st_mtime_ns == task


@pytest.mark.slow
def test_an_update_that_was_killed_goes_on_from_its_checkpoint(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["update", *_words(models, out, "--no-control", "--task-epochs", "1", "--num-train-epochs", "25")]
    code = "import sys; from muscle_hf.cli import main; sys.exit(main(sys.argv[1:]))"
    process = fresh.Process([sys.executable, "-W", "ignore", "-c", code, *words], warm=True)
    try:
        deadline = time.monotonic() + 900
        while not list((out / "compatibility").glob("checkpoint-*/trainer_state.json")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        process.kill()
        process.communicate()
    assert json.loads((out / "stages" / "task-adapter.json").read_text("utf-8"))["finished"]
    assert not json.loads((out / "stages" / "compatibility.json").read_text("utf-8"))["finished"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "the new task adapter: finished before" in shown
    assert re.search(r"the compatibility adapter: training, \d+ steps, going on from step \d+", shown)
    assert (out / "adapter" / "README.md").exists()


@pytest.mark.slow
def test_choices_a_given_adapter_conversations_and_a_test_set_of_its_own(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def row(number: int) -> dict[str, Any]:
        question = [{"role": "user", "content": f"which one, number {number}?"}]
        answer = [{"role": "assistant", "content": WORDS[number % 3]}]
        return {"prompt": question, "completion": answer, "choices": list(WORDS[:3])}

    rows = [row(number) for number in range(20)]
    data, test = _write_rows(tmp_path / "data.jsonl", rows), _write_rows(tmp_path / "test.jsonl", rows[15:])
    out = tmp_path / "out"
    file = tmp_path / "update.yaml"
    file.write_text(
        f"old_adapter: {models}/task-on-v1\nnew_base: {models}/base-v2\nnew_adapter: {models}/task-on-v2\n"
        f"dataset: {data}\ntest_dataset: {test}\nkind: choice\ncontrol: no\nvalidation_share: 0\n"
        "use_cpu: yes\nmax_steps: 2\nper_device_train_batch_size: 4\n",
        encoding="utf-8",
    )
    assert main(["update", "--config", str(file), "--output-dir", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "15 training, 0 validation, 5 test rows" in shown
    assert "5 of the 5 test rows are asked in the data to train on too" in shown
    assert not (out / "task-adapter").exists() and not (out / "control").exists()
    answers = _read_lines(out / "answers" / "compatibility.jsonl")
    assert [one["reference"] for one in answers] == [WORDS[number % 3] for number in range(15, 20)]
    assert all(one["prediction"] in one["choices"] == list(WORDS[:3]) for one in answers)
    # The new model of the comparison is the adapter that was given.
    new = AutoPeftModelForCausalLM.from_pretrained(models / "task-on-v2", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(models / "base-v2")
    chosen = choose_answers(
        new, tokenizer, [one["prompt"] for one in rows[15:]], [WORDS[:3]] * 5, delimiter="", show_progress=False
    )
    assert [one["prediction"] for one in _read_lines(out / "answers" / "new.jsonl")] == [
        WORDS[index] for index in chosen.indices
    ]
    assert main(["compare", *(str(out / "answers" / f"{name}.jsonl") for name in ("old", "new"))]) == 0


def test_a_dry_run_loads_no_weights_and_touches_nothing(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", refuse)
    before = _tree(models)
    monkeypatch.chdir(tmp_path)
    assert main(["update", *_words(models, tmp_path / "out", "--max-length", "20"), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    assert _tree(models) == before
    for text in ("new base: ", "parameters", "in float32", "rows lose", "steps", "memory", "logits", "device: cpu"):
        assert text in shown
    chunks = ("--alignment", "chunks", "--teacher-cache", "chunks", "--dry-run")
    assert main(["update", *_words(models, tmp_path / "out", *chunks)]) == 0
    shown = capsys.readouterr().out
    assert "teacher cache (chunks): " in shown
    assert "note: both models have one tokenizer, so --alignment tokens" in shown


def test_accuracy_that_was_paid_for_flips_is_said_beside_them(tmp_path: Path) -> None:
    for name, count in {"old": 16, "new": 18, "control": 17, "compatibility": 8}.items():
        _canned({name: count})(None, "", tmp_path / "answers" / f"{name}.jsonl", old=False)  # type: ignore[arg-type]
    told = sentence(weigh(tmp_path, control=True))
    assert "right on 40.0 %, less than the 90.0 % of the plain update (paired p = 0.002) and the 85.0 % of as" in told
    _canned({"compatibility": 15})(None, "", tmp_path / "answers" / "compatibility.jsonl", old=False)  # type: ignore[arg-type]
    told = sentence(weigh(tmp_path, control=True))
    assert told.startswith("The compatibility adapter breaks 1 answer that was right, more than the 0 of the plain")
    assert "less than" not in told


@pytest.mark.parametrize("words", [["--bf16"], ["--bf16", "true"]])
def test_a_switch_whose_default_is_neither_needs_no_value(words: list[str], tmp_path: Path) -> None:
    kinds = (UpdateSettings, CompatibilityConfig)
    assert words_module.read_words(kinds, words, command="update") == {"bf16": True}


@pytest.mark.slow
def test_a_folder_with_something_else_is_left_alone(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "mine").touch()
    assert main(["update", *_words(models, tmp_path)]) == 2
    assert "holds adapter, which no update of this kind has made" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["adapter", "mine"]
    (tmp_path / "file").touch()
    assert main(["update", *_words(models, tmp_path / "file")]) == 2
    assert "is no folder" in capsys.readouterr().err
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert main(["update", *_words(models, tmp_path / "new")]) == 2
    assert "new cannot be written to: it is read-only" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_a_second_update_spoils_the_files_of_the_first(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with held_folder(out, "muscle-hf update", "wait"):
        assert main(["update", *_words(models, out)]) == 2
        assert f": {out} is in use: process {os.getpid()} on" in capsys.readouterr().err.splitlines()[-1]
        assert [path.name for path in out.iterdir()] == [".muscle-hf.lock"]
    assert not out.exists()


@pytest.mark.slow
def test_the_engines_further_options_reach_it_and_the_control_gets_the_same_steps_and_room(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # What the old model said to them, as a log has it: models of random weights never come to an end.
    log = [{"prompt": f"what else, number {number}?\n", "completion": "table"} for number in range(9)]
    unlabelled = _write_rows(tmp_path / "unlabelled.jsonl", [*log, *_rows(1)])
    test = _write_rows(tmp_path / "test.jsonl", _rows(3))
    out = tmp_path / "out"
    words = [
        *_words(models, out, "--new-adapter", str(models / "task-on-v2"), "--test-dataset", str(test)),
        *("--unlabelled-dataset", str(unlabelled), "--measure-flips", "--metric-for-best-model"),
        *("eval_negative_flip_rate", "--min-accuracy", "0", "--student-rank", "4"),
    ]
    assert main(["update", *words]) == 0
    shown = capsys.readouterr().out
    assert "1 unlabelled prompts are asked by the test set too, and are left out" in shown
    plan = make_plan(read_options(words))
    # 30 rows less 3 of the test set, less a tenth for validation; and 9 without labels.
    assert plan.steps(task=False) == 2 * math.ceil((24 + 9) / 4)
    facts = json.loads((out / "compatibility" / "training.json").read_text("utf-8"))["training"]
    assert facts["optimizer steps"] == plan.steps(task=False)
    assert "eval_negative_flip_rate" in facts["kept"]
    control = json.loads((out / "stages" / "control.json").read_text("utf-8"))
    assert control["decided_by"]["max_steps"] == plan.steps(task=False)
    for name in ("control", "adapter"):
        assert PeftConfig.from_pretrained(out / name).r == 4
    assert not [path for path in (out / "adapter").iterdir() if path.is_dir()]
    assert main(["update", *words]) == 0
    assert capsys.readouterr().out.count("finished before") == 6


def test_a_bound_without_flips_names_the_option_of_the_command(models: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--measure-flips"):
        _plan(models, tmp_path, "--min-accuracy", "0.5")
