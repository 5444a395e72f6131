"""Answers of a model, kept on disk batch by batch: a run that was killed asks only for what is missing.

They are lines of a file. The last one, cut off when a process was killed, is recognised by its missing end and asked
again; a damaged line anywhere else is refused.
"""

import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError, InputError
from ..files import replaced
from ..progress import progress_bar
from ..readers.formats.jsonlines import read_objects
from ..text import one_line
from .generate import Answers
from .prompts import Prompt

logger = logging.getLogger(__name__)

Ask = Callable[[Sequence[Prompt]], Answers]

# What every file of `AnswersSoFar` begins with.
_BEGINNING = b'{"decided_by": "'


def part_of(output: Path) -> Path:
    """Return where the answers for a file are kept until all are there.

    Args:
        output: The file.
    """
    return output.with_name(f"{output.name}.part")


def count_kept(path: Path) -> int:
    """Count whole answers on disk.

    Args:
        path: A file of [`AnswersSoFar`], or a folder of [`KeptAnswers`]; it need not exist.
    """
    if path.is_file():
        return max(path.read_bytes().count(b"\n") - 1, 0)  # the first line says whose they are
    return sum(file.read_bytes().count(b"\n") for file in path.glob("*/*.jsonl"))


class AnswersSoFar:
    """The answers so far to a list of questions, in a file beside the one that they are for.

    Its first line says whose they are; each other one holds the number of a question and the parts of its answer.

    Args:
        output: The file that they are for.
        settings: What decides the answers, as JSON holds it, with the `questions` themselves.
        kinds: Types of the parts of an answer: by default its text, and whether it came to its end.
        replaces_others: Start anew where the file holds another run's answers, in place of refusing it.

    Raises:
        InputError: They are of another run, or damaged.
    """

    def __init__(
        self,
        output: Path,
        settings: Mapping[str, Any],
        *,
        kinds: tuple[type, ...] = (str, bool),
        replaces_others: bool = False,
    ) -> None:
        """Read what is there."""
        self.path = part_of(output)
        self.answers: dict[int, tuple[Any, ...]] = {}
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

    def add(self, answers: Mapping[int, tuple[Any, ...]]) -> None:
        """Keep some more.

        Args:
            answers: Number of the question -> the parts of its answer.
        """
        lines = [json.dumps([row, *parts]) for row, parts in answers.items()]
        is_new = not self.path.exists() or not self.path.stat().st_size
        _append(self.path, [self._header, *lines] if is_new else lines)
        self.answers |= answers

    def complete(
        self,
        order: Sequence[int],
        ask: Callable[[Sequence[int]], Sequence[tuple[Any, ...]]],
        at_once: int,
        description: str,
        *,
        show_progress: bool = True,
    ) -> None:
        """Ask what is not answered yet, and keep the answers batch by batch.

        Args:
            order: Numbers of the questions to be answered, in the order in which they are asked.
            ask: Numbers of some questions -> their answers.
            at_once: How many are asked, and so lost at most.
            description: The words before the progress bar.
            show_progress: Show it on stderr.
        """
        left = [number for number in order if number not in self.answers]
        kept = len(order) - len(left)
        with progress_bar(len(order), description, initial=kept, unit="answer", disable=not show_progress) as bar:
            for start in range(0, len(left), at_once):
                asked = left[start : start + at_once]
                self.add(dict(zip(asked, ask(asked), strict=True)))
                bar.update(len(asked))

    def remove(self) -> None:
        """Remove the file."""
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


