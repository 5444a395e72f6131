"""Compare the answers of two model versions, from two JSONL files joined by id."""

import argparse
import contextlib
import json
import sys
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("old", type=Path, help="answers of the old model: JSONL with id, prediction, reference")
    parser.add_argument("new", type=Path, help="answers of the new model, for the same ids")
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
    parser.add_argument(
        "--max-nfr", type=_rate, metavar="RATE", help="exit with 1 if the negative flip rate is above this, 0 to 1"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the comparison; 1 where the gate is broken."""
    from ..flips import compare
    from ..readers import join, read_answers

    old, new = join(read_answers(arguments.old), read_answers(arguments.new))
    comparison = compare(old=old.predictions, new=new.predictions, references=old.references)
    if arguments.json:
        ids = {
            name: [old.ids[index] for index in getattr(comparison, name)]
            for name in ("negative_flips", "positive_flips")
        }
        text = json.dumps(json.loads(comparison.to_json()) | {"ids": ids}, indent=2, allow_nan=False)
    else:
        text = str(comparison)
    # A reader that has seen enough, such as `head`, must not turn a broken gate into another exit code.
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    if arguments.max_nfr is not None and comparison.negative_flip_rate > arguments.max_nfr:
        with contextlib.suppress(BrokenPipeError):
            sys.stderr.write(
                f"muscle-hf compare: the negative flip rate {comparison.negative_flip_rate:.6g} "
                f"({len(comparison.negative_flips)} of {comparison.n}) is above --max-nfr {arguments.max_nfr}\n"
            )
        return 1
    return 0


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a rate between 0 and 1, such as 0.02 for 2 %")
    return value
