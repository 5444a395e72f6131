"""Flips in a validation set: the old model, the new model and the student in training answer it, and are compared.

The old and the new model do not change, so they are asked once and their answers are kept on disk. The student is
asked at every evaluation. What is logged are the rates of MUSCLE (arXiv 2407.09435, sections 3.1 and 3.2) between the
old model and the student, and between the old and the new model, which is the plain update.
"""

import json
import logging
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from ..errors import InputError
from ..files import replaced, write_text
from ..flips.comparison import Comparison, compare
from ..flips.eval_metrics import flip_metrics
from ..flips.rates import strict_json
from ..models.adapters import base_model
from ..models.compiled import as_written
from ..models.in_step import in_step
from ..models.processes import from_every_process, on_main_process, place
from ..prediction.choose import choose_answers
from ..prediction.flips_dataset import Questions
from ..prediction.generate import generate_answers
from ..prediction.kept_answers import AnswersSoFar, checksum_of, finished_answers, part_of
from ..prediction.prompts import as_texts, check_fit, check_numbers, encode, encode_choices
from ..prediction.shared_answers import parts_of
from ..readers.answers import digest

logger = logging.getLogger(__name__)

# Of choices, which are read and not generated, several batches are asked before their answers are kept.
_BATCHES_OF_CHOICES = 4


@dataclass(frozen=True)
class Answerer:
    """A model that is asked once."""

    fingerprint: str  # what its answers depend on: its weights and the precision
    model: Callable[[], AbstractContextManager[Any]]  # gives a context in which the model is ready
    tokenizer: PreTrainedTokenizerBase | None = None  # where that is not the student's


@dataclass(frozen=True)
class _Reading:
    """The questions as a tokenizer gives them to a model."""

    tokenizer: PreTrainedTokenizerBase
    texts: list[str]
    hardest: list[tuple[int, tuple[int, ...], int]]
    """A row's number, its tokens, how many follow: if a model can read these rows, it can read all."""
    fingerprint: str


