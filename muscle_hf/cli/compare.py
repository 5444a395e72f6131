"""Compare two model versions: what an update broke, where, and can it be chance; a gate for CI."""

import argparse
import contextlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .deciding import configure_gate, keep, read_asked
from .pairs import check_pairs, configure_pairs, is_own_file, made_pairs, write_pairs
from .reading import configure_reading, reading_options
from .suspects import check_suspects, configure_suspects, feature_columns, with_suspects

if TYPE_CHECKING:
    from ..runs.gates.gate import Gate
    from ..runs.run_comparison import RunComparison

# What a file that `compare` wrote has among its first bytes.
_OWN = {
    "html": rb'<meta name="generator" content="muscle_hf ',
    "png": rb"(?s)\A\x89PNG\r\n.{0,4000}Software\x00muscle_hf",
    "decision": rb'\A\{\s*"schema": "muscle_hf\.decision"',
    "jsonl": rb'(?s)\A\{"task": .{1,4000}"kind": "(negative|positive)_flip"',
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    reading = configure_reading(parser)
    reading.add_argument("--metric", help="the metric to compare (default: the first that is one number an instance)")
    reading.add_argument("--reference", metavar="NAME", help="column of the right answers; short for --columns")
    reading.add_argument(
        "--references",
        metavar="FILE[:COLUMN]",
        help="file with the right answers of tables that have none, joined by id (default of COLUMN: reference)",
    )
    reading.add_argument(
        "--missing",
        metavar="HOW",
        choices=("refuse", "drop", "wrong", "harness-error"),
        help="what becomes of instances that one side lacks, or has without an answer: refuse, drop, wrong, or "
        "harness-error (in no rate, but a gate is kept only if it were kept at worst); default: the first are "
        "refused, empty answers are wrong",
    )
    reading.add_argument(
        "--allow-identical",
        action="store_true",
        help="accept that OLD and NEW share what two models cannot, such as log-likelihoods to the last digit",
    )
    reading.add_argument("--by-position", action="store_true", help="join row by row, for files without ids")

    statistics = parser.add_argument_group("statistics")
    statistics.add_argument(
        "--by", action="append", default=[], metavar="COLUMN", help="slice by a column or document field; repeatable"
    )
    statistics.add_argument(
        "--cluster",
        metavar="COLUMN",
        help="column or document field that says which answers belong together, such as paraphrases of one question: "
        "p, intervals and gate take its values as independent, not the answers",
    )
    statistics.add_argument(
        "--yes-no",
        metavar="YES,NO",
        help="the questions are yes/no questions, and these answers mean yes and no: say whether the update turned "
        "answers towards one of them, whether ability fell, and what a moved threshold would repair",
    )
    statistics.add_argument(
        "--yes-no-scores",
        action="append",
        metavar="COLUMN",
        help="column of a table with log p(no) - log p(yes) of each answer; given twice, for OLD and NEW (logged "
        "samples of lm-evaluation-harness have it by themselves)",
    )
    statistics.add_argument(
        "--seed-floor",
        nargs="+",
        default=[],
        metavar="RUN",
        help="two or more runs of one version: the flips that retraining or sampling alone makes",
    )
    statistics.add_argument(
        "--tolerance", type=float, help="a score that changes by no more counts as unchanged (default: 0)"
    )
    statistics.add_argument("--level", type=float, help="level of all intervals (default: 0.95)")
    statistics.add_argument(
        "--test",
        metavar="NAME",
        help="the paired test that p is of: two-sided (default), one-sided (does the update break more than it "
        "repairs?), two-sided-mid-p, one-sided-mid-p",
    )
    statistics.add_argument(
        "--prior",
        nargs=2,
        type=float,
        default=(1.0, 1.0),
        metavar=("A", "B"),
        help="Beta prior on the probability that a flip is negative (default: 1 1)",
    )

    configure_suspects(parser)
    configure_pairs(parser)

    output = parser.add_argument_group("output")
    printed = output.add_mutually_exclusive_group()
    printed.add_argument("--json", action="store_true", help="print JSON in place of a table")
    printed.add_argument("--markdown", action="store_true", help="print Markdown, for a pull-request comment")
    output.add_argument("--html", type=Path, metavar="FILE", help="write a page with every flip, to search and filter")
    output.add_argument("--png", type=Path, metavar="FILE", help="draw quadrants and slices")
    output.add_argument("--jsonl", type=Path, metavar="FILE", help="write every flip with both answers")
    output.add_argument("--force", action="store_true", help="let these replace files that compare has not written")

    configure_gate(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the comparison and write the files; the exit code is that of the gate, 0 without one."""
    from ..runs.compare import compare_runs
    from ..runs.gates.gate import judge
    from ..text import listed

    # Before any work: a wrong bound or folder must not show after minutes of reading.
    asked = read_asked(arguments)
    bounds = asked.bounds
    _check_targets(arguments)
    check_suspects(arguments)
    check_pairs(arguments)
    options = dict(
        asked.comparing,
        seed_floor=arguments.seed_floor,
        tolerance=arguments.tolerance,
        prior=tuple(arguments.prior),
        by_position=arguments.by_position,
        features=feature_columns(arguments),
        allow_identical=arguments.allow_identical,
        metric=arguments.metric,
        yes_no_scores=arguments.yes_no_scores,
        references=arguments.references,
        **reading_options(arguments, reference=arguments.reference),
    )
    result = with_suspects(arguments, compare_runs(arguments.old, arguments.new, **options))
    pairs = made_pairs(arguments, result)
    gate, not_again = keep(arguments, asked, result, judge(result, bounds, **asked.judging), options)
    held = gate if bounds else None
    _write(arguments, result, held)
    write_pairs(arguments, pairs)
    # A reader that has seen enough, such as `head`, must not turn a broken gate into another exit code.
    with contextlib.suppress(BrokenPipeError):
        if arguments.json:
            sys.stdout.write(f"{_json(result, held)}\n")
        elif arguments.markdown:
            sys.stdout.write(result.to_markdown(held))
        else:
            from ..runs.terminal import terminal_text

            sys.stdout.write(f"{terminal_text(result, held.shown() if held else None)}\n")
        sys.stdout.flush()
    if gate.refusals or not_again:
        raise InputError(" ".join([*gate.refusals, *filter(None, [not_again])]))
    with contextlib.suppress(BrokenPipeError):
        scored = [part.name for part in result.tasks if part.has_scores] if result.pooled else []
        if scored and any(bound.where == "all" for bound in bounds):
            sys.stderr.write(
                f"muscle-hf compare: note: a bound without a task holds the pooled answers; {', '.join(scored)} with "
                "scores can be bounded by name or with '*:'\n"
            )
        if bounds and result.audit:
            sys.stderr.write("muscle-hf compare: note: the gate judges the NFR as it is marked, not the audited one\n")
        if bounds and result.not_compared:
            names = listed(result.not_compared)
            sys.stderr.write(f"muscle-hf compare: note: the gate does not judge what was not compared: {names}\n")
        for message in held.shown().sentences if held else ():
            sys.stderr.write(f"muscle-hf compare: {message}\n")
        sys.stderr.flush()
    return gate.exit_code


def _check_targets(arguments: argparse.Namespace) -> None:
    """Refuse files that cannot be written, or that would take the place of what is read."""
    others = filter(
        None, [arguments.policy, arguments.check, arguments.references, arguments.verdicts, arguments.pairs_held_out]
    )
    read = list(map(str, [arguments.old, arguments.new, *arguments.seed_floor, *others]))
    taken = {Path(source).resolve(): source for source in read}
    # What stands before a column, or before the choice of some rows.
    for source in read:
        for match in re.finditer("[:@]", source):
            taken.setdefault(Path(source[: match.start()]).resolve(), source)
    for name in ("html", "png", "jsonl", "pairs", "decision", "history"):
        path: Path | None = getattr(arguments, name)
        if path is None:
            continue
        if not path.parent.is_dir():
            raise InputError(f"--{name} {path}: there is no folder {path.parent}; make it first.")
        if path.exists() and not path.is_file():
            raise InputError(f"--{name} {path} is no ordinary file; a file is needed.")
        if path.resolve() in taken:
            raise InputError(f"--{name} {path} would replace {taken[path.resolve()]}; name another file.")
        taken[path.resolve()] = f"--{name} {path}"
        if name == "png" and path.suffix.lower() != ".png":
            raise InputError(f"--png {path} would be a PNG of another name; let it end in .png.")
        # What a history holds was read before.
        if name != "history" and path.exists() and not arguments.force and not _is_own(path, name):
            raise InputError(
                f"--{name} {path} would replace a file that compare has not written; name another file, or add "
                "--force."
            )


def _is_own(path: Path, kind: str) -> bool:
    """Tell whether a file is one that this command writes, or an empty one."""
    if kind == "pairs":
        return is_own_file(path)
    with path.open("rb") as file:
        start = file.read(4096)
    return not start or re.search(_OWN[kind], start) is not None


def _write(arguments: argparse.Namespace, result: "RunComparison", gate: "Gate | None") -> None:
    """Write the files that were asked for, and say so."""
    writers: dict[str, Callable[[Path], Path]] = {
        "html": lambda path: result.to_html(path, gate),
        "png": result.to_png,
        "jsonl": result.to_jsonl,
    }
    for name, write in writers.items():
        path: Path | None = getattr(arguments, name)
        if path is None:
            continue
        try:
            write(path)
        except OSError as error:
            raise InputError(f"--{name} {path} cannot be written ({error.strerror or error}).") from None
        with contextlib.suppress(BrokenPipeError):
            sys.stderr.write(f"muscle-hf compare: wrote {path}\n")


def _json(result: "RunComparison", gate: "Gate | None") -> str:
    from ..flips.rates import strict_json

    content = result.to_dict() | ({"gate": gate.to_dict()} if gate else {})
    return strict_json(content, indent=2)
