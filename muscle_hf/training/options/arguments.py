"""Arguments by name: one that is misspelt, is of another trainer or is missing is told with what to write instead."""

import difflib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from ...errors import ArgumentError, ConfigurationError, MuscleError, unknown_option

T = TypeVar("T")

# What a library's own checks raise; out of memory and the like are no fault of an argument.
_REFUSALS = (ValueError, TypeError, ImportError, NotImplementedError)
_LONGEST = 500
_PACKAGE = __name__.partition(".")[0]


def checks_arguments(
    advice: Mapping[str, str],
    *,
    missing: Mapping[str, str] | None = None,
    elsewhere: Callable[[], Mapping[str, Sequence[str]]] = dict,
) -> Callable[[type[T]], type[T]]:
    """Let a class refuse arguments that it does not have, and what its parents refuse, as errors of one line of ours.

    `advice` says, for a name that people try, what to write instead; `missing`, for an argument without default, why
    it is needed and what to pass (None counts as not passed). `elsewhere` gives, once it is needed, how to write an
    argument of something else (with `{}` for its name), such as "args=Config({}=…)", and the names of its arguments.

    Example:
        >>> @checks_arguments({"colour": "write color"})
        ... class Pen:
        ...     def __init__(self, *, color="blue"):
        ...         pass
        >>> Pen(colour="red")
        Traceback (most recent call last):
        muscle_hf.errors.ArgumentError: Pen has no argument colour: write color.
    """

    def decorate(kind: type[T]) -> type[T]:
        own = kind.__init__
        parameters = list(inspect.signature(own).parameters.values())[1:]
        known = [parameter.name for parameter in parameters]
        by_place = [parameter.name for parameter in parameters if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]

        @functools.wraps(own)
        def checked(self: T, *positional: Any, **named: Any) -> None:
            name = kind.__name__
            for unknown in named:
                if unknown not in known:
                    raise ArgumentError(_unknown(name, unknown, known, advice, elsewhere()))
            if len(positional) > len(by_place):
                raise ArgumentError(
                    f"{name} takes {' and '.join(by_place)} without a name, and {len(positional)} arguments have "
                    "none. Write the others as name=value."
                )
            placed = dict(zip(by_place, positional, strict=False))
            twice = sorted(placed.keys() & named.keys())
            if twice:
                raise ArgumentError(f"{name} gets {twice[0]} twice, with and without its name; leave one out.")
            for needed, reason in (missing or {}).items():
                if (placed | named).get(needed) is None:
                    raise ArgumentError(f"{needed} is missing. {reason}")
            _check_own_fields(kind, placed | named)
            try:
                own(self, *positional, **named)
            except MuscleError:
                raise
            except _REFUSALS as error:
                text = " ".join(str(error).split())[:_LONGEST]
                raise ConfigurationError(f"{name} cannot be made: {text}") from error

        kind.__init__ = checked  # type: ignore[assignment, method-assign]
        return kind

    return decorate


def _check_own_fields(kind: type, values: Mapping[str, Any]) -> None:
    """Refuse, of our own options of a config, a switch that is no bool ("no" is true) and a list of names."""
    if not is_dataclass(kind):
        return
    declared = [inspect.get_annotations(base) for base in kind.__mro__ if base.__module__.startswith(_PACKAGE)]
    for option in fields(kind):
        if option.name not in values or not any(option.name in names for names in declared):
            continue
        value = values[option.name]
        if option.type is bool and not isinstance(value, bool):
            raise ConfigurationError(f"{option.name}={value!r} is {_a(type(value).__name__)}; write True or False.")
        if "choices" in option.metadata and not isinstance(value, str | None):
            raise unknown_option(option.name, value, dict.fromkeys(option.metadata["choices"]))


def _unknown(
    owner: str, name: str, known: Sequence[str], advice: Mapping[str, str], elsewhere: Mapping[str, Sequence[str]]
) -> str:
    """Say what to write in place of an argument that is not there."""
    if name in advice:
        return f"{owner} has no argument {name}: {advice[name]}."
    for form, names in elsewhere.items():
        if name in names:
            return f"{owner} has no argument {name}: write {form.format(name)}."
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return f"{owner} has no argument {name}. Did you mean {near[0]}?"
    for form, names in elsewhere.items():
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.8)
        if near:
            return f"{owner} has no argument {name}. Did you mean {form.format(near[0])}?"
    what = ", ".join(known) if len(known) <= 30 else f"any of {len(known)}, see help({owner})"
    return f"{owner} has no argument {name}. Leave it out; it takes {what}."


