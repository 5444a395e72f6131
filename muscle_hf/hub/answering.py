"""Answer a file of questions with an adapter; what is answered is kept, so that an interruption loses nothing."""

import hashlib
import importlib.metadata
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from peft import PeftModel
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from ..adapters import base_model
from ..choice import choose_answers
from ..errors import InputError
from ..files import replaced
from ..prediction import generate_answers
from ..prompts import Prompt, as_texts, check_fit, encode, encode_choices
from ..report import printable
from ..teacher_cache.fingerprints import fingerprint_of_model, fingerprint_of_tokenizer
from .adapter_files import AdapterFiles, BaseFiles

# Batches between two savings.
_KEPT_AFTER = 4
_LIBRARIES = ("torch", "transformers", "peft")


@dataclass(frozen=True)
class Question:
    """A row to answer.

    Args:
        id: What rows of two models are joined by.
        place: Where it stands, for messages.
        prompt: A text or a conversation.
        reference: The right answer, None where it is not known.
        choices: The answers to choose from, None where the answer is generated.
        follows_prompt: Whether the reference stands as it would follow the prompt, white space included.
    """

    id: str | int
    place: str
    prompt: Prompt
    reference: str | None
    choices: tuple[str, ...] | None
    follows_prompt: bool


@dataclass(frozen=True)
class Asking:
    """How questions are asked; a field that the kind of question has no use for is None.

    Args:
        batch_size: As in `generate_answers` and `choose_answers`.
        max_new_tokens: As in `generate_answers`.
        normalization: As in `choose_answers`.
        delimiter: As in `choose_answers`.
    """

    batch_size: int
    max_new_tokens: int | None
    normalization: Literal["sum", "characters"] | None
    delimiter: str | None


class AnswersSoFar:
    """The answers so far, in a file beside the one that they are for: whose they are, then one a line."""

    def __init__(self, output: Path, settings: Mapping[str, Any]) -> None:
        """Open them.

        Args:
            output: The file that they are for.
            settings: What decides the answers.

        Raises:
            InputError: They are of another run.
        """
        self.path = output.with_name(f"{output.name}.part")
        self.answers: dict[int, tuple[str, bool]] = {}
        self._header = json.dumps({"decided_by": _digest(settings)}) + "\n"
        if not self.path.exists():
            return
        # What follows the last line break was cut off while it was written, and is asked again.
        whole, _, cut = self.path.read_bytes().rpartition(b"\n")
        header, *lines = whole.split(b"\n")
        try:
            if header.decode() + "\n" != self._header:
                raise ValueError("another run's")
            for line in lines:
                row, prediction, finished = json.loads(line)
                self.answers[int(row)] = (str(prediction), bool(finished))
        except ValueError:
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


def settings_of(
    files: AdapterFiles,
    base: BaseFiles,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    asking: Asking,
    dtype: str,
) -> dict[str, Any]:
    """Return everything that decides the answers.

    Args:
        files: The adapter.
        base: Its base.
        tokenizer: The tokenizer.
        questions: What is asked.
        asking: How; the batch size decides nothing.
        dtype: Type of the base's weights.
    """
    how = asdict(asking)
    del how["batch_size"]
    return {
        **fingerprint_of_model(base.name, files.folder, revision=base.commit),
        "tokenizer": fingerprint_of_tokenizer(tokenizer),
        "questions": [asdict(one) for one in questions],
        "asking": how,
        "dtype": dtype,
        "libraries": [importlib.metadata.version(name) for name in _LIBRARIES],
    }


def _digest(settings: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def answer(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    asking: Asking,
    kept: AnswersSoFar,
) -> None:
    """Ask what is not answered yet, the longest prompts first, and keep the answers every few batches.

    Args:
        model: The adapter on its base.
        tokenizer: Its tokenizer.
        questions: All questions.
        asking: How they are asked.
        kept: The answers so far; it has all of them afterwards.

    Raises:
        InputError: A prompt that does not fit into the model's context, or scores that are NaN.
    """
    with _places(questions):
        lengths = _lengths(model, tokenizer, questions, asking)
    order = sorted(set(range(len(questions))) - set(kept.answers), key=lambda index: -lengths[index])
    with tqdm(total=len(questions), initial=len(kept.answers), desc="answering") as bar:
        for indices in _blocks(order, _KEPT_AFTER * asking.batch_size):
            asked = [questions[index] for index in indices]
            with _places(asked):
                found = _answers(model, tokenizer, asked, asking)
            kept.add(dict(zip(indices, found, strict=True)))
            bar.update(len(indices))


@contextmanager
def _places(questions: Sequence[Question]) -> Iterator[None]:
    """Name the row of the file where a message numbers the prompts that were handed on."""
    try:
        yield
    except InputError as error:
        words = re.sub(r"\bprompt (\d+)", lambda found: f"the prompt of {questions[int(found[1])].place}", str(error))
        raise InputError(words) from error


def _blocks(order: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(order), size):
        yield order[start : start + size]


def _lengths(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, questions: Sequence[Question], asking: Asking
) -> list[int]:
    """Count the tokens of all prompts, and refuse what does not fit before the first is asked."""
    prompts = [one.prompt for one in questions]
    texts = as_texts(tokenizer, prompts)
    rows = encode(tokenizer, texts, prompts)
    if asking.max_new_tokens is not None:
        check_fit(base_model(model), ((index, row, int(asking.max_new_tokens or 0)) for index, row in enumerate(rows)))
    else:
        choices = [one.choices or () for one in questions]
        options = encode_choices(tokenizer, texts, prompts, choices, str(asking.delimiter))
        check_fit(
            base_model(model),
            ((index, one.context, len(one.targets)) for index, of_row in enumerate(options) for one in of_row),
        )
    return [len(row) for row in rows]


def _answers(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, questions: Sequence[Question], asking: Asking
) -> list[tuple[str, bool]]:
    prompts = [one.prompt for one in questions]
    shared: dict[str, Any] = {"batch_size": asking.batch_size, "show_progress": False}
    if asking.max_new_tokens is not None:
        found = generate_answers(model, tokenizer, prompts, max_new_tokens=asking.max_new_tokens, **shared)
        return [(text.strip(), bool(ended)) for text, ended in zip(found.texts, found.finished, strict=True)]
    choices = [one.choices or () for one in questions]
    chosen = choose_answers(
        model,
        tokenizer,
        prompts,
        choices,
        normalization=asking.normalization or "sum",
        delimiter=str(asking.delimiter),
        **shared,
    ).indices
    return [(of_row[index].strip(), True) for of_row, index in zip(choices, chosen.tolist(), strict=True)]


def write_answers(output: Path, questions: Sequence[Question], kept: AnswersSoFar, end: str) -> None:
    """Write the answers as `muscle-hf compare` reads them, in the order of the questions.

    Args:
        output: The file, of rows with `id`, `question`, `prediction` and, where there are some, `reference` and
            `choices`.
        questions: What was asked.
        kept: All answers.
        end: The tokenizer's end token, which some data have written out and no answer holds.
    """
    with replaced(output) as temporary, temporary.open("w", encoding="utf-8") as file:
        for index, one in enumerate(questions):
            prompt = (
                one.prompt
                if isinstance(one.prompt, str)
                else "\n".join(f"{message['role']}: {message['content']}" for message in one.prompt)
            )
            row: dict[str, Any] = {"id": one.id, "question": prompt.strip(), "prediction": kept.answers[index][0]}
            if one.reference is not None:
                row["reference"] = one.reference.strip().removesuffix(end).strip()
            if one.choices is not None:
                row["choices"] = [choice.strip() for choice in one.choices]
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
