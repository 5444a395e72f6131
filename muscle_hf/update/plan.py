"""Everything that can be known before a weight is loaded: who and what there is, and whether it fits together."""

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from datasets import Dataset
from peft import LoraConfig, PeftConfig
from transformers import PreTrainedTokenizerBase

from ..alignment.vocabulary_map import check_same_vocabulary
from ..errors import ConfigurationError, InputError, ModelMismatchError, MuscleError, UnsupportedAdapterError
from ..models.embedding_rows import refuse_tokens_without_rows
from ..models.lm_head import check_lm_head
from ..prediction.answer_file import longest_answer
from ..prediction.layouts import named_columns
from ..prediction.prompts import encode_choices_for, encode_for
from ..prediction.questions import delimiter_of
from ..seq2seq.data import refuse_other_tokens
from ..training.old_endpoint import OPTIONS
from ..training.refusals import refuse_evaluation_of_nothing
from ..training.rows.unlabelled import check_unlabelled
from .answer_pattern import check_right_answers, compiled
from .encoding import Encoded, encode_examples, encode_pairs, optimizer_steps
from .kinds import CAUSAL, ENCODER_DECODER
from .models import (
    Base,
    check_new_adapter,
    fit_to,
    init_kwargs,
    old_base_of,
    read_adapter,
    read_base,
    read_tokenizer,
    with_adapter,
)
from .options import Options
from .rows import Example, read_examples, read_prompts
from .search import SEARCH, Value, combinations, described
from .settings import UpdateSettings
from .splits import Splits, split_examples
from .task_adapter import carried_over

_ONE_TOKENIZER = (
    "both models have one tokenizer, so --alignment tokens, the default, compares every token in full and costs less"
)


@dataclass(frozen=True)
class Plan:
    """An update that has been checked, as far as that goes without weights."""

    options: Options
    config: Any  # of the compatibility training, see `Kind`
    old_base: Base
    new_base: Base
    old_adapter: PeftConfig
    task_adapter: PeftConfig  # on the new base, given or still to be trained
    old_tokenizer: PreTrainedTokenizerBase
    tokenizer: PreTrainedTokenizerBase  # the new model's, which encodes the training
    data: Splits
    unlabelled: tuple[dict[str, Any], ...]  # prompts without labels; there may be none
    notes: tuple[str, ...]  # what has to be known of the rows
    encoded: dict[str, Encoded]
    max_new_tokens: int | None  # longest answer; None where choices are scored
    delimiter: str | None  # between prompt and choice; None where answers are generated

    @property
    def settings(self) -> UpdateSettings:
        """What was asked for, beside the options of the training."""
        return self.options.settings

    @property
    def answer_pattern(self) -> re.Pattern[str] | None:
        """What is compared of a generated answer; None for all of it."""
        pattern = self.settings.answer_pattern
        return None if pattern is None else compiled(pattern)

    @property
    def task_options(self) -> dict[str, Any]:
        """Options of the training of a new task adapter that differ from those of the compatibility adapter."""
        settings, config = self.settings, self.config
        return {
            "learning_rate": settings.task_learning_rate or config.learning_rate,
            "num_train_epochs": settings.task_epochs or config.num_train_epochs,
            # Steps take the place of epochs, and epochs were asked for.
            "max_steps": config.max_steps if settings.task_epochs is None else -1,
        }

    def with_values(self, values: Mapping[str, Value]) -> "Plan":
        """Return the update with the options of a candidate of the search."""
        options = self.options.with_values(values)
        if self.config.teacher_cache != "none" and self.config.teacher_cache_dir is None:
            cache = {"teacher_cache_dir": str(options.output_dir / SEARCH / "teacher_cache")}
            options = replace(options, given={**options.given, **cache})
        return replace(self, options=options, config=options.compatibility_config(options.output_dir))

    def compatibility_config(self, folder: Path) -> Any:
        """Return the options of the compatibility training."""
        # The longest completion is a better guess than the engine's 256 tokens, and one that fits into the context.
        names = {"unlabelled_max_new_tokens": self.unlabelled, "flips_max_new_tokens": self.settings.measure_flips}
        guessed = {name: self.max_new_tokens for name, used in names.items() if used and self.max_new_tokens}
        changes: dict[str, Any] = {name: one for name, one in guessed.items() if name not in self.options.given}
        if not self.unlabelled or self.config.unlabelled_teacher != "old":  # an endpoint answers test rows alone
            changes |= {field.name: field.default for field in fields(self.config) if field.name in OPTIONS}
        return self.options.compatibility_config(folder, **changes)

    def steps(self, *, task: bool) -> int:
        """Return the optimizer steps of the task adapter's training, or of the compatibility adapter and the control.

        Where unlabelled rows are packed, or cut to nothing, the latter are a little fewer.
        """
        options = self.task_options if task else dict(vars(self.config))
        labelled, ratio = self.encoded["training"].sequences, self.config.unlabelled_ratio
        more = 0
        if self.unlabelled and not task:
            more = len(self.unlabelled) if ratio is None else round(ratio * self.encoded["training"].rows)
        return optimizer_steps(
            labelled + more,
            self.config,
            epochs=options["num_train_epochs"],
            max_steps=options["max_steps"],
        )


