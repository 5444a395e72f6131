"""What of `muscle-hf compare` is about learning from what broke: preference pairs of the negative flips."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .lines import tell

if TYPE_CHECKING:
    from ..runs.pairs.pair_set import PairSet
    from ..runs.run_comparison import RunComparison

# A first line that is longer than this is not looked at.
_LONGEST = 10_000_000


def configure_pairs(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    group = parser.add_argument_group(
        "preference pairs", "negative flips as pairs of a right and a wrong answer, which TRL's DPOTrainer trains on"
    )
    group.add_argument(
        "--pairs",
        type=Path,
        metavar="FILE",
        help="write each negative flip as JSON Lines with prompt, chosen, rejected (the new answer), id, chosen_from",
    )
    group.add_argument(
        "--pairs-chosen",
        choices=("old", "reference"),
        help="what is chosen: the old model's answer, or the right answer as the file has it (default: old)",
    )
    group.add_argument(
        "--pairs-held-out",
        metavar="FILE",
        help="questions of the test set, as rows with prompt, question or messages: pairs of these are refused",
    )
    group.add_argument(
        "--pairs-max-length-ratio",
        type=float,
        metavar="RATIO",
        help="leave out pairs in which one answer is more than so many times as long as the other, such as 1.5",
    )


def check_pairs(arguments: argparse.Namespace) -> None:
    """Refuse options that would do nothing, and what cannot be read, before any work."""
    from ..runs.pairs.pair_set import check_ratio

    if arguments.pairs is None:
        for name in ("chosen", "held_out", "max_length_ratio"):
            if getattr(arguments, f"pairs_{name}") is not None:
                raise InputError(f"--pairs-{name.replace('_', '-')} without --pairs FILE would do nothing.")
    check_ratio(arguments.pairs_max_length_ratio)


def made_pairs(arguments: argparse.Namespace, result: "RunComparison") -> "PairSet | None":
    """Make the pairs, as far as they are asked for."""
    if arguments.pairs is None:
        return None
    from ..runs.filled_table import read_rows
    from ..runs.pairs.preference_pairs import pairs_of_comparison

    held_out = arguments.pairs_held_out
    return pairs_of_comparison(
        result,
        chosen=arguments.pairs_chosen or "old",
        max_length_ratio=arguments.pairs_max_length_ratio,
        held_out=None if held_out is None else read_rows(Path(held_out)),
        held_out_name=str(held_out),
    )


def write_pairs(arguments: argparse.Namespace, pairs: "PairSet | None") -> None:
    """Write the file, and say on standard error what is in it; one without pairs is empty."""
    if pairs is None:
        return
    try:
        pairs.write(arguments.pairs)
    except OSError as error:
        raise InputError(f"--pairs {arguments.pairs} cannot be written ({error.strerror or error}).") from None
    empty = "" if pairs.pairs else ", which is empty"
    for line in [*pairs.lines, f"wrote {arguments.pairs}{empty}"]:
        tell("compare", line)


def is_own_file(path: Path) -> bool:
    """Tell whether a file is one of pairs, by the columns of its first line, or an empty one."""
    from ..runs.pairs.pair_set import COLUMNS

    with path.open("rb") as file:
        first = file.readline(_LONGEST)
    try:
        return not first or list(json.loads(first)) == list(COLUMNS)
    except (ValueError, TypeError):
        return False
