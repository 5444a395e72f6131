"""What a reader has to know of a task, in the same words for every program, and of many tasks at once."""

from collections.abc import Iterable, Mapping, Sequence

from ..text import listed, quote

_NAMED = 3


def choice_note(what: str, chosen: str, names: Iterable[str]) -> list[str]:
    """Say which of several was compared, a "metric" or a "filter"; nothing where there is no other."""
    others = [quote(name) for name in names if name != chosen]
    return [f"{what} {quote(chosen)} compared (there is also {listed(others)}; see --{what})"] if others else []


def grouped(notes: Mapping[str, Sequence[str]]) -> list[str]:
    """Say once what holds of several tasks: notes that begin with a task's name; others stay as they are."""
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
