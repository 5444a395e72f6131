"""`load_adapter`: the very logits of plain peft, the base that it was trained on, and no code of an adapter runs."""

import json
import logging
import os
import pickle
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import fresh
import pytest
import torch
from local_hub import Fault, Hub, User, hub, run_client
from peft import (
    PEFT_TYPE_TO_CONFIG_MAPPING,
    LoraConfig,
    PeftModel,
    PeftType,
    PromptLearningConfig,
    PromptTuningConfig,
    TaskType,
    get_peft_model,
)
from safetensors.torch import load_file, save_file
from tiny_classifiers import NAMES, tiny_classifier
from tiny_models import tiny_adapter, tiny_llama, tiny_tokenizer
from tiny_updates import EMBEDDINGS_AND_NORMS
from transformers import (
    BertForTokenClassification,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedModel,
)

from muscle_hf.errors import ConfigurationError, InputError, ModelMismatchError, MuscleError, UnsupportedAdapterError
from muscle_hf.hub import adapter_config, adapter_files
from muscle_hf.hub.base_files import BaseFiles
from muscle_hf.models import load
from muscle_hf.models.load import load_adapter

TOKENIZER = tiny_tokenizer()
TOKENS = TOKENIZER(["transfer ten dollars from savings"], return_tensors="pt")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base and an adapter on it, which nobody may change."""
    folder = tmp_path_factory.mktemp("saved")
    _save(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """The same, to be spoiled."""
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    _edit(tmp_path / "adapter" / "adapter_config.json", base_model_name_or_path=str(tmp_path / "base"))
    return tmp_path


def _save(folder: Path, **lora: Any) -> None:
    tiny_llama(1, TOKENIZER, hidden_size=16, layers=1).save_pretrained(folder / "base")
    tiny_adapter(LlamaForCausalLM.from_pretrained(folder / "base"), 2, **lora).save_pretrained(folder / "adapter")


def _edit(path: Path, **fields: Any) -> None:
    found = json.loads(path.read_text(encoding="utf-8")) | fields
    path.write_text(json.dumps(found), encoding="utf-8")


def _logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(**TOKENS).logits
    return found


def _plain(folder: Path) -> torch.Tensor:
    base = LlamaForCausalLM.from_pretrained(folder / "base")
    return _logits(PeftModel.from_pretrained(base, folder / "adapter"))


class _Planted:
    """Unpickled, it writes a file: what a hostile adapter would do to whoever opens it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def _plant(path: Path, mark: Path) -> None:
    path.write_bytes(pickle.dumps(_Planted(mark)))


# What is loaded ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("lora", [{}, EMBEDDINGS_AND_NORMS], ids=["linear layers", "embeddings and norms"])
def test_the_logits_are_those_of_plain_peft(tmp_path: Path, lora: dict[str, Any]) -> None:
    _save(tmp_path, **lora)
    model = load_adapter(tmp_path / "adapter")
    assert isinstance(model, PeftModel)
    assert torch.equal(_logits(model), _plain(tmp_path))
    base = _logits(LlamaForCausalLM.from_pretrained(tmp_path / "base"))
    assert not torch.allclose(_logits(model), base, atol=0.1)


def test_merging_gives_a_model_without_peft_and_the_same_answers(saved: Path) -> None:
    model = load_adapter(saved / "adapter", merge=True)
    assert type(model) is LlamaForCausalLM
    assert not [name for name, _ in model.named_modules() if "lora" in name]
    torch.testing.assert_close(_logits(model), _plain(saved), atol=1e-4, rtol=1e-4)


def test_an_adapter_is_frozen_unless_it_shall_be_trained(saved: Path) -> None:
    frozen, trained = (load_adapter(saved / "adapter", is_trainable=one) for one in (False, True))
    assert not any(weight.requires_grad for weight in frozen.parameters())
    assert not frozen.training
    assert {name.split(".")[-3] for name, weight in trained.named_parameters() if weight.requires_grad} == {
        "lora_A",
        "lora_B",
    }