class KeptAnswers:
    """The answers of one model on disk, by prompt: a folder for each fingerprint, with a file of a line a prompt.

    Args:
        folder: Where the folders of all fingerprints lie.
        role: "old" or "new".
        fingerprint: What decides an answer besides the prompt; what it says of the other model does not count.
    """

    def __init__(self, folder: Path, role: str, fingerprint: Mapping[str, Any]) -> None:
        """Name the folder; nothing is read yet."""
        other = {"old": "new", "new": "old"}[role]
        self.role = role
        self.decided_by = {name: value for name, value in fingerprint.items() if name != other}
        self.folder = folder / f"{role}-{_digest(self.decided_by)[:16]}"

    def of(
        self, prompts: Sequence[Prompt], ask: Ask | None, block_size: int, *, show_progress: bool
    ) -> list[dict[str, Any]]:
        """Return the answer to each prompt, asking for those that are not kept.

        Args:
            prompts: Texts or conversations.
            ask: Prompts -> their `Answers`; None where the model is not at hand.
            block_size: Prompts that are asked before their answers are kept.
            show_progress: Show a progress bar on stderr.

        Raises:
            ConfigurationError: An answer is missing, and the model is not at hand.
            InputError: A prompt that the model cannot read; a damaged file.
        """
        keys = [prompt_key(prompt) for prompt in prompts]
        kept = self._read()
        numbers: dict[str, int] = {}  # of a missing prompt's first row
        for number, key in enumerate(keys):
            if key not in kept:
                numbers.setdefault(key, number)
        if not numbers:
            return [kept[key] for key in keys]
        if ask is None:
            raise ConfigurationError(
                f"{len(numbers)} prompts of unlabelled_dataset need an answer of the {self.role} model, which is not "
                f"at hand, and {self.folder} does not hold it."
            )
        self._say_what_is_asked(len(numbers), len(kept))
        # The longest first, so that a lack of memory or a prompt that does not fit shows at once.
        missing = sorted(numbers, key=lambda key: -len(key))
        description = f"Answers of the {self.role} model"
        done = len(set(keys)) - len(missing)
        with progress_bar(len(set(keys)), description, initial=done, unit="answer", disable=not show_progress) as bar:
            for start in range(0, len(missing), block_size):
                block = missing[start : start + block_size]
                rows = [numbers[key] for key in block]
                answers = dict(zip(block, _asked(ask, [prompts[row] for row in rows], rows), strict=True))
                self._write(answers)
                kept |= answers
                bar.update(len(block))
        return [kept[key] for key in keys]

    def _say_what_is_asked(self, missing: int, kept: int) -> None:
        logger.info(f"{missing} prompts are asked of the {self.role} model; {kept} answers were kept.")
        if self.folder.exists():
            return
        for path in sorted(self.folder.parent.glob(f"{self.role}-*/decided_by.json")):
            try:
                there = dict(json.loads(path.read_text(encoding="utf-8")))
            except ValueError:
                continue
            names = sorted({*there, *self.decided_by})
            differing = [name for name in names if there.get(name) != self.decided_by.get(name)]
            words = ", ".join(
                f"{name} {there.get(name)!r} there, {self.decided_by.get(name)!r} now" for name in differing
            )
            logger.warning(f"{path.parent} holds answers that are not used, and the prompts are asked again: {words}.")

    def _read(self) -> dict[str, dict[str, Any]]:
        kept = {}
        for path in sorted(self.folder.glob("*.jsonl")):
            _drop_cut_line(path)
            for line, _, _, row in read_objects(path, "a kept answer", each_once=False):
                kinds = {"completion": str, "log_likelihood": float, "tokens": int, "finished": bool}
                if "prompt" not in row or any(type(row.get(name)) is not kind for name, kind in kinds.items()):
                    raise InputError(
                        f"{path}, line {line}: this is no kept answer. Delete the file to ask its prompts again."
                    )
                kept[prompt_key(row.pop("prompt"))] = row
        return kept

    def _write(self, answers: Mapping[str, dict[str, Any]]) -> None:
        decided_by = self.folder / "decided_by.json"
        if not decided_by.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            with replaced(decided_by) as temporary:
                temporary.write_text(json.dumps(self.decided_by, indent=2) + "\n", encoding="utf-8")
        rows = [{"prompt": json.loads(key)} | answer for key, answer in answers.items()]
        _append(self.folder / "answers.jsonl", [json.dumps(row, ensure_ascii=False) for row in rows])


def _asked(ask: Ask, prompts: Sequence[Prompt], rows: Sequence[int]) -> list[dict[str, Any]]:
    try:
        answers = ask(prompts)
    except InputError as error:
        # It numbers the prompts of the block; the user knows the rows of the data set.
        words = re.sub(r"\bprompt (\d+)", lambda found: f"row {rows[int(found[1])]}", str(error))
        longest = " The longest answer is unlabelled_max_new_tokens." if "may take" in words else ""
        raise InputError(f"unlabelled_dataset: {words}{longest}") from error
    return [
        {"completion": text, "log_likelihood": float(total), "tokens": int(tokens), "finished": bool(finished)}
        for text, total, tokens, finished in zip(
            answers.texts, answers.log_likelihoods, answers.token_counts, answers.finished, strict=True
        )
    ]


def prompt_key(prompt: Any) -> str:
    """Give a prompt as a text that equal prompts share; `datasets` fills up fields that a message lacks with None.

    Args:
        prompt: A text, or a list of chat messages.
    """
    if not isinstance(prompt, str):
        prompt = [{name: value for name, value in one.items() if value is not None} for one in prompt]
    return json.dumps(prompt, ensure_ascii=False, sort_keys=True)
