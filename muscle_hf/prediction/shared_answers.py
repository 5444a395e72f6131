"""Answers of a model, kept in a file batch by batch and shared by several processes, of which each asks its part.

They are lines of a file. The last one, cut off when a process was killed, is recognised by its missing end and asked
again. Each process but the main one writes to a file of its own beside it; what lies there is put into the one file
when all have answered, and when a later run begins: it may have another number of processes, or one.
"""

import json
import os
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Generic, TypeVar

from ..models.processes import from_every_process, on_main_process, place
from ..progress import progress_bar

Key = TypeVar("Key", int, str)
Answer = TypeVar("Answer")


class SharedAnswers(Generic[Key, Answer]):
    """The answers so far by their questions, the same in every process; subclasses say what the lines are."""

    path: Path
    answers: dict[Key, Answer]
    was_cut_off = False  # while a batch was written

    def _read(self, path: Path) -> dict[Key, Answer]:
        """Read a file of them, which is there."""
        raise NotImplementedError

    def _beginning(self) -> list[str]:
        """Give the lines that come before the first answer."""
        raise NotImplementedError

    def _line(self, key: Key, answer: Answer) -> Any:
        """Give what is written of an answer, as JSON holds it."""
        raise NotImplementedError

    def take_up(self) -> None:
        """Take what earlier runs have kept, whatever the number of their processes."""
        self.answers = on_main_process(self._gathered)

    def _gathered(self) -> dict[Key, Answer]:
        answers = self._read(self.path) if self.path.exists() else {}
        for part in sorted(parts_of(self.path)):
            more = {key: answer for key, answer in self._read(part).items() if key not in answers}
            if more:
                self._write(self.path, more)
            answers |= more
            part.unlink(missing_ok=True)  # reading it may have removed what is of no use
        return answers

    def add(self, answers: Mapping[Key, Answer]) -> None:
        """Keep some more of this process's answers."""
        self._write(_part(self.path, place()[0]), answers)
        self.answers |= answers

    def _write(self, path: Path, answers: Mapping[Key, Answer]) -> None:
        is_new = not path.exists() or not path.stat().st_size
        lines = self._beginning() if is_new else []
        lines += [_as_json(with_checksum(self._line(key, answer))) for key, answer in answers.items()]
        _append(path, lines)

    def complete(
        self,
        order: Sequence[Key],
        ask: Callable[[Sequence[Key]], Sequence[Answer]],
        at_once: int,
        description: str,
        *,
        show_progress: bool = True,
        together: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        """Ask what is not answered yet, in this order, and keep the answers after each batch of `at_once`.

        Every process asks its share, and all have all answers afterwards. `together` gives a context for the asking.
        A batch that was cut off while it was written is asked as a whole: in another one a figure may be rounded
        otherwise.
        """
        rank, processes = place()
        left = [key for key in order if key not in self.answers]
        if not left:
            return
        done = len(order) - len(left)
        if self.was_cut_off and processes == 1 and left == list(order[done:]):
            left = list(order[done - done % at_once :])
        mine, own = left[rank::processes], _part(self.path, rank)
        kept = len(order) - len(left) if processes == 1 else 0
        share = description if processes == 1 else f"{description}, share 1 of {processes}"

        def ask_mine() -> dict[Key, Answer]:
            if rank:
                own.unlink(missing_ok=True)  # of an earlier run that the main process does not see
            bar = progress_bar(
                kept + len(mine), share, initial=kept, unit="answer", disable=rank > 0 or not show_progress
            )
            with together(), bar:
                for start in range(0, len(mine), at_once):
                    asked = mine[start : start + at_once]
                    answers = dict(zip(asked, ask(asked), strict=True))
                    self.add({key: answer for key, answer in answers.items() if key not in self.answers})
                    bar.update(len(asked))
            return {key: self.answers[key] for key in mine}

        shares = from_every_process(ask_mine)
        for of_process in shares:
            self.answers |= of_process
        if processes > 1:
            of_others = {key: answer for of_process in shares[1:] for key, answer in of_process.items()}
            on_main_process(lambda: self._write(self.path, of_others))
            if rank:
                own.unlink(missing_ok=True)


def with_checksum(line: Any) -> Any:
    """Give a line, a list or an object, with the CRC-32 of what is in it, so that a bit that turned is noticed."""
    crc = zlib.crc32(_as_json(line).encode())
    return {**line, "crc32": crc} if isinstance(line, dict) else [*line, crc]


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def parts_of(path: Path) -> list[Path]:
    """Find what processes other than the main one have kept beside a file."""
    return [part for part in path.parent.glob(f"{path.name}.*") if part.suffix.removeprefix(".").isdigit()]


def _part(path: Path, rank: int) -> Path:
    return path.with_name(f"{path.name}.{rank}") if rank else path


def _append(path: Path, lines: Iterable[str]) -> None:
    """Put whole lines at the end of a file, or none where they cannot be written."""
    with path.open("ab") as file:
        start = file.tell()
        is_written = False
        try:
            file.write("".join(f"{line}\n" for line in lines).encode())
            file.flush()
            is_written = True
            os.fsync(file.fileno())
        except BaseException as failure:
            # Ctrl-C while the disk takes its time leaves whole lines.
            if not is_written or isinstance(failure, OSError):
                os.truncate(path, start)
            raise


def drop_cut_line(path: Path, beginning: bytes = b"") -> bool:
    """Take away what follows the last line break, cut off while it was written, and say whether there was something.

    A file of something else is kept.
    """
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    is_cut = whole < len(content) and bool(whole or beginning.startswith(content[: len(beginning)]))
    if is_cut:
        os.truncate(path, whole)
    return is_cut