def make_plan(options: Options) -> Plan:
    """Read configurations, tokenizers and rows, and refuse what cannot come to an end; what is quick comes first."""
    settings = options.settings
    config = options.compatibility_config(options.output_dir)
    new_kwargs, old_kwargs = init_kwargs(config)
    old_adapter = read_adapter(settings.old_adapter, "old_adapter")
    old_base_name = old_base_of(settings, old_adapter)
    new_adapter = None
    if settings.new_adapter is not None:
        new_adapter = read_adapter(settings.new_adapter, "new_adapter")
        check_new_adapter(settings, new_adapter, old_base_name)
    new_base = read_base(settings.new_base, new_kwargs, "new_base")
    old_base = read_base(old_base_name, old_kwargs, "old_base")
    if old_base.kind is not new_base.kind:
        raise ModelMismatchError(
            f"old_base={old_base_name!r} is one of the {old_base.kind.name}, new_base={settings.new_base!r} of the "
            f"{new_base.kind.name}. Give two of one kind."
        )
    old_base = fit_to(old_base, settings.old_adapter, old_adapter, "old_adapter")
    if settings.new_adapter is not None and new_adapter is not None:
        new_base = fit_to(new_base, settings.new_adapter, new_adapter, "new_adapter")
    tokenizer = read_tokenizer(config, new_kwargs, settings.new_adapter, settings.new_base)
    old_tokenizer = read_tokenizer(config, old_kwargs, settings.old_adapter, old_base_name)
    pairs = None
    if config.alignment == "tokens":
        pairs = check_same_vocabulary(new_base.model, old_base.model, tokenizer, old_tokenizer)
        if new_base.kind is ENCODER_DECODER:
            refuse_other_tokens(pairs)
    if new_adapter is not None:
        check_lm_head(with_adapter(new_base, new_adapter))
    else:
        new_adapter = carried_over(
            old_adapter,
            new_base,
            same_tokenizer=tokenizer.get_vocab() == old_tokenizer.get_vocab(),
            target_modules=settings.task_target_modules,
        )
    _check_student_rank(config, new_adapter)
    one_tokenizer = config.alignment == "chunks" and tokenizer.get_vocab() == old_tokenizer.get_vocab()
    data, shapes = _read_data(settings, config.weight_column)
    refuse_evaluation_of_nothing(config, data.validation)
    unlabelled, notes = _read_unlabelled(settings, config, data)
    notes += [] if config.old_endpoint is None else [_of_endpoint(config)]
    everything = [example for _, part in data for example in part]
    if settings.answer_pattern is not None:
        notes.append(check_right_answers(data.test, compiled(settings.answer_pattern)))
    choose = settings.kind == "choice"
    longest = max(longest_answer(each, everything) for each in (tokenizer, old_tokenizer))
    max_new_tokens = None if choose else settings.max_new_tokens or longest
    delimiter = delimiter_of(everything) if choose else None
    sft = options.cross_entropy_config(options.output_dir)
    is_causal = new_base.kind is CAUSAL
    encoded = {
        name: encode_examples(part, tokenizer, sft, name)
        if is_causal
        else encode_pairs(part, tokenizer, config, new_base.model, name)
        for name, part in data
        if name != "test" and len(part)
    }
    for name, rows in encoded.items():
        what = f"the {name} set"
        refuse_tokens_without_rows([rows.vocabulary], tokenizer, new_base.model, what=what, role="new")
    if pairs is not None and not pairs.identical:
        pairs.check_tokens([rows.vocabulary for rows in encoded.values()], tokenizer)
    plan = Plan(
        options=options,
        config=config,
        old_base=old_base,
        new_base=new_base,
        old_adapter=old_adapter,
        task_adapter=new_adapter,
        old_tokenizer=old_tokenizer,
        tokenizer=tokenizer,
        data=data,
        unlabelled=tuple(unlabelled),
        notes=(*shapes, *data.notes, *notes, *([_ONE_TOKENIZER] if one_tokenizer else [])),
        encoded=encoded,
        max_new_tokens=max_new_tokens,
        delimiter=delimiter,
    )
    _check_asked(plan)
    for values in combinations(options.grid) if options.grid else ():
        try:
            _check_candidate(plan.with_values(values))
        except MuscleError as error:
            raise ConfigurationError(f"search: {described(values)} is refused: {error}") from error
    return plan


