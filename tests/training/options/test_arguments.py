"""What people write who come from another trainer: each is one line that says what to write instead."""

import warnings
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from peft import LoraConfig
from tiny_updates import ROWS
from transformers import LlamaForCausalLM, TrainerCallback, TrainingArguments
from trl import SFTConfig

import muscle_hf.training.config
import muscle_hf.training.options.arguments
from muscle_hf import (
    ArgumentError,
    CompatibilityClassifierConfig,
    CompatibilityClassifierTrainer,
    CompatibilityConfig,
    CompatibilityTrainer,
    ConfigurationError,
    MuscleError,
)

TRAINERS = (CompatibilityTrainer, CompatibilityClassifierTrainer)
CONFIGS = (CompatibilityConfig, CompatibilityClassifierConfig)
# No model of these names is looked for: all of it is said before.
MODELS = {"model": "new", "old_model": "old"}


def _complaint(kind: Any, *positional: Any, **named: Any) -> str:
    with pytest.raises(MuscleError) as caught:
        kind(*positional, **named)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        ({"peft_config": LoraConfig()}, "pass its folder or id as new_adapter"),
        ({"tokenizer": None}, "write processing_class"),
        ({"old_adaptor": "x"}, "Did you mean old_adapter?"),
        ({"train_datasets": "x"}, "Did you mean train_dataset?"),
        ({"compute_loss_func": len}, "a function of your own as mask"),
        ({"model_init": len}, "pass the new base as model"),
        ({"teacher_model": "x"}, "write old_model"),
        ({"max_seq_length": 512}, "write max_length"),
        ({"learning_rate": 1e-4}, "Config(learning_rate=…)"),
        ({"learning_rates": 1e-4}, "Did you mean args=Compatibility"),
        ({"zzz": 1}, "it takes model, old_model, new_adapter"),
        ({"args": {"output_dir": "out"}}, "**args"),
        ({"args": TrainingArguments}, "args is the class TrainingArguments; write args=Compatibility"),
        ({"args": TrainingArguments("out")}, "args is a TrainingArguments. Write args=Compatibility"),
        ({"callbacks": TrainerCallback()}, "callbacks is a TrainerCallback; write callbacks=[…]"),
        ({"processing_class": "org/base"}, "write processing_class=AutoTokenizer.from_pretrained('org/base')"),
        ({"model": {"name": "org/base"}}, "model is a dict; pass an id, a path or a loaded model"),
        ({"old_model": LlamaForCausalLM}, "old_model is the class LlamaForCausalLM; pass an id"),
    ],
)
def test_an_argument_of_another_trainer_is_told_without_what_to_write(
    trainer: Any, arguments: dict[str, Any], advice: str
) -> None:
    assert advice in _complaint(trainer, **MODELS | arguments)


def test_the_name_of_a_column_is_called_as_a_function() -> None:
    assert "named by dataset_text_field" in _complaint(CompatibilityTrainer, **MODELS, formatting_func="text")


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("flips_dataset", "flips are measured on eval_dataset"),
        ("formatting_func", "text_column"),
    ],
)
def test_arguments_of_the_language_trainer_leave_a_classifier_without_a_word(name: str, advice: str) -> None:
    assert advice in _complaint(CompatibilityClassifierTrainer, **MODELS, **{name: None})


@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_trainer_without_an_old_model_does_not_say_why_it_needs_one(trainer: Any) -> None:
    rows = Dataset.from_list(ROWS)
    assert "old_model is missing. The trainer keeps" in _complaint(trainer, model="org/base", train_dataset=rows)
    assert "old_model is missing." in _complaint(trainer, "org/base", old_model=None, train_dataset=rows)
    assert "model is missing." in _complaint(trainer)
    # The second argument of the parents is the config.
    assert "old_model=…, args=Compat" in _complaint(trainer, "org/base", TrainingArguments("out"), train_dataset=rows)
    assert "write the others as name=value" in _complaint(trainer, "new", "old", None, rows).lower()
    assert "gets model twice" in _complaint(trainer, "new", "old", model="new")