class FlipsEvaluation:
    """Asks the old model, the new model and the student the same questions, and counts the flips.

    With several processes (DDP) each asks its share of the rows, and every row gets one answer. The folder holds
    `old.jsonl`, `new.jsonl`, `student.jsonl` (the student's latest answers) and `best.jsonl` (those of the best
    checkpoint), all for `muscle-hf compare`.

    The tokenizer is the student's, and the others', unless they bring their own; `autocast` gives the context in which
    models are asked, by default in their own precision. `may_end` says that prompts may be closed by an end token, as
    what an encoder reads is.
    """

    def __init__(
        self,
        questions: Questions,
        tokenizer: PreTrainedTokenizerBase,
        *,
        old: Answerer,
        new: Answerer,
        folder: str | Path,
        max_new_tokens: int = 64,
        batch_size: int = 8,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
        show_progress: bool = False,
        may_end: bool = False,
    ) -> None:
        """Read the rows, and check everything that can be checked without a model."""
        check_numbers(None, max_new_tokens=max_new_tokens, batch_size=batch_size)
        self.questions, self.folder = questions, Path(folder)
        self.autocast, self.show_progress = autocast, show_progress
        self.max_new_tokens, self.batch_size, self._may_end = max_new_tokens, batch_size, may_end
        self.answerers = {"old": old, "new": new}
        self.answers: dict[str, list[str]] = {}
        self._has_warned = False
        self._readings = {"student": self._read("student", tokenizer)}
        for role, answerer in self.answerers.items():
            own = answerer.tokenizer
            self._readings[role] = self._readings["student"] if own is None else self._read(role, own)

    def __len__(self) -> int:
        """Say how many questions there are."""
        return len(self.questions)

    def measure(self, student: Any, *, prefix: str = "eval") -> dict[str, float]:
        """Ask the student, and the old and the new model where their answers are not known yet, and count the flips.

        The student is the model in training, not wrapped by DDP, and left as it was. The figures are those of
        [`flip_metrics`], the same in every process.
        """
        self.ask_old_and_new()
        self.answers["student"] = self.ask(student)

        def compare_and_keep() -> dict[str, float]:
            self._keep("student", self.answers["student"])
            figures = flip_metrics(**self.answers, references=self.questions.references, prefix=prefix)
            if not figures[f"{prefix}_old_accuracy"] and not self._has_warned:
                self._has_warned = True
                logger.warning(
                    f"The old model is right on none of the {len(self)} rows of flips_dataset, so there is nothing to "
                    "break, and every negative flip rate is 0. Are its prompts and right answers as it was trained, "
                    f"and is its longest answer ({self.max_new_tokens} tokens) long enough? It said, for instance, "
                    f"{self.answers['old'][0][:80]!r} where {self.questions.references[0][:80]!r} is right."
                )
            return figures

        return on_main_process(compare_and_keep)

    def keep_best(self) -> None:
        """Keep the student's latest answers as those of the best checkpoint."""

        def copy() -> None:
            with replaced(self.folder / "best.jsonl") as temporary:
                shutil.copyfile(self.folder / "student.jsonl", temporary)

        on_main_process(copy)

    def ask_old_and_new(self) -> None:
        """Take the kept answers of the old and the new model, and ask the one that has none; done once."""
        for role, answerer in self.answerers.items():
            if role in self.answers:
                continue
            key = self._key(role, answerer)
            path = self.folder / f"{role}.jsonl"
            answers, fault = on_main_process(partial(finished_answers, path, key, len(self)))
            if answers is None:
                if path.exists() and place()[0] == 0:
                    logger.warning(f"{path} {fault}, so the {role} model is asked again.")
                with answerer.model() as model:
                    answers = self.ask(model, role, key)
                on_main_process(partial(self._keep, role, answers, key))
            self.answers[role] = answers

    def ask(self, model: Any, role: str = "student", key: Mapping[str, str] | None = None) -> list[str]:
        """Ask a model every question once, each process its share; every process gets all answers.

        They are generated answers without white space around them, or chosen choices, in the order of the rows. With a
        key of what decides them they are kept batch by batch, and a run that was killed goes on from there.
        """
        # In every process, so that all of them stop.
        self._refuse_what_does_not_fit(model, role)
        if key is not None:
            return self._asked_and_kept(model, role, key)
        rank, processes = place()
        mine = range(len(self))[rank::processes]
        shown = self.show_progress and rank == 0

        def share() -> dict[int, str]:
            with in_step(model):
                return dict(zip(mine, self._ask(model, mine, role, show_progress=shown), strict=True)) if mine else {}

        answers = {row: text for of_process in from_every_process(share) for row, text in of_process.items()}
        return [answers[row] for row in range(len(self))]

    def _asked_and_kept(self, model: Any, role: str, key: Mapping[str, str]) -> list[str]:
        output = self.folder / f"{role}.jsonl"
        output.parent.mkdir(parents=True, exist_ok=True)
        kept = AnswersSoFar(output, {**key, "questions": range(len(self))}, kinds=(str,), replaces_others=True)
        kept.complete(
            # Batches of what is about as long.
            sorted(range(len(self)), key=lambda row: -len(self._readings[role].texts[row])),
            lambda rows: [(text,) for text in self._ask(model, rows, role, show_progress=False)],
            self.batch_size * (1 if self.questions.choices is None else _BATCHES_OF_CHOICES),
            f"Asking the {role} model",
            show_progress=self.show_progress,
            together=partial(in_step, model),
        )
        return [kept.answers[row][0] for row in range(len(self))]

    def _refuse_what_does_not_fit(self, model: Any, role: str) -> None:
        try:
            check_fit(base_model(model), iter(self._readings[role].hardest))
        except InputError as error:
            longest = f" The longest answer is flips_max_new_tokens, now {self.max_new_tokens}."
            text = re.sub(r"\bprompt (\d+)", r"row \1", str(error))
            raise InputError(
                f"flips_dataset: {text}{longest if self.questions.choices is None and 'may take' in text else ''}"
            ) from error

    def _ask(self, model: Any, rows: Sequence[int], role: str, *, show_progress: bool) -> list[str]:
        tokenizer, prompts = self._readings[role].tokenizer, [self.questions.prompts[row] for row in rows]
        description = "Asking the student" if role == "student" else f"Asking the {role} model"
        shown: dict[str, Any] = {"show_progress": show_progress, "description": description}
        shown["batch_size"] = self.batch_size
        with self.autocast(), as_written():
            if self.questions.choices is None:
                generated = generate_answers(model, tokenizer, prompts, max_new_tokens=self.max_new_tokens, **shown)
                return [text.strip() for text in generated.texts]
            choices = [self.questions.choices[row] for row in rows]
            chosen = choose_answers(model, tokenizer, prompts, choices, delimiter="", **shown)
            return [texts[index] for texts, index in zip(choices, chosen.indices.tolist(), strict=True)]

    def _read(self, role: str, tokenizer: PreTrainedTokenizerBase) -> _Reading:
        prompts, choices = self.questions.prompts, self.questions.choices
        texts = as_texts(tokenizer, prompts)
        if choices is None:
            self._warn_of_long_references(role, tokenizer)
            rows = encode(tokenizer, texts, prompts, may_end=self._may_end)
            reads = [(number, tuple(tokens), self.max_new_tokens) for number, tokens in enumerate(rows)]
            empty = [number for number, tokens in enumerate(rows) if not tokens]
        else:
            questions = encode_choices(tokenizer, texts, prompts, choices, "")
            reads = [(number, option.tokens, 1) for number, options in enumerate(questions) for option in options]
            empty = [number for number, options in enumerate(questions) if not options[0].context]
        if empty:
            raise InputError(
                f"Row {empty[0]} of the flips data set: the prompt has no tokens, and a model cannot start from "
                "nothing. Leave the row out, or use a tokenizer that adds a token for the beginning of the text."
            )
        longest = max(reads, key=lambda read: len(read[1]) + read[2])
        largest = max(reads, key=lambda read: max(read[1]))
        return _Reading(tokenizer, texts, [longest, largest], digest(reads))

    def comparisons(self, roles: Iterable[str]) -> dict[str, Comparison]:
        """Compare the last answers of these models with the old one's."""
        references = self.questions.references
        return {
            role: compare(old=self.answers["old"], new=self.answers[role], references=references) for role in roles
        }

    def _warn_of_long_references(self, role: str, tokenizer: PreTrainedTokenizerBase) -> None:
        encoded = tokenizer(self.questions.references, add_special_tokens=False, verbose=False)["input_ids"]
        lengths = [len(tokens) for tokens in encoded]
        longer = sum(length > self.max_new_tokens for length in lengths)
        if longer and place()[0] == 0:
            logger.warning(
                f"{longer} of the {len(self)} right answers of flips_dataset are longer than flips_max_new_tokens="
                f"{self.max_new_tokens}, and what the {role} model says can only be wrong there: the longest one has "
                f"{max(lengths)} tokens. Set flips_max_new_tokens to more than that."
            )

    def _key(self, role: str, answerer: Answerer) -> dict[str, str]:
        """Tell what a model's answers depend on; batches and processes are not among it."""
        generated = self.questions.choices is None
        how = {"max_new_tokens": self.max_new_tokens} if generated else {"normalization": "sum"}
        reading = self._readings[role]
        return {
            "model": digest(answerer.fingerprint),
            "questions": digest([reading.texts, self.questions.choices, self.questions.references]),
            "tokenizer": reading.fingerprint,
            "options": digest(how),
        }

    def _keep(self, role: str, answers: Sequence[str], key: Mapping[str, str] | None = None) -> None:
        """Write one model's answers so that `muscle-hf compare` reads them, and this class knows whose they are."""
        columns: dict[str, Sequence[Any]] = {
            "id": range(len(self)),
            "prediction": answers,
            "reference": self.questions.references,
            "question": self._readings[role].texts,
        }
        if self.questions.choices is not None:
            columns["choices"] = self.questions.choices
        if key is not None:
            columns["asked"] = [json.dumps({**key, **checksum_of(answers)})] * len(self)
        lines = [strict_json(dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.folder / f"{role}.jsonl", "".join(f"{line}\n" for line in lines))
        part = part_of(self.folder / f"{role}.jsonl")
        for file in (part, *parts_of(part)):
            file.unlink(missing_ok=True)
