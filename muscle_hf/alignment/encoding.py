"""The training data as the old model's tokenizer cuts them, and the chunks in which both tokenizations meet.

Both sides get the same contents: the text, prompt and completion, or what the messages say, which are the coordinates
that tokens are aligned in. What stands around them is each side's own: special tokens, chat template, end token. Where
both sides write a row with the same characters (one template, one end token), all of it counts as content.
"""

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerBase
from trl import is_conversational, maybe_convert_to_chatml

from ..errors import InputError
from ..losses.logits import IGNORE_INDEX
from .chunks import PlacedTokens, Span, find_chunks, place_tokens
from .contents import Rendering, closing_tokens, render_messages
from .vocabulary import Vocabulary, paired_meanings, read_vocabulary, write_numbers_alike


@dataclass(frozen=True)
class _Side:
    """One side's tokenizer, and what its tokens mean on both sides."""

    name: str
    tokenizer: PreTrainedTokenizerBase
    vocabulary: Vocabulary
    meanings: dict[int, int]
    chat_template: str | None


class ChunkEncoder:
    """Encode rows for the old model and align them with the new model's tokens; for `Dataset.map(batched=True)`.

    The rows are those of [`trl.SFTTrainer`] once it has encoded them, before it truncates or packs them: `input_ids`,
    `labels` if there are some, and beside them what they were made from, in one of its formats: text, prompt and
    completion, messages, or prompt and completion as messages.

    It adds three columns, each a list of ints for a row:

    - `old_input_ids`: the row for the old model, with the end token or the chat template of its own tokenizer, as far
      as the last chunk.
    - `chunk_ids`: for each token of `input_ids` the number of its chunk in the row, from 0, or -1.
    - `old_chunk_ids`: the same for each token of `old_input_ids`.

    Chunks with a token that is not trained on, or that nothing predicts since it is the first of its row, are left
    out. A special token that closes the row is a chunk against the one that closes it on the other side, together
    with white space that a template puts before it. A tokenizer that reads less than the text (WordPiece drops case
    and white space) is aligned by where its tokens stand; its likelihoods are those of what it reads.

    Args:
        new_tokenizer: The fast tokenizer that made `input_ids`.
        old_tokenizer: The old model's fast tokenizer; with a chat template where the rows are conversations.
        text_field: The column of a plain text.
        chat_template: The template that `input_ids` were made with. Defaults to the new tokenizer's own.

    Example:
        Old words of two letters, new ones of one:

        >>> from tokenizers import Tokenizer, models
        >>> from transformers import PreTrainedTokenizerFast
        >>> def bpe(tokens, merges):
        ...     model = models.BPE({token: number for number, token in enumerate(tokens)}, merges)
        ...     return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), eos_token="<end>")
        >>> new, old = bpe(["<end>", "a", "b"], []), bpe(["<end>", "a", "b", "bb"], [("b", "b")])
        >>> ChunkEncoder(new, old)({"text": ["aabb"], "input_ids": [new("aabb<end>")["input_ids"]]})
        {'old_input_ids': [[1, 1, 3, 0]], 'chunk_ids': [[-1, 0, 1, 1, 2]], 'old_chunk_ids': [[-1, 0, 1, 2]]}
    """

    def __init__(
        self,
        new_tokenizer: PreTrainedTokenizerBase,
        old_tokenizer: PreTrainedTokenizerBase,
        *,
        text_field: str = "text",
        chat_template: str | None = None,
    ) -> None:
        """Read both vocabularies."""
        tokenizers = (new_tokenizer, old_tokenizer)
        new_vocabulary, old_vocabulary = (read_vocabulary(tokenizer) for tokenizer in tokenizers)
        self.text_field = text_field
        self._numbers_are_alike = write_numbers_alike(new_vocabulary, old_vocabulary)
        paired = paired_meanings(new_vocabulary, old_vocabulary, self._numbers_are_alike)
        self._sides = tuple(
            _Side(
                name,
                _with_exact_offsets(tokenizer),
                vocabulary,
                {number: place for place, number in enumerate(ids.tolist())},
                template or tokenizer.chat_template,
            )
            for name, tokenizer, vocabulary, ids, template in zip(
                ("new", "old"),
                tokenizers,
                (new_vocabulary, old_vocabulary),
                paired.T,
                (chat_template, None),
                strict=True,
            )
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the tokenizers alone: what is read from them is large, and data sets hash what maps them."""
        new, old = (side.tokenizer for side in self._sides)
        remake = partial(ChunkEncoder, text_field=self.text_field, chat_template=self._sides[0].chat_template)
        return remake, (new, old)

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, list[list[int]]]:
        """Encode and align the rows of a batch."""
        if "input_ids" not in batch:
            raise InputError('The rows have no "input_ids"; encode them for the new model first.')
        count = len(batch["input_ids"])
        rows = [{name: values[row] for name, values in batch.items()} for row in range(count)]
        renderings = [self._render(row) for row in rows]
        new_tokens, old_tokens = (
            self._place(side, [pair[place] for pair in renderings]) for place, side in enumerate(self._sides)
        )
        columns: dict[str, list[list[int]]] = {"old_input_ids": [], "chunk_ids": [], "old_chunk_ids": []}
        written = zip(rows, renderings, new_tokens, old_tokens, strict=True)
        for row, (rendering, _), (new_ids, new), (old_ids, old) in written:
            if new_ids != list(row["input_ids"]):
                raise InputError(_other_tokens(row["input_ids"], new_ids))
            labels = row.get("labels") or row["input_ids"]
            unfinished = None if self._numbers_are_alike else _numbers(rendering, new, labels)
            chunk_ids, old_chunk_ids = find_chunks(new, old, unfinished)
            untrained = {chunk_ids[place] for place, label in enumerate(labels) if label == IGNORE_INDEX or not place}
            aligned = _keep_chunks(chunk_ids, old_ids, old_chunk_ids, untrained | set(old_chunk_ids[:1]))
            for name, values in aligned.items():
                columns[name].append(values)
        return columns

    def _render(self, row: dict[str, Any]) -> tuple[Rendering, Rendering]:
        """The row as both sides write it."""
        row = maybe_convert_to_chatml(copy.deepcopy(row)) if "conversations" in row else row
        if is_conversational(row):
            messages = row["prompt"] + row["completion"] if "prompt" in row else row["messages"]
            new, old = (
                render_messages(side.tokenizer, side.chat_template, messages, row, name=side.name)
                for side in self._sides
            )
        else:
            new, old = self._render_text(row)
        if new.text == old.text:
            whole = Rendering(new.text, [new.text], [(0, len(new.text))], new.is_conversation)
            return whole, whole
        return new, old

    def _render_text(self, row: dict[str, Any]) -> tuple[Rendering, Rendering]:
        if isinstance(row.get("prompt"), str) and isinstance(row.get("completion"), str):
            text = row["prompt"] + row["completion"]
        elif isinstance(row.get(self.text_field), str):
            text = row[self.text_field]
        else:
            raise InputError(
                f'alignment="chunks" needs the texts of the rows: a column {self.text_field!r}, "prompt" and '
                f'"completion", or "messages". These rows have {", ".join(sorted(row))}. Data that are tokenized '
                "already cannot be cut by another tokenizer."
            )
        new_end, old_end = (str(side.tokenizer.eos_token or "") for side in self._sides)
        content = text.removesuffix(new_end)
        old_text = content if old_end and content.endswith(old_end) else content + old_end
        new, old = (
            Rendering(written, [content], [(0, len(content))], False) for written in (content + new_end, old_text)
        )
        return new, old

    def _place(self, side: _Side, renderings: list[Rendering]) -> list[tuple[list[int], PlacedTokens]]:
        """Tokenize the rows of one side, and place their tokens in the contents."""
        tokens: list[tuple[list[int], PlacedTokens]] = [([], PlacedTokens([], [], []))] * len(renderings)
        for conversation in (False, True):  # a chat template writes the special tokens itself
            places = [place for place, rendering in enumerate(renderings) if rendering.is_conversation == conversation]
            if not places:
                continue
            encoded = side.tokenizer(
                [renderings[place].text for place in places],
                add_special_tokens=not conversation,
                return_offsets_mapping=True,
                return_attention_mask=False,
                verbose=False,
            )
            for place, ids, offsets in zip(places, encoded["input_ids"], encoded["offset_mapping"], strict=True):
                tokens[place] = list(ids), _placed(side, renderings[place], ids, offsets)
        return tokens


def _numbers(rendering: Rendering, new: PlacedTokens, labels: Sequence[int]) -> dict[int, int]:
    """Find where a number may go on: behind each digit that is trained on, and what then has to come next.

    To a tokenizer with tokens of several digits a number's last token says that it ends; to one that writes digit
    after digit the token behind it does. So a number and what follows it are the same event on both sides.
    """
    ends: dict[int, int] = {}
    for place, (content, start) in enumerate(zip(rendering.contents, rendering.starts, strict=True)):
        digits = [start + at + 1 for at, byte in enumerate(content.encode()) if 48 <= byte <= 57]
        ends |= {end: end for end in digits}
        last = start + len(content.encode())
        if last in ends:  # the closing token follows the last content; what follows another is each side's own
            ends[last] = rendering.end if place + 1 == len(rendering.contents) else -1
    for span, label in zip(new.spans, labels, strict=True):
        if span is not None and label == IGNORE_INDEX:
            for end in range(span[0] + 1, span[1] + 1):
                ends.pop(end, None)
    return ends


def truncate_chunks(
    chunk_ids: Sequence[int],
    old_input_ids: Sequence[int],
    old_chunk_ids: Sequence[int],
    length: int,
    old_length: int | None = None,
) -> dict[str, list[int]]:
    """Cut a row of [`ChunkEncoder`] to a length, from its start; chunks that are cut into are no chunks any more.

    `length` counts tokens of the new side, and `old_length` those that the old model can read, None for any number.
    The old side ends with the last chunk that is left.

    Example:
        >>> truncate_chunks([-1, 0, 1, 1], [7, 8, 9, 5], [-1, 0, 1, 1], length=3)
        {'old_input_ids': [7, 8], 'chunk_ids': [-1, 0, -1], 'old_chunk_ids': [-1, 0]}
    """
    lost = {*chunk_ids[length:], *([] if old_length is None else old_chunk_ids[old_length:])}
    cut = _keep_chunks(chunk_ids, old_input_ids, old_chunk_ids, lost)
    cut["chunk_ids"] = cut["chunk_ids"][:length]
    return cut


@dataclass(frozen=True)
class AlignmentSummary:
    """How much of the training data two tokenizers have in common.

    Args:
        trained_tokens: Tokens of the new side that are trained on and predicted.
        aligned_tokens: Those of them that lie in a chunk.
        chunks: Chunks.
        single_chunks: Chunks of one token on both sides.
    """

    trained_tokens: int
    aligned_tokens: int
    chunks: int
    single_chunks: int

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]]) -> "AlignmentSummary":
        """Count over rows with the columns of [`ChunkEncoder`], `input_ids` and, if there are some, `labels`."""
        trained = aligned = chunks = single = 0
        for row in rows:
            labels = row.get("labels") or row["input_ids"]
            trained += sum(label != IGNORE_INDEX for label in labels[1:])
            sizes: dict[int, list[int]] = {}
            for side in ("chunk_ids", "old_chunk_ids"):
                for number in row[side]:
                    if number >= 0:
                        sizes.setdefault(number, [0, 0])[side == "old_chunk_ids"] += 1
            chunks += len(sizes)
            aligned += sum(new for new, _ in sizes.values())
            single += sum(size == [1, 1] for size in sizes.values())
        if not aligned:
            raise InputError(
                f"None of the {trained} trained tokens lies in a chunk that both tokenizers give, so nothing can be "
                "learned from the old model. Check that the old tokenizer and its chat template belong to the old "
                "model, and that the templates keep the contents as they are."
            )
        return cls(trained, aligned, chunks, single)

    def __str__(self) -> str:
        """Say it in a line for a log."""
        return (
            f"{self.aligned_tokens / self.trained_tokens:.1%} of {self.trained_tokens} trained tokens lie in one of "
            f"{self.chunks} chunks in which both tokenizers meet; {self.single_chunks / self.chunks:.1%} of the "
            "chunks are one token on both sides."
        )


def _keep_chunks(
    chunk_ids: Sequence[int], old_input_ids: Sequence[int], old_chunk_ids: Sequence[int], lost: set[int]
) -> dict[str, list[int]]:
    """Take chunks away, number the others from 0 again, and end the old side with the last of them."""
    kept = sorted({number for number in chunk_ids if number >= 0} - lost)
    numbers = {number: place for place, number in enumerate(kept)}
    old = [numbers.get(number, -1) for number in old_chunk_ids]
    # A causal model's scores do not depend on what comes later. One token stays, since a batch has no empty rows.
    end = max((place for place, number in enumerate(old) if number >= 0), default=0) + 1
    return {
        "old_input_ids": list(old_input_ids[:end]),
        "chunk_ids": [numbers.get(number, -1) for number in chunk_ids],
        "old_chunk_ids": old[:end],
    }


def _placed(side: _Side, rendering: Rendering, ids: Sequence[int], offsets: Sequence[Span]) -> PlacedTokens:
    spans = place_tokens(rendering.text, ids, offsets, side.vocabulary, rendering.spans, rendering.starts)
    special = [number in side.vocabulary.special for number in ids]
    for token in closing_tokens(rendering, offsets, special):
        # One byte behind all contents. Not special: both sides' closing tokens are paired by their place.
        spans[token] = rendering.end, rendering.end + 1
        special[token] = False
    return PlacedTokens(spans, [side.meanings.get(number, -1) for number in ids], special)


def _with_exact_offsets(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """One that counts the white space of a token to the token: byte-level tokenizers may hide it in offsets."""
    small = Tokenizer(models.WordLevel())
    small.post_processor = tokenizer.backend_tokenizer.post_processor
    rules = json.loads(small.to_str())
    parts = [rules["post_processor"]]
    trimming = []
    for part in parts:
        if part is not None:
            parts += part.get("processors", [])
            if part.get("trim_offsets"):
                trimming.append(part)
    if not trimming:  # a copy of a large vocabulary takes seconds
        return tokenizer
    for part in trimming:
        part["trim_offsets"] = False
    exact = copy.deepcopy(tokenizer)
    exact.backend_tokenizer.post_processor = Tokenizer.from_str(json.dumps(rules)).post_processor
    return exact


def _other_tokens(input_ids: Sequence[int], own: Sequence[int]) -> str:
    place = next((i for i, pair in enumerate(zip(input_ids, own, strict=False)) if pair[0] != pair[1]), None)
    where = f"differ at position {place}" if place is not None else f"are {len(own)} and not {len(input_ids)}"
    return (
        "The input_ids of a row are not what the new tokenizer makes of its text, so nobody knows where its tokens "
        f"stand in it: they {where}. Encode the rows with the same tokenizer, chat template and end token, and align "
        "them before they are truncated or packed."
    )
