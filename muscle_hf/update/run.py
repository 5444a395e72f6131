"""An update from its first stage to its last; what an earlier call finished is kept."""

import os
import platform
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from ..errors import ConfigurationError, DivergedError
from ..files import refuse_read_only
from ..interrupts import polite_interrupts, to_stderr
from ..locks import held_folder
from ..models.processes import entered_by_main, from_every_process, on_main_process, place
from ..text import printable
from ..training.checkpoints.kept import steps_done
from .answering import write_answers
from .candidates import Candidate, known_of_search, settled, with_choice
from .evidence import (
    ANSWERS,
    CARD,
    COMPARISON,
    COMPATIBILITY,
    CONTROL,
    NEW,
    OLD,
    REPORT,
    Contender,
    Evidence,
    learned_little,
    nothing_to_keep,
    plain_update,
    weigh,
    write_evidence,
)
from .plan import Plan
from .search import CHOICE, OPTIMISTIC, SEARCH, described
from .searching import search, take
from .stage import FOLDER, Stage
from .stages import EVIDENCE, TASK, Stages
from .training import (
    CACHE,
    clean,
    control_options,
    release_memory,
    train_compatibility_adapter,
    train_control,
    train_task_adapter,
)

Say = Callable[[str], None]
"""Takes a line for the terminal."""


def run_update(plan: Plan, say: Say) -> Evidence:
    """Run every stage that is not finished yet; a folder with another update, or with something else, is refused.

    Of several processes each does its part of the asking and training, and the main one writes.
    """
    stages = Stages(plan)
    lock = held_folder(stages.output_dir, "muscle-hf update", "choose another --output-dir")
    with entered_by_main(lock):
        return _run(stages, say)


def _run(stages: Stages, say: Say) -> Evidence:
    plan, folder = stages.plan, stages.output_dir
    on_main_process(partial(check_folder, stages))
    _refuse_other_machines(folder)
    steps = plan.steps(task=False)
    task = on_main_process(lambda: stages.task)
    if plan.config.old_endpoint is not None:
        # It may be gone when the task adapter is trained, and a refusal shall not come after hours.
        _ask(stages, OLD, say)
    if task is not None:
        _train(task, say, plan.steps(task=True), partial(train_task_adapter, plan))
    new_adapter = stages.adapter(NEW)
    # Before hours of training that may be for nothing.
    if plan.config.old_endpoint is None:
        _ask(stages, OLD, say)
    _ask(stages, NEW, say)
    on_main_process(partial(_warn, plan, folder, say))
    if plan.options.grid:
        stages = _search(stages, say)
        plan, steps = stages.plan, stages.plan.steps(task=False)
    else:
        compatibility = on_main_process(lambda: stages.compatibility)
        _train(compatibility, say, steps, partial(train_compatibility_adapter, plan, new_adapter=new_adapter))
    if plan.settings.control:
        options, control = on_main_process(lambda: (control_options(plan, folder), stages.control))
        steps = options.get("max_steps", steps)
        _make_way(stages, control, say)
        _train(control, say, steps, partial(train_control, plan, new_adapter=new_adapter, options=options))
    for contender in stages.contenders:
        if contender not in (OLD, NEW):
            _make_way(stages, on_main_process(partial(stages.answers, contender)), say)
            _ask(stages, contender, say)
    evidence = weigh(folder, control=plan.settings.control, search=stages.choice)
    on_main_process(partial(_write, stages, evidence))
    return evidence


def _search(stages: Stages, say: Say) -> Stages:
    """Search, and return the stages of the update with what was chosen, whose compatibility adapter is there."""

    def train(candidate: Candidate) -> None:
        plan, training = candidate.stages.plan, on_main_process(lambda: candidate.training)
        make = partial(train_compatibility_adapter, plan, new_adapter=stages.adapter(NEW))
        _train(training, say, plan.steps(task=False), make)

    def ask(of: Stages, contender: Contender) -> None:
        _ask(of, contender, say, validation=True)

    choice = search(stages, train, ask)
    on_main_process(lambda: say(f"{choice.sentence()}. {OPTIMISTIC}."))
    chosen = with_choice(stages, choice)
    compatibility = on_main_process(lambda: chosen.compatibility)
    _make_way(chosen, compatibility, say)
    _once(
        compatibility,
        say,
        f"that of {described(choice.values)}",
        lambda: on_main_process(partial(take, stages, choice)),
    )
    return chosen


def _make_way(stages: Stages, stage: Stage, say: Say) -> None:
    """Remove what was made of another choice of the search, such as one of fewer candidates, which all are kept."""

    def discard() -> None:
        if stage.started and stage.differences():
            say(f"{stage.title}: made anew, because the search has chosen another candidate than before")
            stage.discard()

    if stages.choice is not None:
        on_main_process(discard)


def _warn(plan: Plan, folder: Path, say: Say) -> None:
    update = plain_update(folder)
    if (warning := nothing_to_keep(update)) is not None:
        say(f"warning: {warning} {_STOPS}.")
    elif (warning := learned_little(update)) is not None:
        say(f"warning: {warning}. {_way_out(plan)}")


