"""When the tokens of two models mean the same, so that their distributions can be compared token by token."""

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .errors import ModelMismatchError

_REMEDY = (
    "The compatibility loss compares distributions token by token, so both models need one vocabulary. "
    "Use an old and a new base with the same tokenizer."
)


def check_same_vocabulary(
    new_model: PreTrainedModel,
    old_model: PreTrainedModel,
    new_tokenizer: PreTrainedTokenizerBase,
    old_tokenizer: PreTrainedTokenizerBase | None,
) -> None:
    """Refuse two models whose token ids stand for different things.

    Args:
        new_model: The new base model.
        old_model: The old base model.
        new_tokenizer: The tokenizer that the training data are encoded with.
        old_tokenizer: The tokenizer of the old model, or None where it is not known; then sizes alone are compared.

    Raises:
        ModelMismatchError: The sizes differ, or an id means one token here and another there.
    """
    new_size, old_size = (model.get_input_embeddings().weight.shape[0] for model in (new_model, old_model))
    if new_size != old_size:
        raise ModelMismatchError(
            f"The new model has {new_size} token embeddings and the old model {old_size}. {_REMEDY}"
        )
    if old_tokenizer is None:
        return
    new_tokens, old_tokens = new_tokenizer.get_vocab(), old_tokenizer.get_vocab()
    if new_tokens == old_tokens:
        return
    differing = sorted(
        (token for token in new_tokens.keys() | old_tokens.keys() if new_tokens.get(token) != old_tokens.get(token)),
        key=lambda token: (new_tokens.get(token, len(new_tokens)), token),
    )
    examples = ", ".join(f"{token!r} ({new_tokens.get(token)} / {old_tokens.get(token)})" for token in differing[:3])
    raise ModelMismatchError(
        f"The tokenizers differ in {len(differing)} tokens, for instance (id new / id old): {examples}. {_REMEDY}"
    )
