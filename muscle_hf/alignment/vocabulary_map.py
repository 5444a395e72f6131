"""One tokenizer on both sides, but other embedding rows: padding, moved ids, added tokens."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import ModelMismatchError
from .vocabulary import read_rules, without_tokens

REMEDY = (
    "The compatibility loss compares distributions token by token, so both models need one vocabulary. Use an old and "
    "a new base with the same tokenizer, or align the texts of two tokenizers with --alignment chunks "
    '(alignment="chunks").'
)


@dataclass(frozen=True, eq=False)
class VocabularyMap:
    """Which tokens two models have in common, when their tokenizers cut a text in the same way.

    Where the models differ in more than that, the loss is over the common tokens: the rows that stand for no token
    (padding) and the tokens that only one side has are cut from all logits, and each softmax runs over the rest. What
    follows from it: the old model's probability for tokens that only it has is dropped, and the rest scaled up to 1;
    tokens that only the new model has are neither pulled nor held by the loss, and no label may be one of them.

    Args:
        new_size: Rows of the new model's embeddings, which are the columns of its logits.
        old_size: The same for the old model.
        new_ids: int64, (common,). The common tokens as the new model counts them, ascending.
        old_ids: int64, (common,). The same tokens as the old model counts them.
        only_new: Tokens that the old model does not have.
        only_old: Tokens that the new model does not have.

    Example:
        >>> pairs = VocabularyMap(5, 4, np.arange(4), np.arange(4))  # the new model has a row of padding
        >>> pairs.new_logits(torch.zeros(2, 5)).shape
        torch.Size([2, 4])
        >>> str(pairs).split(". ")[1]
        "Cut: 1 of the new model's rows, which stand for no token."
    """

    new_size: int
    old_size: int
    new_ids: NDArray[np.int64]
    old_ids: NDArray[np.int64]
    only_new: tuple[str, ...] = ()
    only_old: tuple[str, ...] = ()

    @property
    def identical(self) -> bool:
        """Whether both models have the same tokens in the same rows, so that nothing has to be cut or moved."""
        return self.new_size == self.old_size == len(self.new_ids) == len(self.old_ids) and not self.moved

    @property
    def moved(self) -> int:
        """How many common tokens have another id on the old side."""
        return int((self.new_ids != self.old_ids).sum())

    def new_logits(self, logits: Tensor) -> Tensor:
        """Cut the new model's or the student's logits, (..., new_size), to the common tokens: (..., common)."""
        return _columns(logits, self.new_ids)

    def old_logits(self, logits: Tensor) -> Tensor:
        """Cut the old model's logits, (..., old_size), to the common tokens, in the new order: (..., common)."""
        return _columns(logits, self.old_ids)

    def labels(self, labels: Tensor) -> Tensor:
        """Turn labels into columns of the cut logits; negative ones, such as -100, are kept."""
        columns = np.arange(len(self.new_ids))
        # -1, which any loss refuses, for a label that is no common token.
        return torch.where(labels < 0, labels, _look_up(labels.clamp(min=0), self.new_size, self.new_ids, columns, -1))

    def old_input_ids(self, input_ids: Tensor) -> Tensor:
        """Turn the new model's input into the old model's.

        A token that is not common becomes 0: after [`check_tokens`] it can only be padding, which no model looks at.
        """
        return _look_up(input_ids, self.new_size, self.new_ids, self.old_ids, 0)

    def check_tokens(self, rows: Iterable[Iterable[int]], tokenizer: PreTrainedTokenizerBase) -> None:
        """Refuse training data with a token that the old model does not have."""
        unknown = {number for row in rows for number in row} - set(self.new_ids.tolist())
        if unknown:
            names = [str(tokenizer.convert_ids_to_tokens(number)) for number in sorted(unknown)[:5]]
            raise ModelMismatchError(
                f"The training data hold {len(unknown)} tokens that the old model does not have, for instance "
                f"{', '.join(map(repr, names))}, so it cannot read them. {REMEDY}"
            )

    def __str__(self) -> str:
        """Say in a line what is cut and what is moved."""
        if self.identical:
            return f"Both models have the same {self.new_size} rows of tokens."
        parts = [f"Both models have {len(self.new_ids)} tokens in common; the loss is over these."]
        if self.moved:
            parts.append(f"{self.moved} of them have another id in the old model and are mapped.")
        for side, size, only in (("new", self.new_size, self.only_new), ("old", self.old_size, self.only_old)):
            padding = size - len(self.new_ids) - len(only)
            if padding > 0:
                parts.append(f"Cut: {padding} of the {side} model's rows, which stand for no token.")
            if only:
                names = ", ".join(map(repr, only[:3])) + (", …" if len(only) > 3 else "")
                parts.append(f"Left out: {len(only)} tokens that only the {side} model has ({names}).")
        return " ".join(parts)


def common_tokens(
    new_tokenizer: PreTrainedTokenizerBase, old_tokenizer: PreTrainedTokenizerBase, new_size: int, old_size: int
) -> VocabularyMap:
    """Map the tokens of two tokenizers by identity: the same string, special on both sides or on neither."""
    sides = []
    for tokenizer, size in ((new_tokenizer, new_size), (old_tokenizer, old_size)):
        special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
        sides.append(
            {(token, number in special): number for token, number in tokenizer.get_vocab().items() if number < size}
        )
    new, old = sides
    common = sorted((number, old[token]) for token, number in new.items() if token in old)
    ids = np.array(common, dtype=np.int64).reshape(-1, 2)
    only_new = tuple(token for token, _ in sorted(new.keys() - old.keys(), key=lambda token: new[token]))
    only_old = tuple(token for token, _ in sorted(old.keys() - new.keys(), key=lambda token: old[token]))
    return VocabularyMap(new_size, old_size, ids[:, 0], ids[:, 1], only_new, only_old)


