"""The two models of a training run, from what the user passed; the old one is loaded when it is first needed.

With a complete teacher cache, and with answers that were kept, nobody needs the old model, and it stays on the disk.
"""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from ..card.lineage import Lineage, commit_of, commit_of_adapter, commit_of_base
from ..errors import ConfigurationError
from ..hub.lookup import located
from ..models.adapters import (
    Model,
    base_and_adapter,
    base_model,
    fit_to_adapter,
    load_adapted_model,
    naming_the_base,
    refuse_wrong_sides,
)
from ..models.fingerprints import fingerprint_of_model, fingerprint_of_tokenizer
from ..models.lm_head import check_lm_head
from ..models.placement import options_of_old, stays_where_it_is
from ..models.ranks import pad_rank
from ..models.tokenizers import load_tokenizer
from ..models.zero3 import loading_whole
from ..prediction.generate import Answers, generate_answers
from ..prediction.prompts import Prompt
from .processes.deepspeed_engines import is_zero3
from .processes.split_models import is_fsdp2, split_teacher

logger = logging.getLogger(__name__)

_CONFIG = "config.json"

# Options of `from_pretrained` that change nothing of what a model answers.
_INDIFFERENT = {"device_map", "token", "cache_dir", "local_files_only", "revision", "force_download", "max_memory"}


