"""Compute a teacher cache, or a part of it, so that training needs no old model."""

import argparse
from dataclasses import fields

from ..errors import InputError
from ..update.caching import REQUIRED, CacheSettings
from ..update.settings import missing_options, options_in

_MORE = (
    "Every field of CompatibilityConfig is an option too: --teacher-cache sampled (or topk, hidden, chunks), "
    "--teacher-cache-k, --temperature, --max-length, --completion-only-loss, --alignment, --model-init-kwargs … "
    "Give those that the training will have: a cache of other models, data or options is refused there. The same "
    "command again goes on from the parts that are there. Several machines that share the folder each compute a part: "
    "--process 0 --processes 4, and so on. Exit codes: 0 done, 2 bad input, 130 interrupted."
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command; those of the training are left to the parser that knows them."""
    parser.epilog = _MORE
    # Filled by `main` with all that follows the command.
    parser.set_defaults(words=())
    for setting in fields(CacheSettings):
        option = f"--{setting.name.replace('_', '-')}"
        parser.add_argument(option, metavar="X", help=str(setting.metadata["help"]))
    parser.add_argument(
        "--teacher-cache-dir", metavar="DIR", help="folder of the cache, or an address such as s3://bucket/cache"
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file with any of these options, as `model: ...`")


def run(arguments: argparse.Namespace) -> int:
    """Compute it, and say where it lies."""
    options = options_in(arguments.words)
    missing = [name for name in REQUIRED if f"--{name.replace('_', '-')}" not in options]
    if missing and "--config" not in options:
        raise InputError(missing_options(missing, arguments.words))
    from ..training.quiet import quiet_libraries
    from ..update.caching import cache_teachers

    quiet_libraries()
    print(cache_teachers(arguments.words))  # noqa: T201
    return 0
