"""Move a task adapter to a new base: train, compare and document a compatibility adapter in one line."""

import argparse
from collections.abc import Sequence
from dataclasses import Field, fields
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..update.settings import REQUIRED, UpdateSettings, missing_options, options_in

if TYPE_CHECKING:
    from ..update.options import Options

_GROUPS = {
    "the update": ("old_adapter", "new_base", "old_base", "new_adapter"),
    "data": (
        *("dataset", "dataset_split", "dataset_config", "columns", "test_dataset", "test_split"),
        *("test_share", "validation_share", "split_seed", "unlabelled_dataset", "unlabelled_split"),
    ),
    "what is asked": ("kind", "max_new_tokens", "answer_pattern", "normalization", "ask_batch_size"),
    "training": ("task_epochs", "task_learning_rate", "task_target_modules", "search", "control", "measure_flips"),
    "the card": ("card_examples",),
}
_MORE = (
    "Every field of CompatibilityConfig, which is a trl.SFTConfig, is an option too (--mask, --cross-entropy-weight, "
    "--learning-rate, --num-train-epochs, --per-device-train-batch-size, --model-init-kwargs …) and so a key of the "
    "YAML file; `python -m pydoc muscle_hf.CompatibilityConfig` describes them. Where they are not given, each "
    "epoch is evaluated and saved, the one with the lowest validation cross-entropy is kept, and bf16 is used where "
    "the GPU has it. Interrupted or killed, at most two minutes of work are lost: the same command goes on there. "
    "Exit codes: 0 done, 2 bad input, 130 interrupted."
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command; those of the training are left to the parser that knows them."""
    parser.epilog = _MORE
    # Filled by `main` with all that follows the command.
    parser.set_defaults(words=())
    known = {setting.name: setting for setting in fields(UpdateSettings)}
    for title, names in _GROUPS.items():
        group = parser.add_argument_group(title)
        for name in names:
            _add(group, known[name])
    run_group = parser.add_argument_group("the run")
    run_group.add_argument("--output-dir", metavar="DIR", help="folder for adapter, card, comparison, report, answers")
    run_group.add_argument("--config", metavar="FILE", help="YAML file with any of these options, as `new_base: …`")
    run_group.add_argument("--seed", metavar="N", help="seed of the trainings (default: 42)")
    run_group.add_argument("--dry-run", action="store_true", help=str(known["dry_run"].metadata["help"]))


def _add(group: "argparse._ArgumentGroup", setting: "Field[Any]") -> None:
    option, text = f"--{setting.name.replace('_', '-')}", str(setting.metadata["help"])
    if setting.default is True:
        group.add_argument(option, action=argparse.BooleanOptionalAction, help=f"{text} (default: yes)")
    elif setting.default is False:
        group.add_argument(option, action="store_true", help=text)
    else:
        several = "+" if setting.name in ("task_target_modules", "columns", "search") else None
        group.add_argument(option, nargs=several, metavar=_metavar(setting.name), help=text)


def _metavar(name: str) -> str:
    return next((value for ending, value in _METAVARS.items() if name.endswith(ending)), "N")


# By the end of the name.
_METAVARS = {
    "adapter": "ADAPTER",
    "base": "MODEL",
    "dataset": "DATA",
    "split": "SPLIT",
    "config": "NAME",
    "columns": "WHAT=NAME",
    "share": "SHARE",
    "kind": "KIND",
    "pattern": "REGEX",
    "normalization": "HOW",
    "rate": "X",
    "modules": "NAME",
    "search": "OPTION=VALUES",
}


def run(arguments: argparse.Namespace) -> int:
    """Do the update, or say what it would do."""
    _check_required(arguments.words)
    from ..models.processes import work_together
    from ..training.quiet import quiet_libraries
    from ..update.options import read_options

    quiet_libraries()
    options = read_options(arguments.words)
    return work_together(partial(_update, options))


def _update(options: "Options") -> int:
    from ..update.kept import what_is_kept
    from ..update.plan import make_plan
    from ..update.run import run_update
    from ..update.show import announce, conclude, dry_run, say

    plan = make_plan(options)
    if options.settings.dry_run:
        dry_run(plan)
        return 0
    try:
        announce(plan)
        conclude(plan, run_update(plan, say))
    except KeyboardInterrupt:
        raise KeyboardInterrupt(what_is_kept(options.output_dir)) from None
    return 0


def _check_required(words: Sequence[str]) -> None:
    """Say at once, before the libraries are loaded, what is missing without a file."""
    options = options_in(words)
    if "--config" not in options:
        missing = [name for name in (*REQUIRED, "output_dir") if f"--{name.replace('_', '-')}" not in options]
        if missing:
            raise InputError(missing_options(missing, words))
