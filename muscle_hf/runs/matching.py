"""The tasks of two runs, paired by name."""

from ..errors import InputError
from ..readers.answers import Run, TaskAnswers
from ..readers.not_compared import WithoutNumbers, lost


def match_tasks(
    old: Run, new: Run
) -> tuple[dict[str, tuple[TaskAnswers, TaskAnswers]], list[str], list[str], dict[str, str]]:
    """Pair the tasks; also give the notes, the tasks that the new run lacks, and why tasks are not compared."""
    # Where one side has numbers, they are lost on the other: `str` forgets that such a task may do without.
    not_compared = {name: str(reason) if name in new.tasks else reason for name, reason in old.not_compared.items()}
    for name in (name for name in new.not_compared if name in old.tasks):
        not_compared[name] = str(new.not_compared[name])
    for name in old.not_compared.keys() & new.not_compared.keys():
        if old.not_compared[name] != new.not_compared[name]:
            both = f"{old.not_compared[name].rstrip('.')}; {new.not_compared[name]}"
            is_lost = lost({"old": old.not_compared[name], "new": new.not_compared[name]})
            not_compared[name] = both if is_lost else WithoutNumbers(both)
    # What stands alone is what was meant, whatever it is called; what is left of several need not be one task.
    if len(old.tasks) == len(new.tasks) == 1 and not old.not_compared and not new.not_compared:
        before, after = *old.tasks.values(), *new.tasks.values()
        return {before.task if before.task == after.task else "all": (before, after)}, [], [], {}
    known = {*new.tasks, *new.not_compared}
    missing = [name for name in (*old.tasks, *old.not_compared) if name not in known]
    not_compared |= {name: f"{new.source} lacks it" for name in missing if name in old.tasks}
    common = [name for name in old.tasks if name in new.tasks]
    if not common and not (known & not_compared.keys()):
        raise InputError(
            f"{old.source} and {new.source} have no task in common: the first has {', '.join(old.tasks)}; the second "
            f"{', '.join(new.tasks)}."
        )
    # Nothing of the old model's is lost there.
    more = [name for name in (*new.tasks, *new.not_compared) if name not in {*old.tasks, *old.not_compared}]
    notes = [f"only in {new.source}, not compared: {', '.join(more)}"] if more else []
    return {name: (old.tasks[name], new.tasks[name]) for name in common}, notes, missing, not_compared
