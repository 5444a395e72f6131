"""Answers of a model, kept on disk batch by batch: a run that was killed asks only for what is missing.

They are lines of a file. The last one, cut off when a process was killed, is recognised by its missing end and asked
again; a damaged line anywhere else is refused. A fingerprint says what decided the answers, so that those of another
model, of other questions or options are never mixed in.
"""

import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from ..errors import InputError
from ..files import replaced, write_text
from ..progress import progress_bar
from ..readers.formats.jsonlines import read_objects
from ..text import one_line
from .generate import Answers
from .prompts import Prompt

logger = logging.getLogger(__name__)

Ask = Callable[[Sequence[Prompt]], Answers]
Key = TypeVar("Key", int, str)
Answer = TypeVar("Answer")

# What every file of `AnswersSoFar` begins with.
_BEGINNING = b'{"decided_by": "'
_PARTS = {"completion": str, "log_likelihood": float, "tokens": int, "finished": bool}


def part_of(output: Path) -> Path:
    """Return where the answers for a file are kept until all are there."""
    return output.with_name(f"{output.name}.part")


def count_kept(path: Path) -> int:
    """Count whole answers in a file of [`AnswersSoFar`], or a folder of [`AnswersByPrompt`]; it need not exist."""
    if path.is_file():
        return max(path.read_bytes().count(b"\n") - 1, 0)  # the first line says whose they are
    return sum(file.read_bytes().count(b"\n") for file in path.glob("*/*.jsonl"))


class _KeptAnswers(Generic[Key, Answer]):
    """The answers so far by their questions, in a file; subclasses say what its lines are."""

    path: Path
    answers: dict[Key, Answer]

    def _beginning(self) -> list[str]:
        """Give the lines that come before the first answer."""
        raise NotImplementedError

    def _line(self, key: Key, answer: Answer) -> Any:
        """Give what is written of an answer, as JSON holds it."""
        raise NotImplementedError

    def add(self, answers: Mapping[Key, Answer]) -> None:
        """Keep some more."""
        is_new = not self.path.exists() or not self.path.stat().st_size
        lines = self._beginning() if is_new else []
        lines += [json.dumps(self._line(key, answer), ensure_ascii=False) for key, answer in answers.items()]
        _append(self.path, lines)
        self.answers |= answers

    def complete(
        self,
        order: Sequence[Key],
        ask: Callable[[Sequence[Key]], Sequence[Answer]],
        at_once: int,
        description: str,
        *,
        show_progress: bool = True,
    ) -> None:
        """Ask what is not answered yet, in this order, and keep the answers after each batch of `at_once`."""
        left = [key for key in order if key not in self.answers]
        kept = len(order) - len(left)
        with progress_bar(len(order), description, initial=kept, unit="answer", disable=not show_progress) as bar:
            for start in range(0, len(left), at_once):
                asked = left[start : start + at_once]
                self.add(dict(zip(asked, ask(asked), strict=True)))
                bar.update(len(asked))


class AnswersSoFar(_KeptAnswers[int, tuple[Any, ...]]):
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
        self.output, self.path, self.answers = output, part_of(output), {}
        self._header = json.dumps({"decided_by": _digest(settings)})
        if not self.path.exists():
            return
        _drop_cut_line(self.path, _BEGINNING)
        content = self.path.read_bytes()
        if not content:
            self.path.unlink()
            return
        try:
            header, *lines = content.removesuffix(b"\n").split(b"\n")
            if header.decode() != self._header:
                if replaces_others and header.startswith(_BEGINNING):
                    self.path.unlink()
                    return
                raise ValueError("another run's")
            for line in lines:
                row, *parts = json.loads(line)
                if type(row) is not int or not 0 <= row < len(settings["questions"]):
                    raise ValueError("no row of the data")
                if [type(part) for part in parts] != list(kinds):
                    raise TypeError("no answer")
                self.answers[row] = tuple(parts)
        except (ValueError, TypeError, RecursionError):
            raise InputError(
                f"{one_line(self.path)} holds answers of an interrupted run with another adapter, base, data or "
                "options, or is damaged. Give the same ones to go on, remove it to start anew, or name another output."
            ) from None

    def _beginning(self) -> list[str]:
        return [self._header]

    def _line(self, key: int, answer: tuple[Any, ...]) -> list[Any]:
        return [key, *answer]

    def finish(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write the file that the answers are for, and remove theirs."""
        with replaced(self.output) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        self.path.unlink(missing_ok=True)


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


def _drop_cut_line(path: Path, beginning: bytes = b"") -> None:
    """Take away what follows the last line break, cut off while it was written; a file of something else is kept."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content) and (whole or beginning.startswith(content[: len(beginning)])):
        os.truncate(path, whole)


def _digest(settings: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()


def finished_answers(path: Path, asked: Mapping[str, str], count: int) -> tuple[list[str] | None, str]:
    """Read so many predictions of a file whose rows say in `asked` what decided them, or say what is the matter."""
    if not path.exists():
        return None, "does not exist"
    answers: list[str] = []
    try:
        for number, (_, _, _, row) in enumerate(read_objects(path, "answers of a model")):
            there = json.loads(str(row.get("asked", "{}")))
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
    return answers, ""


class AnswersByPrompt(_KeptAnswers[str, dict[str, Any]]):
    """The answers of one model by [`prompt_key`]: a folder for each fingerprint, with a file of a line a prompt.

    The fingerprint is what decides an answer besides the prompt; what it says of the other model than `role`, "old" or
    "new", does not count.
    """

    def __init__(self, folder: Path, role: str, fingerprint: Mapping[str, Any]) -> None:
        """Read what is there."""
        other = {"old": "new", "new": "old"}[role]
        self.role, self.answers = role, {}
        self.decided_by = {name: value for name, value in fingerprint.items() if name != other}
        self.path = folder / f"{role}-{_digest(self.decided_by)[:16]}" / "answers.jsonl"
        if not self.path.exists():
            return
        _drop_cut_line(self.path)
        for line, _, _, row in read_objects(self.path, "a kept answer", each_once=False):
            if "prompt" not in row or any(type(row.get(name)) is not kind for name, kind in _PARTS.items()):
                raise InputError(
                    f"{self.path}, line {line}: this is no kept answer. Delete the file to ask its prompts again."
                )
            self.answers[prompt_key(row.pop("prompt"))] = row

    def of(self, prompts: Sequence[Prompt], ask: Ask, block_size: int, *, show_progress: bool) -> list[dict[str, Any]]:
        """Return the answer to each prompt, asking for those that are not kept, so many before they are kept."""
        keys = [prompt_key(prompt) for prompt in prompts]
        rows = {key: row for row, key in reversed(list(enumerate(keys)))}  # a prompt's first row
        missing = sum(key not in self.answers for key in rows)
        if missing:
            self._say_what_is_asked(missing)
            self.complete(
                # The longest first, so that a lack of memory or a prompt that does not fit shows at once.
                sorted(dict.fromkeys(keys), key=lambda key: -len(key)),
                lambda some: _asked(ask, [prompts[rows[key]] for key in some], [rows[key] for key in some]),
                block_size,
                f"Answers of the {self.role} model",
                show_progress=show_progress,
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
        write_text(self.path.with_name("decided_by.json"), json.dumps(self.decided_by, indent=2) + "\n")
        return []

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
