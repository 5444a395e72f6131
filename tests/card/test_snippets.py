"""The code on a card, run as it stands there: the model that it loads answers as the one that was trained."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import local_hub
import pytest
import torch
from local_hub import run_client
from peft import LoraConfig, get_peft_model
from tiny_classifiers import tiny_classifier
from tiny_models import tiny_adapter, tiny_llama, tiny_tokenizer
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    BertModel,
    LlamaForCausalLM,
)

from muscle_hf.card import AdapterCard
from muscle_hf.card.lineage import Lineage

pytestmark = pytest.mark.slow

IDS = torch.arange(3, 19)[None]
ROWS = len(tiny_tokenizer()) + 2
NAMES = {0: "savings", 1: "checking", 2: "spanish", 3: "weather"}
CLASSIFIERS = {"text-classification": ("SEQ_CLS", AutoModelForSequenceClassification)}
CLASSIFIERS["token-classification"] = ("TOKEN_CLS", AutoModelForTokenClassification)
# Runs each piece of code in an empty namespace, and tells the logits of the model in it.
RUN = """
import json, sys, traceback
import torch
found = {}
for name, code in json.load(open("snippets.json")).items():
    space = {}
    try:
        exec(compile(code, name, "exec"), space)
        model = space["model"].eval()
        with torch.no_grad():
            logits = model(input_ids=torch.arange(3, 19)[None]).logits
        has_tokenizer = "tokenizer" not in space or len(space["tokenizer"]("the card").input_ids) > 0
        found[name] = logits.flatten().tolist() if has_tokenizer else "no tokenizer"
    except Exception:
        found[name] = traceback.format_exc()
