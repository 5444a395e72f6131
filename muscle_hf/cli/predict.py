"""Answer a file of questions with an adapter of the Hub or of a folder, for `muscle-hf compare`."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigurationError, EndpointError, InputError
from ..files import refuse_read_only
from ..launched import is_one_of_several
from ..locks import held_file
from . import several
from .asked import asked
from .asked import check as check_asked
from .asked import configure as configure_asked

if TYPE_CHECKING:
    from ..prediction.answer_file import Asking
    from ..prediction.kept_answers import AnswersSoFar
    from ..prediction.questions import Question

_MORE = (
    "The answers are written when all are there; until then they are kept in FILE.part, and the same command goes on "
    "after an interruption. Rows with choices get the likeliest of them, others the greedy answer. Exit codes: "
    "0 done, 2 bad input, 130 interrupted."
)
_SHORT = ("prompt", "reference", "id")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.epilog = _MORE
    parser.add_argument(
        "adapter",
        metavar="ADAPTER",
        help="id on the Hub, or a folder; with --engine openai, the name of the model there",
    )
    parser.add_argument(
        "data",
        metavar="DATA",
        help="JSON Lines, a JSON array, CSV, TSV, Parquet, or org/name of a data set of the Hub",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("answers.jsonl"), metavar="FILE", help="(default: answers.jsonl)"
    )

    data = parser.add_argument_group("data")
    data.add_argument("--config", metavar="NAME", help="configuration of a data set of the Hub")
    data.add_argument("--split", help="split of a data set of the Hub (default: test)")
    data.add_argument(
        "--columns",
        action="append",
        default=[],
        metavar="WHAT=NAME",
        help="which column is what, where no shape is recognised, such as prompt=asked,reference=gold. "
        "WHAT: prompt, completion, reference, choices, messages, id; repeat it or separate by commas",
    )
    for what in _SHORT:
        data.add_argument(f"--{what}-column", metavar="NAME", help=f"short for --columns {what}=NAME")

    configure_asked(parser)

    asking = parser.add_argument_group("how it is asked")
    asking.add_argument("--batch-size", type=int, metavar="N", help="with --engine transformers (default: 32)")
    asking.add_argument(
        "--max-new-tokens",
        type=int,
        metavar="N",
        help="longest generated answer, in tokens (default: the longest right answer of the data and an end token, or "
        "256 for data without right answers)",
    )
    asking.add_argument("--normalization", choices=["sum", "characters"], help="of a choice's score (default: sum)")
    asking.add_argument(
        "--delimiter",
        metavar="TEXT",
        help="between prompt and choice (default: what completions begin with, or a space)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Ask, write the answers, and say where they are."""
    _check(arguments)
    from ..models.processes import work_together

    several.meet()
    return work_together(partial(_run_alone, arguments))


def _run_alone(arguments: argparse.Namespace) -> int:
    from ..models.processes import entered_by_main

    with entered_by_main(held_file(arguments.output, "muscle-hf predict", "name another --output")):
        _refuse_existing(arguments.output)  # another run may have come to its end in this moment
        return _run(arguments)


def _run(arguments: argparse.Namespace) -> int:
    from ..prediction.answer_file import answer, asking_of, end_of, longest_answer, rows_of_answers, settings_of
    from ..prediction.kept_answers import AnswersSoFar
    from ..training.quiet import quiet_libraries

    quiet_libraries()
    questions = _questions(arguments)
    asking = asking_of(
        questions,
        max_new_tokens=arguments.max_new_tokens,
        normalization=arguments.normalization,
        delimiter=arguments.delimiter,
    )
    who = asked(arguments)
    end = end_of(who.tokenizer, questions)
    if asking.max_new_tokens and arguments.max_new_tokens is None and questions[0].answer is not None:
        asking = replace(asking, max_new_tokens=longest_answer(who.tokenizer, questions))
    kept = AnswersSoFar(arguments.output, settings_of(who.identity, questions, asking))
    if kept.answers:
        _say(f"going on: {len(kept.answers)} of {len(questions)} answers are in {kept.path}.")
    if arguments.output.exists() and len(kept.answers) < len(questions):
        raise _existing(arguments.output)
    try:
        answer(who.load(), questions, asking, kept)
    except EndpointError as error:
        raise EndpointError(f"{error} {_kept(kept, questions)}") from None
    except InputError as error:
        if not kept.answers:
            raise
        raise InputError(f"{error} {_kept(kept, questions)}") from None
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_kept(kept, questions)) from None
    kept.finish(rows_of_answers(questions, kept, end))
    _conclude(arguments.output, questions, asking, kept, who.name)
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """Refuse before any work what would be noticed after it."""
    output: Path = arguments.output
    if not output.parent.is_dir():
        raise InputError(f"--output {output}: there is no folder {output.parent}; make it first.")
    if not output.exists():
        refuse_read_only(output.parent, "Name an --output where you may write.")
    elif is_one_of_several():  # which would keep each other out
        _refuse_existing(output)
    else:
        with held_file(output, "muscle-hf predict", "name another --output"):  # and take a dead one's lock away
            _refuse_existing(output)
    for name in ("batch_size", "max_new_tokens", "concurrency"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise ConfigurationError(f"--{name.replace('_', '-')} is {value}; it must be 1 or more.")
    check_asked(arguments)


def _refuse_existing(output: Path) -> None:
    # Where answers are still kept beside it, a run may have been killed at its very end.
    if output.exists() and not output.with_name(f"{output.name}.part").exists():
        raise _existing(output)


def _existing(output: Path) -> InputError:
    return InputError(f"--output {output} is there already, and is not replaced; remove it, or name another file.")


def _questions(arguments: argparse.Namespace) -> "list[Question]":
    """Read the data, and say as what."""
    from ..prediction.layouts import named_columns
    from ..prediction.questions import described, ids_of, quoted, read_task
    from ..readers.plain_rows import raw_rows

    short = {what: getattr(arguments, f"{what}_column") for what in _SHORT}
    named = named_columns(
        [*arguments.columns, *(f"{what}={name}" for what, name in short.items() if name is not None)]
    )
    rows = list(raw_rows(arguments.data, arguments.split, "test", config=arguments.config))
    layout, read = read_task(rows, arguments.data, named=named, answers="allowed", choices="allowed")
    _say(f"{quoted(arguments.data)} is {described(layout, read[0])}.")
    ids = ids_of(read, rows, named.get("id"))
    return [replace(question, id=id_) for question, id_ in zip(read, ids, strict=True)]


def _kept(kept: "AnswersSoFar", questions: "Sequence[Question]") -> str:
    from ..prediction.kept_answers import count_kept

    done = count_kept(kept.path)  # also by other processes
    where = f" in {kept.path}; the same command goes on from there" if done else ""
    return f"{done} of {len(questions)} answers are kept{where}."


def _conclude(
    output: Path,
    questions: "Sequence[Question]",
    asking: "Asking",
    kept: "AnswersSoFar",
    name: str,
) -> None:
    from ..prediction.answer_file import how_they_ended

    sys.stdout.write(f"{output}: {len(questions)} answers of {name}\n")
    cut = sum(not finished and not end for _, finished, end in kept.answers.values())
    if cut:
        _say(f"{cut} of {len(questions)} answers were cut off at --max-new-tokens {asking.max_new_tokens}.")
    if (otherwise := how_they_ended(kept)) is not None:
        _say(otherwise)
    if questions[0].answer is None:
        _say("the data have no right answers, so `muscle-hf compare` cannot tell which flips are negative.")


def _say(text: str) -> None:
    sys.stderr.write(f"muscle-hf predict: {text}\n")
