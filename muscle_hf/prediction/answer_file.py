"""Answer a file of questions with an adapter; what is answered is kept, so that an interruption loses nothing."""

import importlib.metadata
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal

from jinja2 import TemplateError
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from ..errors import InputError
from ..hub.adapter_files import AdapterFiles
from ..hub.base_files import BaseFiles
from ..models.adapters import base_model
from ..models.fingerprints import fingerprint_of_model, fingerprint_of_tokenizer
from ..text import printable
from .choose import choose_answers
from .generate import generate_answers
from .kept_answers import AnswersSoFar
from .prompts import Prompt, as_texts, check_fit, encode, encode_choices
from .questions import conversation

# Batches of choices between two savings; a batch of generated answers takes longer, and is kept at once.
_KEPT_AFTER = 4
# A template is a program, which may fail in its own words or in Python's.
_TEMPLATE_ERRORS = (TemplateError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
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


def answer(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    asking: Asking,
    kept: AnswersSoFar,
    description: str = "answering",
) -> None:
    """Ask what is not answered yet, the longest prompts first, and keep the answers batch by batch.

    Args:
        model: The adapter on its base.
        tokenizer: Its tokenizer.
        questions: All questions.
        asking: How they are asked.
        kept: The answers so far; it has all of them afterwards.
        description: The words before the progress bar.

    Raises:
        InputError: A prompt that does not fit into the model's context, or scores that are NaN.
    """
    with _places(questions):
        lengths = _lengths(model, tokenizer, questions, asking)
    batches = _KEPT_AFTER if asking.max_new_tokens is None else 1

    def ask(indices: Sequence[int]) -> list[tuple[str, bool]]:
        asked = [questions[index] for index in indices]
        with _places(asked):
            return _answers(model, tokenizer, asked, asking)

    order = sorted(range(len(questions)), key=lambda index: -lengths[index])
    kept.complete(order, ask, batches * asking.batch_size, description)


@contextmanager
def _places(questions: Sequence[Question]) -> Iterator[None]:
    """Name the row of the file where a message numbers the prompts that were handed on."""
    try:
        yield
    except InputError as error:

        def place(found: re.Match[str]) -> str:
            # A text of the data, quoted in the message, may hold these words as well.
            is_row = int(found[1]) < len(questions)
            return f"the prompt of {questions[int(found[1])].place}" if is_row else found[0]

        raise InputError(re.sub(r"\bprompt (\d{1,9})\b", place, str(error))) from error


def _lengths(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, questions: Sequence[Question], asking: Asking
) -> list[int]:
    """Count the tokens of all prompts, and refuse what does not fit before the first is asked."""
    prompts = [one.prompt for one in questions]
    texts = [_text(tokenizer, index, prompt) for index, prompt in enumerate(prompts)]
    rows = encode(tokenizer, texts, prompts)
    if asking.max_new_tokens is not None:
        more = asking.max_new_tokens
        try:
            check_fit(base_model(model), ((index, row, more) for index, row in enumerate(rows)))
        except InputError as error:
            limit = getattr(base_model(model).config.get_text_config(), "max_position_embeddings", None)
            if limit is None or max(map(len, rows)) + more <= limit:
                raise
            raise InputError(f"{error} The longest answer is max_new_tokens, now {more}.") from error
    else:
        choices = [one.choices or () for one in questions]
        options = encode_choices(tokenizer, texts, prompts, choices, str(asking.delimiter))
        check_fit(
            base_model(model),
            ((index, one.context, len(one.targets)) for index, of_row in enumerate(options) for one in of_row),
        )
    return [len(row) for row in rows]


def _text(tokenizer: PreTrainedTokenizerBase, index: int, prompt: Prompt) -> str:
    try:
        return as_texts(tokenizer, [prompt])[0]
    except InputError as error:
        raise InputError(str(error).replace("prompt 0", f"prompt {index}", 1)) from error
    except _TEMPLATE_ERRORS as error:
        raise InputError(
            f"prompt {index} cannot be written by the tokenizer's chat template: "
            f"{printable(str(error))[:300] or type(error).__name__}. Change its messages, or give prompts as texts."
        ) from error


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


def without_end(text: str, end: str) -> str:
    """Return an answer without white space around it and without the end token, which some data have written out.

    Args:
        text: A reference, a choice or a prediction.
        end: The tokenizer's end token, empty where it has none.

    Example:
        >>> without_end(" no</s>", "</s>")
        'no'
        >>> without_end(" None", "")
        'None'
    """
    return text.strip().removesuffix(end).strip()


def end_of(tokenizer: PreTrainedTokenizerBase, questions: Sequence[Question]) -> str:
    """Return the tokenizer's end token, empty where it has none.

    Args:
        tokenizer: The tokenizer.
        questions: What is asked.

    Raises:
        InputError: Two choices of a question are the same without it.
    """
    end = str(tokenizer.eos_token or "")
    for one in questions:
        counts = Counter(without_end(choice, end) for choice in one.choices or ())
        same = next((choice for choice, count in counts.items() if count > 1), None)
        if same is not None:
            raise InputError(
                f"{one.place}: {printable(same)[:200]!r} is a choice twice, with and without the end token {end!r}; "
                "leave one out."
            )
    return end


def longest_reference(tokenizer: PreTrainedTokenizerBase, questions: Sequence[Question]) -> int:
    """Count the tokens of the longest reference, and the end token.

    Args:
        tokenizer: The tokenizer.
        questions: What is asked; each has a reference.
    """
    references = [one.reference or "" for one in questions]
    # A model may begin its answer with the space that this reference does not have.
    spaced = [f" {text}" for one, text in zip(questions, references, strict=True) if not one.follows_prompt]
    encoded = tokenizer([*references, *spaced], add_special_tokens=False, verbose=False)["input_ids"]
    return 1 + max(map(len, encoded))


def rows_of_answers(questions: Sequence[Question], kept: AnswersSoFar, end: str) -> Iterator[dict[str, Any]]:
    """Give the rows of a file of answers, as `muscle-hf compare` reads them; `end` (see [`end_of`]) is in none."""
    for index, question in enumerate(questions):
        prompt = question.prompt if isinstance(question.prompt, str) else conversation(question.prompt)
        prediction = without_end(kept.answers[index][0], end)
        row: dict[str, Any] = {"id": question.id, "question": prompt.strip(), "prediction": prediction}
        if question.reference is not None:
            row["reference"] = without_end(question.reference, end)
        if question.choices is not None:
            row["choices"] = [without_end(choice, end) for choice in question.choices]
        yield row
