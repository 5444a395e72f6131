"""The paper's setting reaches every trainer from its files, and each update and task runs offline on tiny models."""

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml
from peft import LoraConfig, PeftConfig

import muscle_hf.update.training as training
from muscle_hf.hub.names import DATA_SET
from muscle_hf.update.options import read_options

EXAMPLE = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "paper_update.py"))
# Table 8 and appendix A.1 of arXiv 2407.09435, by the names of the trainers.
TABLE_8 = {
    "learning_rate": 1e-4,
    "num_train_epochs": 10,
    "gradient_accumulation_steps": 8,
    "warmup_steps": 500,
    "weight_decay": 0.0,
    "load_best_model_at_end": True,
    "greater_is_better": False,
    "completion_only_loss": False,
}
EQUATION_1 = {
    "mask": "student_wrong",
    "divergence": "forward_kl",
    "temperature": 2.0,
    "scale_by_temperature_squared": False,
    "metric_for_best_model": "eval_cross_entropy",
}
LORA = {"r": 128, "lora_alpha": 256, "lora_dropout": 0.0}
UPDATES = ("llama-1-to-2", "llama-2-to-3", "phi-1.5-to-2", "qwen-2.5-to-3", "vicuna-1.3-to-1.5")
TASKS = ("gsm8k", "hellaswag", "piqa", "samsum")


def _values(config: Any, expected: dict[str, Any]) -> dict[str, Any]:
    return {name: getattr(config, name) for name in expected}


def test_every_update_on_every_task_has_the_values_of_table_8_where_the_trainers_read_them(tmp_path: Path) -> None:
    assert (tuple(EXAMPLE["UPDATES"]), tuple(EXAMPLE["TASKS"])) == (UPDATES, TASKS)
    for update in UPDATES:
        for task in TASKS:
            chosen = EXAMPLE["options_of"](update, task)
            lora, tiny = chosen.pop("lora"), chosen.pop("offline")
            adapter = LoraConfig(**lora)
            assert (_values(adapter, LORA), adapter.target_modules) == (LORA, "all-linear")
            file = tmp_path / "update.yaml"
            file.write_text(yaml.safe_dump(chosen | {"old_adapter": "your-name/adapter"}), encoding="utf-8")
            # Names and values that are none would be refused here.
            options = read_options(["--config", str(file), "--output-dir", str(tmp_path / "out")])
            settings, config = options.settings, options.compatibility_config(tmp_path)
            assert _values(config, TABLE_8 | EQUATION_1) == TABLE_8 | EQUATION_1
            # The task adapters and the control, by the same table.
            assert _values(options.cross_entropy_config(tmp_path), TABLE_8) == TABLE_8
            assert (settings.validation_share, settings.control) == (0.2, True)
            # Eq. 5, where A.4 says that it is used; the weight is ours.
            weak = update == "phi-1.5-to-2" and task in ("gsm8k", "hellaswag")
            assert config.cross_entropy_weight == (0.5 if weak else 0.0)
            assert config.alignment == ("chunks" if update == "llama-2-to-3" else "tokens")
            assert (tiny["old"]["tokenizer"] != tiny["new"]["tokenizer"]) == (config.alignment == "chunks")
            assert settings.kind == ("choice" if task in ("piqa", "hellaswag") else "generation")
            for name in (settings.old_base, settings.new_base, settings.dataset, settings.test_dataset):
                assert DATA_SET.fullmatch(name or ""), name
            # Not the rows that are trained on.
            assert settings.dataset_split != settings.test_split


def test_the_example_of_one_training_has_the_values_of_table_8_too() -> None:
    file = Path(__file__).parents[2] / "examples" / "configs" / "vicuna_piqa.yaml"
    options = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert {name: options[name] for name in TABLE_8} == TABLE_8
    assert options["validation_share"] == 0.2