def test_type_and_device_are_those_that_were_asked_for(saved: Path) -> None:
    def base_weight(model: Any) -> torch.Tensor:
        found: torch.Tensor = model.get_input_embeddings().weight
        return found

    assert base_weight(load_adapter(saved / "adapter")).dtype == torch.float32  # as they are saved
    half = base_weight(load_adapter(saved / "adapter", dtype="bfloat16", device_map="cpu"))
    assert half.dtype == torch.bfloat16
    assert half.device.type == "cpu"
    eager = load_adapter(saved / "adapter", attn_implementation="eager")
    assert eager.config._attn_implementation == "eager"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dtype": "float23"}, "dtype is float23, which is no type"),
        ({"dtype": "int8"}, "dtype is int8"),
        ({"dtype": "save"}, "dtype is save"),
        ({"device_map": "nope"}, "device_map is nope"),
        ({"device_map": "cuda:99"}, "device_map is cuda:99"),
        ({"device_map": 99}, "device_map is 99"),
        ({"device_map": "meta"}, "device_map is meta"),
    ],
)
def test_a_type_or_a_device_that_is_not_there_is_not_blamed_on_the_base(options: dict[str, Any], words: str) -> None:
    # Before anything is looked for: there is no such adapter either.
    with pytest.raises(ConfigurationError, match=words) as caught:
        load_adapter("/nowhere", **options)
    assert str(caught.value).isprintable()


def _classifier_adapter(folder: Path, kind: type[PreTrainedModel], task: str, *, saves_head: bool = True) -> Any:
    """An adapter with three classes on a base whose own head has two, as a fresh base has."""
    model = tiny_classifier(1, TOKENIZER, NAMES, kind=kind)
    model.config.id2label, full = {0: "a", 1: "b"}, model.config.id2label
    head = "score" if hasattr(model, "score") else "classifier"
    body = {name: one for name, one in model.state_dict().items() if not name.startswith(head)}
    model.save_pretrained(folder / "base", state_dict=body)
    model.config.id2label = full
    options = {"target_modules": "all-linear", "modules_to_save": [head]} if saves_head else {}
    adapted = get_peft_model(model, LoraConfig(task_type=task, **options))
    adapted.peft_config["default"].base_model_name_or_path = str(folder / "base")
    adapted.save_pretrained(folder / "adapter")
    return adapted


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "task"), [(LlamaForSequenceClassification, "SEQ_CLS"), (BertForTokenClassification, "TOKEN_CLS")]
)
@pytest.mark.parametrize("has_names", [False, True])
def test_a_classifier_gets_the_classes_that_it_was_trained_for(
    tmp_path: Path, kind: type[PreTrainedModel], task: str, has_names: bool
) -> None:
    trained = _classifier_adapter(tmp_path, kind, task)
    if has_names:
        trained.config.save_pretrained(tmp_path / "adapter")
    model = load_adapter(tmp_path / "adapter")
    assert torch.equal(_logits(model), _logits(trained))
    torch.testing.assert_close(_logits(load_adapter(tmp_path / "adapter", merge=True)), _logits(trained))
    names = tuple(model.config.id2label.values())
    assert names == (NAMES if has_names else ("LABEL_0", "LABEL_1", "LABEL_2"))


def test_tokens_that_were_added_for_the_adapter_get_their_embeddings(tmp_path: Path) -> None:
    _save(tmp_path)
    base = LlamaForCausalLM.from_pretrained(tmp_path / "base")
    base.resize_token_embeddings(len(TOKENIZER) + 3)
    adapted = tiny_adapter(base, 3)
    adapted.save_pretrained(tmp_path / "adapter", save_embedding_layers=True)
    assert torch.equal(_logits(load_adapter(tmp_path / "adapter")), _logits(adapted))


# Nothing runs --------------------------------------------------------------------------------------------------------


def test_a_planted_pickle_really_would_write_its_file(tmp_path: Path) -> None:
    _plant(tmp_path / "adapter_model.bin", tmp_path / "mark")
    pickle.loads((tmp_path / "adapter_model.bin").read_bytes())  # noqa: S301 - ours
    assert (tmp_path / "mark").exists()


def test_a_pickle_beside_the_safetensors_is_not_opened(folder: Path) -> None:
    mark = folder / "mark"
    for name in ("adapter_model.bin", "training_args.bin", "optimizer.pt"):
        _plant(folder / "adapter" / name, mark)
    for name in ("pytorch_model.bin", "training_args.bin"):
        _plant(folder / "base" / name, mark)
    assert torch.equal(_logits(load_adapter(folder / "adapter")), _plain(folder))
    assert not mark.exists()


def test_a_type_that_loads_a_further_model_is_refused_before_that_is_opened(folder: Path) -> None:
    mark, third = folder / "mark", folder / "third"
    shutil.copytree(folder / "base", third)
    (third / "model.safetensors").unlink()
    _plant(third / "pytorch_model.bin", mark)
    _edit(folder / "adapter" / "adapter_config.json", peft_type="SHADOW", shadow_model=str(third))
    with pytest.raises(UnsupportedAdapterError, match="SHADOW, which loads a further model"):
        load_adapter(folder / "adapter")
    assert not mark.exists()


