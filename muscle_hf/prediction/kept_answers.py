"""Answers of a model, kept on disk batch by batch: a run that was killed asks only for what is missing.

They are lines of a file. The last one, cut off when a process was killed, is recognised by its missing end and asked
again; a damaged line anywhere else is refused. A fingerprint says what decided the answers, so that those of another
model, of other questions or options are never mixed in.
"""

import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import replaced, write_text
from ..models.processes import on_main_process, place
from ..readers.formats.jsonlines import read_objects
from ..text import one_line
from .generate import Answers
from .prompts import Prompt
from .shared_answers import SharedAnswers, drop_cut_line, parts_of, with_checksum

logger = logging.getLogger(__name__)

Ask = Callable[[Sequence[Prompt]], Answers]

# What every file of `AnswersSoFar` begins with.
_BEGINNING = b'{"decided_by": "'
_FILE = "answers.jsonl"
_CHECKSUM = "checksum"
_PARTS = {"completion": str, "log_likelihood": float, "tokens": int, "finished": bool}


def part_of(output: Path) -> Path:
    """Return where the answers for a file are kept until all are there."""
    return output.with_name(f"{output.name}.part")


def count_kept(path: Path) -> int:
    """Count whole answers in a file of [`AnswersSoFar`], or a folder of [`AnswersByPrompt`]; it need not exist."""
    if path.is_dir():
        return sum(file.read_bytes().count(b"\n") for file in path.glob(f"*/{_FILE}*"))
    files = [file for file in (path, *parts_of(path)) if file.is_file()]
    # The first line says whose they are.
    return sum(max(file.read_bytes().count(b"\n") - 1, 0) for file in files)