def test_the_config_of_trl_is_refused_without_the_name_of_ours() -> None:
    message = _complaint(CompatibilityTrainer, **MODELS, args=SFTConfig("out", bf16=False))
    assert message.startswith("args is an SFTConfig. Write args=CompatibilityConfig(…) with the same arguments")


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("temprature", "Did you mean temperature?"),
        ("learning_rates", "Did you mean learning_rate?"),
        ("evaluation_strategy", "write eval_strategy"),
        ("max_seq_length", "write max_length"),
        ("warmup_ratio", "write warmup_steps, which takes a share"),
        ("no_cuda", "write use_cpu"),
        ("peft_config", "as new_adapter"),
        ("tokenizer", "processing_class"),
        ("train_dataset", "Trainer(train_dataset=…)"),
        ("old_model", "Trainer(old_model=…)"),
    ],
)
def test_a_misspelt_option_is_told_without_the_right_one(config: Any, name: str, advice: str) -> None:
    message = _complaint(config, **{name: 1})
    assert advice in message
    assert message.startswith(f"{config.__name__} has no argument {name}")


def test_names_that_are_advised_do_not_exist() -> None:
    for config in CONFIGS:
        for advice in muscle_hf.training.options.arguments.RENAMED.values():
            words = advice.replace(",", " ").split()
            if words[0] == "write":
                assert words[1] in config.__dataclass_fields__
    for trainer, names in (
        (CompatibilityTrainer, muscle_hf.training.config._OF_TRAINER),
        (CompatibilityClassifierTrainer, muscle_hf.classifier.config._OF_TRAINER),
    ):
        known = trainer.__init__.__wrapped__.__kwdefaults__.keys() | {"model", "old_model"}
        assert set(names) <= known


def test_code_that_expects_a_type_error_of_a_wrong_name_misses_ours() -> None:
    for error in (TypeError, ValueError, ConfigurationError, ArgumentError):
        with pytest.raises(error):
            CompatibilityConfig(temprature=2)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"eval_strategy": "epochs"}, "epochs is not a valid IntervalStrategy"),
        ({"output_dir": {"output_dir": "out"}}, "cannot be made: expected str"),
        ({"load_best_model_at_end": True, "eval_strategy": "epoch", "save_strategy": "no"}, "strategy to match"),
    ],
)
@pytest.mark.parametrize("config", CONFIGS)
def test_what_the_parent_refuses_is_a_trace_of_several_lines(config: Any, options: dict[str, Any], part: str) -> None:
    assert part in _complaint(config, use_cpu=True, report_to="none", **options)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        # A text is true, whatever it says.
        ({"log_gradient_cosine": "no", "cross_entropy_weight": 0.5}, "log_gradient_cosine='no' is a str; write True"),
        ({"scale_by_temperature_squared": 1}, "scale_by_temperature_squared=1 is an int; write True or False"),
        ({"preset": ["focal"]}, "preset=['focal'] is unknown; choose one of"),
        ({"gradient_conflict": ["sum"]}, "gradient_conflict=['sum'] is unknown"),
    ],
)
@pytest.mark.parametrize("config", CONFIGS)
def test_a_switch_that_says_no_is_on_or_a_list_of_names_is_a_riddle(
    config: Any, options: dict[str, Any], part: str
) -> None:
    assert part in _complaint(config, use_cpu=True, report_to="none", **options)


@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_preset_for_texts_that_are_not_there_asks_for_a_validation_set_first(trainer: Any, tmp_path: Path) -> None:
    config = CONFIGS[TRAINERS.index(trainer)]
    args = config(output_dir=str(tmp_path), preset="focal_product", use_cpu=True, report_to="none")
    rows = Dataset.from_list([{"text": "a", "label": "b"}])
    assert "would be ignored without unlabelled_dataset" in _complaint(
        trainer, **MODELS, args=args, train_dataset=rows
    )


def test_a_config_cannot_be_copied_or_subclassed_any_more(tmp_path: Path) -> None:
    import copy
    import dataclasses

    config = CompatibilityConfig(output_dir=str(tmp_path), temperature=3.0, report_to="none")
    assert copy.deepcopy(config).temperature == 3.0

    @dataclasses.dataclass
    class Own(CompatibilityConfig):
        more: int = 1

    assert Own(output_dir=str(tmp_path), more=2, report_to="none").more == 2


def test_a_config_of_defaults_warns_of_an_option_that_nobody_wrote(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert CompatibilityConfig(output_dir=str(tmp_path), use_cpu=True).gradient_checkpointing
        assert not CompatibilityConfig(
            output_dir=str(tmp_path), use_cpu=True, gradient_checkpointing=False
        ).gradient_checkpointing
