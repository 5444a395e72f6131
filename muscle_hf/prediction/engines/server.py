"""Requests to an OpenAI-compatible server: several at once, tried again where that helps, answered in their order.

The client is the one that huggingface_hub brings: httpx, or httpx2 from its version 2.0 on; what is used here is the
same in both, and anyio comes with each. The package `openai` would bring others for two routes.
"""

import json
import logging
import random
import time
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any

import anyio
from anyio.from_thread import start_blocking_portal

from ...errors import EndpointError, InputError
from ...version import __version__
from .address import Address

try:
    import httpx2 as http
except ImportError:
    import httpx as http

logger = logging.getLogger(__name__)

# Too many requests, and what may be over in a moment.
_TRIED_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
# What is wrong with one request, not with all of them.
_OF_THE_PROMPT = frozenset({400, 413, 422})
_TRIES = 8
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 60.0
# A server that wants to be left alone for longer is one for the next run.
_LONGEST_ASKED = 600.0
_CONNECT_SECONDS = 10.0
# Whoever looks wonders why nothing happens.
_NOTICED = 5.0


class Server:
    """An address, asked with so many requests at once, each of which may take so many seconds."""

    def __init__(self, address: Address, *, concurrency: int, timeout: float) -> None:
        """Send nothing yet."""
        self.address, self.concurrency, self.timeout = address, concurrency, timeout
        self._was_reached, self._told = False, -_NOTICED

    def post_all(self, path: str, bodies: Sequence[Mapping[str, Any]], of_prompts: Sequence[int]) -> list[Any]:
        """Send each body to a path below the base URL, and give the answers, as JSON, in the order of the bodies.

        `of_prompts` are the prompts that the bodies ask, for messages. The very first request goes alone, so that a
        wrong address, key or model is one refusal. Ctrl-C lets go of all requests.

        Raises:
            InputError: The server cannot answer a prompt, such as one that is too long.
            EndpointError: It refuses for another reason, or cannot be reached; the message says what it said.
        """
        with start_blocking_portal() as portal:
            answers: list[Any] = portal.call(self._post_all, path, bodies, of_prompts)
        return answers

    async def _post_all(self, path: str, bodies: Sequence[Mapping[str, Any]], of_prompts: Sequence[int]) -> list[Any]:
        answers: list[Any] = [None] * len(bodies)
        failures: list[Exception] = []
        limit = anyio.CapacityLimiter(self.concurrency)
        headers = {**self.address.headers, "User-Agent": f"muscle_hf/{__version__}"}
        timeout = http.Timeout(self.timeout, connect=_CONNECT_SECONDS, pool=None)
        async with http.AsyncClient(headers=headers, timeout=timeout) as client:

            async def ask(index: int) -> None:
                async with limit:
                    try:
                        answers[index] = await self._post(client, path, bodies[index], of_prompts[index])
                    except (EndpointError, InputError) as failure:
                        failures.append(failure)
                        group.cancel_scope.cancel()

            first = 0
            async with anyio.create_task_group() as group:
                if not self._was_reached and bodies:
                    await ask(0)
                    first = 1
                for index in range(first, len(bodies)):
                    group.start_soon(ask, index)
        if failures:
            raise failures[0]
        return answers

    async def _post(self, client: Any, path: str, body: Mapping[str, Any], prompt: int) -> Any:
        url = f"{self.address.url}/{path}"
        for tried in range(1, _TRIES + 1):
            wait = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** (tried - 1)) * random.uniform(0.5, 1.0)  # noqa: S311
            try:
                response = await client.post(url, json=body)
            except (http.ConnectError, http.ConnectTimeout, http.ProxyError) as error:
                why = f"cannot be reached ({self._said(error) or 'no connection'})"
                if not self._was_reached:
                    raise EndpointError(f"{url} {why}; is base_url right, and does the server run?") from None
            except http.TimeoutException:
                why = f"did not answer within {self.timeout:g} seconds"
            except http.TransportError as error:
                why = f"cut the connection ({self._said(error)})"
            except http.DecodingError as error:
                why = f"sent what cannot be read ({self._said(error)})"
            else:
                self._was_reached = True
                if response.status_code == 200:
                    return self._answer(url, response)
                why = self._why(response)
                if response.status_code not in _TRIED_AGAIN or "insufficient_quota" in response.text:
                    raise self._refusal(url, response.status_code, why, prompt)
                asked = _seconds_asked(response.headers)
                if asked > _LONGEST_ASKED:
                    raise EndpointError(f"{url} asks to be left alone for {asked:.0f} seconds ({why}).")
                wait = max(wait, asked)
            if tried < _TRIES:
                self._tell(f"{url} {why}; it is asked again after {wait:.0f} seconds.", wait)
                await _pause(wait)
        raise EndpointError(f"{url} {why}, {_TRIES} times in a row.")

    def _tell(self, text: str, wait: float) -> None:
        """Say why nothing moves, where one would notice, and not for each of the requests that wait."""
        now = time.monotonic()
        if wait >= _NOTICED and now - self._told >= _NOTICED:
            self._told = now
            logger.warning(text)

    def _answer(self, url: str, response: Any) -> Any:
        try:
            answer = json.loads(response.content)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            said = self._said(response.text) or "nothing"
            raise EndpointError(f"{url} answers with {said!r}, which is no JSON object; is base_url right?")
        if self.address.is_repeated_in(answer):
            raise EndpointError(
                f"{url} repeats the key that it was sent in its answer, so the answer is not kept. "
                "Tell whoever runs the server, and take another key."
            )
        return answer

    def _why(self, response: Any) -> str:
        """Say the status, and in one line what the server says about it."""
        text = response.text
        try:
            content = json.loads(text)
            while isinstance(content, dict):
                content = next((content[name] for name in ("error", "message", "detail") if content.get(name)), text)
            text = content if isinstance(content, str) else text
        except (ValueError, RecursionError):
            pass
        said = self._said(text)
        return f"answers with status {response.status_code}{f': {said}' if said else ''}"

    def _refusal(self, url: str, status: int, why: str, prompt: int) -> Exception:
        if status in _OF_THE_PROMPT:
            return InputError(f"prompt {prompt} is refused: {url} {why}")
        if status in (401, 403):
            sent = (
                "the key that was sent" if self.address.key else "no key was sent; name its variable (--api-key-env)"
            )
            return EndpointError(f"{url} {why} ({sent}).")
        if 300 <= status < 400:
            return EndpointError(f"{url} {why}: it sends elsewhere, where no key is sent on to; give that address.")
        hint = " Is the name of the model right, and does base_url end as its server says, mostly in /v1?"
        return EndpointError(f"{url} {why}.{hint if status in (404, 405) else ''}")

    def _said(self, value: object) -> str:
        return self.address.shown(str(value)).rstrip(".")


async def _pause(seconds: float) -> None:
    await anyio.sleep(seconds)


def _seconds_asked(headers: Mapping[str, str]) -> float:
    """Return how long a server wants to be left alone, in seconds or until a date; 0 where it does not say."""
    asked = headers.get("retry-after", "")
    try:
        return max(0.0, float(asked))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(asked).timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0