def _check_candidate(plan: Plan) -> None:
    plan.config.refuse_options_without_data(
        unlabelled_dataset=bool(plan.unlabelled), flips_dataset=plan.settings.measure_flips, asks_old_model=True
    )
    if plan.unlabelled:
        check_unlabelled(Dataset.from_list(list(plan.unlabelled)), teacher=plan.config.unlabelled_teacher)
    _check_unlabelled_asked(plan)


def _read_data(settings: UpdateSettings, weight: str | None) -> tuple[Splits, list[str]]:
    choices = settings.kind == "choice"
    columns = named_columns(settings.columns or ())
    rows, note = read_examples(
        settings.dataset,
        settings.dataset_split,
        default_split="train",
        choices=choices,
        weight=weight,
        config=settings.dataset_config,
        columns=columns,
    )
    test: list[Example] = []
    notes = [note]
    if settings.test_dataset is not None:
        test, note = read_examples(
            settings.test_dataset,
            settings.test_split,
            default_split="test",
            choices=choices,
            columns=columns,
            only_there=True,
        )
        notes.append(note)
    splits = split_examples(
        rows,
        test_share=settings.held_out_share,
        validation_share=settings.validation_share,
        seed=settings.split_seed,
        test=test,
    )
    return splits, notes


def _read_unlabelled(settings: UpdateSettings, config: Any, data: Splits) -> tuple[list[dict[str, Any]], list[str]]:
    config.refuse_options_without_data(
        unlabelled_dataset=settings.unlabelled_dataset is not None,
        flips_dataset=settings.measure_flips,
        asks_old_model=True,
    )
    if settings.unlabelled_dataset is None:
        return [], []
    rows, notes = read_prompts(
        settings.unlabelled_dataset,
        settings.unlabelled_split,
        data.test,
        columns=named_columns(settings.columns or ()),
    )
    check_unlabelled(Dataset.from_list(rows), teacher=config.unlabelled_teacher)
    return rows, notes


def _of_endpoint(config: Any) -> str:
    return (
        f"{config.old_endpoint_model} at {config.old_endpoint} answers in the old model's place; the loss takes its "
        "distributions from the old adapter on its base"
    )


def _check_asked(plan: Plan) -> None:
    """Refuse prompts that a model could not be asked."""
    sides = _sides(plan)
    asked = [("test", plan.data.test), *([("validation", plan.data.validation)] if plan.options.grid else [])]
    for (role, (base, tokenizer)), (name, rows) in itertools.product(sides.items(), asked):
        try:
            prompts = [example.prompt for example in rows]
            if plan.delimiter is not None:
                choices = [example.choices or () for example in rows]
                encode_choices_for(base.model, tokenizer, prompts, choices, plan.delimiter)
            else:
                encode_for(base.model, tokenizer, prompts, int(plan.max_new_tokens or 0))
        except InputError as error:
            raise InputError(f"the {role} model cannot be asked the {name} rows: {error}") from error
    _check_unlabelled_asked(plan)


def _sides(plan: Plan) -> dict[str, tuple[Base, PreTrainedTokenizerBase]]:
    return {"old": (plan.old_base, plan.old_tokenizer), "new": (plan.new_base, plan.tokenizer)}


def _check_unlabelled_asked(plan: Plan) -> None:
    sides = _sides(plan)
    teacher, config = plan.config.unlabelled_teacher, plan.compatibility_config(plan.options.output_dir)
    for role in [teacher] if teacher in sides else sides:
        if plan.unlabelled:
            base, tokenizer = sides[role]
            prompts = [row["prompt"] for row in plan.unlabelled]
            try:
                encode_for(base.model, tokenizer, prompts, config.unlabelled_max_new_tokens)
            except InputError as error:
                raise InputError(f"the {role} model cannot be asked the unlabelled prompts: {error}") from error


def _check_student_rank(config: Any, adapter: PeftConfig) -> None:
    """Refuse a rank that the copy of the task adapter cannot be padded to."""
    rank = config.student_rank
    if rank is None:
        return
    if type(adapter) is not LoraConfig:
        raise UnsupportedAdapterError(
            f"student_rank={rank} needs a LoRA adapter, and this one is of type {adapter.peft_type.value}."
        )
    present = max([adapter.r, *(adapter.rank_pattern or {}).values()])
    if rank <= present:
        raise ConfigurationError(f"student_rank={rank} must be above the task adapter's rank, {present}.")