def _write(stages: Stages, evidence: Evidence) -> None:
    last = stages.evidence
    source = stages.output_dir / COMPATIBILITY.key
    made_from = {name: value for name, value in last.decided_by.items() if name != "named"}
    if last.begin():
        write_evidence(stages.plan, evidence, source, made_from)
        last.end()


def _refuse_other_machines(folder: Path) -> None:
    """Refuse processes that see another folder of that name than the main one, such as those of another machine."""

    def leave_sign() -> Path:
        sign = folder / f".processes-{os.getpid()}"
        folder.mkdir(parents=True, exist_ok=True)
        sign.touch()
        return sign

    if place()[1] == 1:
        return
    sign = on_main_process(leave_sign)
    blind = [machine for machine, sees in from_every_process(lambda: (platform.node(), sign.exists())) if not sees]
    on_main_process(sign.unlink)
    if blind:
        raise ConfigurationError(
            f"{folder} is another folder on {printable(blind[0])} than on the machine of the main process. Name one "
            "that all of them share with --output-dir."
        )


_STOPS = "Ctrl-C stops here, and what is finished is kept"


def _way_out(plan: Plan) -> str:
    if plan.settings.new_adapter is not None:
        return f"{_STOPS}; check that --new-adapter was trained for this task and this base."
    return (
        f"{_STOPS}; train longer or faster (--task-epochs, --task-learning-rate) into another --output-dir, or give a "
        "--new-adapter."
    )


def _ask(stages: Stages, contender: Contender, say: Say, *, validation: bool = False) -> None:
    plan, of = stages.plan, stages.validation_answers if validation else stages.answers
    stage, rows = on_main_process(partial(of, contender)), plan.data.validation if validation else plan.data.test
    old = contender is OLD
    ask = partial(write_answers, plan, stages.adapter(contender), stage.path, old=old, decided_by=stage.decided_by)
    _once(stage, say, f"asking {len(rows)} rows", partial(ask, questions=rows))


def _train(stage: Stage, say: Say, steps: int, train: Callable[..., None]) -> None:
    folder = stage.path.parent
    aside = on_main_process(partial(stage.make_room, but=CACHE))
    if aside is not None:
        on_main_process(lambda: say(f"{stage.title}: what has diverged with other settings is kept in {aside}"))
    done = on_main_process(partial(steps_done, folder))
    what = f"training, {steps} steps" + (f", going on from step {done[0]}" if done else "")
    try:
        _once(stage, say, what, partial(train, folder=folder))
    except DivergedError as error:
        on_main_process(stage.note_divergence)
        way_out = (
            "without a value of it in --search the other candidates go on."
            if stage.name.startswith(SEARCH)
            else "with another --learning-rate (--task-learning-rate for the task adapter) it begins this stage anew, "
            f"and moves what it finds in {folder.name} to {folder.name}.diverged."
        )
        raise DivergedError(
            f"{stage.title}: {error} Everything is kept. The same command goes on from a checkpoint, if there is one; "
            f"{way_out}"
        ) from error
    on_main_process(partial(clean, folder))


def _once(stage: Stage, say: Say, what: str, make: Callable[[], None]) -> None:
    on_main_process(lambda: say(f"{stage.title}: {'finished before' if stage.finished else what}"))
    try:
        with polite_interrupts(to_stderr if place()[0] == 0 else None):
            stage.once(make)
    except torch.OutOfMemoryError as error:
        raise ConfigurationError(
            f"{stage.title}: the GPU has too little memory ({printable(str(error))[:200]}). What is finished is kept, "
            "and the same command goes on with a lower --per-device-train-batch-size and as much more of "
            "--gradient-accumulation-steps, a lower --per-device-eval-batch-size or --ask-batch-size, or "
            "--loss-implementation chunked."
        ) from error
    release_memory()


def check_folder(stages: Stages) -> None:
    """Refuse a folder that holds something else, or another update, before any work is done."""
    folder = stages.output_dir
    if folder.exists() and not folder.is_dir():
        raise ConfigurationError(
            f"output_dir={str(folder)!r} is no folder; name one, or one that is still to be made."
        )
    if not (folder / FOLDER).is_dir():
        ours: tuple[str, ...] = (TASK, COMPATIBILITY.key, CONTROL.key, ANSWERS, CARD, COMPARISON, REPORT)
        ours += (SEARCH, CHOICE) if stages.plan.options.grid else ()
        foreign = [name for name in ours if (folder / name).exists()]
        if foreign:
            raise ConfigurationError(
                f"{folder} holds {foreign[0]}, which no update of this kind has made. Choose another --output-dir."
            )
    stages = settled(stages)
    known = [*stages.known(), *known_of_search(stages)]
    for stage in known:
        stage.claim()
    if not any(stage.name == EVIDENCE and stage.finished for stage in known):
        refuse_read_only(folder, "Make it writable, or choose another --output-dir.")
    names = {stage.name for stage in known}
    later = sorted(mark.stem for mark in (folder / FOLDER).glob("*.json") if mark.stem not in names)
    if stages.task is not None and not stages.task.finished and later:
        raise ConfigurationError(
            f"{folder} holds {later[0]}, but the task adapter that it was made from is gone. Choose another "
            "--output-dir, or delete that folder."
        )
