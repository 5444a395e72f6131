"""What decides each stage of an update: the options, the rows and the models that it is made from."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ..models.fingerprints import fingerprint_of_model
from ..training.old_endpoint import OPTIONS, old_endpoint
from ..version import __version__
from .evidence import ANSWERS, CARD, COMPARISON, COMPATIBILITY, CONTROL, NEW, OLD, REPORT, Contender, answers_of
from .models import Base
from .plan import Plan
from .rows import digest_of
from .search import SEARCH, Choice
from .stage import Stage
from .training import FACTS, control_options

TASK = "task-adapter"
"""Folder of the new task adapter, and name of its stage."""

EVIDENCE = "evidence"
"""Name of the last stage."""

BY_SEARCH = "chosen by a search"
"""What tells the compatibility adapter of a search from one that was trained for itself."""

_WEIGHTS = "adapter_model.safetensors"
# Options of a training that decide where, how fast and how talkatively it runs, but not what comes out of it.
_NOT_DECIDING = frozenset(
    {
        *("output_dir", "run_name", "project", "report_to", "disable_tqdm", "log_level", "log_level_replica"),
        *("logging_strategy", "logging_steps", "logging_first_step", "logging_nan_inf_filter", "log_on_each_node"),
        "log_gradient_cosine",
        *("trackio_space_id", "trackio_bucket_id", "trackio_static_space_id", "include_num_input_tokens_seen"),
        *("hub_model_id", "hub_token", "hub_strategy", "hub_private_repo", "hub_always_push", "hub_revision"),
        *("save_total_limit", "save_only_model", "save_on_each_node", "enable_jit_checkpoint"),
        *("dataset_num_proc", "skip_memory_metrics", "debug", "prediction_loss_only", "torch_empty_cache_steps"),
        *("dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers"),
        *("dataloader_prefetch_factor", "dataloader_multiprocessing_context", "dataloader_in_order"),
        *("per_device_eval_batch_size", "eval_accumulation_steps", "ddp_timeout", "ddp_backend"),
        *("gradient_checkpointing", "gradient_checkpointing_kwargs", "activation_offloading"),
        *("activation_checkpointing", "activation_checkpointing_kwargs"),
        *OPTIONS,  # named where the endpoint is asked
        *("loss_implementation", "teacher_cache_dir", "use_cpu"),
        # Their product decides: a smaller batch may be needed where two models are in memory.
        *("per_device_train_batch_size", "gradient_accumulation_steps"),
    }
)


class Stages:
    """The stages of an update, as the settings and the files of this moment decide them."""

    def __init__(self, plan: Plan, choice: Choice | None = None) -> None:
        """Remember the plan, and that of a search has chosen its options; nothing is written."""
        self.plan = plan
        self.choice = choice
        self.output_dir = plan.options.output_dir

    @property
    def contenders(self) -> list[Contender]:
        """The models that are asked, in the order of the table."""
        return [OLD, NEW, *([CONTROL] if self.plan.settings.control else []), COMPATIBILITY]

    def adapter(self, contender: Contender) -> str:
        """Return the id or path of a model's adapter."""
        if contender is OLD:
            return self.plan.settings.old_adapter
        if contender is NEW:
            return self.plan.settings.new_adapter or str(self.output_dir / TASK)
        return str(self.output_dir / contender.key)

    @property
    def task(self) -> Stage | None:
        """The training of a new task adapter; None where one is given."""
        plan = self.plan
        if plan.settings.new_adapter is not None:
            return None
        config = plan.options.cross_entropy_config(self.output_dir / TASK, **plan.task_options)
        adapter = {name: value for name, value in plan.task_adapter.to_dict().items() if name not in _NAMES}
        decided_by = {"new base": self._base(plan.new_base), "old adapter's hyper-parameters": _plain(adapter)}
        return self._stage(TASK, "the new task adapter", [f"{TASK}/{_WEIGHTS}"], decided_by | self._training(config))

    @property
    def control(self) -> Stage:
        """The control training; the task adapter and the compatibility adapter have to be there."""
        options = control_options(self.plan, self.output_dir)
        config = self.plan.options.cross_entropy_config(self.output_dir / CONTROL.key, **options)
        decided_by = {**self._models(NEW), "student_rank": self.plan.config.student_rank}
        output = [f"{CONTROL.key}/{_WEIGHTS}"]
        return self._stage(CONTROL.key, "the control", output, decided_by | self._training(config))

    @property
    def compatibility(self) -> Stage:
        """The compatibility adapter, trained or taken from a search; the task adapter has to be there."""
        stage = self.candidate(COMPATIBILITY, "the compatibility adapter")
        return replace(stage, decided_by={**stage.decided_by, BY_SEARCH: True}) if self.plan.options.grid else stage

    def candidate(self, contender: Contender, title: str | None = None) -> Stage:
        """Return the training of a compatibility adapter; the task adapter has to be there."""
        config = self.plan.compatibility_config(self.output_dir / contender.key)
        decided_by = {**self._models(OLD), **self._models(NEW), "measure_flips": self.plan.settings.measure_flips}
        if self.plan.unlabelled:
            decided_by |= {"unlabelled rows": digest_of(self.plan.unlabelled), **self._endpoint}
        output = [f"{contender.key}/{_WEIGHTS}", f"{contender.key}/{FACTS}"]
        return self._stage(contender.key, title or contender.name, output, decided_by | self._training(config))

    def answers(self, contender: Contender) -> Stage:
        """Return the stage in which a model is asked the test rows; its adapter has to be there."""
        path = answers_of(self.output_dir, contender)
        return self._asking(f"answers-{contender.key}", title_of_answers(contender), path, contender, "test")

    def validation_answers(self, contender: Contender) -> Stage:
        """Return the stage in which a search asks a model the validation rows; its adapter has to be there."""
        name = contender.key.removeprefix(f"{SEARCH}/")
        path = self.output_dir / SEARCH / ANSWERS / f"{name}.jsonl"
        title = f"the validation answers of {_named(contender)}"
        return self._asking(f"{SEARCH}/{ANSWERS}-{name}", title, path, contender, "validation")

    def _asking(self, name: str, title: str, path: Path, contender: Contender, rows: str) -> Stage:
        plan = self.plan
        base = plan.old_base if contender is OLD else plan.new_base
        decided_by = {
            **self._models(contender),
            "loaded with": _plain(dict(base.init_kwargs)),
            f"{rows} rows": self._rows[rows],
            "kind": plan.settings.kind,
            "max_new_tokens": plan.max_new_tokens,
            "normalization": plan.settings.normalization,
            "chat template": _digest([plan.tokenizer.chat_template, plan.old_tokenizer.chat_template]),
        }
        if plan.settings.answer_pattern is not None:
            decided_by |= {"answer_pattern": plan.settings.answer_pattern}
        if contender is OLD:
            decided_by |= self._endpoint
        return self._stage(name, title, [str(path.relative_to(self.output_dir))], decided_by)

    @property
    def evidence(self) -> Stage:
        """The comparison, the report and the card; all answers have to be there."""
        files = {each.key: _digest_of_file(answers_of(self.output_dir, each)) for each in self.contenders}
        decided_by = {
            "answers": files,
            "rows": self._rows,
            **self._models(COMPATIBILITY),
            "named": _plain(vars(self.plan.settings) | {"hub_model_id": self.plan.config.hub_model_id}),
        }
        outputs = (CARD, COMPARISON, REPORT)
        return self._stage(EVIDENCE, "the comparison", outputs, decided_by, is_quick=True)

    def known(self) -> Iterator[Stage]:
        """Give every stage that can be told now: those whose adapters are there, in the order in which they run.

        Those of a search are told by [`known_of_search`], and until it has chosen there is no compatibility adapter.
        """
        done = {OLD}
        if self.task is not None:
            yield self.task
        if self.task is None or self.task.finished:
            done.add(NEW)
            is_searching = bool(self.plan.options.grid) and self.choice is None
            if not is_searching:
                yield self.compatibility
            if not is_searching and self.compatibility.finished:
                done.add(COMPATIBILITY)
                if CONTROL in self.contenders:
                    yield self.control
                    if self.control.finished:
                        done.add(CONTROL)
        yield from (self.answers(contender) for contender in self.contenders if contender in done)
        if all(answers_of(self.output_dir, contender).exists() for contender in self.contenders) and len(done) == len(
            self.contenders
        ):
            yield self.evidence

    def _stage(
        self, name: str, title: str, outputs: Sequence[str], decided_by: dict[str, Any], *, is_quick: bool = False
    ) -> Stage:
        decided_by = {**decided_by, "version of muscle_hf": __version__}
        return Stage(name, title, self.output_dir, tuple(outputs), decided_by, is_quick)

    @cached_property
    def _rows(self) -> dict[str, str]:
        return {name: digest_of(part) for name, part in self.plan.data}

    @property
    def _endpoint(self) -> dict[str, Any]:
        """Tell which endpoint answers in the old model's place, if any."""
        endpoint = old_endpoint(self.plan.config)
        return {} if endpoint is None else {"old endpoint": endpoint.identity}

    def _training(self, config: Any) -> dict[str, Any]:
        rows = {f"{name} rows": rows for name, rows in self._rows.items() if name != "test"}
        options = {name: value for name, value in config.to_dict().items() if name not in _NOT_DECIDING}
        # `to_dict` hides what it takes for secrets.
        tokens = {name: getattr(config, name, None) for name in ("eos_token", "pad_token")}
        # Of encoder-decoders; what trains with plain cross-entropy has no such options.
        lengths = ("max_prompt_length", "max_completion_length")
        tokens |= {name: getattr(self.plan.config, name) for name in lengths if hasattr(self.plan.config, name)}
        sequences = config.train_batch_size * config.gradient_accumulation_steps * config.world_size
        return rows | _plain(options) | tokens | {"sequences a step": sequences}

    def _base(self, base: Base) -> str:
        return fingerprint_of_model(base.name, revision=base.init_kwargs.get("revision"))["base"]

    def _models(self, contender: Contender) -> dict[str, str]:
        """Tell which base and adapter a model is made of."""
        base = self.plan.old_base if contender is OLD else self.plan.new_base
        fingerprint = fingerprint_of_model(
            base.name, self.adapter(contender), revision=base.init_kwargs.get("revision")
        )
        which = "old base" if contender is OLD else "new base"
        return {which: fingerprint["base"], f"{contender.key} adapter": fingerprint["adapter"]}


# Where the base lies does not change the adapter, and `new base` says which one it is.
_NAMES = ("base_model_name_or_path", "revision", "peft_version")


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Give values that look alike in every process: sets have another order in each."""
    return {name: sorted(map(str, value)) if isinstance(value, set) else value for name, value in values.items()}


def _digest(values: Sequence[object]) -> str:
    return hashlib.sha256(repr(values).encode()).hexdigest()[:12]


def _digest_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def title_of_answers(contender: Contender) -> str:
    """Name the stage in which a model is asked."""
    return f"the answers of {_named(contender)}"


def _named(contender: Contender) -> str:
    name = contender.name.partition(":")[0]
    return name if contender.key.startswith(SEARCH) else f"the {name}"
