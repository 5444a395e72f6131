"""A search as it runs: every candidate is trained and asked the validation rows, and one of them goes on."""

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from ..files import write_text
from ..flips.rates import strict_json
from ..models.processes import on_main_process
from ..training.checkpoints.kept_work import UNLABELLED_ANSWERS
from .candidates import Candidate, candidates_of, choosing, read_choice
from .evidence import COMPATIBILITY, NEW, OLD, Contender, compared
from .search import SEARCH, Choice, Figures
from .stages import Stages
from .training import CACHE


def search(stages: Stages, train: Callable[[Candidate], None], ask: Callable[[Stages, Contender], None]) -> Choice:
    """Train and ask what is not finished yet, and choose, once for all processes; `ask` asks the validation rows."""
    candidates = candidates_of(stages.plan)
    stage = on_main_process(lambda: choosing(stages, candidates))
    if on_main_process(lambda: stage.finished):
        return on_main_process(lambda: read_choice(stages))
    for contender in (OLD, NEW):
        ask(stages, contender)
    folders = [stages.output_dir / candidate.contender.key for candidate in candidates]
    for candidate, folder in zip(candidates, folders, strict=True):
        on_main_process(partial(hand_on, folders, folder))
        train(candidate)
        ask(candidate.stages, candidate.contender)

    def choose() -> Choice:
        plain = _figures(stages, NEW)
        figures = [(each.values, _figures(stages, each.contender)) for each in candidates]
        choice = Choice.of(len(stages.plan.data.validation), plain, figures)
        stage.begin()
        write_text(stage.path, strict_json(choice.as_dict(), indent=2) + "\n")
        stage.end()
        shutil.rmtree(stages.output_dir / SEARCH / CACHE, ignore_errors=True)
        return choice

    return on_main_process(choose)


def _figures(stages: Stages, contender: Contender) -> Figures:
    old, new = (stages.validation_answers(each).path for each in (OLD, contender))
    return Figures.of(compared(old, new))


def hand_on(folders: Sequence[Path], folder: Path) -> None:
    """Let a candidate begin with the answers to unlabelled prompts that another one has asked for."""
    target = folder / UNLABELLED_ANSWERS
    # The last one has those of all before it.
    source = next((path for each in reversed(folders) if (path := each / UNLABELLED_ANSWERS).is_dir()), None)
    if source is None or target.exists():
        return
    temporary = target.with_name(f"{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(source, temporary)
    temporary.replace(target)


def take(stages: Stages, choice: Choice) -> None:
    """Copy the adapter of the chosen candidate to where that of an update lies."""
    chosen = candidates_of(stages.plan)[choice.chosen]
    folder = stages.output_dir / COMPATIBILITY.key
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(stages.output_dir / chosen.contender.key, folder)
