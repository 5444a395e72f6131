"""Stages of an update on disk: what decides one is written when it starts, that it is finished last of all."""

import itertools
import json
import shutil
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError
from ..files import checksum_of_file, refuse_read_only, write_text
from ..models.processes import from_every_process, on_main_process

# Beside the weights of an adapter: a flipped bit there is another adapter, or reads other tokens.
_LOADED_WITH_WEIGHTS = (
    *("adapter_config.json", "config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    *("added_tokens.json", "chat_template.jinja", "vocab.json", "merges.txt", "tokenizer.model"),
)

FOLDER = "stages"
"""Where the marks lie, below the output folder."""


@dataclass(frozen=True)
class Stage:
    """One step of an update, and the mark that it leaves."""

    name: str  # of the stage and of its mark
    title: str  # for the terminal
    output_dir: Path  # of the whole update
    outputs: tuple[str, ...]  # what the stage makes, below that folder; without all of it no mark counts
    decided_by: Mapping[str, Any]  # name -> value of everything that decides the result, apart from the machine
    is_quick: bool = False  # made anew where anything differs; what takes long is refused then

    @property
    def path(self) -> Path:
        """The file that is made, the first of several."""
        return self.output_dir / self.outputs[0]

    @property
    def mark(self) -> Path:
        """The file with what decided the stage, and whether it is finished."""
        return self.output_dir / FOLDER / f"{self.name}.json"

    @property
    def finished(self) -> bool:
        """Whether an earlier call finished it, with these very settings."""
        mark = self._read()
        is_whole = all((self.output_dir / output).exists() for output in self.outputs)
        is_finished = mark is not None and bool(mark["finished"]) and not self.differences() and is_whole
        if is_finished and mark is not None:
            notes = mark.get("crc32", {})
            if self.is_quick:
                return all(self._is_as_written(name, note) for name, note in notes.items())
            self._refuse_damaged(notes)
        return is_finished

    @property
    def started(self) -> bool:
        """Whether an earlier call started it."""
        return self._read() is not None

    def differences(self) -> list[str]:
        """Name what decided an earlier call of this stage and is another now, with both values."""
        mark = self._read()
        if mark is None:
            return []
        there, mine = mark["decided_by"], _as_json(self.decided_by)
        missing = object()
        return [
            f"{name} {_shown(there.get(name))} there, {_shown(mine.get(name))} now"
            for name in sorted(there.keys() | mine.keys())
            if there.get(name, missing) != mine.get(name, missing)
        ]

    def claim(self) -> None:
        """Refuse to go on with what was made with other settings, unless it has diverged."""
        differences = self.differences()
        if differences and not self.is_quick and not self._has_diverged:
            raise ConfigurationError(
                f"{self.output_dir} holds another update: {self.title} was made with other settings "
                f"({'; '.join(differences)}). Choose another --output-dir, or delete that folder."
            )

    def once(self, make: Callable[[], None]) -> bool:
        """Make it, in all processes, unless an earlier call has, and say whether it was made now.

        The mark is written last, so what was killed counts as unfinished.
        """
        if not on_main_process(self.begin):
            return False
        from_every_process(make)
        on_main_process(self.end)
        return True

    def begin(self) -> bool:
        """Note that it is started, unless an earlier call has finished it, and say whether it is."""
        self.claim()
        if self.finished:
            return False
        refuse_read_only(self.mark.parent, "Make it writable, or choose another --output-dir.")
        self._write(finished=False)
        return True

    def end(self) -> None:
        """Note that it is finished."""
        self._write(finished=True)

    def note_divergence(self) -> None:
        """Note that what it trained has diverged, so that other settings may begin it anew."""
        self._write(finished=False, diverged=True)

    def discard(self) -> None:
        """Remove what it made, and what it had begun; nothing where it has no mark."""
        for output in map(self.output_dir.joinpath, self.outputs):
            if output.parent == self.output_dir / self.name:
                shutil.rmtree(output.parent, ignore_errors=True)
            for path in output.parent.glob(f"{output.name}*"):  # with answers that are kept until all are there
                path.unlink()
        self.mark.unlink(missing_ok=True)

    def make_room(self, *, but: str) -> Path | None:
        """Move what has diverged with other settings aside; return where it is, or None where nothing has.

        A folder in it that other settings may use as well stays.
        """
        if not (self._has_diverged and self.differences()):
            return None
        folder = self.path.parent
        numbers = itertools.count(2)
        aside = folder.with_name(f"{folder.name}.diverged")
        while aside.exists():
            aside = folder.with_name(f"{folder.name}.diverged-{next(numbers)}")
        aside.mkdir(parents=True)
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.name != but:
                path.replace(aside / path.name)
        self.mark.unlink()
        return aside

    @property
    def _has_diverged(self) -> bool:
        mark = self._read()
        return mark is not None and bool(mark.get("diverged"))

    def _noted(self) -> list[str]:
        """Name what counts as made: the outputs, and the files beside them where the stage has a folder of its name.

        Checkpoints and caches lie in folders of their own there, and go. Of what is made anew in a moment only an
        adapter counts: its card, and the report, may be changed by hand.
        """
        if self.is_quick:
            folders = [self.output_dir / output for output in self.outputs if (self.output_dir / output).is_dir()]
            inside = sorted(path for folder in folders for path in folder.iterdir())
            loaded = [path for path in inside if path.suffix == ".safetensors" or path.name in _LOADED_WITH_WEIGHTS]
            return [str(path.relative_to(self.output_dir)) for path in loaded]
        folder = self.path.parent
        beside = folder.iterdir() if folder == self.output_dir / self.name else ()
        files = (path for path in beside if path.is_file() and path.suffix != ".tmp" and path.name[0] != ".")
        return list(dict.fromkeys([*self.outputs, *sorted(str(path.relative_to(self.output_dir)) for path in files)]))

    def _is_as_written(self, name: str, note: Any) -> bool:
        path = self.output_dir / name
        return path.is_file() and list(_checksum(path, path.stat().st_size, path.stat().st_mtime_ns)) == note

    def _refuse_damaged(self, notes: Mapping[str, Any]) -> None:
        for name, note in notes.items():
            if self._is_as_written(name, note):
                continue
            path = self.output_dir / name
            is_there, is_output = path.is_file(), name in self.outputs
            is_needed = is_output or path.name in _LOADED_WITH_WEIGHTS
            if is_there or is_needed:
                way_out = (
                    f"Delete {'it' if is_output else self.path} to have {self.title} made again, or bring back what "
                    "was there."
                    if is_needed
                    else "No later stage reads it: delete it, or move it away if it was changed on purpose, and give "
                    "the same command again."
                )
                raise ConfigurationError(
                    f"{path} is not as this update has written it: it is {'damaged' if is_there else 'gone'}, or was "
                    f"changed since. {way_out}"
                )

    def _read(self) -> dict[str, Any] | None:
        try:
            mark = dict(json.loads(self.mark.read_text(encoding="utf-8")))
            checksum = mark.pop("checksum", None)  # which those of an earlier version lack
            parts = (mark["decided_by"], mark.get("crc32", {}))
            is_mark = all(isinstance(part, dict) for part in parts) and type(mark["finished"]) is bool
            if is_mark and checksum in (None, _checksum_of_mark(mark)):
                return mark
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError):
            pass
        if self.is_quick:
            return None
        raise ConfigurationError(
            f"{self.mark} is damaged, so that it cannot be told how {self.title} was made. Bring back what was there, "
            "or delete it to have that made again, or choose another --output-dir."
        )

    def _write(self, *, finished: bool, diverged: bool = False) -> None:
        self.mark.parent.mkdir(parents=True, exist_ok=True)
        mark = {
            "title": self.title,
            "outputs": self.outputs,
            "decided_by": _as_json(self.decided_by),
            "finished": finished,
            **({"diverged": True} if diverged else {}),
            "crc32": {name: checksum_of_file(self.output_dir / name) for name in (self._noted() if finished else ())},
        }
        text = json.dumps({**mark, "checksum": _checksum_of_mark(mark)}, indent=2, ensure_ascii=False)
        write_text(self.mark, text + "\n")


@cache
def _checksum(path: Path, size: int, date: int) -> tuple[int, int]:
    """Read a file once, as long as it seems to be the same."""
    return checksum_of_file(path)


def _checksum_of_mark(mark: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(mark, sort_keys=True).encode())


def _as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Give values as they come back from the file, so that both can be compared."""
    return dict(json.loads(json.dumps(dict(values), default=str)))


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


_LONGEST = 80
