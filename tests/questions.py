"""Questions for tiny models, what their choices score when each is read alone, and how calm a test has to be."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from tiny_models import TEXTS
from transformers import PreTrainedTokenizerBase

BATCH_SIZES = (1, 2, 3, 7, 64)
PROMPTS = [" ".join((TEXTS[i % 7], TEXTS[(3 * i + 1) % 7])[: 1 + i % 2])[: 5 + 4 * (i * 5 % 11)] for i in range(12)]
CHOICES = [["blue", "no", "maybe so", "card", "yes", "I lost the card"][: 1 + (i + 3) % 6] for i in range(12)]


def reference_score(
    model: Any, tokenizer: PreTrainedTokenizerBase, prompt: str, continuation: str, *, special: bool = True
) -> float:
    """Log-likelihood of a continuation: one full pass up to its last token, without padding and without a cache."""
    context = tokenizer(prompt.rstrip(), add_special_tokens=special)["input_ids"]
    whole = tokenizer(prompt + continuation, add_special_tokens=special)["input_ids"]
    row = context + whole[len(context) :]
    with torch.no_grad():
        logs = model(input_ids=torch.tensor([row[:-1]]), use_cache=False).logits[0].double().log_softmax(-1)
    logs = logs[len(logs) - len(row) + 1 :]  # without virtual tokens
    return sum(float(logs[place - 1, row[place]]) for place in range(len(context), len(row)))


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread, so that sums are rounded in the same way every time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@contextmanager
def no_logged_warnings() -> Iterator[None]:
    """Fail a test in which transformers or peft logs a warning; `filterwarnings` does not see those."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = records.append  # type: ignore[method-assign]
    loggers = [logging.getLogger(name) for name in ("transformers", "peft")]
    for logger in loggers:
        logger.addHandler(handler)
    yield
    for logger in loggers:
        logger.removeHandler(handler)
    messages = [record.getMessage() for record in records]
    # Recurrent models say once that a faster kernel is not installed.
    assert [message for message in messages if "falling back to its reference PyTorch" not in message] == []
