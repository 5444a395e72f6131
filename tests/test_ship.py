"""The whole way on a local Hub, with empty caches, by the commands of docs/ship.md: train, push, find, ask, load."""

import json
import re
import shlex
from pathlib import Path

import local_hub
import pytest
from huggingface_hub import ModelCard
from tiny_updates import make_update

pytestmark = pytest.mark.slow

TESTS = str(Path(__file__).parent)
PAGE = Path(__file__).parents[1] / "docs" / "ship.md"
TOKEN = "secret-of-ann"  # noqa: S105 - a token of the local Hub
TRAIN = """
import json
import torch
from datasets import Dataset
import muscle_hf
from tiny_updates import ROWS, config_of

trainer = muscle_hf.CompatibilityTrainer(
    model="org/base-v2", new_adapter="org/task-on-v2", old_model="org/base-v1", old_adapter="org/task-on-v1",
    args=config_of("out/adapter"), train_dataset=Dataset.from_list(ROWS),
)
trainer.train()
old, new, ours, gold = "aaabb", "abbab", "aabab", "aaaaa"
for name, answers in (("plain update", new), ("compatibility adapter", ours)):
    compared = muscle_hf.compare(old=list(old), new=list(answers), references=list(gold))
    trainer.add_comparison(name, compared, split="five questions")
trainer.save_model()
with torch.no_grad():
    logits = trainer.model.eval()(input_ids=torch.arange(3, 19)[None]).logits
json.dump(logits.flatten().tolist(), open("logits.json", "w"))
"""
LOAD = """
import json, sys
sys.modules["muscle_hf"] = None
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base = AutoModelForCausalLM.from_pretrained("org/base-v2", dtype=torch.float32)
model = PeftModel.from_pretrained(base, "org/task-compat").eval()
AutoTokenizer.from_pretrained("org/task-compat")
with torch.no_grad():
    logits = model(input_ids=torch.arange(3, 19)[None]).logits
json.dump(logits.flatten().tolist(), open("loaded.json", "w"))
"""
COMMAND = """
import sys
from muscle_hf.cli import main
code = main(sys.argv[1:])
if sys.argv[1] in ("push", "find"):
    assert "torch" not in sys.modules, f"{sys.argv[1]} loads torch"
sys.exit(code)
"""


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _published(folder: Path) -> dict[str, dict[str, bytes]]:
    """Give both bases and both task adapters of a tiny update as their owners would have published them."""
    update = make_update(folder)
    files = {}
    for version in (1, 2):
        files[f"org/base-v{version}"] = _contents(update.folder / f"base-v{version}")
        adapter = _contents(update.folder / f"task-v{version}")
        config = json.loads(adapter["adapter_config.json"])
        config["base_model_name_or_path"] = f"org/base-v{version}"
        # PEFT's own card would name a path of this machine as the base.
        adapter |= {"adapter_config.json": json.dumps(config).encode(), "README.md": b"# a task adapter\n"}
        files[f"org/task-on-v{version}"] = adapter
    return files


def _alike(text: str) -> str:
    """Text without what differs from run to run: sizes, ports and commits."""
    text = re.sub(r"https?://[^/\s]+/", "hub/", text)
    return re.sub(r"\b[0-9a-f]{40}\b", "commit", re.sub(r" +[\d.]+ (k?B)$", r" size \1", text, flags=re.MULTILINE))


def test_the_commands_ship_an_adapter_that_loads_without_this_package(tmp_path: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    push, find, predict, metrics = (shlex.split(line) for line in re.findall(r"^muscle-hf (.*)$", page, re.MULTILINE))
    blocks = re.findall(r"^```(text|python)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    shown_by_push, shown_by_find, shown_by_metrics = (block for kind, block in blocks if kind == "text")
    (python,) = (block for kind, block in blocks if kind == "python")
    with local_hub.hub(tokens={TOKEN: local_hub.User("ann", orgs=("org",))}) as hub:
        for name, files in _published(tmp_path / "models").items():
            hub.create(name, files=files)
        (tmp_path / "questions.jsonl").write_text('{"prompt": "what is the balance\\n", "completion": "balance"}\n')

        def run(code: str, who: str, *arguments: str, token: str | None = None) -> str:
            # Everyone has an empty cache.
            (tmp_path / who).mkdir()
            here = f"import os, sys; sys.path.insert(0, {TESTS!r}); os.chdir({str(tmp_path)!r})\n"
            done = local_hub.run_client(here + code, hub, home=tmp_path / who, token=token, arguments=arguments)
            assert done.returncode == 0, done.stderr
            return done.stdout

        run(TRAIN, "trains")
        pushed = run(COMMAND, "pushes", *push, token=TOKEN)
        listed = run(COMMAND, "finds", *find)
        (found,) = json.loads(run(COMMAND, "finds again", *find, "--json"))
        in_python = run(python, "finds in Python")
        spaces = run(COMMAND, "shows Spaces", *metrics)
        run(COMMAND, "asks", *predict, "--max-new-tokens", "4")  # the tiny model reads 128 tokens
        run(LOAD, "loads")
        sent = hub.files("org/task-compat")
        old_card = ModelCard(hub.files("org/task-on-v1")["README.md"].decode())

    assert _alike(pushed) == _alike(shown_by_push)
    assert (listed, spaces) == (shown_by_find, shown_by_metrics)
    assert in_python.startswith("org/task-compat 0.2")
    assert {"README.md", "adapter_config.json", "adapter_model.safetensors", "comparison.json"} < set(sent)
    assert not [path for path in sent if path.endswith((".bin", ".pt", ".pth", ".pkl"))]
    # The base's commit is what anybody else gets who loads the adapter with PEFT's automatic classes.
    assert len(json.loads(sent["adapter_config.json"])["revision"]) == 40
    card = sent["README.md"].decode()
    assert str(tmp_path) not in card and "path/to" not in card
    assert old_card.data.new_version == "org/task-compat"
    assert (found["name"], found["base_model"]) == ("org/task-compat", "org/base-v2")
    # One question of five is broken by the adapter, two by the plain update.
    assert found["measured"][0]["nfr"]["value"] == pytest.approx(0.2)
    assert found["measured"][0]["nfr_reduction"]["value"] == pytest.approx(0.2)
    (answer,) = (json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines())
    assert (answer["id"], answer["reference"]) == (0, "balance")
    assert json.loads((tmp_path / "loaded.json").read_text()) == json.loads((tmp_path / "logits.json").read_text())
