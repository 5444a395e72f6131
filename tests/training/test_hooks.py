"""What is leaned on in other libraries: each does what it has to, and what is used and not in the table is found."""

import argparse
import ast
import importlib
import importlib.metadata
import inspect
import json
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, get_args

import evaluate
import huggingface_hub
import peft
import pytest
import torch
import tqdm
import transformers
import trl
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from accelerate.utils.deepspeed import HfDeepSpeedConfig
from datasets import Dataset, Features, IterableDataset, Value
from huggingface_hub import CommitOperationAdd, constants, try_to_load_from_cache
from packaging.version import Version
from peft import LoraConfig, get_peft_model
from tiny_models import CHAT_TEMPLATE, tiny_adapter, tiny_llama, tiny_tokenizer
from torch import nn
from torch.distributed.fsdp import FSDPModule
from transformers import Trainer, TrainingArguments
from transformers.integrations import deepspeed
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

import muscle_hf
from muscle_hf.models import sharding, splitting
from muscle_hf.training import hooks
from muscle_hf.training.hooks import HOOKS, Hook

TOKENIZER = tiny_tokenizer()
ROWS = [{"prompt": f"transfer {n} dollars\n", "completion": ["savings", "checking"][n % 2]} for n in range(8)]
CONTRACTS: dict[str, Callable[[Path], None]] = {}
TRIED: dict[Callable[[Path], None], Exception | None] = {}


def contract(*names: str) -> Callable[[Callable[[Path], None]], Callable[[Path], None]]:
    """Say which hooks a function tries; it gets an empty folder."""

    def note(function: Callable[[Path], None]) -> Callable[[Path], None]:
        CONTRACTS.update(dict.fromkeys(names, function))
        return function

    return note


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook.name)
def test_a_release_that_changes_what_is_leaned_on_is_told_by_name(hook: Hook, tmp_path: Path) -> None:
    trial = CONTRACTS[hook.name]
    if trial not in TRIED:
        TRIED[trial] = None
        try:
            trial(tmp_path)
        except Exception as error:  # whatever it is: it is told below
            TRIED[trial] = error
    if (error := TRIED[trial]) is not None:
        library = hook.name.partition(".")[0]
        release = library if library == "argparse" else f"{library} {importlib.metadata.version(library)}"
        said = " ".join(str(error).split())[:300]
        raise AssertionError(f"{release} changed {hook.name} ({hook.purpose}; {hook.files}): {said}") from error


def test_every_hook_has_a_contract_and_stands_once() -> None:
    names = [hook.name for hook in HOOKS]
    assert sorted(names) == sorted(set(names))
    assert set(names) == set(CONTRACTS)


# What is used --------------------------------------------------------------------------------------------------------

PACKAGE = Path(muscle_hf.__file__).parent
LIBRARIES = {
    *("accelerate", "argparse", "datasets", "evaluate", "huggingface_hub", "peft", "torch", "tqdm", "transformers"),
    "trl",
}
# Modules whose names have pages in the documentation; torch's are all public.
DOCUMENTED = {
    *("accelerate.logging", "accelerate.utils", "datasets.exceptions", "huggingface_hub.errors"),
    *("huggingface_hub.utils", "transformers.trainer_callback", "transformers.trainer_utils", "transformers.utils"),
}


def _is_private(name: Any) -> bool:
    return isinstance(name, str) and re.fullmatch(r"_[A-Za-z]\w*", name) is not None


def _own_names(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_self(node.value):
            found.add(node.attr)
    return found


def _is_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def _used_of_other_objects(tree: ast.AST) -> Iterator[str]:
    """What a file imports or reads of something that is neither `self` nor its own."""
    own = _own_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] in LIBRARIES:
            module = node.module or ""
            library = importlib.import_module(module.split(".")[0])
            is_public = module in DOCUMENTED or module.startswith("torch")
            for alias in node.names:
                is_hidden = any(map(_is_private, (*module.split("."), alias.name)))
                if is_hidden or not (is_public or hasattr(library, alias.name)):
                    yield alias.name
        elif isinstance(node, ast.Attribute) and _is_private(node.attr):
            if not _is_self(node.value) and node.attr not in own:
                yield node.attr
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            named = node.args[1] if node.func.id in ("getattr", "setattr", "hasattr") else None
            if isinstance(named, ast.Constant) and _is_private(named.value):
                yield named.value