def test_rows_of_the_data_sets_are_asked_without_their_marks_and_those_without_an_answer_are_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    prepared = EXAMPLE["prepared"]
    jars = [
        {"goal": "Open a jar. ", "sol1": "Turn the lid.", "sol2": " Wait.", "label": 1},
        {"goal": "Open a tin.", "sol1": "Cut it.", "sol2": "Cut it. ", "label": 0},
    ]
    asked = prepared(jars, "piqa")
    assert asked == [
        {
            "prompt": "Question: Open a jar.\nAnswer:",
            "completion": " Wait.",
            "choices": ["Turn the lid.", "Wait."],
        }
    ]
    assert capsys.readouterr().out.startswith("1 of 2 rows have no answer, or one choice twice")
    tea = {
        "activity_label": "Food",
        "ctx_a": "[header] How to make tea [title] Boil the water.  [step] Fill a pot.",
        "ctx_b": "then you",
        "endings": ["pour [substeps] it.", "sleep.", "sing.", "go."],
        "label": "0",
    }
    assert prepared([tea], "hellaswag") == [
        {
            "prompt": "Food: How to make tea. Boil the water. Fill a pot. Then you",
            "completion": " pour it.",
            "choices": ["pour it.", "sleep.", "sing.", "go."],
        }
    ]
    assert prepared([{"question": "1 + 1?", "answer": "1+1=2\n#### 2"}], "gsm8k") == [
        {"prompt": "Question: 1 + 1?\nAnswer:", "completion": " 1+1=2\n#### 2"}
    ]
    assert prepared([{"dialogue": "A: hi\r\nB: hi", "summary": "They greet."}], "samsum") == [
        {"prompt": "Summarize the dialogue.\n\nA: hi\nB: hi\n\nSummary:", "completion": " They greet."}
    ]
    assert capsys.readouterr().out == ""
    # The copy of SAMSum that loads is CSV, where nothing is None.
    assert prepared([{"dialogue": None, "summary": None}], "samsum") == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("update", "task"),
    [
        ("llama-1-to-2", "gsm8k"),
        ("llama-2-to-3", "samsum"),
        ("phi-1.5-to-2", "hellaswag"),
        ("qwen-2.5-to-3", "piqa"),
    ],
)
def test_an_update_runs_offline_in_the_papers_setting(
    update: str, task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained: dict[str, Any] = {}

    def train_and_save(trainer: Any) -> int:
        trained[Path(trainer.args.output_dir).name] = trainer.args
        return save(trainer)

    save = training.train_and_save
    monkeypatch.setattr(training, "train_and_save", train_and_save)
    monkeypatch.setitem(EXAMPLE["train_old_adapter"].__globals__, "train_and_save", train_and_save)
    has_control = task == "gsm8k"  # which is one training more
    monkeypatch.setitem(EXAMPLE["OFFLINE"], "control", has_control)
    command = [update, task, "--offline", "--output-dir", str(tmp_path)]
    assert EXAMPLE["main"](command) == 0
    printed = capsys.readouterr().out
    for row in ("plain update", "compatibility adapter", "these figures say nothing"):
        assert row in printed
    # One epoch of 13 rows; all else as in the table.
    changed = {"num_train_epochs": 1, "warmup_steps": 1}
    control = ["control"] if has_control else []
    assert list(trained) == ["old-task-adapter", "task-adapter", "compatibility", *control]
    for args in trained.values():
        assert _values(args, TABLE_8) == TABLE_8 | changed
    assert _values(trained["compatibility"], EQUATION_1) == EQUATION_1
    assert trained["compatibility"].cross_entropy_weight == (0.5 if update == "phi-1.5-to-2" else 0.0)
    for folder in ("old-task-adapter", *(f"update/{name}" for name in list(trained)[1:]), "update/adapter"):
        assert _values(PeftConfig.from_pretrained(tmp_path / folder), LORA) == LORA
    answers = [json.loads(line) for line in (tmp_path / "update/answers/new.jsonl").read_text().splitlines()]
    assert len(answers) == 6
    if task == "gsm8k":
        assert [row["reference"] for row in answers] == [str(number + 7) for number in range(100, 106)]
        assert all(row["prediction"] in row["response"] for row in answers)
        card = (tmp_path / "update/adapter/README.md").read_text(encoding="utf-8")
        pattern = EXAMPLE["options_of"](update, task)["answer_pattern"]
        assert re.sub(r"\\([^\w\s])", r"\1", card).count(f"what '{pattern}' finds first") == 1
        # The same command has nothing left to do, and another update is no part of this folder.
        trained.clear()
        assert EXAMPLE["main"](command) == 0
        assert not trained
        with pytest.raises(SystemExit, match="is of another run"):
            EXAMPLE["main"]([update, "piqa", *command[2:]])
        assert "apples" in (tmp_path / "rows.jsonl").read_text(encoding="utf-8")
    assert ("ROUGE-1" in printed) == (task == "samsum")