ADAPTER_IS_TRAINED_BEFORE = (
    "the trainer makes no adapter, it starts from a copy of the task adapter. Train that one on the new base first, "
    "such as with trl.SFTTrainer(peft_config=…), and pass its folder or id as new_adapter"
)
PLACED = (
    *("model", "old_model", "new_adapter", "old_adapter", "train_dataset", "eval_dataset", "processing_class"),
    *("data_collator", "callbacks", "compute_metrics", "optimizers"),
)
"""Arguments of both trainers that are tried on their configs."""

OF_OTHER_TRAINERS = {
    "peft_config": ADAPTER_IS_TRAINED_BEFORE,
    "tokenizer": "write processing_class",
    "compute_loss_func": "the loss is the method's; choose it by mask, divergence and cross_entropy_weight of the "
    "config, or pass a function of your own as mask",
    "model_init": "pass the new base as model",
    "teacher_model": "write old_model",
    "ref_model": "write old_model",
    "max_seq_length": "write max_length, in the config",
}
"""What trainers are given that they do not take."""

MISSING = {
    "model": "Pass the new base as model, and the task adapter on it as new_adapter.",
    "old_model": "The trainer keeps what an old model got right: pass the base that your present adapter was trained "
    "on as old_model, and that adapter as old_adapter, or the adapter alone as old_model. Without an old model, train "
    "with {parent}.",
}
"""Why both trainers need what they need, by its name."""

RENAMED = {
    "max_seq_length": "write max_length",
    "evaluation_strategy": "write eval_strategy",
    "warmup_ratio": "write warmup_steps, which takes a share below 1 as well",
    "no_cuda": "write use_cpu",
    "push_to_hub_token": "write hub_token",
    "push_to_hub_model_id": "write hub_model_id",
    "per_gpu_train_batch_size": "write per_device_train_batch_size",
    "per_gpu_eval_batch_size": "write per_device_eval_batch_size",
    "batch_size": "write per_device_train_batch_size",
    "epochs": "write num_train_epochs",
    "lr": "write learning_rate",
    "peft_config": ADAPTER_IS_TRAINED_BEFORE,
    "tokenizer": "pass it to the trainer as processing_class",
}
"""What configs are given that they do not take, or no longer."""


def check_args(args: Any, config: type, parent: str, old_model: Any) -> None:
    """Refuse a config of another trainer (people have one of `parent`), and one in the old model's place."""
    name = config.__name__
    if any(kind.__name__ == "TrainingArguments" for kind in type(old_model).__mro__):
        raise ConfigurationError(
            f"old_model is {_a(type(old_model).__name__)}: the second argument is the old model here. Write "
            f"old_model=…, args={name}(…)."
        )
    if isinstance(args, config):
        return
    if isinstance(args, type):
        raise ConfigurationError(f"args is the class {args.__name__}; write args={name}(output_dir=…).")
    if isinstance(args, dict):
        raise ConfigurationError(f"args is a dict; write args={name}(**args).")
    raise ConfigurationError(
        f"args is {_a(type(args).__name__)}. Write args={name}(…) with the same arguments: it takes all of "
        f"{parent}, and the options of the method."
    )


def check_kinds(callbacks: Any, processing_class: Any, formatting_func: Any = None, **models: Any) -> None:
    """Refuse what is passed by the right name and is of another kind, such as a tokenizer's name."""
    if callbacks is not None and not isinstance(callbacks, list):
        raise ConfigurationError(f"callbacks is {_a(type(callbacks).__name__)}; write callbacks=[…].")
    if isinstance(processing_class, str | Path):
        name = str(processing_class)
        raise ConfigurationError(
            f"processing_class is the name {name!r}; write processing_class=AutoTokenizer.from_pretrained({name!r})."
        )
    if formatting_func is not None and not callable(formatting_func):
        raise ConfigurationError(
            f"formatting_func is {_a(type(formatting_func).__name__)}; it is called for one row at a time and must "
            "give a text. The column of texts is named by dataset_text_field, in the config."
        )
    for argument, model in models.items():
        if isinstance(model, type) or not (isinstance(model, str | Path) or hasattr(model, "config")):
            what = f"the class {model.__name__}" if isinstance(model, type) else _a(type(model).__name__)
            raise ConfigurationError(f"{argument} is {what}; pass an id, a path or a loaded model.")


def _a(name: str) -> str:
    # "an SFTConfig" is read letter by letter.
    return f"{'an' if name[:1] in 'AEIOUaeiou' or name[:3] == 'SFT' else 'a'} {name}"


@contextmanager
def set_aside(args: Any, **values: Any) -> Iterator[None]:
    """Let a config have other values for a while."""
    kept = {name: getattr(args, name) for name in values}
    for name, value in values.items():
        setattr(args, name, value)
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(args, name, value)
