"""The old model where it runs in production: an endpoint that answers in its place.

An endpoint gives answers, which is what unlabelled prompts and comparisons need. Eq. 1 learns from distributions over
all tokens, which none gives, so the old model itself is still loaded for the loss.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..errors import ConfigurationError
from ..prediction.engines.address import checked_url
from ..prediction.engines.endpoint import OpenAIEngine
from ..prediction.generate import Answers
from ..prediction.kept_answers import Ask
from ..prediction.prompts import Prompt
from ..text import printable

logger = logging.getLogger(__name__)

OPTIONS = ("old_endpoint", "old_endpoint_model", "old_endpoint_key_env", "old_endpoint_concurrency")
"""Fields of `CompatibilityConfig` that say which endpoint it is."""


def check_old_endpoint(config: Any) -> None:
    """Refuse options that name no endpoint, before anything is loaded or asked."""
    if config.old_endpoint is None:
        for name in OPTIONS:
            if getattr(config, name) != type(config).__dataclass_fields__[name].default:
                raise ConfigurationError(f"{name} would be ignored without old_endpoint, the address of a server.")
        return
    try:
        checked_url(config.old_endpoint)
    except ConfigurationError as error:
        raise ConfigurationError(f"old_endpoint: {error}") from None
    if not config.old_endpoint_model:
        raise ConfigurationError("old_endpoint needs old_endpoint_model, the name of the old model at that server.")
    if config.unlabelled_teacher == "more_confident":
        raise ConfigurationError(
            'unlabelled_teacher="more_confident" compares log-likelihoods with those of old_endpoint, which counts '
            'tokens in its own way or gives none. Take unlabelled_teacher="old", or leave old_endpoint out.'
        )


def old_endpoint(config: Any) -> OpenAIEngine | None:
    """Return the endpoint that answers in the old model's place; None where it answers itself."""
    if config.old_endpoint is None:
        return None
    return OpenAIEngine(
        config.old_endpoint,
        config.old_endpoint_model,
        api_key_env=config.old_endpoint_key_env,
        concurrency=config.old_endpoint_concurrency,
    )


def asker(engine: OpenAIEngine, max_new_tokens: int) -> Ask:
    """Return a function that lets the endpoint answer prompts, and says which answers are no whole ones."""

    def ask(prompts: Sequence[Prompt]) -> Answers:
        answers = engine.generate(prompts, max_new_tokens=max_new_tokens)
        ends = Counter(end for end in answers.ends or () if end)
        if ends:
            named = ", ".join(f"{count} {printable(end)}" for end, count in ends.most_common())
            logger.warning(f"old_endpoint gave no whole answer to {ends.total()} of {len(prompts)} prompts: {named}.")
        return answers

    return ask