def test_every_type_that_peft_has_is_known_or_refused_with_its_reason() -> None:
    types = {str(one.value) for one in PeftType}
    refused = {*adapter_config._REFUSED}
    # One that a newer PEFT brings is refused until somebody has read what it loads.
    assert types <= adapter_config._KNOWN | refused
    assert not adapter_config._KNOWN & refused
    # Learned tokens stand before the text by PEFT's own account.
    learned = {
        str(one.value) for one, kind in PEFT_TYPE_TO_CONFIG_MAPPING.items() if issubclass(kind, PromptLearningConfig)
    }
    assert learned <= refused


def test_an_adapter_that_is_only_a_pickle_is_refused_without_opening_it(folder: Path) -> None:
    (folder / "adapter" / "adapter_model.safetensors").unlink()
    _plant(folder / "adapter" / "adapter_model.bin", folder / "mark")
    with pytest.raises(InputError, match=r"only in adapter_model.bin, a pickle.*save_pretrained"):
        load_adapter(folder / "adapter")
    assert not (folder / "mark").exists()


@pytest.mark.parametrize("way", ["only pickles", "config", "index"])
def test_a_base_in_a_pickle_is_refused_by_whichever_way_it_is_named(folder: Path, way: str) -> None:
    mark, base = folder / "mark", folder / "base"
    _plant(base / "pytorch_model.bin", mark)
    _plant(base / "adapter_model.bin", mark)
    if way == "config":
        # The one name that transformers takes although it is a pickle's.
        _edit(base / "config.json", transformers_weights="adapter_model.bin")
    else:
        (base / "model.safetensors").unlink()
    if way == "index":
        index = {"metadata": {}, "weight_map": {"model.norm.weight": "pytorch_model.bin"}}
        (base / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(InputError, match=r"the base .* has no model.safetensors|names its weights|pytorch_model.bin"):
        load_adapter(folder / "adapter")
    assert not mark.exists()


def test_a_base_with_an_adapter_inside_is_not_loaded_with_it(folder: Path) -> None:
    shutil.copy(folder / "adapter" / "adapter_config.json", folder / "base")
    _plant(folder / "base" / "adapter_model.bin", folder / "mark")
    with pytest.raises(InputError, match="holds an adapter itself"):
        load_adapter(folder / "adapter")
    assert not (folder / "mark").exists()


CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM
Path({mark!r}).touch()
class OwnConfig(LlamaConfig):
    model_type = "own"
class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
"""


def test_code_of_the_base_runs_only_where_it_is_told(folder: Path) -> None:
    mark = folder / "mark"
    (folder / "base" / "own.py").write_text(CODE.format(mark=str(mark)), encoding="utf-8")
    own = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    _edit(folder / "base" / "config.json", model_type="own", auto_map=own)
    with pytest.raises(ConfigurationError, match="trust_remote_code=True") as caught:
        load_adapter(folder / "adapter")
    assert str(caught.value).count("\n") == 0
    assert not mark.exists()
    model = load_adapter(folder / "adapter", trust_remote_code=True)
    assert mark.exists()
    assert torch.equal(_logits(model), _plain_of(folder))


def _plain_of(folder: Path) -> torch.Tensor:
    _edit(folder / "base" / "config.json", model_type="llama", auto_map=None)
    return _plain(folder)


def test_code_of_a_base_that_transformers_knows_is_not_even_asked_for(folder: Path) -> None:
    mark = folder / "mark"
    (folder / "base" / "own.py").write_text(CODE.format(mark=str(mark)), encoding="utf-8")
    _edit(folder / "base" / "config.json", auto_map={"AutoModelForCausalLM": "own.OwnModel"})
    load_adapter(folder / "adapter")
    assert not mark.exists()


def test_an_adapter_cannot_have_a_module_imported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "planted.py").write_text(f"import pathlib\npathlib.Path({str(folder / 'mark')!r}).touch()\n")
    monkeypatch.syspath_prepend(folder)
    _edit(
        folder / "adapter" / "adapter_config.json",
        task_type=None,
        auto_mapping={"base_model_class": "LlamaForCausalLM", "parent_library": "planted"},
    )
    assert torch.equal(_logits(load_adapter(folder / "adapter")), _plain(folder))
    _edit(folder / "adapter" / "adapter_config.json", megatron_config={"a": 1}, megatron_core="planted")
    with pytest.raises(ModelMismatchError, match="megatron_core"):
        load_adapter(folder / "adapter")
    assert not (folder / "mark").exists()


# The base that it was trained on -------------------------------------------------------------------------------------


def test_a_base_of_another_name_is_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copytree(folder / "base", folder / "other")
    with caplog.at_level(logging.WARNING, "muscle_hf"):
        load_adapter(folder / "adapter", base_model=folder / "other")
    assert "was trained on the base" in caplog.text
    assert f"is now put on {folder / 'other'}" in caplog.text


@pytest.mark.parametrize(
    ("named", "given", "commit", "is_said"),
    [
        # Of somebody else: another model.
        ("acme/base-v2", "bob/base-v2", "c" * 40, True),
        ("acme/base-v2", "acme/base-v3", "c" * 40, True),
        ("acme/base-v2", "acme/base-v2", "c" * 40, False),
        # A folder has no owner in its name.
        ("acme/base-v2", "runs/base-v2", None, False),
        ("acme/base-v2", "runs/base-v3", None, True),
        ("/home/ann/base-v2", "acme/base-v2", "c" * 40, False),
        ("./base-v1", "acme/base-v2", "c" * 40, True),
    ],
)
def test_a_base_of_another_owner_is_said(
    saved: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    named: str,
    given: str,
    commit: str | None,
    is_said: bool,
) -> None:
    monkeypatch.setattr(load, "base_files", lambda name, **_: BaseFiles(name, commit))
    files = replace(adapter_files.adapter_files(saved / "adapter"), base=named)
    with caplog.at_level(logging.WARNING, "muscle_hf"):
        load._base_of(files, given, None, None)
    assert (f"was trained on the base {named}, and is now put on {given}" in caplog.text) == is_said
    assert (caplog.text == "") != is_said


def test_the_base_of_the_config_is_taken_without_a_word(saved: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "muscle_hf"):
        load_adapter(saved / "adapter")
        load_adapter(saved / "adapter", base_model=saved / "base")
    assert caplog.text == ""


def test_a_base_of_unknown_commit_is_said_where_the_adapter_knows_one(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _edit(folder / "adapter" / "adapter_config.json", base_model_name_or_path="org/base", revision="a" * 40)
    with caplog.at_level(logging.WARNING, "muscle_hf"):
        load_adapter(folder / "adapter", base_model=folder / "base")
    assert f"trained on commit {'a' * 40} of the base org/base" in caplog.text
    assert "of unknown commit" in caplog.text


def test_weights_that_neither_file_has_are_not_left_random(tmp_path: Path) -> None:
    _classifier_adapter(tmp_path, LlamaForSequenceClassification, "SEQ_CLS")
    _without(tmp_path / "adapter" / "adapter_model.safetensors", "score")
    with pytest.raises(ModelMismatchError, match=r"no weights for .*score.weight"):
        load_adapter(tmp_path / "adapter")
    _save(tmp_path)
    _without(tmp_path / "base" / "model.safetensors", "layers.0.mlp")
    words = r"layers.0.mlp.down_proj.weight, .*gate_proj.weight, .* are in neither the base .* nor the adapter"
    with pytest.raises(ModelMismatchError, match=words):
        load_adapter(tmp_path / "adapter")


def _without(path: Path, name: str) -> None:
    kept = {key: one for key, one in load_file(path).items() if name not in key}
    path.unlink()
    save_file(kept, path, {"format": "pt"})


def test_an_adapter_of_another_architecture_is_refused(tmp_path: Path) -> None:
    _save(tmp_path, target_modules=["q_proj"])
    for name, shape in {"wide": {"hidden_size": 32, "layers": 1}, "deep": {"hidden_size": 16, "layers": 2}}.items():
        tiny_llama(1, TOKENIZER, **shape).save_pretrained(tmp_path / name)
    for name, words in {"wide": "size mismatch", "deep": "missing adapter keys"}.items():
        with pytest.raises(ModelMismatchError, match=f"does not fit its base, a LlamaForCausalLM.*{words}"):
            load_adapter(tmp_path / "adapter", base_model=tmp_path / name)


def test_weights_for_layers_that_the_base_lacks_are_not_left_out_in_silence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tiny_llama(1, TOKENIZER, hidden_size=16, layers=2).save_pretrained(tmp_path / "deep")
    base = LlamaForCausalLM.from_pretrained(tmp_path / "deep")
    tiny_adapter(base, 2, target_modules=["q_proj"]).save_pretrained(tmp_path / "adapter")
    tiny_llama(1, TOKENIZER, hidden_size=16, layers=1).save_pretrained(tmp_path / "base")
    with caplog.at_level(logging.WARNING, "muscle_hf"):
        load_adapter(tmp_path / "adapter", base_model=tmp_path / "base")
    assert "has weights for 2 layers, of which its base has 1" in caplog.text


# What cannot be loaded -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        (
            {"base_model_name_or_path": None},
            InputError,
            "does not name the base that it was trained on; give it as --base-model (base_model=...)",
        ),
        (
            {"base_model_name_or_path": "/home/ann/base"},
            InputError,
            "a folder of another machine; give the same model as --base-model (base_model=...)",
        ),
        ({"base_model_name_or_path": "x" * 100_000}, InputError, "neither a folder with the base model nor an id"),
        ({"base_model_name_or_path": ["a"]}, InputError, "a text is needed"),
        ({"base_model_name_or_path": "\x1b[31m/evil"}, InputError, "neither a folder"),
        ({"revision": 7}, InputError, "7 as revision"),
        ({"peft_type": None}, InputError, "no peft_type"),
        ({"peft_type": "NOTHING"}, UnsupportedAdapterError, "NOTHING, of which it is not known"),
        ({"peft_type": "XLORA"}, UnsupportedAdapterError, "further adapters"),
        ({"rank_pattern": {"q_proj": 4, "(": 4}}, InputError, "no regular expression"),
        ({"task_type": "QUESTION_ANS"}, InputError, "task_type=QUESTION_ANS"),
        ({"task_type": None}, InputError, "task_type=None"),
        ({"target_modules": ["nowhere"]}, ModelMismatchError, "nowhere"),
    ],
)
def test_a_broken_config_is_one_line_that_names_the_fault(
    folder: Path, fields: dict[str, Any], error: type[MuscleError], words: str
) -> None:
    _edit(folder / "adapter" / "adapter_config.json", **fields)
    with pytest.raises(error) as caught:
        load_adapter(folder / "adapter")
    message = str(caught.value)
    assert words in message
    assert message.isprintable()
    assert len(message) < 2000


@pytest.mark.parametrize(
    "fields",
    [
        {"r": 5 * 10**7},
        {"r": 10**5000},
        {"r": 5},
        {"rank_pattern": {"q_proj": 5 * 10**7}},
        {"rank_pattern": {"layers.0.self_attn.v_proj": 5}},
        # Of a layer that has no weights in the file, and would get them before PEFT misses some.
        {"rank_pattern": {"lm_head": 5 * 10**7}, "target_modules": ["q_proj", "lm_head"]},
        {"peft_type": "ADALORA", "init_r": 5 * 10**7},
    ],
)
def test_a_rank_that_the_weights_do_not_have_takes_no_memory(
    saved: Path, folder: Path, fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("muscle_hf.models.load.base_files", _never)
    ranks = {shape[0] for key, shape in adapter_files.adapter_files(saved / "adapter").shapes.items() if "_A." in key}
    assert ranks == {4}
    text = json.dumps(json.loads((folder / "adapter" / "adapter_config.json").read_text(encoding="utf-8")))
    changed = ", ".join(f"{json.dumps(key)}: {_number(value)}" for key, value in fields.items())
    (folder / "adapter" / "adapter_config.json").write_text(f"{text[:-1]}, {changed}}}", encoding="utf-8")
    with pytest.raises(
        InputError, match=r"(r|init_r|rank_pattern\[.*\])=.* do not belong together|is not a JSON"
    ) as caught:
        load_adapter(folder / "adapter")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


def _never(*_: Any, **__: Any) -> None:
    raise AssertionError("the base was asked for")


def _number(value: Any) -> str:
    # Python itself writes no number of thousands of digits.
    return f"1{'0' * 5000}" if isinstance(value, int) and value > 10**4000 else json.dumps(value)


def test_ranks_of_a_pattern_are_not_taken_for_faults(tmp_path: Path) -> None:
    pattern = {"q_proj": 1, "layers.0.self_attn.v_proj": 5, r".*\.mlp\..*": 3}
    _save(tmp_path, rank_pattern=pattern)
    assert torch.equal(_logits(load_adapter(tmp_path / "adapter")), _plain(tmp_path))


def test_prompt_tuning_is_told_from_a_broken_adapter(folder: Path) -> None:
    base = LlamaForCausalLM.from_pretrained(folder / "base")
    prompts = PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=2)
    get_peft_model(base, prompts).save_pretrained(folder / "prompts")
    with pytest.raises(UnsupportedAdapterError, match="PROMPT_TUNING, which puts learned tokens before the text"):
        load_adapter(folder / "prompts")


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("adapter/adapter_config.json", b"{", "is not a JSON object"),
        ("adapter/adapter_config.json", b"[" * 100_000, "is not a JSON object"),
        ("adapter/adapter_config.json", b"\xff\xfe", "is not a JSON object"),
        ("adapter/adapter_model.safetensors", b"", "is broken"),
        ("adapter/adapter_model.safetensors", b"\x80\x04" * 100, "is broken"),
        ("base/config.json", b"[]", "is not a JSON object"),
        ("base/config.json", b'{"model_type": "nothing"}', "the base .* cannot be loaded"),
        ("base/model.safetensors", b"\x80\x04" * 100, "the base .* cannot be loaded"),
    ],
)
def test_a_broken_file_is_one_line_that_names_it(folder: Path, file: str, content: bytes, words: str) -> None:
    (folder / file).write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        load_adapter(folder / "adapter")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere/at/all", "neither a folder with the adapter nor an id of the Hub"),
        ("/nowhere", "neither a folder"),
        ("./nowhere", "neither a folder"),
        ("a b", "neither a folder"),
        ("x" * 5000, "neither a folder"),
    ],
)
def test_a_path_that_is_not_there_is_not_asked_of_the_hub(name: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_adapter(name)


def test_a_folder_that_is_no_adapter_says_what_it_lacks(saved: Path, folder: Path) -> None:
    with pytest.raises(InputError, match=r"is no adapter: it has no adapter_config.json"):
        load_adapter(saved / "base")
    (folder / "adapter" / "adapter_model.safetensors").unlink()
    with pytest.raises(InputError, match=r"but no weights: there is no adapter_model.safetensors"):
        load_adapter(folder / "adapter")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"merge": True, "is_trainable": True}, ConfigurationError, "leaves no adapter to train"),
        ({"revision": "main"}, InputError, "has no revision"),
        ({"base_revision": "main"}, InputError, "has no revision"),
    ],
)
def test_options_without_a_meaning_are_refused(
    saved: Path, options: dict[str, Any], error: type[MuscleError], words: str
) -> None:
    with pytest.raises(error, match=words):
        load_adapter(saved / "adapter", **options)


# From the Hub --------------------------------------------------------------------------------------------------------

# What loads is imported once, and each line that asks is answered by a process that knows nothing of the others.
CLIENT = """
import json, logging, os, sys, time
import torch
from muscle_hf.errors import MuscleError
from muscle_hf.models.load import load_adapter

time.sleep = lambda seconds: None  # The client waits for 23 seconds before it says that there is no network.
logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s", stream=open("log.txt", "a"))
tokens = torch.tensor([json.loads(sys.argv[1])])
while line := sys.stdin.readline():
    if process := os.fork():
        os.waitpid(process, 0)
        continue
    results = []
    for name, options in json.loads(line):
        try:
            with torch.no_grad():
                results.append(load_adapter(name, **options)(tokens).logits[0, -1].tolist())
        except MuscleError as error:
            results.append(f"{type(error).__name__}: {error}")
    print(json.dumps(results), flush=True)
    logging.shutdown()
    os._exit(0)
"""
Ask = Callable[..., tuple[list[Any], str]]


@contextmanager
def _client(hub: Hub, home: Path) -> Iterator[Ask]:
    """Ask for adapters, each time in a new process: give the logits or the error of each, and what was warned of."""
    home.mkdir(exist_ok=True)
    command = [sys.executable, "-c", CLIENT, json.dumps(TOKENS["input_ids"][0].tolist())]
    process = fresh.Process(command, env=hub.environment(home=home), cwd=home)

    def ask(*asked: tuple[str, dict[str, Any]]) -> tuple[list[Any], str]:
        process.stdin.write(f"{json.dumps(asked)}\n")
        process.stdin.flush()
        # What a process that died before its answer said stands in the errors, which the end of the client gives.
        answer = process.stdout.readline()
        log = (home / "log.txt").read_text(encoding="utf-8")
        os.truncate(home / "log.txt", 0)
        return json.loads(answer), log

    try:
        yield ask
    finally:
        _, errors = process.communicate()
    assert process.returncode == 0, errors


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def _last_logits(folder: Path) -> list[float]:
    found: list[float] = _plain(folder)[0, -1].tolist()
    return found


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Hub, Path]]:
    """A Hub with a base, another commit of it on a branch, and adapters that were trained on the first."""
    folder = tmp_path_factory.mktemp("shipped")
    _save(folder)
    adapter, base = _files(folder / "adapter"), _files(folder / "base")
    with hub(tokens={"token-of-ann": User("ann", orgs=("acme",)), "token-of-bob": User("bob")}) as running:
        running.create("acme/base-v2", files=base)
        commit = running.commits("acme/base-v2")[0][0]

        def trained_on(base: str | None, revision: str | None = None, **more: bytes) -> dict[str, bytes]:
            config = json.loads(adapter["adapter_config.json"]) | {"base_model_name_or_path": base}
            return adapter | {"adapter_config.json": json.dumps(config | {"revision": revision}).encode()} | more

        running.create("acme/task", files=trained_on("acme/base-v2", commit))
        running.create("acme/task-on-another", files=trained_on("acme/base-v2", "b" * 40))
        running.create("acme/no-commit", files=trained_on("acme/base-v2"))
        running.create("acme/private", files=trained_on("acme/base-v2"), private=True)
        running.create("acme/gated-base", files=base, gated=True)
        running.create("acme/on-gated", files=trained_on("acme/gated-base"))
        running.create("acme/on-missing", files=trained_on("acme/gone"))
        pickled = trained_on("acme/base-v2")
        del pickled["adapter_model.safetensors"]
        planted = pickle.dumps(_Planted(folder / "mark"))
        running.create("acme/pickled", files=pickled | {"adapter_model.bin": planted})
        pickles = dict.fromkeys(("adapter_model.bin", "training_args.bin"), planted)
        running.create("acme/both", files=trained_on("acme/base-v2") | pickles)
        in_parts = LlamaForCausalLM.from_pretrained(folder / "base")
        in_parts.save_pretrained(folder / "parts", max_shard_size="10KB")
        running.create("acme/base-in-parts", files=_files(folder / "parts"))
        running.create("acme/on-parts", files=trained_on("acme/base-in-parts"))
        only_bin = {"config.json": base["config.json"], "pytorch_model.bin": planted}
        running.create("acme/base-in-pickles", files=only_bin)
        running.create("acme/on-pickles", files=trained_on("acme/base-in-pickles"))
        yield running, folder


@pytest.mark.slow
def test_adapters_of_the_hub_load_or_say_in_one_line_why_not(shipped: tuple[Hub, Path], tmp_path: Path) -> None:
    running, folder = shipped
    wrong, bob, ann = "hf_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "token-of-bob", "token-of-ann"
    expected = _last_logits(folder)
    base_page = f"{running.endpoint}/acme/gated-base"
    cases: list[tuple[str, dict[str, Any], Any]] = [
        ("acme/both", {}, expected),
        ("acme/on-parts", {}, expected),
        # The client takes what is in its cache in place of an answer that refuses it, so what fails comes first.
        ("acme/task", {"token": wrong}, "HubError.*the token is wrong"),
        ("acme/task", {}, expected),
        ("acme/private", {}, "HubError.*acme/private does not exist, or is private"),
        ("acme/private", {"token": ann}, expected),
        ("acme/nothing", {}, "HubError.*acme/nothing does not exist, or is private"),
        ("acme/task", {"revision": "nope"}, "HubError.*acme/task has no revision 'nope'"),
        ("acme/base-v2", {}, "InputError.*acme/base-v2 is no adapter"),
        ("acme/pickled", {}, "InputError.*only in adapter_model.bin, a pickle"),
        ("acme/on-pickles", {}, "InputError.*the base acme/base-in-pickles has no model.safetensors"),
        (
            "acme/on-missing",
            {},
            "HubError.*could not load the base model acme/gone .no folder here.: acme/gone does not",
        ),
        ("acme/on-gated", {}, f"HubError.*acme/gated-base is gated; log in .*{base_page}"),
        ("acme/on-gated", {"token": bob}, f"HubError.*acme/gated-base is gated; accept its conditions at {base_page}"),
        ("acme/task-on-another", {}, "HubError.*acme/base-v2 has no revision 'bbbb.*base_revision"),
        ("acme/task-on-another", {"base_revision": "main"}, expected),
    ]
    with _client(running, tmp_path / "home") as ask:
        results, log = ask(*((name, options) for name, options, _ in cases))
    for (name, options, what), result in zip(cases, results, strict=True):
        if isinstance(what, str):
            assert re.fullmatch(f"{what}.*", str(result)), (name, options, result)
            assert str(result).isprintable()
            assert wrong not in str(result)
        else:
            assert result == what, (name, options)
    assert not (folder / "mark").exists()
    ours = [line for line in log.splitlines() if line.startswith("muscle_hf")]
    assert len(ours) == 1, ours
    commit = running.commits("acme/base-v2")[0][0]
    assert f"trained on commit {'b' * 40} of the base acme/base-v2, which is now of commit {commit}" in ours[0]


@pytest.mark.slow
def test_without_a_network_the_cache_serves_and_an_empty_one_says_so(
    shipped: tuple[Hub, Path], tmp_path: Path
) -> None:
    _, folder = shipped
    asked = ("acme/task", {})
    config = json.loads((folder / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    config |= {"base_model_name_or_path": "acme/base-v2"}
    with ExitStack() as stack:
        with hub(tokens={"token-of-ann": User("ann", orgs=("acme",))}) as going:
            going.create("acme/base-v2", files=_files(folder / "base"))
            adapter = _files(folder / "adapter") | {"adapter_config.json": json.dumps(config).encode()}
            going.create("acme/task", files=adapter)
            ask = stack.enter_context(_client(going, tmp_path / "home"))
            assert ask(asked)[0] == [_last_logits(folder)]
        # Nothing listens at its address any more. What was loaded before still loads; what was not is told as a
        # missing network, not as a missing adapter.
        results, _ = ask(asked, ("acme/other", {}))
    assert results[0] == _last_logits(folder)
    assert re.fullmatch("HubError: could not load the adapter .* .no folder here.: .* cannot be reached.*", results[1])


@pytest.mark.slow
def test_a_folder_that_has_the_name_of_the_base_is_not_taken_in_silence(
    shipped: tuple[Hub, Path], tmp_path: Path
) -> None:
    running, folder = shipped
    # The process works in its home.
    shutil.copytree(folder / "base", tmp_path / "home" / "acme" / "base-v2")
    with _client(running, tmp_path / "home") as ask:
        results, log = ask(("acme/no-commit", {}))
    assert results == [_last_logits(folder)]
    assert "the base acme/base-v2 that acme/no-commit names is a folder of this machine as well" in log


@pytest.mark.slow
def test_a_broken_download_is_one_line_and_the_next_try_finishes_it(shipped: tuple[Hub, Path], tmp_path: Path) -> None:
    running, folder = shipped
    asked = ("acme/task", {})
    with _client(running, tmp_path / "home") as ask:
        for fault, words in (
            (Fault(status=503, path="adapter_model", times=None), "failure of its own .503."),
            (Fault(status=429, path="base-v2/resolve", times=None), "too many requests"),
        ):
            running.fault(fault)
            results, _ = ask(asked)
            running.clear_faults()
            assert re.fullmatch(
                f"HubError: could not load the (adapter|base model) .* .no folder here.: .*{words}.*", str(results[0])
            )
        # One that is cut in the middle is taken up by the client itself.
        running.fault(Fault(cut_after_bytes=1000, method="GET", path="[0-9a-f]{64}", times=1))
        assert ask(asked)[0] == [_last_logits(folder)]
    assert 0 in [status for _, _, status in running.requests]


@pytest.mark.slow
def test_the_base_is_taken_at_the_commit_that_the_adapter_was_trained_on(
    shipped: tuple[Hub, Path], tmp_path: Path
) -> None:
    running, folder = shipped
    running.create("acme/moving-base", files=_files(folder / "base"))
    commit = running.commits("acme/moving-base")[0][0]
    config = json.loads((folder / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    config |= {"base_model_name_or_path": "acme/moving-base", "revision": commit}
    adapter = _files(folder / "adapter") | {"adapter_config.json": json.dumps(config).encode()}
    running.create("acme/on-moving", files=adapter)
    shutil.copytree(folder / "adapter", tmp_path / "adapter")
    tiny_llama(9, TOKENIZER, hidden_size=16, layers=1).save_pretrained(tmp_path / "base")
    moved = _last_logits(tmp_path)
    push = "from huggingface_hub import upload_folder; upload_folder(repo_id='acme/moving-base', folder_path='base')"
    done = run_client(push, running, token="token-of-ann", home=tmp_path)  # noqa: S106 - of the local Hub
    assert done.returncode == 0, done.stderr
    with _client(running, tmp_path / "home") as ask:
        results, log = ask(("acme/on-moving", {}), ("acme/on-moving", {"base_revision": "main"}))
    assert results == [_last_logits(folder), moved]
    assert moved != _last_logits(folder)
    assert f"trained on commit {commit}" in log
    assert log.count("muscle_hf") == 1