class ModelPair:
    """The new model, loaded, and the old model, loaded on first use.

    Either side is a base with its adapter, or the model as a whole. Without `processing_class` the tokenizer is looked
    for beside the new model. Empty `old_init_kwargs` stand for precision, attention and quantization of the new base.
    `auto_class` is the class of transformers that loads both bases.
    What cannot be trained (one model twice, one base object, a missing or a second adapter, no tokenizer, a
    prompt-learning adapter, LoRA on an LM head of its own) is refused.
    """

    def __init__(
        self,
        model: Model,
        old_model: Model,
        *,
        new_adapter: str | Path | None,
        old_adapter: str | Path | None,
        processing_class: PreTrainedTokenizerBase | None,
        init_kwargs: dict[str, Any],
        old_init_kwargs: dict[str, Any],
        full_fine_tune: bool = False,
        auto_class: Any = AutoModelForCausalLM,
    ) -> None:
        """Load the new model and find its tokenizer."""
        self._auto_class = auto_class
        refuse_wrong_sides((model, new_adapter), (old_model, old_adapter), change="an adapter on the one")
        # Paths become absolute here, once and for all: the old model is loaded later, maybe from elsewhere.
        self._named = {"new": model, "old": old_model}
        model, new_adapter = self.new_source = _located(model, new_adapter, ("model", "new_adapter"))
        old_model, old_adapter = self.old_source = _located(old_model, old_adapter, ("old_model", "old_adapter"))
        if isinstance(old_model, str | Path) and old_adapter is None:
            logger.warning(
                f"old_adapter is not given, so old_model={str(old_model)!r} teaches as it is, without a task adapter."
            )
        self._new_kwargs, self._old_kwargs = init_kwargs, options_of_old(old_init_kwargs, init_kwargs)
        self.student = load_adapted_model(
            model,
            new_adapter,
            role="new",
            needs_adapter=not full_fine_tune,
            init_kwargs=init_kwargs,
            named=self._named["new"],
            auto_class=auto_class,
        )
        self._refuse_other_kind(self.student, "model")
        if isinstance(self.student, PeftModel):
            if full_fine_tune:
                raise ConfigurationError(
                    "full_fine_tune=True, but the new model has an adapter, which alone would be trained. Leave the "
                    "option out, or merge the adapter first."
                )
            check_lm_head(self.student)
        tokenizer = processing_class or load_tokenizer(self.student, init_kwargs, model, new_adapter)
        if tokenizer is None:
            raise ConfigurationError(
                "No tokenizer lies beside the new model or its adapter; pass it as processing_class."
            )
        self.processing_class = tokenizer

    @cached_property
    def old(self) -> PreTrainedModel | PeftModel:
        """The old model."""
        model, adapter = self.old_source
        loaded = load_adapted_model(
            model,
            adapter,
            role="old",
            needs_adapter=False,
            init_kwargs=self._old_kwargs,
            named=self._named["old"],
            auto_class=self._auto_class,
        )
        self._refuse_other_kind(loaded, "old_model")
        return loaded

    def _refuse_other_kind(self, model: Any, option: str) -> None:
        """Refuse a loaded encoder-decoder where causal models are trained, and the other way round."""
        has_encoder = bool(base_model(model).config.is_encoder_decoder)
        if has_encoder == (self._auto_class is AutoModelForCausalLM):
            kind, trainer = "no encoder-decoder", "CompatibilityTrainer"
            if has_encoder:
                kind, trainer = "an encoder-decoder", "CompatibilitySeq2SeqTrainer"
            raise ConfigurationError(
                f"{option} is {kind}, a {type(base_model(model)).__name__}. Train it with {trainer}."
            )

    @property
    def is_old_loaded(self) -> bool:
        """Whether the old model is in memory."""
        return "old" in vars(self) or not isinstance(self.old_source[0], str | Path)

    def forget_old(self) -> None:
        """Let go of the old model, where it can be loaded again."""
        if isinstance(self.old_source[0], str | Path):
            vars(self).pop("old", None)

    @property
    def old_config(self) -> Any:
        """The old base's config, as its adapter needs it; the old model's weights are not loaded for it."""
        return self.old_outline().config

    def old_outline(self) -> Any:
        """Return the old model, or, where it is not loaded, one of its shape that has no weights in memory."""
        return self.old if self.is_old_loaded else self._outline

    @cached_property
    def _outline(self) -> Any:
        """The old base without weights, with the rows of embeddings that its adapter was trained with."""
        names = ("revision", "trust_remote_code")
        base, adapter = str(self.old_source[0]), self.old_source[1]
        options = {name: self._old_kwargs[name] for name in names if name in self._old_kwargs}
        with naming_the_base("old_model", base, str(self._named["old"])):
            config = AutoConfig.from_pretrained(base, **options)
        with loading_whole(), torch.device("meta"):
            outline = self._auto_class.from_config(
                config, trust_remote_code=self._old_kwargs.get("trust_remote_code", False)
            )
        # `from_config` knows no name.
        outline.config.name_or_path = base
        if adapter is not None:
            fit_to_adapter(outline, adapter, ("old_model", "old_adapter"))
        return outline

    @cached_property
    def old_tokenizer(self) -> PreTrainedTokenizerBase | None:
        """The tokenizer beside the old model or its adapter; None, said in the log, where there is none."""
        tokenizer = load_tokenizer(self.old_config, self._old_kwargs, *self.old_source)
        if tokenizer is None:
            logger.warning(
                "No tokenizer was found beside the old model, so only the sizes of the vocabularies are compared. "
                "Make sure that both models were trained with the same tokenizer."
            )
        return tokenizer

    def required_old_tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the old model's tokenizer, or refuse where none lies beside the old model or its adapter."""
        if self.old_tokenizer is None:
            raise ConfigurationError(
                'alignment="chunks" needs the old model\'s tokenizer, and none lies beside the old model or its '
                "adapter. Save it there: tokenizer.save_pretrained(folder)."
            )
        return self.old_tokenizer

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """What decides the teachers' answers: both models and the tokenizer, as they are when this is first read."""
        fingerprints: dict[str, str] = {}
        for side, (model, adapter), loaded, options in (
            ("new", self.new_source, self.student, self._new_kwargs),
            ("old", self.old_source, None, self._old_kwargs),
        ):
            if isinstance(model, str | Path):
                of_side = fingerprint_of_model(model, adapter, revision=options.get("revision"))
            else:
                of_side = fingerprint_of_model(self.old if loaded is None else loaded)
            fingerprints |= {f"{side} {part}": value for part, value in of_side.items()}
            # Precision, attention, quantization and whatever else changes what the very same weights answer.
            decisive = {key: str(value) for key, value in sorted(options.items()) if key not in _INDIFFERENT}
            fingerprints[f"{side} loading options"] = json.dumps(decisive) if isinstance(model, str | Path) else "none"
        tokenizers = {"tokenizer": self.processing_class, "old tokenizer": self.old_tokenizer}
        for name, tokenizer in tokenizers.items():
            if tokenizer is not None:
                fingerprints[name] = fingerprint_of_tokenizer(tokenizer)
        return fingerprints

    def asker(
        self, role: str, args: Any, max_new_tokens: int, accelerator: Accelerator
    ) -> Callable[[Sequence[Prompt]], Answers]:
        """Return a function that lets the "old" or the "new" model answer prompts, loaded when it is called."""

        def ask(prompts: Sequence[Prompt]) -> Answers:
            model = self.ready_to_ask(role, accelerator)
            tokenizer = self.old_tokenizer if role == "old" else None
            return generate_answers(
                model,
                tokenizer or self.processing_class,
                prompts,
                max_new_tokens=max_new_tokens,
                batch_size=args.per_device_eval_batch_size,
                show_progress=False,
            )

        return ask

    def ready_to_ask(self, role: str, accelerator: Accelerator) -> Any:
        """Return the "old" or the "new" model where it is asked: on the device, or in parts in all processes.

        The trainer has split the new one itself. One that is quantized, or has a `device_map`, stays where it is.
        """
        model: Any = self.old if role == "old" else self.student
        if stays_where_it_is(model):
            return model
        if is_fsdp2(accelerator) or is_zero3(accelerator):
            return split_teacher(accelerator, model) if role == "old" else model
        return model.to(accelerator.device)

    def old_precision(self, args: Any) -> torch.dtype:
        """Return the type in which the old model computes its logits; the config may ask for mixed precision."""
        if args.bf16 or args.fp16:
            return torch.bfloat16 if args.bf16 else torch.float16
        if self.is_old_loaded:
            loaded: torch.dtype = base_model(self.old).get_output_embeddings().weight.dtype
            return loaded if loaded.is_floating_point else torch.float32
        dtype = self._old_kwargs.get("dtype", torch.float32)
        if isinstance(dtype, str):
            dtype = self.old_config.dtype if dtype == "auto" else getattr(torch, dtype)
        return dtype or torch.float32

    def take_fingerprints(self) -> None:
        """Take the fingerprints now, before training or a wider adapter changes what they are taken of."""
        _ = self.fingerprints

    def student_to_train(self, rank: int | None, seed: int) -> Any:
        """Return the student with its adapter trained, of this rank; None leaves the rank as it is."""
        if isinstance(self.student, PeftModel):
            # PEFT loads adapters frozen by default; the student's is the one that is trained.
            self.student.set_adapter(self.student.active_adapter)
        return self.student if rank is None else pad_rank(self.student, rank, seed=seed)

    def fingerprint_of_answers(self, max_new_tokens: int) -> dict[str, Any]:
        """Return what decides an answer besides its prompt."""
        parts = ("base", "adapter", "loading options")
        models = {role: " ".join(self.fingerprints[f"{role} {part}"] for part in parts) for role in ("old", "new")}
        tokenizers = {name: self.fingerprints.get(name, "unknown") for name in ("tokenizer", "old tokenizer")}
        return models | tokenizers | {"max_new_tokens": max_new_tokens}

    @cached_property
    def lineage(self) -> Lineage:
        """Where both models come from."""
        (model, new_adapter), (old_model, old_adapter) = self.new_source, self.old_source
        new_name, old_name = new_adapter or model, old_adapter or old_model
        new_commit = commit_of_base(self.student, model, self._new_kwargs.get("revision"))
        old_commit = None
        if isinstance(old_model, str | Path):
            old_commit = commit_of(old_model, _CONFIG, self._old_kwargs.get("revision"))
        lineage = Lineage.of(
            new=self.student,
            old=self.old if self.is_old_loaded else self.student,
            new_name=new_name,
            old_name=old_name,
            new_base_revision=new_commit,
            old_base_revision=old_commit,
        )
        if self.is_old_loaded:
            return lineage
        return replace(
            lineage,
            old_base=str(old_model),
            old_adapter=None if old_adapter is None else str(old_adapter),
            old_adapter_revision=commit_of_adapter(old_adapter),
        )


def _located(model: Model, adapter: str | Path | None, names: tuple[str, str]) -> tuple[Model, str | Path | None]:
    """Give base and adapter, each by its absolute path or its id; a loaded model as it is."""
    if isinstance(model, str | Path):
        return base_and_adapter(str(model), adapter, names)
    return model, None if adapter is None else located(adapter)