class AnswersSoFar(SharedAnswers[int, tuple[Any, ...]]):
    """The answers so far to a list of questions, in a file beside the one that they are for.

    Its first line says whose they are; each other one holds the number of a question and the parts of its answer.

    `settings` are what decides the answers, as JSON holds it, with the `questions` themselves; `kinds` the types of
    the parts of an answer, by default its text, whether it came to its end, and `Answers.ends`. Another run's
    answers are refused, or, with `replaces_others`, replaced.
    """

    def __init__(
        self,
        output: Path,
        settings: Mapping[str, Any],
        *,
        kinds: tuple[type, ...] = (str, bool, str),
        replaces_others: bool = False,
    ) -> None:
        """Read what is there."""
        self.output, self.path = output, part_of(output)
        self._header = json.dumps({"decided_by": _digest(settings)})
        self._count, self._kinds, self._replaces_others = len(settings["questions"]), list(kinds), replaces_others
        self.take_up()

    def _read(self, path: Path) -> dict[int, tuple[Any, ...]]:
        answers: dict[int, tuple[Any, ...]] = {}
        self.was_cut_off |= drop_cut_line(path, _BEGINNING)
        content = path.read_bytes()
        if not content:
            path.unlink()
            return answers
        try:
            header, *lines = content.removesuffix(b"\n").split(b"\n")
            if header.decode() != self._header:
                if self._replaces_others and header.startswith(_BEGINNING):
                    path.unlink()
                    return answers
                raise ValueError("another run's")
            for line in lines:
                row, *parts = json.loads(line)
                if type(row) is not int or not 0 <= row < self._count:
                    raise ValueError("no row of the data")
                answer = parts[: len(self._kinds)]
                if [type(part) for part in answer] != self._kinds:
                    raise TypeError("no answer")
                # Those of an earlier version have no checksum.
                if len(parts) > len(answer) and [row, *parts] != with_checksum([row, *answer]):
                    raise ValueError("other letters than were written")
                answers[row] = tuple(answer)
            return answers
        except (ValueError, TypeError, RecursionError):
            raise InputError(
                f"{one_line(path)} holds answers of an interrupted run with another adapter, base, data or "
                "options, or is damaged. Give the same ones to go on, remove it to start anew, or name another output."
            ) from None

    def _beginning(self) -> list[str]:
        return [self._header]

    def _line(self, key: int, answer: tuple[Any, ...]) -> list[Any]:
        return [key, *answer]

    def finish(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write the file that the answers are for, and remove theirs; the main process does it for all."""
        on_main_process(lambda: self._finish(rows))

    def _finish(self, rows: Iterable[Mapping[str, Any]]) -> None:
        with replaced(self.output) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        self.path.unlink(missing_ok=True)


def _digest(settings: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()


def finished_answers(path: Path, asked: Mapping[str, str], count: int) -> tuple[list[str] | None, str]:
    """Read so many predictions of a file whose rows say in `asked` what decided them, or say what is the matter."""
    if not path.exists():
        return None, "does not exist"
    answers: list[str] = []
    checksum = None
    try:
        for number, (_, _, _, row) in enumerate(read_objects(path, "answers of a model")):
            there = json.loads(str(row.get("asked", "{}")))
            checksum = there.get(_CHECKSUM)
            changed = [name for name in asked if there.get(name) != asked[name]]
            if changed:
                return None, f"holds answers with another fingerprint ({', '.join(changed)})"
            if row.get("id") != number or not isinstance(row.get("prediction"), str):
                return None, f"is damaged at its line {number + 1}"
            answers.append(row["prediction"])
    except (InputError, ValueError, AttributeError) as fault:
        return None, f"cannot be used ({fault})"
    if len(answers) != count:
        return None, f"holds {len(answers)} answers to {count} questions"
    if checksum not in (None, checksum_of(answers)[_CHECKSUM]):
        return None, "is damaged (other answers than were written)"
    return answers, ""


def checksum_of(answers: Sequence[str]) -> dict[str, str]:
    """Give a checksum of answers, under the name that [`finished_answers`] looks for in `asked`."""
    return {_CHECKSUM: hashlib.sha256(json.dumps(list(answers)).encode()).hexdigest()[:16]}


class AnswersByPrompt(SharedAnswers[str, dict[str, Any]]):
    """The answers of one model by [`prompt_key`]: a folder for each fingerprint, with a file of a line a prompt.

    The fingerprint is what decides an answer besides the prompt; what it says of the other model than `role`, "old" or
    "new", does not count.
    """

    def __init__(self, folder: Path, role: str, fingerprint: Mapping[str, Any]) -> None:
        """Read what is there."""
        other = {"old": "new", "new": "old"}[role]
        self.role = role
        self.decided_by = {name: value for name, value in fingerprint.items() if name != other}
        self.path = folder / f"{role}-{_digest(self.decided_by)[:16]}" / _FILE
        self.take_up()
        on_main_process(self._say_what_decided)

    def _read(self, path: Path) -> dict[str, dict[str, Any]]:
        answers: dict[str, dict[str, Any]] = {}
        self.was_cut_off |= drop_cut_line(path)
        for line, _, _, row in read_objects(path, "a kept answer", each_once=False):
            crc = row.pop("crc32", None)
            is_answer = "prompt" in row and all(type(row.get(name)) is kind for name, kind in _PARTS.items())
            if not is_answer or crc not in (None, with_checksum(row)["crc32"]):
                raise InputError(
                    f"{path}, line {line}: this is no kept answer, or it is damaged. Delete the file to ask its "
                    "prompts again."
                )
            answers[prompt_key(row.pop("prompt"))] = row
        return answers

    def of(
        self,
        prompts: Sequence[Prompt],
        rows: Sequence[int],
        ask: Ask,
        block_size: int,
        *,
        show_progress: bool,
        together: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> list[dict[str, Any]]:
        """Return the answers to these rows of prompts, asking for what is not kept, so many before they are kept."""
        keys = [prompt_key(prompts[row]) for row in rows]
        first = {key: row for row, key in reversed(list(zip(rows, keys, strict=True)))}  # a prompt's first row
        missing = sum(key not in self.answers for key in first)
        if missing:
            if place()[0] == 0:
                self._say_what_is_asked(missing)
            self.complete(
                # The longest first, so that a lack of memory or a prompt that does not fit shows at once.
                sorted(dict.fromkeys(keys), key=lambda key: -len(key)),
                lambda some: _asked(ask, [prompts[first[key]] for key in some], [first[key] for key in some]),
                block_size,
                f"Answers of the {self.role} model",
                show_progress=show_progress,
                together=together,
            )
        return [self.answers[key] for key in keys]

    def _say_what_is_asked(self, missing: int) -> None:
        logger.info(f"{missing} prompts are asked of the {self.role} model; {len(self.answers)} answers were kept.")
        if self.path.parent.exists():
            return
        for path in sorted(self.path.parent.parent.glob(f"{self.role}-*/decided_by.json")):
            try:
                there = dict(json.loads(path.read_text(encoding="utf-8")))
            except ValueError:
                continue
            names = sorted({*there, *self.decided_by})
            changes = ", ".join(
                f"{name} {there.get(name)!r} there, {self.decided_by.get(name)!r} now"
                for name in names
                if there.get(name) != self.decided_by.get(name)
            )
            logger.warning(
                f"{path.parent} holds answers that are not used, and the prompts are asked again: {changes}."
            )

    def _beginning(self) -> list[str]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._say_what_decided()
        return []

    def _say_what_decided(self) -> None:
        """Write it beside the answers, also where what is there is damaged: the folder's name is its digest."""
        path, text = self.path.with_name("decided_by.json"), json.dumps(self.decided_by, indent=2) + "\n"
        if self.path.parent.is_dir() and not (path.is_file() and path.read_bytes() == text.encode()):
            write_text(path, text)

    def _line(self, key: str, answer: dict[str, Any]) -> dict[str, Any]:
        return {"prompt": json.loads(key)} | answer


def _asked(ask: Ask, prompts: Sequence[Prompt], rows: Sequence[int]) -> list[dict[str, Any]]:
    try:
        answers = ask(prompts)
    except InputError as error:
        # It numbers the prompts of the block; the user knows the rows of the data set.
        text = re.sub(r"\bprompt (\d+)", lambda match: f"row {rows[int(match[1])]}", str(error))
        longest = " The longest answer is unlabelled_max_new_tokens." if "may take" in text else ""
        raise InputError(f"unlabelled_dataset: {text}{longest}") from error
    of_prompts = zip(answers.texts, answers.log_likelihoods, answers.token_counts, answers.finished, strict=True)
    return [
        dict(zip(_PARTS, (text, float(total), int(tokens), bool(finished)), strict=True))
        for text, total, tokens, finished in of_prompts
    ]


def prompt_key(prompt: Any) -> str:
    """Give a prompt as a text that equal prompts share; `datasets` fills up fields that a message lacks with None."""
    if not isinstance(prompt, str):
        prompt = [{name: value for name, value in message.items() if value is not None} for message in prompt]
    return json.dumps(prompt, ensure_ascii=False, sort_keys=True)