from muscle_hf.card.lineage import commit_of, commit_of_adapter
found["commits"] = [commit_of("acme/llama", "config.json"), commit_of_adapter("acme/generation")]
json.dump(found, open("logits.json", "w"))
"""


@dataclass(frozen=True)
class Saved:
    """A model on disk, and what it answers."""

    task: str
    adapter: Path
    logits: torch.Tensor


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "README.md"}


def _snippets(card: AdapterCard) -> list[str]:
    found: list[str] = re.findall(r"```python\n(.*?)```", card.render(), re.DOTALL)
    return found


def _save(model: Any, folder: Path, task: str, base: str) -> Saved:
    model.eval()
    with torch.no_grad():
        logits = model(input_ids=IDS).logits.flatten()
    model.save_pretrained(folder)
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | {"base_model_name_or_path": base}
    path.write_text(json.dumps(config), encoding="utf-8")
    tiny_tokenizer().save_pretrained(folder)
    if task != "text-generation":
        model.config.save_pretrained(folder)  # as the trainer of classifiers does
    return Saved(task, folder, logits)


def _classifier(folder: Path, task: str, bert: Path) -> Saved:
    kind, auto = CLASSIFIERS[task]
    labels = {"id2label": NAMES, "label2id": {name: place for place, name in NAMES.items()}}
    model = auto.from_pretrained(bert, **labels)
    adapted = get_peft_model(model, LoraConfig(task_type=kind, r=4, target_modules=["query", "value"]))
    for name, weight in adapted.named_parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight, generator=torch.Generator().manual_seed(len(name)))
    return _save(adapted, folder, task, "acme/bert")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Saved]]:
    folder, tokenizer = tmp_path_factory.mktemp("models"), tiny_tokenizer()
    tiny_llama(1, tokenizer).save_pretrained(folder / "llama")
    size = tiny_classifier(1, tokenizer).config
    # A base that does not know how many classes the task has.
    plain = BertConfig(**{name: getattr(size, name) for name in ("vocab_size", "hidden_size", "intermediate_size")})
    plain.num_hidden_layers, plain.num_attention_heads, plain.max_position_embeddings = 1, 2, 64
    BertModel(plain).save_pretrained(folder / "bert")
    llama = tiny_adapter(LlamaForCausalLM.from_pretrained(folder / "llama"), 2)
    saved = {"generation": _save(llama, folder / "generation", "text-generation", "acme/llama")}
    grown = LlamaForCausalLM.from_pretrained(folder / "llama")
    grown.resize_token_embeddings(ROWS, mean_resizing=False)
    saved["grown"] = _save(tiny_adapter(grown, 2), folder / "grown", "text-generation", "acme/llama")
    for task in CLASSIFIERS:
        saved[task] = _classifier(folder / task, task, folder / "bert")
    whole = tiny_llama(7, tokenizer)
    whole.save_pretrained(folder / "whole")
    tokenizer.save_pretrained(folder / "whole")
    with torch.no_grad():
        saved["whole"] = Saved("text-generation", folder / "whole", whole(input_ids=IDS).logits.flatten())
    return folder, saved


def _check(folder: Path, codes: dict[str, str], expected: dict[str, Saved]) -> None:
    found = json.loads((folder / "logits.json").read_text(encoding="utf-8"))
    for name in codes:
        logits = found[name]
        assert isinstance(logits, list), f"{codes[name]}\n{logits}"
        torch.testing.assert_close(torch.tensor(logits), expected[name].logits, rtol=0, atol=1e-5)


def test_all_code_on_cards_of_the_hub_loads_the_model_that_was_trained(
    models: tuple[Path, dict[str, Saved]], tmp_path: Path
) -> None:
    folder, saved = models
    with local_hub.hub() as hub:
        commits = {}
        for base in ("llama", "bert"):
            hub.create(f"acme/{base}", files=_files(folder / base))
            ((commits[base], _),) = hub.commits(f"acme/{base}")
        codes, expected = {}, {}
        for name, one in saved.items():
            hub.create(f"acme/{name}", files=_files(one.adapter))
            ((commits[name], _),) = hub.commits(f"acme/{name}")
            base = "llama" if one.task == "text-generation" else "bert"
            card = AdapterCard(
                title=name,
                lineage=Lineage(f"acme/{base}", None, None, None, new_base_revision=commits[base]),
                adapter_type=None if name == "whole" else "lora",
                training={},
                repository=f"acme/{name}",
                task=one.task,
                embedding_rows=ROWS if name == "grown" else None,
            )
            found = _snippets(card)
            assert len(found) == {"whole": 1, "grown": 2}.get(name, 3)
            codes |= {f"{name} {place}": code for place, code in enumerate(found)}
            expected |= {f"{name} {place}": one for place in range(len(found))}
        (tmp_path / "snippets.json").write_text(json.dumps(codes), encoding="utf-8")
        done = run_client(RUN, hub, home=tmp_path)
    assert done.returncode == 0, done.stderr
    _check(tmp_path, codes, expected)
    # What was loaded by name has a commit that a card can name.
    found = json.loads((tmp_path / "logits.json").read_text(encoding="utf-8"))
    assert found["commits"] == [commits["llama"], commits["generation"]]


@pytest.mark.parametrize(("name", "rows"), [("generation", None), ("grown", ROWS)])
def test_the_code_on_a_card_of_a_folder_runs_beside_the_folders_that_it_names(
    models: tuple[Path, dict[str, Saved]], tmp_path: Path, name: str, rows: int | None
) -> None:
    folder, saved = models
    one, nowhere = saved[name], Lineage(None, None, None, None)
    card = AdapterCard(title="t", lineage=nowhere, adapter_type="lora", training={}, embedding_rows=rows)
    codes = {str(place): code for place, code in enumerate(_snippets(card))}
    assert len(codes) == 2
    (tmp_path / "path/to/the/new").mkdir(parents=True)
    (tmp_path / "path/to/this").mkdir()
    (tmp_path / "path/to/the/new/base").symlink_to(folder / "llama")
    (tmp_path / "path/to/this/folder").symlink_to(one.adapter)
    (tmp_path / "snippets.json").write_text(json.dumps(codes), encoding="utf-8")
    with local_hub.hub() as hub:
        done = run_client(RUN, hub, home=tmp_path)
    assert done.returncode == 0, done.stderr
    _check(tmp_path, codes, dict.fromkeys(codes, one))
