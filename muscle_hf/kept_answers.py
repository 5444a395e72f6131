"""Answers of a model to prompts, kept on disk block by block: a run that was killed asks only for what is missing."""

import hashlib
import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from .errors import ConfigurationError, InputError
from .files import replaced
from .jsonlines import read_objects
from .prediction import Answers
from .prompts import Prompt

logger = logging.getLogger(__name__)

Ask = Callable[[Sequence[Prompt]], Answers]


class KeptAnswers:
    """The answers of one model on disk: a folder for each fingerprint, a file for each block, a line a prompt.

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
        digest = hashlib.sha256(json.dumps(self.decided_by, sort_keys=True).encode()).hexdigest()[:16]
        self.folder = folder / f"{role}-{digest}"

    def of(
        self, prompts: Sequence[Prompt], ask: Ask | None, block_size: int, *, show_progress: bool
    ) -> list[dict[str, Any]]:
        """Return the answer to each prompt, asking for those that no block holds.

        Args:
            prompts: Texts or conversations.
            ask: Prompts -> their `Answers`; None where the model is not at hand.
            block_size: Prompts a file.
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
        with tqdm(total=len(missing), desc=description, disable=not show_progress) as bar:
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
        for path in sorted(self.folder.glob("block-*.jsonl")):
            for line, _, _, row in read_objects(path, "a kept answer", each_once=False):
                kinds = {"completion": str, "log_likelihood": float, "tokens": int, "finished": bool}
                if "prompt" not in row or any(type(row.get(name)) is not kind for name, kind in kinds.items()):
                    raise InputError(
                        f"{path}, line {line}: this is no kept answer. Delete the file to ask its prompts again."
                    )
                kept[prompt_key(row.pop("prompt"))] = row
        return kept

    def _write(self, answers: Mapping[str, dict[str, Any]]) -> None:
        """Write a block; the file gets its name when it is whole."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with replaced(self.folder / "decided_by.json") as temporary:
            temporary.write_text(json.dumps(self.decided_by, indent=2) + "\n", encoding="utf-8")
        number = 1 + max((int(path.stem.split("-")[1]) for path in self.folder.glob("block-*.jsonl")), default=-1)
        rows = [{"prompt": json.loads(key)} | answer for key, answer in answers.items()]
        with replaced(self.folder / f"block-{number:06}.jsonl") as temporary:
            temporary.write_text(
                "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8", newline="\n"
            )


def _asked(ask: Ask, prompts: Sequence[Prompt], rows: Sequence[int]) -> list[dict[str, Any]]:
    try:
        answers = ask(prompts)
    except InputError as error:
        # It numbers the prompts of the block; the user knows the rows of the data set.
        words = re.sub(r"\bprompt (\d+)", lambda found: f"row {rows[int(found[1])]}", str(error))
        raise InputError(f"unlabelled_dataset: {words}") from error
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
