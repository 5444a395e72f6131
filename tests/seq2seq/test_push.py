"""An encoder-decoder is pushed as other models are: an adapter that names its base, and a card with the comparison."""

import json
import os
import sys
from pathlib import Path

import fresh
import local_hub
import pytest
from local_hub import User
from tiny_models import tiny_tokenizer
from tiny_seq2seq import tiny_seq2seq, tiny_seq2seq_adapter

TESTS = Path(__file__).parents[1]
TOKEN = "secret-of-ann"  # noqa: S105 - a token of the local Hub

CHILD = """
from datasets import Dataset
from tiny_seq2seq_updates import ROWS, config_of
from muscle_hf import CompatibilitySeq2SeqTrainer, compare, load_adapter

trainer = CompatibilitySeq2SeqTrainer(
    model="acme/task-on-v2",
    old_model="acme/task-on-v1",
    args=config_of("pushed", hub_model_id="acme/pushed", push_to_hub=True, hub_strategy="end"),
    train_dataset=Dataset.from_list(ROWS),
)
trainer.train()
comparison = compare(old=list("abxx"), new=list("xbyc"), references=list("abcz"))
trainer.add_comparison("compatibility adapter", comparison, split="four questions")
trainer.push_to_hub(license="mit")
print(type(load_adapter("acme/pushed")).__name__)
"""


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_push_brings_adapter_tokenizer_and_the_card_with_the_comparison(tmp_path: Path) -> None:
    with local_hub.hub(tokens={TOKEN: User("ann", orgs=("acme",))}) as hub:
        for version in (1, 2):
            base = tiny_seq2seq("t5", version, tiny_tokenizer())
            for part in ("base", "task-on"):
                tiny_tokenizer().save_pretrained(tmp_path / f"{part}-v{version}")
            base.save_pretrained(tmp_path / f"base-v{version}")
            base.config.name_or_path = base.name_or_path = f"acme/base-v{version}"
            adapted = tiny_seq2seq_adapter(base, 10 + version)
            # PEFT would ask the Hub about the base.
            adapted.save_pretrained(tmp_path / f"task-on-v{version}", save_embedding_layers=False)
            for part in ("base", "task-on"):
                hub.create(f"acme/{part}-v{version}", files=_contents(tmp_path / f"{part}-v{version}"))
        paths = os.pathsep.join(map(str, (TESTS / "seq2seq", TESTS, TESTS.parent)))
        environment = hub.environment(TOKEN, home=tmp_path / "home") | {"PYTHONPATH": paths, "CI": "1"}
        process = fresh.Process([sys.executable, "-c", CHILD], env=environment, cwd=tmp_path)
        out, errors = process.communicate()
        assert process.returncode == 0, errors[-3000:]
        assert out.splitlines()[-1] == "PeftModelForSeq2SeqLM"
        files = hub.files("acme/pushed")
    config = json.loads(files["adapter_config.json"])
    assert (config["base_model_name_or_path"], config["task_type"]) == ("acme/base-v2", "SEQ_2_SEQ_LM")
    card = files["README.md"].decode()
    for part in ("four questions", "pipeline_tag: text2text-generation", "base_model: acme/base-v2", "license: mit"):
        assert part in card
