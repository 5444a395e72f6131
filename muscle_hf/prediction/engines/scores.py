"""Scores of choices from what a server says of the tokens of prompts.

For texts, `echo` with `logprobs` (OpenAI's first API, vLLM); for conversations, vLLM's `prompt_logprobs`. Offsets and
spellings of tokens differ between servers, so tokens are only counted: what a choice adds is what comes after as many
tokens as the prompt has alone, which is what `encode_choices` takes.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...errors import InputError
from ..prompts import Prompt

NOT_GIVEN = (
    "the endpoint gives no log-probabilities of a prompt, so no choice can be told likelier. vLLM gives them (for "
    "texts by echo with logprobs, in a chat by prompt_logprobs); transformers serve and OpenAI's own do not. Ask for "
    "generated answers (rows without choices), or ask the model with another --engine."
)
# Of the tokens that are read. One more is generated, and left out, since not every server can generate none.
_TEXT = {"max_tokens": 1, "echo": True, "logprobs": 1}
_CHAT = {"max_tokens": 1, "prompt_logprobs": 0}


def scored_text(prompt: Any, choices: Sequence[str], delimiter: str) -> Iterator[tuple[Prompt, dict[str, Any]]]:
    """Give the texts to be read, that of the prompt first, each with how it is asked for."""
    for text in (prompt.rstrip(), *(f"{prompt}{delimiter}{choice}" for choice in choices)):
        yield text, dict(_TEXT)


def scored_in_chat(prompt: Any, choices: Sequence[str], delimiter: str) -> Iterator[tuple[Prompt, dict[str, Any]]]:
    """Give the conversations to be read: the prompt, and each choice as an answer that is still open."""
    yield prompt, dict(_CHAT)
    open_end = {"add_generation_prompt": False, "continue_final_message": True}
    for choice in choices:
        yield [*prompt, {"role": "assistant", "content": f"{delimiter}{choice}"}], {**_CHAT, **open_end}


def given_before(
    before: Mapping[str, Any],
    wholes: Sequence[Mapping[str, Any]],
    choices: Sequence[str],
    prompt: int,
    *,
    is_chat: bool,
) -> list[float]:
    """Return the log-likelihood of each choice: of the tokens that it adds to those of the prompt alone."""
    read = _read_chat if is_chat else _read_text
    names, _ = read(before)
    # White space at the end of a prompt counts to the choice, as it does in `encode_choices`.
    while is_chat and names and names[-1][1].isspace():
        names.pop()
    scores = []
    for choice, whole in zip(choices, wholes, strict=True):
        of_whole, logs = read(whole)
        # The first token of all has no probability, and some servers do not name it.
        if is_chat and [name for name, _ in of_whole[1 : len(names)]] != [name for name, _ in names[1:]]:
            raise InputError(
                f"the choice {choice!r} of prompt {prompt} does not follow it in the endpoint's chat template, "
                "so it has no likelihood there. Ask for generated answers, or ask the model with another --engine."
            )
        added = logs[len(names) :]
        if not added:
            raise InputError(f"the choice {choice!r} of prompt {prompt} adds no token to the prompt; leave it out.")
        if not all(isinstance(log, int | float) for log in added):
            raise InputError(NOT_GIVEN)
        scores.append(math.fsum(added))
    return scores


def _read_text(answer: Mapping[str, Any]) -> tuple[list[tuple[str, str]], list[Any]]:
    """Return the tokens that were read, each with its spelling, and their log-probabilities."""
    try:
        (choice,) = answer["choices"]
        logs, count = choice["logprobs"]["token_logprobs"], answer["usage"]["prompt_tokens"]
        if not 0 < count <= len(logs):
            raise ValueError("of generated tokens only")
    except (KeyError, TypeError, ValueError):
        raise InputError(NOT_GIVEN) from None
    return [("", "")] * count, logs[:count]


def _read_chat(answer: Mapping[str, Any]) -> tuple[list[tuple[str, str]], list[Any]]:
    try:
        tokens = [next(iter(token.items())) if token else ("", {}) for token in answer["prompt_logprobs"]]
        names = [(str(name), str(token.get("decoded_token") or "")) for name, token in tokens]
        logs = [token.get("logprob") for _, token in tokens]
    except (KeyError, TypeError, AttributeError):
        raise InputError(NOT_GIVEN) from None
    if len(names) < 2:
        raise InputError(NOT_GIVEN)
    return names, logs
