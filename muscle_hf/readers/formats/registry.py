"""The formats of other programs: each is one file beside this one and one line in `FORMATS`.

A format's file parses what its program writes and yields a `Record` for each answer; `answers_of` makes columns of
these. In the order of work:

1. `recognises(head)` looks at `head.layout`, `head.keys`, `head.first` or `head.document` for what no other program
   writes, and never at the name of the file alone.
2. `read(head, task, metric=…, slices=…)` gives a `TaskAnswers` for each task in the file, made by `answers_of`.
   A field that is not there or of another kind may simply raise KeyError, TypeError, … : `read_as` says then that the
   file is not what the program writes.
   A file that holds the answers of several models is refused with the list, until `head.where` chooses one of them;
   `choices` are the names that it may have.
3. `files` are the names by which a folder of runs is searched; `about(head)` says which task, model and date a file
   is of, so that a folder with several runs gives the newest of each task, and one with several models is refused.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ...errors import InputError
from ...text import listed, one_line
from ..answers import TaskAnswers
from .evalplus import EVALPLUS
from .evalscope import EVALSCOPE
from .format import Format, Unread
from .harness_write_out import HARNESS_WRITE_OUT
from .head import Head
from .helm import HELM
from .human_eval import HUMAN_EVAL
from .inspect_ai import INSPECT_AI
from .inspect_frame import INSPECT_FRAME
from .openai_evals import OPENAI_EVALS
from .opencompass import OPENCOMPASS
from .promptfoo import PROMPTFOO

# One line for each, in alphabetical order.
FORMATS: tuple[Format, ...] = (
    EVALPLUS,
    EVALSCOPE,
    HARNESS_WRITE_OUT,
    HELM,
    HUMAN_EVAL,
    INSPECT_AI,
    INSPECT_FRAME,
    OPENAI_EVALS,
    OPENCOMPASS,
    PROMPTFOO,
)


def recognise(head: Head) -> Format | None:
    """Give the format of a file, None where it is of none here; one that two formats take for theirs is refused."""
    found = [form for form in FORMATS if is_of(form, head)]
    if len(found) > 1:
        raise InputError(
            f"{head.path} can be read as {' or as '.join(f'{form.holds} of {form.program}' for form in found)}, and "
            "nothing says which it is; write a table with id, prediction and reference (or score) instead."
        )
    return found[0] if found else None


def is_of(form: Format, head: Head) -> bool:
    """Tell whether a file is of a format; what cannot be read is of none."""
    try:
        return form.recognises(head)
    except InputError:
        return False


def read_as(
    form: Format,
    head: Head,
    task: str,
    *,
    metric: str | None,
    slices: Sequence[str],
    normalize: str | Sequence[str] | None = None,
) -> tuple[dict[str, TaskAnswers], dict[str, str]]:
    """Read a file of a known format, task by task; also give the tasks that cannot be read as asked, with reasons."""
    if unknown := [name for name in head.where if name not in form.choices]:
        known = f"it knows {listed(f'@{name}=' for name in form.choices)}" if form.choices else "leave it out"
        raise InputError(
            f"{head.path} holds {form.holds} of {form.program}, where @{unknown[0]}= chooses nothing; {known}."
        )
    compared: dict[str, Any] = {"normalize": normalize} if form.normalizes else {}
    try:
        answers = form.read(head, task, metric=metric, slices=slices, **compared)
    except InputError:
        raise
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        raise InputError(
            f"{head.path} is not {form.holds} as {form.program} writes it ({type(error).__name__}: {one_line(error)})."
        ) from None
    tasks: dict[str, TaskAnswers] = {}
    unread: dict[str, str] = {}
    for item in answers:
        if item.task in tasks or item.task in unread:
            raise InputError(f"{head.path} holds the task {item.task} more than once.")
        if isinstance(item, Unread):
            unread[item.task] = item.reason
        else:
            tasks[item.task] = item if item.files else replace(item, files=(str(head.path),))
    if not tasks:
        raise InputError(f"{head.path} holds no answers, though it is {form.holds} of {form.program}.")
    return tasks, unread


def known() -> str:
    """List the programs whose files can be read."""
    programs = dict.fromkeys(form.program for form in FORMATS)
    return listed(["lm-evaluation-harness", "lighteval", *programs])
