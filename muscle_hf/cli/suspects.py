"""The options of `compare` about the grader's own mistakes: suspects, a table to check, verdicts."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..text import how_many
from .lines import tell

if TYPE_CHECKING:
    from ..runs.run_comparison import RunComparison
    from ..runs.suspects.flip_draw import FlipDraw
    from ..runs.suspects.shown import Suspects


def configure_suspects(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    group = parser.add_argument_group(
        "the grader's mistakes", "negative flips that the grader made, because it does not recognise a right answer"
    )
    group.add_argument(
        "--suspects", type=int, metavar="N", help="list the N negative flips that the grader likeliest made, and why"
    )
    group.add_argument(
        "--recognised-by",
        action="append",
        default=[],
        metavar="NAME",
        help="what the grader may recognise an answer by: fence, box, hashes, bold, thinking, other_alphabet, "
        "nothing_extracted, length, or a column; repeat it or separate by commas (default: of these, what the update "
        "changes)",
    )
    group.add_argument(
        "--right-by",
        action="append",
        default=[],
        metavar="NAME",
        help="what speaks for an answer's being right: gold_in_text, or a column, such as the marks of a laxer grader "
        "(default: gold_in_text, where there are texts)",
    )
    group.add_argument(
        "--to-check",
        type=Path,
        metavar="FILE",
        help="draw N negative flips with known chances, and write them to this file, .csv or .jsonl, with an empty "
        "column new_answer_right",
    )
    group.add_argument(
        "--verdicts", type=Path, metavar="FILE", help="such a file, filled in: print the audited NFR with its interval"
    )


def check_suspects(arguments: argparse.Namespace) -> None:
    """Refuse options that contradict each other, before any work."""
    from ..runs.filled_table import check_target
    from ..runs.suspects.verdict_table import drawn_as

    if arguments.suspects is not None and arguments.suspects < 1:
        raise InputError(f"--suspects {arguments.suspects} would list nothing; give a number from 1 up.")
    if arguments.verdicts is not None:
        drawn_as(arguments.verdicts)
    if arguments.to_check is not None:
        if arguments.suspects is None:
            raise InputError("--to-check needs --suspects N: how many negative flips to draw.")
        check_target(arguments.to_check)
    if arguments.suspects is None and arguments.verdicts is None:
        for name in ("recognised_by", "right_by"):
            if getattr(arguments, name):
                raise InputError(f"--{name.replace('_', '-')} without --suspects or --verdicts would do nothing.")


def feature_columns(arguments: argparse.Namespace) -> list[str]:
    """Name the columns that are to be read."""
    from ..runs.suspects.answer_features import FORMS, RIGHTNESS

    names = [*_names(arguments.recognised_by), *_names(arguments.right_by)]
    return [name for name in dict.fromkeys(names) if name not in FORMS and name not in RIGHTNESS]


def with_suspects(arguments: argparse.Namespace, result: "RunComparison") -> "RunComparison":
    """Rank the negative flips, write the table to check, and judge by verdicts, as far as that is asked for."""
    if arguments.suspects is None and arguments.verdicts is None:
        return result
    from ..runs.suspects.audited import audited_rate
    from ..runs.suspects.ranking import suspect_flips
    from ..runs.suspects.verdict_table import drawn_as, read_verdicts

    suspects = suspect_flips(
        result, _names(arguments.recognised_by) or None, right_by=_names(arguments.right_by) or None
    )
    audit = None
    if arguments.verdicts is not None:
        count, seed = drawn_as(arguments.verdicts)
        draw = suspects.draw(count, seed=seed)
        audit = audited_rate(result, read_verdicts(arguments.verdicts, suspects, draw), draw=draw)
    if arguments.to_check is not None:
        _write(arguments.to_check, suspects, suspects.draw(arguments.suspects))
    return result.with_suspects(suspects, audit, count=arguments.suspects or 0)


def _write(path: Path, suspects: "Suspects", draw: "FlipDraw") -> None:
    """Write the table to check, and say on standard error what to do with it."""
    from ..runs.suspects.verdict_table import write_verdicts

    if not len(draw):
        tell("compare", f"no negative flips, so {path} is not written")
        return
    try:
        write_verdicts(path, suspects, draw)
    except OSError as error:
        raise InputError(f"--to-check {path} cannot be written ({error.strerror or error}).") from None
    all_of_them = "all " if len(draw) == len(suspects) else ""
    tell(
        "compare",
        f"wrote {path} with {all_of_them}{how_many(len(draw), 'row')}; write true into new_answer_right where the new "
        f"answer is in fact right, false where it is wrong, then give it with --verdicts {path}",
    )


def _names(given: list[str]) -> list[str]:
    return [name.strip() for text in given for name in text.split(",") if name.strip()]
