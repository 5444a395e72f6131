"""A model behind an OpenAI-compatible server, such as vLLM, `transformers serve` or OpenAI's own.

A text is completed as it stands (`/completions`); a conversation is answered by the server's chat template
(`/chat/completions`). What the server does on its own, such as a penalty or a system prompt, is in its answers: that
is what its users get.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import ConfigurationError, EndpointError, InputError
from ..choose import Choices, divisors
from ..generate import Answers
from ..prompts import Prompt, check_choices, check_numbers
from ..row import HALF
from .address import Address
from .interface import Normalization
from .scores import NOT_GIVEN, given_before, scored_in_chat, scored_text
from .server import Server

logger = logging.getLogger(__name__)

_ENDED = ("stop", "eos", "eos_token", "end_turn", "stop_sequence")
_CUT = ("length", "max_tokens")
_TEXT, _CHAT = "completions", "chat/completions"


class OpenAIEngine:
    """A model that an OpenAI-compatible endpoint serves, asked greedily.

    It is asked as it is served: with the server's tokenizer, chat template and defaults. Log-likelihoods are those
    that the server gives, nan where it gives none; its end token may not be among them.

    Args:
        base_url: Address that the paths of the API follow, such as "http://localhost:8000/v1".
        model: Name of the model there.
        api_key_env: Environment variable that holds the key; by default OPENAI_API_KEY, where it is set.
        concurrency: Requests at once.
        timeout: Seconds that a request may take before it is sent again.

    Raises:
        ConfigurationError: The address is none or holds credentials, or the variable is not set.
        InputError: A prompt that the server cannot answer; raised when it is asked.
        EndpointError: It cannot be reached, refuses, or repeats its key in an answer; raised when it is asked.

    Example:
        >>> engine = OpenAIEngine("http://localhost:8000", "task-on-v1", concurrency=4)
        >>> engine.identity
        {'engine': 'openai', 'base_url': 'http://localhost:8000/v1', 'model': 'task-on-v1'}
        >>> engine.generate(["2 + 2 ="], max_new_tokens=4).texts  # doctest: +SKIP
        [' 4']
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key_env: str | None = None,
        concurrency: int = 8,
        timeout: float = 600.0,
    ) -> None:
        """Ask nothing yet."""
        check_numbers(None, concurrency=concurrency)
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < math.inf:
            raise ConfigurationError(f"timeout is {timeout!r}; it must be a number of seconds above 0.")
        if not isinstance(model, str) or not model.strip():
            raise ConfigurationError(f"model is {model!r}; the name of a model at the endpoint is needed.")
        self.address, self.model = Address.of(base_url, api_key_env), model
        self._server = Server(self.address, concurrency=concurrency, timeout=timeout)
        self._gives_likelihoods = True

    @property
    def identity(self) -> dict[str, str]:
        """What decides the answers, as far as it can be known from outside."""
        return {"engine": "openai", "base_url": self.address.url, "model": self.model}

    @property
    def at_once(self) -> int:
        """Some rounds of requests, so that few of them wait for the last one."""
        return 4 * self._server.concurrency

    def lengths(
        self,
        prompts: Sequence[Prompt],
        choices: Sequence[Sequence[str]] | None = None,
        *,
        max_new_tokens: int = 0,
        delimiter: str = " ",
    ) -> list[int]:
        """Count characters, for arguments as of [`Engine`]; what fits is known to the server alone."""
        return [len(prompt) if isinstance(prompt, str) else len(str(prompt)) for prompt in prompts]

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int) -> Answers:
        """Ask for greedy answers; arguments and result are those of [`Engine`].

        Raises:
            ConfigurationError: `max_new_tokens` is no number of 1 or more.
            InputError: No prompts, or one that the server cannot answer, such as one that is too long for it.
            EndpointError: The server cannot be reached, refuses, or repeats its key in an answer.
        """
        check_numbers(None, max_new_tokens=max_new_tokens)
        _check(prompts)
        try:
            answers = self._generate(prompts, max_new_tokens)
        except InputError as refusal:
            # Not every server that can answer knows log-probabilities.
            if not self._gives_likelihoods or "logprobs" not in str(refusal):
                raise
            logger.warning(f"Answers without log-likelihoods, which the endpoint does not give: {refusal}")
            self._gives_likelihoods = False
            answers = self._generate(prompts, max_new_tokens)
        return Answers(
            texts=[answer["text"] for answer in answers],
            log_likelihoods=np.array([answer["log_likelihood"] for answer in answers], dtype=np.float64),
            token_counts=np.array([answer["tokens"] for answer in answers], dtype=np.int64),
            finished=np.array([answer["finished"] for answer in answers], dtype=np.bool_),
            ends=[answer["end"] for answer in answers],
        )

    def _generate(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[dict[str, Any]]:
        bodies = []
        for prompt in prompts:
            body = {"max_tokens": max_new_tokens}
            if self._gives_likelihoods:
                body["logprobs"] = 1 if isinstance(prompt, str) else True
            bodies.append(body)
        return [_read(answer) for answer in self._ask(prompts, range(len(prompts)), bodies)]

    def choose(
        self,
        prompts: Sequence[Prompt],
        choices: Sequence[Sequence[str]],
        *,
        normalization: Normalization = "sum",
        delimiter: str = " ",
    ) -> Choices:
        """Choose by the log-probabilities of prompts, where the server gives them; arguments as of [`Engine`].

        The server reads each prompt, and each prompt with a choice after it: the score of a choice is that of the
        tokens that it adds, as in `choose_answers`.

        Raises:
            ConfigurationError: A `normalization` that does not exist.
            InputError: The server gives no log-probabilities, or a choice adds no token.
            EndpointError: It cannot be reached, refuses, or repeats its key in an answer.
        """
        _check(prompts)
        check_choices([""] * len(prompts), choices, normalization)
        asked: list[Prompt] = []
        bodies: list[dict[str, Any]] = []
        owners: list[int] = []
        for index, (prompt, of_prompt) in enumerate(zip(prompts, choices, strict=True)):
            score = scored_text if isinstance(prompt, str) else scored_in_chat
            for text, body in score(prompt, of_prompt, delimiter):
                asked.append(text)
                bodies.append(body)
                owners.append(index)
        try:
            answers = iter(self._ask(asked, owners, bodies))
        except InputError as refusal:
            if any(word in str(refusal) for word in ("logprobs", "echo")):
                raise InputError(f"{NOT_GIVEN} {refusal}") from None
            raise
        scores = []
        for index, (prompt, of_prompt) in enumerate(zip(prompts, choices, strict=True)):
            before, *wholes = [next(answers) for _ in range(len(of_prompt) + 1)]
            values = given_before(before, wholes, of_prompt, index, is_chat=not isinstance(prompt, str))
            scores.append(np.array(values, dtype=np.float64) / divisors(of_prompt, normalization))
        return Choices.of_scores(scores)

    def _ask(
        self, prompts: Sequence[Prompt], owners: Sequence[int], bodies: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """Send texts to one path and conversations to the other; give the answers in the order of the prompts."""
        answers: list[dict[str, Any]] = [{} for _ in prompts]
        for path, is_text in ((_TEXT, True), (_CHAT, False)):
            rows = [row for row, prompt in enumerate(prompts) if isinstance(prompt, str) == is_text]
            if not rows:
                continue
            whole = [{"model": self.model, **_asked(prompts[row]), "temperature": 0, **bodies[row]} for row in rows]
            of_path = self._server.post_all(path, whole, [owners[row] for row in rows])
            for row, answer in zip(rows, of_path, strict=True):
                answers[row] = answer
        return answers


def _check(prompts: Sequence[Prompt]) -> None:
    if isinstance(prompts, str) or not len(prompts):
        raise InputError(f"prompts is {'one text' if prompts else 'empty'}; give a list with at least one prompt.")
    for index, prompt in enumerate(prompts):
        messages: Any = prompt
        is_chat = isinstance(messages, list | tuple) and all(isinstance(turn, Mapping) for turn in messages)
        if not isinstance(prompt, str) and not (is_chat and messages):
            raise InputError(f"prompt {index} is {prompt!r}; give a string or a list of chat messages.")


def _asked(prompt: Prompt) -> dict[str, Any]:
    if isinstance(prompt, str):
        return {"prompt": prompt}
    # `datasets` fills up fields that a message lacks with None.
    messages = [{name: value for name, value in message.items() if value is not None} for message in prompt]
    return {"messages": messages}


def _read(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Read the one choice of an answer; what is not there is nan, or -1 as a count."""
    try:
        (choice,) = answer["choices"]
        text = choice["message"].get("content") if "message" in choice else choice["text"]
        reason = str(choice.get("finish_reason") or "no finish_reason")
    except (KeyError, TypeError, ValueError, AttributeError):
        text, reason = 0, ""
    if not isinstance(text, str | None):
        raise EndpointError(f"the endpoint answers with {str(answer)[:200]!r}; one choice with a text is needed.")
    usage, logprobs = answer.get("usage"), choice.get("logprobs")
    logs: Any = []
    if isinstance(logprobs, Mapping):
        of_chat = [token.get("logprob") for token in logprobs.get("content") or () if isinstance(token, Mapping)]
        logs = logprobs.get("token_logprobs") or of_chat
    known = bool(logs) and all(isinstance(log, int | float) for log in logs)
    tokens = usage.get("completion_tokens") if isinstance(usage, Mapping) else None
    end = "" if reason in (*_ENDED, *_CUT) else reason
    return {
        # Half of a character can stand in JSON, and in no file.
        "text": HALF.sub("\N{REPLACEMENT CHARACTER}", text or ""),
        "log_likelihood": math.fsum(logs) if known else math.nan,
        "tokens": tokens if isinstance(tokens, int) and tokens > 0 else len(logs) or -1,
        "finished": reason in _ENDED and text is not None,
        "end": end or ("no text" if text is None else ""),
    }
