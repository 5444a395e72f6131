"""The candidates of a search: each an update with options of its own, with the stages that train, ask and choose."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256

from ..errors import ConfigurationError
from .evidence import NEW, OLD, Contender
from .plan import Plan
from .search import CHOICE, SEARCH, Choice, Value, combinations, described, shown
from .stage import Stage
from .stages import BY_SEARCH, Stages

_LONGEST_NAME = 120


@dataclass(frozen=True)
class Candidate:
    """One combination of a search."""

    values: dict[str, Value]
    contender: Contender
    stages: Stages  # of the update with these options

    @property
    def training(self) -> Stage:
        """The training of its compatibility adapter; the task adapter has to be there."""
        return self.stages.candidate(self.contender)

    @property
    def answers(self) -> Stage:
        """Its answers to the validation rows; its adapter has to be there."""
        return self.stages.validation_answers(self.contender)


def candidates_of(plan: Plan) -> list[Candidate]:
    """Return the candidates of a search, in the order given; none without a search."""
    return [
        Candidate(
            values,
            Contender(f"candidate {described(values)}", f"{SEARCH}/{_folder(plan, values)}"),
            Stages(plan.with_values(values)),
        )
        for values in (combinations(plan.options.grid) if plan.options.grid else ())
    ]


def _folder(plan: Plan, values: Mapping[str, Value]) -> str:
    """Name a folder by what differs from the update as it was asked for, so that another grid finds it again."""
    others = sorted((name, value) for name, value in values.items() if value != getattr(plan.config, name))
    name = ",".join(f"{name}={shown(value)}" for name, value in others) or "as-given"
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[:_LONGEST_NAME]}-{sha256(name.encode()).hexdigest()[:8]}"


def choosing(stages: Stages, candidates: list[Candidate]) -> Stage:
    """Return the stage of the choice; the task adapter has to be there, but no candidate."""
    decided_by = {
        "candidates": [[described(each.values), _digest(each.training)] for each in candidates],
        "answers": [_digest(stages.validation_answers(contender)) for contender in (OLD, NEW)],
    }
    return Stage(SEARCH, "the search", stages.output_dir, (CHOICE,), decided_by, is_quick=True)


def _digest(stage: Stage) -> str:
    return sha256(json.dumps(dict(stage.decided_by), sort_keys=True, default=str).encode()).hexdigest()[:16]


def settled(stages: Stages) -> Stages:
    """Return the stages of the update with the candidate that the search has chosen, where it has; else the same."""
    candidates = candidates_of(stages.plan)
    is_trained = stages.task is None or stages.task.finished
    if not candidates or not is_trained or not choosing(stages, candidates).finished:
        return stages
    return with_choice(stages, read_choice(stages))


def with_choice(stages: Stages, choice: Choice) -> Stages:
    """Return the stages of the update with what was chosen."""
    return Stages(stages.plan.with_values(choice.values), choice)


def read_choice(stages: Stages) -> Choice:
    """Read what a finished search has chosen."""
    path = stages.output_dir / CHOICE
    try:
        return Choice.read(path.read_text(encoding="utf-8"))
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ConfigurationError(
            f"{path} is damaged, so that it cannot be told what was chosen. Bring back what was there, or delete it: "
            "then the choice is made again from the candidates' answers."
        ) from error


def known_of_search(stages: Stages) -> Iterator[Stage]:
    """Give the stages of a search that can be told now, in the order in which they run.

    There are none without a search, after it (its candidates may be deleted then), or before there is a task adapter.
    A compatibility adapter that no search has chosen is another update's.
    """
    is_trained = stages.task is None or stages.task.finished
    if not stages.plan.options.grid or stages.choice is not None or not is_trained:
        return
    if any(each.startswith(BY_SEARCH) for each in stages.compatibility.differences()):
        yield stages.compatibility
    for contender in (OLD, NEW):
        yield stages.validation_answers(contender)
    for candidate in candidates_of(stages.plan):
        yield candidate.training
        if candidate.training.finished:
            yield candidate.answers
