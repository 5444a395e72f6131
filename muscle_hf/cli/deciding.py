"""What `compare` is asked to hold an update to, by a policy and by options, and what it keeps of the decision."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .lines import tell

if TYPE_CHECKING:
    from ..runs.gates.decision import Decision
    from ..runs.gates.gate import Bound, Gate
    from ..runs.gates.policy import Policy
    from ..runs.run_comparison import RunComparison

BOUNDS = {
    "margin": "how far accuracy, or the mean score, may fall, such as 0.01 for one point",
    "relative_margin": "how far accuracy may fall as a share of the old accuracy, such as 0.02 for 2 %% of it",
    "max_nfr": "highest negative flip rate, 0 to 1",
    "max_balanced_nfr": "highest negative flip rate, 0 to 1, where each class of right answers counts the same",
    "max_relative_nfr": "highest relative negative flip rate; 1 is that of independent errors",
    "max_bias_shift": "how far the bias of yes/no answers (--yes-no) may move, to either side, such as 0.1",
    "max_regression": "highest mean regression of the scores that fell",
    "stop_at": "Bayes factor at which an evaluation that grows may stop, such as 20, however often one looks: broken "
    "if the update breaks more than it repairs, kept if it repairs more",
    "min_accuracy_change": "lowest change of accuracy, or of the mean score, such as -0.01",
    "min_relative_accuracy_change": "lowest change of accuracy as a share of the old accuracy, such as -0.02",
}
# Options that a policy may say too -> what they are where nobody does.
_SAID = {
    "level": 0.95,
    "test": "two-sided",
    "missing": None,
    "cluster": None,
    "yes_no": None,
    "gate_on": "interval",
    "undecided": None,
}


def configure_gate(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the gate and of what is kept of it."""
    gate = parser.add_argument_group(
        "gate",
        "exit with 0 if all bounds are kept, 1 if one is broken, 3 if neither can be told by so many questions, 2 if "
        "the files are no evidence; WHERE: a task, COLUMN=GROUP, or * for each (default: all together)",
    )
    for name, help_text in BOUNDS.items():
        gate.add_argument(
            f"--{name.replace('_', '-')}", action="append", default=[], metavar="[WHERE:]VALUE", help=help_text
        )
    gate.add_argument(
        "--policy", "--gate", type=Path, metavar="FILE", help="YAML file with the bounds and options of a project"
    )
    gate.add_argument(
        "--gate-on",
        choices=["interval", "estimate"],
        help="what is held to a bound: the whole interval, so that few verdicts err (default), or the estimate alone, "
        "whatever chance makes of it",
    )
    gate.add_argument(
        "--undecided",
        choices=["fail", "pass"],
        help="exit with 1, or with 0, where it cannot be told (default: with 3)",
    )
    gate.add_argument(
        "--decision", type=Path, metavar="FILE", help="write the verdict as JSON, with digests of all that it rests on"
    )
    gate.add_argument(
        "--history", type=Path, metavar="FILE", help="add the decision to a JSON Lines file, and say what has changed"
    )
    gate.add_argument(
        "--check",
        type=Path,
        metavar="FILE",
        help="say whether answers, bounds and verdict are still those of a file of --decision; exit with 2 if not",
    )


@dataclass(frozen=True)
class Asked:
    """What an update is held to, and how."""

    bounds: "list[Bound]"
    policy: "Policy | None"
    comparing: dict[str, Any]
    """Options of `compare_runs` that a policy may say too."""
    judging: dict[str, Any]
    """Options of `judge`."""
    before: "Decision | None"
    """The decision that this one is checked against."""


def read_asked(arguments: argparse.Namespace) -> Asked:
    """Read policy and options, and what is compared with later: a wrong one must not show after minutes of reading."""
    from ..runs.gates.bounds import parse_bound
    from ..runs.gates.decision import Decision
    from ..runs.gates.history import check_history
    from ..runs.gates.policy import read_policy

    bounds = [parse_bound(name, text) for name in BOUNDS for text in getattr(arguments, name)]
    policy = None if arguments.policy is None else read_policy(arguments.policy)
    bounds += policy.bounds if policy else ()
    for option in ("gate_on", "undecided", "decision", "history", "check"):
        if getattr(arguments, option) is not None and not bounds:
            raise InputError(
                f"--{option.replace('_', '-')} without a bound would check nothing; give --margin, --policy or others."
            )
    said: dict[str, Any] = {}
    for name, default in _SAID.items():
        option, of_policy = getattr(arguments, name), getattr(policy, name, None)
        said[name] = next((value for value in (option, of_policy) if value is not None), default)
        if None not in (option, of_policy) and option != of_policy:
            tell(
                "compare",
                f"note: --{name.replace('_', '-')} {option} in place of {of_policy}, which {arguments.policy} says",
            )
    judging = {name: said.pop(name) for name in ("gate_on", "undecided")}
    said["by"] = list(dict.fromkeys([*arguments.by, *(policy.by if policy else ())]))
    if arguments.history is not None:
        check_history(arguments.history)
    return Asked(
        bounds,
        policy,
        said,
        judging | {"required_tasks": policy.required_tasks if policy else ()},
        None if arguments.check is None else Decision.read(arguments.check),
    )


def keep(
    arguments: argparse.Namespace, asked: Asked, result: "RunComparison", gate: "Gate", options: Mapping[str, Any]
) -> "tuple[Gate, str | None]":
    """Write the decision and add it to the history, where that is asked for; and check it against another.

    Returns:
        The gate, which knows the decisions before it; and why it is not that of `--check`, None where it is.
    """
    from ..runs.gates.decision import Decision
    from ..runs.gates.history import record
    from ..text import listed

    if not any((arguments.decision, arguments.history, asked.before)):
        return gate, None
    given = {name: value for name, value in options.items() if value is not False and value not in (None, [], {}, ())}
    for name in ("seed_floor", "level"):
        given.pop(name, None)  # digested, and told beside these
    if "references" in given:
        given["references"] = Path(str(given["references"])).name  # digested too, wherever it lies
    undecided = {} if gate.undecided is None else {"undecided": gate.undecided}
    decision = Decision.of(result, gate, asked.bounds, policy=asked.policy, options=given | undecided)
    if arguments.history is not None:
        gate = replace(gate, history=record(arguments.history, decision))
        added = gate.history is None or not gate.history.repeated
        tell("compare", f"{'added to' if added else 'not added again to'} {arguments.history}")
    if arguments.decision is not None:
        decision.write(arguments.decision)
        tell("compare", f"wrote {arguments.decision}")
    if asked.before is None:
        return gate, None
    differs = [*decision.asked_since(asked.before), *decision.came_since(asked.before)]
    if files := decision.files_since(asked.before):
        differs.append(f"files that were others then: {listed(files)}")
    versions = decision.versions_since(asked.before)
    of_old = f"the decision of {asked.before.date} in {arguments.check}"
    if differs:
        return gate, f"{of_old} is not reproduced: {'; '.join([*differs, *versions])}."
    tell(
        "compare",
        f"{of_old} is reproduced: the same answers, bounds and verdict ({'; '.join(versions) or 'same versions'})",
    )
    return gate, None
