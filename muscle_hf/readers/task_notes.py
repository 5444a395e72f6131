"""What a reader has to know of a task, in the same words for every program, and of many tasks at once."""

from collections.abc import Iterable, Mapping, Sequence

from ..text import listed, quote

_NAMED = 3


def choice_note(what: str, chosen: str, names: Iterable[str]) -> list[str]:
    """Say which of several was compared; nothing where there is no other.

    Args:
        what: "metric" or "filter"; the option of that name chooses another.
        chosen: What was compared.
        names: All that there are.

    Example:
        >>> choice_note("metric", "acc", ["acc", "acc_norm"])
        ["metric 'acc' compared (there is also 'acc_norm'; see --metric)"]
    """
    others = [quote(name) for name in names if name != chosen]
    return [f"{what} {quote(chosen)} compared (there is also {listed(others)}; see --{what})"] if others else []


def grouped(notes: Mapping[str, Sequence[str]]) -> list[str]:
    """Say once what holds of several tasks.

    Args:
        notes: Task -> its notes, each beginning with the task's name and a colon; others stay as they are.

    Example:
        >>> grouped({"arc": ["arc: cut"], "piqa": ["piqa: cut", "piqa: old"]})
        ['2 tasks (arc, piqa): cut', 'piqa: old']
    """
    tasks: dict[str, list[str]] = {}
    for task, said in notes.items():
        for note in dict.fromkeys(said):
            is_own = note.startswith(f"{task}: ")
            tasks.setdefault(note.removeprefix(f"{task}: "), []).extend([task] if is_own else [])
    return [_line(note, named) for note, named in tasks.items()]


def _line(note: str, tasks: Sequence[str]) -> str:
    if len(tasks) < 2:
        return "".join(f"{task}: " for task in tasks) + note
    more = ", …" if len(tasks) > _NAMED else ""
    return f"{len(tasks)} tasks ({', '.join(tasks[:_NAMED])}{more}): {note}"