def segmentation_difference(
    new_tokenizer: PreTrainedTokenizerBase, old_tokenizer: PreTrainedTokenizerBase
) -> str | None:
    """Say what makes two tokenizers cut a text differently, or None where they cut every text alike.

    Alike means: the same normalizer, pre-tokenizer and model (type, options, merges in their order or scores, and the
    same tokens, whatever their ids); added tokens that both have are found in a text by the same rules; and the old
    side has no added token for ordinary text of its own. Only then may ids be mapped: the new tokenizer's tokens are
    the ones that the old one would have given. Added tokens of the new side are let through here, because
    [`VocabularyMap.check_tokens`] refuses data in which one of them occurs; special tokens may differ as well.
    """
    if not (new_tokenizer.is_fast and old_tokenizer.is_fast):
        return "one of them is slow, so that their rules cannot be compared"
    new, old = read_rules(new_tokenizer), read_rules(old_tokenizer)
    for part in ("normalizer", "pre_tokenizer"):
        if new[part] != old[part]:
            return f"their {part.replace('_', '-')}s differ"
    new_added, old_added = (
        {token["content"]: {key: value for key, value in token.items() if key != "id"} for token in side}
        for side in (new["added_tokens"], old["added_tokens"])
    )
    added = new_added.keys() | old_added.keys()
    if without_tokens(new["model"]) != without_tokens(old["model"]) or (
        _tokens(new["model"], added) != _tokens(old["model"], added)
    ):
        return "their models or merges differ"
    for content, token in old_added.items():
        if content in new_added and new_added[content] != token:
            return f"the added token {content!r} follows other rules"
        if content not in new_added and not token["special"]:
            return f"only the old one has the added token {content!r}"
    return None


def _tokens(model: dict[str, Any], without: set[str]) -> dict[str, float]:
    """The tokens of a tokenizer's model with their scores, 0 where it has none, whatever their ids."""
    vocabulary = model["vocab"]
    scores = dict(vocabulary) if isinstance(vocabulary, list) else dict.fromkeys(vocabulary, 0.0)
    return {token: scores[token] for token in scores.keys() - without}


def _columns(logits: Tensor, ids: NDArray[np.int64]) -> Tensor:
    if np.array_equal(ids, np.arange(len(ids))):
        return logits[..., : len(ids)]
    return logits.index_select(-1, torch.as_tensor(ids, device=logits.device))


def _look_up(numbers: Tensor, size: int, keys: NDArray[np.int64], values: NDArray[np.int64], missing: int) -> Tensor:
    table = np.full(size, missing, dtype=np.int64)
    table[keys] = values
    return torch.as_tensor(table, device=numbers.device)[numbers]


def check_same_vocabulary(
    new_model: PreTrainedModel,
    old_model: PreTrainedModel,
    new_tokenizer: PreTrainedTokenizerBase,
    old_tokenizer: PreTrainedTokenizerBase | None,
) -> VocabularyMap:
    """Refuse two models whose tokens cannot be paired one by one, and pair those of the others.

    Equal tokens with equal ids are paired as they are; rows of the embeddings beyond the tokens (padding) may then
    differ in number. Otherwise tokens are paired by identity (the same string, special on both sides or on neither),
    which needs two tokenizers that cut every text alike: see
    [`segmentation_difference`][muscle_hf.alignment.vocabulary_map.segmentation_difference] for the rule. A tokenizer
    with new special tokens, moved ids or added tokens that the training data do not use passes; one with other merges
    does not.

    Args:
        new_model: The new base model.
        old_model: The old base model.
        new_tokenizer: The tokenizer that the training data are encoded with.
        old_tokenizer: The tokenizer of the old model, or None where it is not known; then sizes alone are compared.

    Returns:
        The pairs. Unless it is `identical`, call its `check_tokens` with the training data, and log it.

    Raises:
        ModelMismatchError: The sizes differ and the old tokenizer is not known, or the tokenizers cut texts
            differently.
    """
    new_size, old_size = (model.get_input_embeddings().weight.shape[0] for model in (new_model, old_model))
    if old_tokenizer is None and new_size != old_size:
        raise ModelMismatchError(
            f"The new model has {new_size} token embeddings and the old model {old_size}, and without the old "
            f"tokenizer nobody knows which of them stand for the same. {REMEDY}"
        )
    new_tokens = new_tokenizer.get_vocab()
    old_tokens = new_tokens if old_tokenizer is None else old_tokenizer.get_vocab()
    if new_tokens == old_tokens:
        rows = new_size if new_size == old_size else min(max(new_tokens.values()) + 1, new_size, old_size)
        return VocabularyMap(new_size, old_size, np.arange(rows), np.arange(rows))
    difference = segmentation_difference(new_tokenizer, old_tokenizer)
    if difference is None:
        return common_tokens(new_tokenizer, old_tokenizer, new_size, old_size)
    differing = sorted(
        (token for token in new_tokens.keys() | old_tokens.keys() if new_tokens.get(token) != old_tokens.get(token)),
        key=lambda token: (new_tokens.get(token, len(new_tokens)), token),
    )
    examples = ", ".join(f"{token!r} ({new_tokens.get(token)} / {old_tokens.get(token)})" for token in differing[:3])
    raise ModelMismatchError(
        f"The tokenizers differ in {len(differing)} tokens, for instance (id new / id old): {examples}. They cannot "
        f"be mapped by name: {difference}. {REMEDY}"
    )
