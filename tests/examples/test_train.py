"""The training example runs on tiny models, and its YAML file names options that exist."""

import dataclasses
import json
import runpy
import sys
from pathlib import Path

import pytest
import yaml
from tiny_models import tiny_adapter, tiny_llama, tiny_tokenizer
from transformers import LlamaForCausalLM

from muscle_hf import CompatibilityConfig

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.slow
def test_the_example_trains_and_saves_an_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tiny_tokenizer()
    for version in (1, 2):
        base = tiny_llama(version, tokenizer, hidden_size=16, layers=1)
        base.save_pretrained(tmp_path / f"base-v{version}")
        tokenizer.save_pretrained(tmp_path / f"base-v{version}")
        base = LlamaForCausalLM.from_pretrained(tmp_path / f"base-v{version}")
        tiny_adapter(base, version).save_pretrained(tmp_path / f"task-v{version}")
    rows = [{"prompt": f"transfer {n} dollars\n", "completion": "transfer"} for n in range(8)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "run.yaml").write_text(
        f"""
new_model: {tmp_path}/base-v2
new_adapter: {tmp_path}/task-v2
old_model: {tmp_path}/base-v1
old_adapter: {tmp_path}/task-v1
dataset: {tmp_path}/data.jsonl
output_dir: {tmp_path}/out
max_steps: 1
eval_strategy: steps
eval_steps: 1
bf16: false
use_cpu: true
report_to: none
disable_tqdm: true
model_init_kwargs: '{{"dtype": "float32"}}'
""",
        encoding="utf-8",
    )
    monkeypatch.setattr(
        sys, "argv", ["train", "--config", str(tmp_path / "run.yaml"), "--cross_entropy_weight", "0.5"]
    )
    runpy.run_path(str(EXAMPLES / "train_compatibility_adapter.py"), run_name="__main__")
    assert (tmp_path / "out" / "adapter_model.safetensors").exists()


# The file of `muscle-hf update` has options of its own; its test is that of the command.
CONFIGS = [path for path in sorted((EXAMPLES / "configs").glob("*.yaml")) if path.name != "update.yaml"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_names_options_that_exist(path: Path) -> None:
    script = runpy.run_path(str(EXAMPLES / "train_compatibility_adapter.py"))
    known = {field.name for field in dataclasses.fields(CompatibilityConfig)}
    known |= {field.name for field in dataclasses.fields(script["UpdateArguments"])}
    assert set(yaml.safe_load(path.read_text(encoding="utf-8"))) <= known
