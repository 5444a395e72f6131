"""Answers that are kept while a file of questions is asked, so that an interruption loses nothing."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import replaced
from ..report import printable

# What every file of them begins with.
_BEGINNING = b'{"decided_by": "'


class AnswersSoFar:
    """The answers so far, in a file beside the one that they are for: whose they are, then one a line."""

    def __init__(self, output: Path, settings: Mapping[str, Any]) -> None:
        """Open them.

        Args:
            output: The file that they are for.
            settings: What decides the answers, as `settings_of` gives it.

        Raises:
            InputError: They are of another run, or damaged.
        """
        self.path = output.with_name(f"{output.name}.part")
        self.answers: dict[int, tuple[str, bool]] = {}
        self._header = json.dumps({"decided_by": _digest(settings)}) + "\n"
        if not self.path.exists():
            return
        # What follows the last line break was cut off while it was written, and is asked again.
        whole, end, cut = self.path.read_bytes().rpartition(b"\n")
        if not end and _BEGINNING.startswith(cut[: len(_BEGINNING)]):
            # Stopped before there was an answer.
            self.path.unlink()
            return
        header, *lines = whole.split(b"\n")
        try:
            if header.decode() + "\n" != self._header:
                raise ValueError("another run's")
            for line in lines:
                row, prediction, finished = json.loads(line)
                if type(row) is not int or not 0 <= row < len(settings["questions"]):
                    raise ValueError("no row of the data")
                if not isinstance(prediction, str) or not isinstance(finished, bool):
                    raise TypeError("no answer")
                self.answers[row] = (prediction, finished)
        except (ValueError, TypeError, RecursionError):
            raise InputError(
                f"{printable(str(self.path))} holds answers of an interrupted run with another adapter, base, data or "
                "options, or is damaged. Give the same ones to go on, remove it to start anew, or name another output."
            ) from None
        if cut:
            with replaced(self.path) as temporary:
                temporary.write_bytes(whole + b"\n")

    def add(self, answers: Mapping[int, tuple[str, bool]]) -> None:
        """Keep some more.

        Args:
            answers: Number of the question -> the answer, and whether it came to its end.
        """
        self.answers |= answers
        with self.path.open("a", encoding="utf-8") as file:
            if not file.tell():
                file.write(self._header)
            file.writelines(json.dumps([row, *found]) + "\n" for row, found in answers.items())

    def remove(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)


def _digest(settings: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