def _used_of_parents(tree: ast.AST, module: str) -> Iterator[str]:
    """What classes override or touch of a class of a library that they inherit from."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef) or not node.bases:
            continue
        kind = getattr(importlib.import_module(module), node.name, None)
        parents = {base.__module__ for base in getattr(kind, "__mro__", ())}
        parents = {parent for parent in parents if parent.split(".")[0] in LIBRARIES}
        files = [inspect.getsourcefile(sys.modules[parent]) for parent in parents]
        theirs = "".join(Path(file).read_text(encoding="utf-8") for file in files if file)
        if theirs:
            names = {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)} | _own_names(node)
            yield from (name for name in names if _is_private(name) and re.search(rf"\b{name}\b", theirs))


def _used() -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for file in sorted(PACKAGE.rglob("*.py")):
        path = file.relative_to(PACKAGE)
        if path.parts[0] == "metrics" or path.name == "__main__.py":
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        module = ".".join(["muscle_hf", *path.with_suffix("").parts]).removesuffix(".__init__")
        for name in (*_used_of_other_objects(tree), *_used_of_parents(tree, module)):
            found[name].add(path.as_posix())
    return found


def test_what_no_library_promises_is_used_only_where_the_table_says() -> None:
    known: dict[str, tuple[str, ...]] = {}
    for hook in HOOKS:  # classes may share the name of a method
        name = hook.name.rpartition(".")[2]
        known[name] = (*known.get(name, ("training/hooks.py",)), *hook.files)
    used = _used()
    unseen = {
        f"{file}: {name}"
        for name, files in used.items()
        for file in files
        if not file.startswith(known.get(name, "-"))
    }
    assert not unseen, "name these in training/hooks.py, with a contract here"
    stale = {name for name in known if _is_private(name)} - set(used)
    assert not stale, "nothing uses these any more"


# Trainers ------------------------------------------------------------------------------------------------------------


class Probe(SFTTrainer):
    """Writes down what TRL and transformers call, and with what."""

    calls: ClassVar[list[tuple[str, tuple[Any, ...], dict[str, Any]]]] = []

    def _prepare_dataset(self, *arguments: Any, **options: Any) -> Any:
        self.calls.append(("rows", arguments, options))
        return super()._prepare_dataset(*arguments, **options)

    def _send_telemetry(self, *arguments: Any, **options: Any) -> None:
        self.calls.append(("telemetry", arguments, options))

    def _determine_best_metric(self, *arguments: Any, **options: Any) -> bool:
        self.calls.append(("best", arguments, options))
        return bool(super()._determine_best_metric(*arguments, **options))

    def _save(self, *arguments: Any, **options: Any) -> None:
        super()._save(*arguments, **options)
        (folder,) = arguments
        self.calls.append(("save", tuple(sorted(path.name for path in Path(folder).iterdir())), options))

    def _push_from_checkpoint(self, *arguments: Any, **options: Any) -> None:
        whole = (Path(arguments[0]) / "trainer_state.json").is_file()
        self.calls.append(("push", (*arguments, whole), options))

    def compute_loss(self, model: Any, inputs: Any, *arguments: Any, **options: Any) -> Any:
        self.calls.append(("loss", (sorted(inputs), self.model.training, *arguments), options))
        return super().compute_loss(model, inputs, *arguments, **options)

    def init_hf_repo(self, *arguments: Any, **options: Any) -> None:
        self.calls.append(("repository", arguments, options))
        self.push_in_progress = None


def _probe(folder: Path, **options: Any) -> Probe:
    Probe.calls.clear()
    arguments = {name: options.pop(name) for name in ("eval_dataset", "train_dataset") if name in options}
    quiet = {"report_to": "none", "use_cpu": True, "bf16": False, "disable_tqdm": True, "dataloader_pin_memory": False}
    quiet["max_steps"] = 1
    return Probe(
        model=tiny_adapter(tiny_llama(1, TOKENIZER, hidden_size=16, layers=1), seed=2),
        args=SFTConfig(output_dir=str(folder), per_device_train_batch_size=2, **quiet | options),
        processing_class=TOKENIZER,
        **{"train_dataset": Dataset.from_list(ROWS)} | arguments,
    )


def _calls(name: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    return [(arguments, options) for called, arguments, options in Probe.calls if called == name]


@contract("trl.SFTTrainer._prepare_dataset", "trl.SFTTrainer.completion_only_loss", "trl.SFTTrainer.chat_template")
def _rows(folder: Path) -> None:
    names = [*inspect.signature(SFTTrainer._prepare_dataset).parameters]
    assert names == ["self", "dataset", "processing_class", "args", "packing", "formatting_func", "dataset_name"]
    rows = Dataset.from_list(ROWS)
    trainer = _probe(folder, eval_dataset={"train": rows, "other": rows})
    assert [arguments[-1] for arguments, _ in _calls("rows")] == ["train", "train", "other"]
    assert all(len(arguments) == 6 and not options for arguments, options in _calls("rows"))
    chat = tiny_tokenizer(chat_template=CHAT_TEMPLATE)
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    options: dict[str, Any] = {"formatting_func": None, "name": "x"}
    for dataset, tokenizer in ((rows, TOKENIZER), (Dataset.from_list([{"messages": turns}]), chat)):
        stand_in = hooks.stand_in(
            tokenizer, completion_only_loss=trainer.completion_only_loss, chat_template=trainer.chat_template
        )
        for packing in (False, True):
            more = options | {"tokenizer": tokenizer, "packing": packing}
            own = hooks.prepare_rows(trainer, dataset, trainer.args, **more)
            assert {"input_ids", "labels"} <= {*own.column_names}
            assert own.to_list() == hooks.prepare_rows(stand_in, dataset, trainer.args, **more).to_list()
        # Encoded rows are only cut, and packed.
        encoded = hooks.prepare_rows(trainer, dataset, trainer.args, tokenizer=tokenizer, packing=False, **options)
        assert hooks.prepare_rows(trainer, encoded, trainer.args, **more).to_list() == own.to_list()


class PairProbe(DPOTrainer):
    """Writes down how TRL asks for the rows of pairs, and leaves tokens as they are."""

    calls: ClassVar[list[tuple[tuple[Any, ...], dict[str, Any]]]] = []

    def _prepare_dataset(self, *arguments: Any, **options: Any) -> Any:
        self.calls.append((arguments, options))
        return arguments[0] if "prompt_ids" in arguments[0].column_names else super()._prepare_dataset(*arguments)

    def _send_telemetry(self) -> None:
        """Stay silent."""


@contract("trl.DPOTrainer._prepare_dataset")
def _pairs(folder: Path) -> None:
    names = [*inspect.signature(DPOTrainer._prepare_dataset).parameters]
    assert names == ["self", "dataset", "processing_class", "args", "dataset_name"]
    texts = Dataset.from_list([{"prompt": "a ", "chosen": "b", "rejected": "c"}] * 2)
    tokens = Dataset.from_list([{"prompt_ids": [5, 6], "chosen_ids": [7, 2], "rejected_ids": [8]}] * 2)
    options = {"use_cpu": True, "bf16": False, "report_to": "none", "disable_tqdm": True, "max_steps": 1}
    for rows in (texts, tokens):
        PairProbe.calls.clear()
        trainer = PairProbe(
            tiny_adapter(tiny_llama(1, TOKENIZER, hidden_size=16, layers=1), seed=2),
            args=DPOConfig(str(folder), per_device_train_batch_size=2, dataloader_pin_memory=False, **options),
            train_dataset=rows,
            eval_dataset={"other": rows},
            processing_class=TOKENIZER,
        )
        assert [arguments[-1] for arguments, _ in PairProbe.calls] == ["train", "other"]
        assert all(len(arguments) == 4 and not options for arguments, options in PairProbe.calls)
        batch = next(iter(trainer.get_train_dataloader()))
        if rows is texts:
            # Both sides end: that is why steps are given as tokens.
            assert batch["input_ids"][0, -1] == batch["input_ids"][2, -1] == TOKENIZER.eos_token_id
        else:
            assert batch["input_ids"][[0, 2]].tolist() == [[5, 6, 7, 2], [5, 6, 8, TOKENIZER.pad_token_id]]
            assert batch["completion_mask"][2].tolist() == [0, 0, 1, 0]


@contract("trl.SFTTrainer._send_telemetry")
def _telemetry(folder: Path) -> None:
    _probe(folder)
    assert _calls("telemetry") == [((), {})]
    source = inspect.getsource(SFTTrainer._send_telemetry)
    assert "send_telemetry(" in source


@contract(
    "trl.SFTTrainer.aux_loss_enabled",
    "trl.SFTTrainer.router_aux_loss_coef",
    "transformers.Trainer.current_gradient_accumulation_steps",
)
def _router_loss(folder: Path) -> None:
    trainer = _probe(folder, gradient_accumulation_steps=2)
    assert trainer.aux_loss_enabled is False
    assert trainer.router_aux_loss_coef == 0.0
    assert hooks.router_loss_weight(trainer) == 0.0
    assert hooks.accumulated_batches(trainer) == 1
    trainer.train()
    assert hooks.accumulated_batches(trainer) == 2


@contract("trl.SFTTrainer._tag_names", "trl.SFTTrainer._name")
def _names(folder: Path) -> None:
    assert isinstance(SFTTrainer._name, str)
    assert {*SFTTrainer._tag_names} <= {*_probe(folder).model.model_tags}


@contract("transformers.Trainer._determine_best_metric", "transformers.Trainer._push_from_checkpoint")
def _best_and_push(folder: Path) -> None:
    trainer = _probe(
        folder,
        eval_dataset=Dataset.from_list(ROWS[:2]),
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="best",
        metric_for_best_model="loss",
        push_to_hub=True,
    )
    trainer.train()
    ((_, options),) = _calls("best")
    assert {*options} == {"metrics", "trial"}
    assert options["metrics"]["eval_loss"] == trainer.state.best_metric
    assert trainer.state.best_global_step == 1
    assert _calls("push") == [((str(folder / "checkpoint-1"), True), {})]


@contract("transformers.Trainer._save")
def _config_beside_a_model(folder: Path) -> None:
    _probe(folder).save_model()
    ((names, _),) = _calls("save")
    assert {"adapter_model.safetensors", "training_args.bin"} <= {*names}


@contract("transformers.Trainer.init_hf_repo")
def _repository(folder: Path) -> None:
    _probe(folder, push_to_hub=True)
    assert _calls("repository") == [((), {})]
    trainer = _probe(folder)
    assert _calls("repository") == []
    assert trainer.hub_model_id is None
    assert "self.push_in_progress = None" in inspect.getsource(Trainer.init_hf_repo)


@contract("transformers.TrainingArguments._VALID_DICT_FIELDS")
def _options_as_text(folder: Path) -> None:
    for parent in (TrainingArguments, SFTConfig):

        @dataclass
        class More(parent):  # type: ignore[misc, valid-type]
            _VALID_DICT_FIELDS: ClassVar[list[str]] = [*parent._VALID_DICT_FIELDS, "more"]
            more: Any = field(default=None)

        assert More(output_dir=str(folder), more='{"a": 1}', report_to="none", bf16=False).more == {"a": 1}


@contract("transformers.Trainer._set_signature_columns_if_needed", "transformers.Trainer._signature_columns")
def _columns(folder: Path) -> None:
    trainer = _probe(folder)
    before = hooks.kept_columns(trainer)
    assert "input_ids" in before
    assert "labels" in before
    hooks.keep_columns(trainer, ("ours", "labels"))
    assert hooks.kept_columns(trainer) == [*before, "ours"]
    rows = Dataset.from_list([{"input_ids": [1], "labels": [1], "ours": 5, "other": 6}])
    trainer.data_collator = lambda examples: examples
    assert [*trainer.get_test_dataloader(rows)] == [[{"input_ids": [1], "labels": [1], "ours": 5}]]
    args = TrainingArguments(str(folder), report_to="none", use_cpu=True)
    plain = Trainer(model=tiny_llama(1, TOKENIZER), args=args)
    hooks.keep_columns(plain, ("ours",))
    assert {"input_ids", "attention_mask", "labels", "ours"} <= {*hooks.kept_columns(plain)}


@contract("transformers.Trainer._loss_shifts_labels", "transformers.Trainer.model_accepts_loss_kwargs")
def _counted(folder: Path) -> None:
    counts = []
    for shifted in (True, False):
        trainer = _probe(folder, gradient_accumulation_steps=2, completion_only_loss=False)
        trainer.model_accepts_loss_kwargs = False
        hooks.count_labels_of_steps(trainer, shifted=shifted)
        trainer.train()
        calls = _calls("loss")
        assert len(calls) == 2
        counts += [int(options["num_items_in_batch"]) for _, options in calls]
    assert counts[0] == counts[1] == counts[2] - 4  # one label less in each of four rows
    assert counts[2] == counts[3]


@contract("transformers.Trainer.loss_is_scaled_for_ga")
def _not_divided(folder: Path) -> None:
    assert hasattr(Trainer, "loss_is_scaled_for_ga")
    losses = []
    for scaled in (True, False):
        trainer = _probe(folder, gradient_accumulation_steps=4)
        trainer.loss_is_scaled_for_ga = scaled
        trainer.current_gradient_accumulation_steps = 4
        batch = next(iter(trainer.get_train_dataloader()))
        trainer.compute_loss = lambda model, inputs, **_: sum(w.sum() for w in model.parameters()) * 0 + 8.0
        losses.append(float(trainer.training_step(trainer.model, batch)))
    assert losses == [8.0, 2.0]


@contract("transformers.Trainer._prepare_inputs")
def _batch(folder: Path) -> None:
    trainer = _probe(folder)
    batch = hooks.prepared_batch(trainer, {"input_ids": torch.tensor([[1]]), "given": torch.tensor([2.0])})
    assert {name: value.device for name, value in batch.items()} == dict.fromkeys(
        ("input_ids", "given"), trainer.args.device
    )


@contract("transformers.Trainer._load_from_checkpoint")
def _resumed(folder: Path) -> None:
    trainer = _probe(folder, save_strategy="steps", save_steps=1)
    trainer.train()
    trained = {name: weight.clone() for name, weight in trainer.model.named_parameters() if "lora" in name}
    with torch.no_grad():
        for name, weight in trainer.model.named_parameters():
            if name in trained:
                weight.zero_()
    hooks.load_weights(trainer, folder / "checkpoint-1")
    own = dict(trainer.model.named_parameters())
    assert all(torch.equal(own[name], weight) for name, weight in trained.items())


@contract("transformers.Trainer._finish_current_push", "transformers.utils.hub.PushInProgress")
def _pushes(folder: Path) -> None:
    trainer = _probe(folder, push_to_hub=True)
    assert not hooks.is_pushing(trainer)
    first: Future[None] = Future()
    hooks.note_push(trainer, first)
    assert hooks.is_pushing(trainer)
    hooks.note_push(trainer, second := Future())
    assert trainer.push_in_progress.jobs == [first, second]
    first.set_result(None)
    assert hooks.is_pushing(trainer)
    waited = []
    trainer.push_in_progress.wait_until_done = lambda: waited.append(second.set_result(None))
    hooks.wait_for_pushes(trainer)
    assert len(waited) == 1
    assert not hooks.is_pushing(trainer)
    hooks.wait_for_pushes(trainer)
    assert len(waited) == 1


@contract("transformers.trainer.DEFAULT_PROGRESS_CALLBACK")
def _bar(folder: Path) -> None:
    kind = transformers.trainer.DEFAULT_PROGRESS_CALLBACK
    trainer = _probe(folder, disable_tqdm=False)
    assert any(type(callback) is kind for callback in trainer.callback_handler.callbacks)
    trainer.remove_callback(kind)
    assert not any(type(callback) is kind for callback in trainer.callback_handler.callbacks)


# Models --------------------------------------------------------------------------------------------------------------


@contract("transformers.PreTrainedModel._hf_peft_config_loaded")
def _adapter_inside(_: Path) -> None:
    needed = transformers.integrations.peft.MIN_PEFT_VERSION
    if Version(needed) > Version(peft.__version__):  # as with transformers 5.24 before PEFT 0.22
        pytest.skip(f"transformers {transformers.__version__} refuses PEFT {peft.__version__} here: it wants {needed}")
    model = tiny_llama(1, TOKENIZER)
    assert model._hf_peft_config_loaded is False
    model.add_adapter(LoraConfig(target_modules=["q_proj"]))
    assert model._hf_peft_config_loaded is True


@contract("transformers.modeling_layers.GradientCheckpointingLayer", "accelerate.state.AcceleratorState.dynamo_plugin")
def _compiled_layers(folder: Path) -> None:
    from transformers.modeling_layers import GradientCheckpointingLayer

    trainer = _probe(folder)
    layers = [module for module in trainer.model.modules() if isinstance(module, GradientCheckpointingLayer)]
    assert layers == [*trainer.model.get_decoder().layers]
    assert trainer.accelerator.state.dynamo_plugin.backend.value == "NO"


@contract("transformers.cache_utils.DynamicSlidingWindowLayer")
def _caches(_: Path) -> None:
    from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

    model = tiny_llama(1, TOKENIZER)
    cache = model(input_ids=torch.tensor([[1, 5, 6]]), use_cache=True).past_key_values
    assert type(cache) is DynamicCache
    assert {type(layer) for layer in cache.layers} == {DynamicLayer}
    assert issubclass(DynamicSlidingWindowLayer, DynamicLayer)
    assert cache.layers[0].keys.shape[:1] == cache.layers[0].values.shape[:1] == (1,)
    cache.layers[0].batch_select_indices(torch.tensor([0, 0]))
    assert cache.layers[0].keys.shape[0] == 2


@contract("accelerate.Accelerator._models")
def _teachers(_: Path) -> None:
    accelerator = Accelerator(cpu=True)
    student, teacher = nn.Linear(1, 1), nn.Linear(1, 1)
    accelerator.prepare_model(student)
    assert accelerator._models == [student]
    accelerator.prepare_model(nn.Linear(1, 1), evaluation_mode=True)
    assert len(accelerator._models) == 2
    assert hooks.prepared_teacher(accelerator, teacher) is teacher
    assert teacher not in accelerator._models


@contract("torch.distributed.distributed_c10d._get_default_store")
def _store(folder: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=0, world_size=1)
    try:
        store = torch.distributed.distributed_c10d._get_default_store()
        assert store.add("count", 2) == 2
        assert store.add("count", 0) == 2
        assert store.compare_set("text", "", "first") == b"first"
        assert store.compare_set("text", "", "second") == b"first"
        assert store.get("text") == b"first"
    finally:
        torch.distributed.destroy_process_group()


@contract("accelerate.utils.deepspeed.HfDeepSpeedConfig")
def _stage_of_a_file(folder: Path) -> None:
    for stage in (2, 3):
        file = folder / f"stage-{stage}.json"
        file.write_text(json.dumps({"zero_optimization": {"stage": stage}}), "utf-8")
        assert bool(HfDeepSpeedConfig(str(file)).is_zero3()) is (stage == 3)


@contract(
    "accelerate.utils.fsdp_utils.fsdp2_prepare_model",
    "accelerate.utils.fsdp_utils.fsdp2_apply_ac",
    "accelerate.Accelerator._prepare_fsdp2",
)
def _split(folder: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=0, world_size=1)
    try:
        plugin = FullyShardedDataParallelPlugin(
            fsdp_version=2, auto_wrap_policy="transformer_based_wrap", activation_checkpointing=True
        )
        accelerator = Accelerator(cpu=True)
        accelerator.state.fsdp_plugin, accelerator.state.distributed_type = plugin, DistributedType.FSDP
        model = tiny_llama(1, TOKENIZER, hidden_size=16, layers=1)
        asked = tiny_llama(1, TOKENIZER, hidden_size=16, layers=1)
        assert splitting.split_in_parts(asked, "cpu") is asked  # without an accelerator of its own
        assert isinstance(asked, FSDPModule) and isinstance(asked.get_submodule("model.layers.0"), FSDPModule)
        assert {weight.dtype for weight in asked.parameters()} == {torch.float32}
        assert hooks.split_by_fsdp2(accelerator, model) is model
        layer = model.get_submodule("model.layers.0")
        assert isinstance(model, FSDPModule) and "Checkpoint" in type(layer).__name__
        hooks.take_as_split(accelerator, model)
        accelerator.free_memory()
        before, weights = [type(module) for module in model.modules()], list(model.parameters())
        prepared, optimizer = accelerator.prepare(model, torch.optim.SGD(weights))
        assert prepared is model and isinstance(optimizer, AcceleratedOptimizer) and accelerator._models == [model]
        assert before == [type(module) for module in model.modules()]
        assert list(map(id, optimizer.param_groups[0]["params"])) == list(map(id, weights))
    finally:
        torch.distributed.destroy_process_group()
        AcceleratorState._reset_state(reset_partial_state=True)


@contract("transformers.integrations.deepspeed", "transformers.integrations.deepspeed._hf_deepspeed_config_weak_ref")
def _told_of_deepspeed(_: Path) -> None:
    config: Any = type("Told", (), {"is_zero3": lambda _: True})()
    try:
        deepspeed.set_hf_deepspeed_config(config)
        told = deepspeed._hf_deepspeed_config_weak_ref
        deepspeed.unset_hf_deepspeed_config()
        assert told() is config and not deepspeed.is_deepspeed_zero3_enabled()
        deepspeed._hf_deepspeed_config_weak_ref = told
        assert deepspeed.is_deepspeed_zero3_enabled()
    finally:
        deepspeed.unset_hf_deepspeed_config()


@contract("accelerate.Accelerator._is_accelerate_prepared")
def _prepared_once(_: Path) -> None:
    accelerator, model = Accelerator(cpu=True), nn.Linear(1, 1)
    accelerator.prepare(model)
    assert model._is_accelerate_prepared


@contract("transformers.PreTrainedModel._no_split_modules")
def _layers_to_split_by(_: Path) -> None:
    assert list(tiny_llama(1, TOKENIZER, hidden_size=16, layers=1)._no_split_modules) == ["LlamaDecoderLayer"]


@contract("torch.nn.Module._forward_hooks", "torch.nn.Module._forward_pre_hooks")
def _silent_modules(_: Path) -> None:
    layer, called = nn.Sequential(nn.Linear(1, 1)), []
    layer[0].register_forward_pre_hook(lambda *_: called.append("before"))
    layer[0].register_forward_hook(lambda *_: called.append("after"), with_kwargs=True, always_call=True)
    with sharding._silent(layer):
        layer(torch.ones(1, 1))
    assert not called
    layer(torch.ones(1, 1))
    assert called == ["before", "after"]


@contract("datasets.Dataset._fingerprint")
def _content(_: Path) -> None:
    rows = Dataset.from_list(ROWS)

    def changed(row: dict[str, Any]) -> dict[str, Any]:
        return {"length": len(row["prompt"])}

    assert hooks.content_key(rows.map(changed)) == hooks.content_key(rows.map(changed))
    assert hooks.content_key(rows.select([0])) != hooks.content_key(rows.select([1]))


@contract("trl.data_utils.get_dataset_column_names")
def _column_names(_: Path) -> None:
    rows = Dataset.from_list(ROWS)
    streams = (rows.to_iterable_dataset(), IterableDataset.from_generator(lambda: iter(ROWS)))
    for one in (rows, *streams):
        assert sorted(trl.data_utils.get_dataset_column_names(one)) == ["completion", "prompt"]


@contract("trl.chat_template_utils.has_generation_markers")
def _markers(_: Path) -> None:
    marked = "{% generation %}{{ messages }}{% endgeneration %}"
    assert trl.chat_template_utils.has_generation_markers(marked)
    assert not trl.chat_template_utils.has_generation_markers(CHAT_TEMPLATE)


@contract("peft.utils.other.get_pattern_key")
def _patterns(_: Path) -> None:
    key = peft.utils.other.get_pattern_key
    assert key(("k_proj", "q_proj"), "model.layers.0.q_proj") == "q_proj"
    assert key((r"^model\.layers\.0\.q_proj",), "model.layers.0.q_proj") == r"^model\.layers\.0\.q_proj"
    assert key(("k_proj",), "model.layers.0.q_proj") == "model.layers.0.q_proj"


@contract(
    "peft.utils.other.AuxiliaryTrainingWrapper",
    "peft.utils.ModulesToSaveWrapper",
    "peft.tuners.tuners_utils.BaseTunerLayer",
    "peft.tuners.lora.LoraLayer",
)
def _wrapped(_: Path) -> None:
    config = LoraConfig(target_modules=["q_proj"], modules_to_save=["norm"], trainable_token_indices=[3])
    model = get_peft_model(tiny_llama(1, TOKENIZER, tie_word_embeddings=False), config)
    layers = dict(model.named_modules())
    query, norm, tokens = (
        next(layer for name, layer in layers.items() if name.endswith(ending))
        for ending in ("0.self_attn.q_proj", "model.norm", "embed_tokens")
    )
    assert isinstance(query, peft.tuners.tuners_utils.BaseTunerLayer)
    assert isinstance(query, peft.tuners.lora.LoraLayer)
    assert {*query.r} == {*query.lora_alpha} == {*query.lora_A} == {"default"}
    assert isinstance(norm, peft.utils.ModulesToSaveWrapper)
    assert isinstance(norm, peft.utils.other.AuxiliaryTrainingWrapper)
    assert isinstance(tokens, peft.utils.other.AuxiliaryTrainingWrapper)


class _Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2)
        self.linear, self.embedding = nn.Linear(4, 4), nn.Embedding(4, 4)
        self.conv1, self.conv2, self.conv3 = nn.Conv1d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv3d(4, 4, 1)
        self.experts = nn.Module()
        self.experts.weight = nn.Parameter(torch.zeros(3, 4, 4))


@contract(
    "peft.tuners.lora.layer.MultiheadAttention",
    "peft.tuners.lora.layer.ParamWrapper",
    "peft.tuners.lora.variants.DoraLinearVariant",
    "peft.tuners.lora.variants.DoraConv1dVariant",
    "peft.tuners.lora.variants.DoraConv2dVariant",
    "peft.tuners.lora.variants.DoraConv3dVariant",
)
def _other_layers(_: Path) -> None:
    kinds, variants = peft.tuners.lora.layer, peft.tuners.lora.variants
    plain = get_peft_model(_Layers(), LoraConfig(target_modules=["attention"], target_parameters=["experts.weight"]))
    assert isinstance(plain.base_model.model.attention, kinds.MultiheadAttention)
    experts = plain.base_model.model.experts
    assert isinstance(experts, kinds.ParamWrapper)
    assert (experts.num_experts, experts.parameter_name) == (3, "weight")
    names = ["linear", "embedding", "conv1", "conv2", "conv3"]
    dora = get_peft_model(_Layers(), LoraConfig(target_modules=names, use_dora=True)).base_model.model
    for name, kind in zip(
        names,
        [variants.DoraLinearVariant] * 2
        + [variants.DoraConv1dVariant, variants.DoraConv2dVariant, variants.DoraConv3dVariant],
        strict=True,
    ):
        assert isinstance(getattr(dora, name).lora_variant["default"], kind), name


# The Hub and the rest ------------------------------------------------------------------------------------------------


@contract("huggingface_hub.utils._validators.validate_repo_id")
def _names_on_the_hub(_: Path) -> None:
    check = huggingface_hub.utils._validators.validate_repo_id
    check("org/name")
    check("name")
    for wrong in ("a/b/c", "org/a--b", "org/name.git", "org/a b", ""):
        with pytest.raises(huggingface_hub.errors.HFValidationError):
            check(wrong)


@contract("huggingface_hub._CACHED_NO_EXIST")
def _not_there(folder: Path) -> None:
    commit, place = "a" * 40, folder / "models--org--name"
    (place / ".no_exist" / commit).mkdir(parents=True)
    (place / ".no_exist" / commit / "config.json").touch()
    found = try_to_load_from_cache("org/name", "config.json", cache_dir=folder, revision=commit)
    assert found is huggingface_hub._CACHED_NO_EXIST
    assert try_to_load_from_cache("org/name", "other.json", cache_dir=folder, revision=commit) is None


@contract("huggingface_hub.hf_api.ExpandModelProperty_T")
def _asked(_: Path) -> None:
    from muscle_hf.hub.find import _ASKED

    assert {*_ASKED} <= {*get_args(huggingface_hub.hf_api.ExpandModelProperty_T)}


@contract("huggingface_hub.CommitOperationAdd._should_ignore")
def _ignored(_: Path) -> None:
    assert CommitOperationAdd("a.bin", b"a")._should_ignore is None
    assert "_should_ignore" in inspect.getsource(huggingface_hub.HfApi.preupload_lfs_files) + inspect.getsource(
        sys.modules[CommitOperationAdd.__module__]
    )
    assert constants.REGEX_COMMIT_OID.fullmatch("a" * 40)


@contract("huggingface_hub.repocard.REGEX_YAML_BLOCK")
def _front_matter(_: Path) -> None:
    match = huggingface_hub.repocard.REGEX_YAML_BLOCK.search("---\r\nlicense: mit\r\n---\r\n# Hello")
    assert match is not None
    assert (match[1], match[2]) == ("---\r\n", "license: mit")
    assert huggingface_hub.repocard.REGEX_YAML_BLOCK.search("# Hello\n---\na: b\n---\n") is None


class _Metric(evaluate.Metric):
    def _info(self) -> Any:
        features = [Features({"predictions": Value(kind), "references": Value(kind)}) for kind in ("int64", "string")]
        return evaluate.MetricInfo(description="", citation="", features=features)

    def _finalize(self) -> None:
        self.was_written = self.writer is not None
        super()._finalize()

    def _compute(self, predictions: Any, references: Any) -> dict[str, Any]:
        return {"n": len(predictions)}


@contract(*(f"evaluate.Metric.{name}" for name in ("_info", "_finalize", "_feature_names", "_init_writer")))
def _metric(folder: Path) -> None:
    metric = _Metric(cache_dir=str(folder))
    assert [*metric._feature_names()] == ["predictions", "references"]
    assert metric.writer is None
    metric.selected_feature_format = metric.features[1]
    metric._init_writer()
    metric.writer.write_batch({"predictions": [None], "references": [None]})
    assert metric.compute(predictions=["a"], references=["a"]) == {"n": 2}
    assert metric.was_written


@contract("tqdm.tqdm._instances")
def _open_bars(folder: Path) -> None:
    with (folder / "bars").open("w") as file, tqdm.tqdm(total=1, file=file) as bar:
        assert bar in tqdm.tqdm._instances
        bar.close()
        assert bar not in tqdm.tqdm._instances


@contract("argparse.ArgumentParser._actions", "argparse.ArgumentParser._option_string_actions")
def _actions(_: Path) -> None:
    parser = argparse.ArgumentParser(add_help=False)
    action = parser.add_argument("--a", required=True)
    assert parser._actions == [action]
    assert parser._option_string_actions == {"--a": action}
    action.default, action.required = argparse.SUPPRESS, False
    assert json.dumps(vars(parser.parse_args([]))) == "{}"
