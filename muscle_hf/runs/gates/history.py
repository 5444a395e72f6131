"""The decisions of a project, one a line: what the last one said, and how flips and accuracy have moved since."""

import contextlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from ...errors import ConfigurationError, InputError
from ..cells import HistoryShown, Point
from .decision import SCHEMA, Decision
from .judgement import REFUSED

logger = logging.getLogger(__name__)

_NUMBERS = 10  # of a series in a line of text; the page draws all
_CHANGES = 6
_BEGINNING = json.dumps({"schema": SCHEMA})[:-1].encode()  # of each line


def record(path: str | Path, decision: Decision) -> HistoryShown:
    """Append a decision to a file, whatever other processes append to it meanwhile, and say what came before.

    The same answers held to the same bounds with the same verdict are one decision: where the file has it already,
    nothing is written, and the first line says so.

    Args:
        path: The file; made where it is not there.
        decision: The decision.

    Returns:
        What reports show of it.

    Raises:
        InputError: The file cannot be read or written, or a line holds no decision; nothing is written then.
        ConfigurationError: The system has no locks on files.
    """
    with _locked(Path(path)) as file:
        content = file.read()
        whole = _without_cut_line(content)
        if whole != content:
            logger.warning(f"{path} ended in a line that was cut off when its process was killed; it is left out.")
            file.truncate(len(whole))
            content = whole
        earlier = _decisions(content, path)
        for other in earlier:
            if (other.digest, other.verdict) == (decision.digest, decision.verdict):
                return _shown(decision, earlier, again=other)
        try:
            # An editor may have left out the end of the last line.
            _write(
                file, (b"\n" if content and not content.endswith(b"\n") else b"") + decision.to_json().encode() + b"\n"
            )
            os.fsync(file.fileno())
        except OSError:
            file.truncate(len(content))
            raise
    return _shown(decision, earlier)


def check_history(path: str | Path) -> None:
    """Refuse a file that [`record`] would refuse, before any work is done."""
    _decisions(_without_cut_line(_content(path)), path)


def _content(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror or error}); a file of --history is needed."
        ) from None


def _without_cut_line(content: bytes) -> bytes:
    """Leave out a last line that begins as all do and has no end: it was cut off when its process was killed."""
    last = content[content.rfind(b"\n") + 1 :]
    if not last.startswith(_BEGINNING) and not (last and _BEGINNING.startswith(last)):
        return content
    try:
        Decision.parse(last, "")
    except InputError:
        return content.removesuffix(last)
    return content  # an editor may have left out the end of the line


def _decisions(content: bytes, path: str | Path) -> tuple[Decision, ...]:
    lines = content.removesuffix(b"\n").split(b"\n") if content else []
    return tuple(Decision.parse(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1))


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[IO[bytes]]:
    """Open a file to read and append, while every other process that does so waits."""
    try:
        import fcntl
    except ImportError:
        raise ConfigurationError("--history needs a system with locks on files, such as Linux or macOS.") from None
    try:
        # Unbuffered, so that what could not be written is not tried again when the file is closed.
        with path.open("a+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            yield file
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror or error}); name another file.") from None


def _write(file: IO[bytes], content: bytes) -> None:
    while content:
        content = content[file.write(content) :]


def _shown(decision: Decision, earlier: Sequence[Decision], again: Decision | None = None) -> HistoryShown:
    decisions = [*earlier] if again else [*earlier, decision]
    series = {
        name: [
            other.rows[name]
            for other in decisions
            if name in other.rows and other.rows[name].is_score == point.is_score
        ]
        for name, point in decision.rows.items()
    }
    lines = []
    if again:
        lines.append(
            f"this decision stands in the history already, since {_day(again)}: the same answers, bounds and verdict; "
            "no second point is made of it"
        )
    if not earlier:
        return HistoryShown(["this is the first decision of the history"], series)
    last = earlier[-1]
    # Rows of tasks stand in the page; a line of text is for the whole, where there is one.
    named = ["all"] if "all" in decision.rows else list(decision.rows)
    rates = [f"{_of(name)}{_nfr(last.rows[name])}" for name in named if name in last.rows]
    since = [*decision.asked_since(last), *decision.came_since(last), *decision.versions_since(last)]
    more = f"; and {len(since) - _CHANGES} more" if len(since) > _CHANGES else ""
    lines.append(
        f"last time ({_day(last)}, {last.names[0]} -> {last.names[1]}): {last.verdict}, {', '.join(rates)}"
        f"; since then: {'; '.join(since[:_CHANGES]) or 'nothing has changed'}{more}"
    )
    for name in named:
        if len(series[name]) > 1:
            lines.append(f"{_of(name)}NFR through {len(series[name])} decisions: {_numbers(series[name])} %")
    return HistoryShown(lines, series, repeated=again is not None)


def _numbers(points: Sequence[Point]) -> str:
    shown = [
        point.negative_flip_rate.lines()[0] + (" (refused)" if point.verdict == REFUSED else "")
        for point in points[-_NUMBERS:]
    ]
    return ", ".join(["…"] * (len(points) > _NUMBERS) + shown)


def _nfr(point: Point) -> str:
    figure, *interval = point.negative_flip_rate.lines()
    return " ".join([f"NFR {figure} %", *interval])


def _of(name: str) -> str:
    return "" if name == "all" else f"{name}: "


def _day(decision: Decision) -> str:
    return decision.date[:10]
