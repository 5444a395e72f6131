"""Answer a file of questions with an adapter; what is answered is kept, so that an interruption loses nothing."""

import importlib.metadata
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from transformers import PreTrainedTokenizerBase

from ..errors import ConfigurationError, InputError
from ..hub.adapter_files import AdapterFiles
from ..hub.base_files import BaseFiles
from ..models.fingerprints import fingerprint_of_model, fingerprint_of_tokenizer
from ..models.in_step import in_step
from ..text import conversation, printable
from .engines.in_process import TransformersEngine
from .engines.interface import Engine, Normalization
from .kept_answers import AnswersSoFar
from .questions import Question, delimiter_of

# Batches of choices between two savings; a batch of generated answers takes longer, and is kept at once.
_KEPT_AFTER = 4
_MAX_NEW_TOKENS = 256  # as `muscle-hf predict --help` says
_LIBRARIES = ("transformers", "peft")


@dataclass(frozen=True)
class Asking:
    """How questions are asked, as in `generate_answers` or `choose_answers`; what the kind has no use for is None."""

    max_new_tokens: int | None
    normalization: Normalization | None
    delimiter: str | None


def asking_of(
    questions: Sequence[Question],
    *,
    max_new_tokens: int | None,
    normalization: Normalization | None,
    delimiter: str | None,
) -> Asking:
    """Fill in how questions are asked, where it is not said; refuse what does nothing for questions of this kind."""
    has_choices = questions[0].choices is not None
    of_choices = {"normalization": normalization, "delimiter": delimiter}
    kind = "have choices, of which one is taken" if has_choices else "have no choices, so answers are generated"
    for name, value in ({"max_new_tokens": max_new_tokens} if has_choices else of_choices).items():
        if value is not None:
            raise ConfigurationError(f"--{name.replace('_', '-')} would do nothing: the rows {kind}. Leave it out.")
    if not has_choices:
        return Asking(max_new_tokens or _MAX_NEW_TOKENS, None, None)
    if delimiter is None:
        # What `muscle-hf update` takes: nothing in a chat, or what completions begin with and choices do not.
        is_bare = all(isinstance(question.prompt, str) and not question.follows_prompt for question in questions)
        delimiter = " " if is_bare else delimiter_of(questions)
    return Asking(None, normalization or "sum", delimiter)


def identity_of(
    files: AdapterFiles,
    base: BaseFiles,
    tokenizer: PreTrainedTokenizerBase,
    dtype: str,
    runs_in: str = "torch",
) -> dict[str, Any]:
    """Return what decides the answers of an adapter, beside what it is asked; it runs in torch or vllm."""
    return {
        **fingerprint_of_model(base.name, files.folder, revision=base.commit),
        "tokenizer": fingerprint_of_tokenizer(tokenizer),
        "dtype": dtype,
        "libraries": [importlib.metadata.version(name) for name in (runs_in, *_LIBRARIES)],
    }


def settings_of(identity: Mapping[str, Any], questions: Sequence[Question], asking: Asking) -> dict[str, Any]:
    """Return everything that decides the answers: whose they are, and what is asked in which way."""
    return {**identity, "questions": [asdict(question) for question in questions], "asking": asdict(asking)}


def answer(
    engine: Engine,
    questions: Sequence[Question],
    asking: Asking,
    kept: AnswersSoFar,
    description: str = "answering",
) -> None:
    """Ask what is not answered yet, the longest prompts first, and keep the answers batch by batch."""
    with _places(questions):
        lengths = _lengths(engine, questions, asking)
    batches = _KEPT_AFTER if asking.max_new_tokens is None else 1

    def ask(indices: Sequence[int]) -> list[tuple[str, bool, str]]:
        asked = [questions[index] for index in indices]
        with _places(asked):
            return _answers(engine, asked, asking)

    order = sorted(range(len(questions)), key=lambda index: -lengths[index])
    # A model of ours may be split over processes, which then ask it together.
    together = partial(in_step, engine.model) if isinstance(engine, TransformersEngine) else nullcontext
    kept.complete(order, ask, batches * engine.at_once, description, together=together)


@contextmanager
def _places(questions: Sequence[Question]) -> Iterator[None]:
    """Name the row of the file where a message numbers the prompts that were handed on."""
    try:
        yield
    except InputError as error:

        def place(match: re.Match[str]) -> str:
            # A text of the data, quoted in the message, may hold these words as well.
            is_row = int(match[1]) < len(questions)
            return f"the prompt of {questions[int(match[1])].place}" if is_row else match[0]

        raise InputError(re.sub(r"\bprompt (\d{1,9})\b", place, str(error))) from error


