"""OLD and NEW, and how they are read: what `compare` and `disagreements` have in common."""

import argparse
from collections.abc import Sequence
from typing import Any

from ..errors import InputError


def configure_reading(parser: argparse.ArgumentParser) -> "argparse._ArgumentGroup":
    """Add both sources and the options of reading them; give the group, to which a command may add its own."""
    what = (
        "file or folder of lm-evaluation-harness (--log_samples), lighteval, inspect_ai and others; JSON, CSV or "
        "Parquet with id, prediction, reference; table.csv:column; table.csv@model=v1; org/name, a data set of the Hub"
    )
    parser.add_argument("old", help=f"answers of the old model: {what}")
    parser.add_argument("new", help="answers of the new model to the same instances")

    reading = parser.add_argument_group("what is read")
    reading.add_argument(
        "--tasks",
        action="append",
        default=[],
        metavar="NAME",
        help="compare these tasks only; patterns such as 'mmlu_*', repeat it or separate by commas",
    )
    reading.add_argument(
        "--filter",
        action="append",
        default=[],
        metavar="[TASK:]NAME",
        help="the filter of lm-evaluation-harness (default: the first, which must be the same on both sides); given "
        "twice, for OLD and NEW",
    )
    reading.add_argument(
        "--run",
        action="append",
        metavar="DATE",
        help="beginning of a run's date (default: the newest); given twice, for OLD and NEW",
    )
    reading.add_argument(
        "--columns",
        action="append",
        default=[],
        metavar="WHAT=NAME",
        help="another column name, such as id=question_id; WHAT: id, prediction, reference, score, choices, question, "
        "sample, response (the whole text); repeat it or separate by commas",
    )
    reading.add_argument(
        "--normalize",
        metavar="NAME[,NAME]",
        help="what need not count when answers of a table are compared: unicode, whitespace, quotes, punctuation, "
        "case, thousands, decimal-comma, numbers, booleans; none: nothing (default: in CSV files surrounding spaces, "
        "and how a number is written where all right answers are numbers)",
    )
    reading.add_argument("--config", help="configuration of a data set of the Hub, or a model's folder in it")
    reading.add_argument("--split", help="split of a data set of the Hub")
    reading.add_argument("--allow-missing", action="store_true", help="compare the instances and tasks that both have")
    return reading


def reading_options(arguments: argparse.Namespace, reference: str | None = None) -> dict[str, Any]:
    """Give these options as `read` takes them; the column of right answers may be given beside the others."""
    from ..readers.selection import parse_filters

    return {
        "tasks": [name.strip() for text in arguments.tasks for name in text.split(",")],
        "filter": parse_filters(arguments.filter),
        "run": arguments.run,
        "columns": _columns(arguments.columns, reference),
        "normalize": arguments.normalize,
        "config": arguments.config,
        "split": arguments.split,
        "allow_missing": arguments.allow_missing,
    }


def _columns(given: Sequence[str], reference: str | None) -> dict[str, str]:
    names = {} if reference is None else {"reference": reference}
    for item in (part for text in given for part in text.split(",")):
        what, _, name = item.partition("=")
        if not what or not name:
            raise InputError(f"--columns {item!r} is not of the form WHAT=NAME, such as id=question_id.")
        if names.setdefault(what, name) != name:
            raise InputError(f"two columns are named for {what}: {names[what]!r} and {name!r}.")
    return names
