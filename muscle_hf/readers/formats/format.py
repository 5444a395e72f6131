"""What a format of another program is, and which run its files are of; those that are known stand in `registry`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from ..answers import TaskAnswers
from .head import Head
from .opening import without_ending


class Unread(NamedTuple):
    """A task of a file that cannot be read as asked, where others of the file can."""

    task: str
    reason: str


class Reads(Protocol):
    """Reads a file that its format has recognised."""

    def __call__(
        self, head: Head, task: str, *, metric: str | None, slices: Sequence[str]
    ) -> Sequence[TaskAnswers | Unread]:
        """Give the answers of each task in the file.

        Args:
            head: The file.
            task: What its only task is called where the file does not say it.
            metric: The score to compare; None for the first.
            slices: Fields to slice by.
        """
        ...


@dataclass(frozen=True)
class About:
    """Which run a file is of, as far as it or its place says it."""

    task: str
    model: str = ""
    date: str = ""
    """Sortable as a text; what `--run` is compared with."""


def by_name(head: Head) -> About:
    """Take the name of the file for the task."""
    return About(task_name(head.path))


def task_name(path: Path) -> str:
    """Give the name of a file without its ending."""
    return without_ending(path).stem


@dataclass(frozen=True)
class Format:
    """What a program writes, and how it is read."""

    program: str
    """Its name in messages, such as "inspect_ai"."""
    holds: str
    """What a file holds, in a word or two: "a log", "reviews"."""
    recognises: Callable[[Head], bool]
    """Whether a file is of this format, without reading all of it where that can be told from its beginning."""
    read: Reads
    files: tuple[str, ...] = ()
    """Patterns of the names by which a folder is searched, such as "*.eval"."""
    about: Callable[[Head], About] = by_name
    beside: Callable[[Head], bool] = lambda head: False
    """Whether a file is only read by its name, since of a folder other files of the same run say as much or more."""
    normalizes: bool = False
    """Whether answers are compared here, so that `read` takes `normalize`; otherwise the program has scored them."""
    choices: tuple[str, ...] = ()
    """What can be chosen of a file that holds the answers of several, by `path@name=value` (`head.where`)."""
