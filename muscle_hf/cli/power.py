"""How many questions an evaluation needs, and what so many can show, before it is bought."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..text import how_many, one_line
from .lines import print_line

_MORE = (
    "Two of --flip-rate, --change and --nfr say all three; an earlier comparison (--like) says them too. Python: "
    "muscle_hf.power. Exit codes: 0 done, 2 bad input."
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.epilog = _MORE
    parser.add_argument(
        "-n", "--questions", type=int, metavar="N", help="how many there are (default: say only how many are needed)"
    )

    expected = parser.add_argument_group("what is expected")
    expected.add_argument(
        "--flip-rate", type=float, metavar="RATE", help="share of answers that turn right or wrong (default: 0.1)"
    )
    expected.add_argument(
        "--change",
        type=float,
        metavar="CHANGE",
        help="change of accuracy, such as -0.01 (default: 0)",
    )
    expected.add_argument(
        "--nfr", type=float, metavar="RATE", help="share of answers that turn wrong (default: half of those that flip)"
    )
    expected.add_argument(
        "--like",
        nargs="+",
        metavar="RUN",
        help="take the rates from an earlier comparison, OLD NEW as muscle-hf compare reads them, or a file that "
        "muscle-hf compare --json printed; and the number of questions, where none is given",
    )

    bounds = parser.add_argument_group("bounds, as of muscle-hf compare")
    bounds.add_argument("--margin", type=float, metavar="SIZE", help="accuracy may fall by so much, such as 0.01")
    bounds.add_argument("--max-nfr", type=float, metavar="RATE", help="highest negative flip rate, such as 0.02")
    bounds.add_argument(
        "--broken-at",
        type=float,
        metavar="SIZE",
        help="a real break, that should be called broken: a fall of accuracy, or an NFR (default: twice the bound, or "
        "0.01 where that is 0)",
    )

    statistics = parser.add_argument_group("statistics")
    statistics.add_argument(
        "--test",
        default="two-sided",
        metavar="NAME",
        help="the paired test that looks for a fall: two-sided (default), one-sided, two-sided-mid-p, one-sided-mid-p",
    )
    statistics.add_argument("--level", type=float, default=0.95, help="level of the intervals (default: 0.95)")
    statistics.add_argument("--power", type=float, default=0.8, help="how probable a result shall be (default: 0.8)")
    statistics.add_argument(
        "--cluster-size", type=float, default=1, metavar="SIZE", help="mean number of questions that hang together"
    )
    statistics.add_argument(
        "--icc", type=float, metavar="ICC", help="how much they do: the correlation within a cluster, 0 to 1"
    )
    parser.add_argument("--json", action="store_true", help="print JSON in place of sentences")


def run(arguments: argparse.Namespace) -> int:
    """Print what so many questions can show, and how many are needed."""
    from ..flips.planning.power import power

    options: dict[str, Any] = {
        name: getattr(arguments, name)
        for name in ("questions", "flip_rate", "change", "nfr", "margin", "max_nfr", "broken_at", "test", "level")
    }
    if arguments.like is not None:
        options |= _like(arguments)
    answer = power(**options, power=arguments.power, cluster_size=arguments.cluster_size, icc=arguments.icc)
    print_line(answer.to_json(indent=2) if arguments.json else str(answer))
    return 0


def _like(arguments: argparse.Namespace) -> dict[str, Any]:
    """Give the rates of two runs, and their number of questions where none was given."""
    already = [f"--{name.replace('_', '-')}" for name in ("flip_rate", "nfr") if getattr(arguments, name) is not None]
    if already:
        raise InputError(
            f"--like takes the rates from two runs, and {' and '.join(already)} would be others; give one."
        )
    counts = _counts(arguments.like, has_clusters=arguments.icc is not None)
    n, fallen, risen = sum(counts.values()), counts["negative_flips"], counts["positive_flips"]
    options = {"flip_rate": (fallen + risen) / n, "change": (risen - fallen) / n}
    if arguments.change is not None:
        options["change"] = arguments.change
    return options | ({} if arguments.questions is not None else {"questions": n})


def _counts(runs: list[str], *, has_clusters: bool) -> dict[str, int]:
    """Give how many answers both models, one of them or neither got right."""
    if len(runs) > 2:
        raise InputError(f"--like takes OLD NEW or one file that muscle-hf compare --json printed, not {len(runs)}.")
    if len(runs) == 2:
        from ..runs.compare import compare_runs

        content = compare_runs(*runs).to_dict()
    else:
        content = _printed(Path(runs[0]))
    part = content["pooled"] or (content["tasks"][0] if len(content["tasks"]) == 1 else {})
    if not part.get("counts"):
        raise InputError("--like needs answers that are right or wrong, and these are scores.")
    if part.get("clusters") and not has_clusters:
        # Beside the result, so that --json stays JSON.
        print(  # noqa: T201
            f"muscle-hf power: note: the answers of --like are in {how_many(part['clusters'], 'cluster')}, and taken "
            f"as independent here; --cluster-size {part['n'] / part['clusters']:.3g} and --icc say how far they hang "
            "together",
            file=sys.stderr,
        )
    kinds = ("both_right", "negative_flips", "positive_flips", "both_wrong")
    return {kind: int(part["counts"][kind]) for kind in kinds}


def _printed(path: Path) -> dict[str, Any]:
    """Read what `muscle-hf compare --json` printed."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"--like {path}: cannot be read as JSON ({one_line(error)}). For two files of answers give OLD NEW."
        ) from None
    if not isinstance(content, dict) or content.get("schema") != "muscle_hf.run_comparison":
        raise InputError(f"--like {path} is not what muscle-hf compare --json printed; for two runs give OLD NEW.")
    return content