def _lengths(engine: Engine, questions: Sequence[Question], asking: Asking) -> list[int]:
    """Say how long all prompts are, and refuse what does not fit before the first is asked."""
    prompts = [question.prompt for question in questions]
    if asking.max_new_tokens is None:
        choices = [question.choices or () for question in questions]
        return engine.lengths(prompts, choices, delimiter=str(asking.delimiter))
    try:
        return engine.lengths(prompts, max_new_tokens=asking.max_new_tokens)
    except InputError as error:
        longest = f" The longest answer is max_new_tokens, now {asking.max_new_tokens}."
        raise InputError(f"{error}{longest if 'its answer may take' in str(error) else ''}") from error


def _answers(engine: Engine, questions: Sequence[Question], asking: Asking) -> list[tuple[str, bool, str]]:
    prompts = [question.prompt for question in questions]
    if asking.max_new_tokens is not None:
        answers = engine.generate(prompts, max_new_tokens=asking.max_new_tokens)
        ends = answers.ends or [""] * len(prompts)
        of_prompts = zip(answers.texts, answers.finished, ends, strict=True)
        return [(text.strip(), bool(ended), end) for text, ended, end in of_prompts]
    choices = [question.choices or () for question in questions]
    how: dict[str, Any] = {"normalization": asking.normalization or "sum", "delimiter": str(asking.delimiter)}
    chosen = engine.choose(prompts, choices, **how).indices
    return [(of_row[index].strip(), True, "") for of_row, index in zip(choices, chosen.tolist(), strict=True)]


def without_end(text: str, end: str) -> str:
    """Return an answer without white space around it and without the end token, which some data have written out.

    Example:
        >>> without_end(" no</s>", "</s>")
        'no'
        >>> without_end(" None", "")
        'None'
    """
    return text.strip().removesuffix(end).strip()


def end_of(tokenizer: PreTrainedTokenizerBase | None, questions: Sequence[Question]) -> str:
    """Return the tokenizer's end token, empty where it has none, or where nobody here knows the tokenizer.

    Two choices of a question that are the same without it are refused.
    """
    end = "" if tokenizer is None else str(tokenizer.eos_token or "")
    for question in questions:
        counts = Counter(without_end(choice, end) for choice in question.choices or ())
        same = next((choice for choice, count in counts.items() if count > 1), None)
        if same is not None:
            raise InputError(
                f"{question.place}: {printable(same)[:200]!r} is a choice twice, with and without the end token "
                f"{end!r}; leave one out."
            )
    return end


def longest_answer(tokenizer: PreTrainedTokenizerBase | None, questions: Sequence[Question]) -> int:
    """Count the tokens of the longest right answer, and the end token; each question has a right answer.

    Where nobody here knows the tokenizer, count bytes, as no token holds less, with one for a space.
    """
    texts = [question.answer or "" for question in questions]
    if tokenizer is None:
        return 2 + max(len(text.strip().encode()) for text in texts)
    # A model may begin its answer with the space that a mere reference does not have.
    texts += [f" {question.answer or ''}" for question in questions if not question.follows_prompt]
    return 1 + max(map(len, tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]))


def rows_of_answers(questions: Sequence[Question], kept: AnswersSoFar, end: str) -> Iterator[dict[str, Any]]:
    """Give the rows of a file of answers, as `muscle-hf compare` reads them; `end` (see [`end_of`]) is in none."""
    for index, question in enumerate(questions):
        prompt = question.prompt if isinstance(question.prompt, str) else conversation(question.prompt)
        prediction = without_end(kept.answers[index][0], end)
        row: dict[str, Any] = {"id": question.id, "question": prompt.strip(), "prediction": prediction}
        if question.answer is not None:
            row["reference"] = without_end(question.answer, end)
        if question.choices is not None:
            row["choices"] = [without_end(choice, end) for choice in question.choices]
        if kept.answers[index][2]:
            row["finish_reason"] = kept.answers[index][2]
        yield row


def how_they_ended(kept: AnswersSoFar) -> str | None:
    """Say how many answers an engine ended in another way than at their end or their greatest length, and in which."""
    counts = Counter(end for *_, end in kept.answers.values() if end)
    if not counts:
        return None
    named = ", ".join(f"{count:,} {printable(end)}" for end, count in counts.most_common())
    return (
        f"{counts.total():,} of {len(kept.answers):,} answers are no whole ones: {named}. What came of them is taken "
        "as it is, an empty text where nothing came; finish_reason names them in the file."
    )
