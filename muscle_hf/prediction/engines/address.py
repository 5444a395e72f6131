"""Where an OpenAI-compatible server is and what it is asked with; a key is in no message, no log and no file."""

import ipaddress
import logging
import os
import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ...errors import ConfigurationError
from ...text import one_line

logger = logging.getLogger(__name__)

KEY = "OPENAI_API_KEY"
"""The variable that holds a key where no other one is named."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SHORTEST_SECRET = 8


@dataclass(frozen=True)
class Address:
    """A base URL, such as http://localhost:8000/v1, and the key that is sent there, if any."""

    url: str
    key: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, base_url: str, api_key_env: str | None = None) -> "Address":
        """Read the key from a variable, by default OPENAI_API_KEY; a URL that holds credentials is refused unseen.

        What stands in OPENAI_API_KEY is OpenAI's: over plain HTTP it leaves this machine only where it was named.
        """
        url = checked_url(base_url)
        name = KEY if api_key_env is None else api_key_env
        if not _NAME.fullmatch(name):
            # Somebody may have given the key itself.
            raise ConfigurationError(
                "api_key_env is no name of an environment variable; put the key into one, and give its name."
            )
        key = os.environ.get(name, "").strip()
        if not key:
            if api_key_env is not None:
                raise ConfigurationError(f"api_key_env={name!r}: the environment variable {name} is not set.")
            return cls(url)
        if not key.isascii() or not key.isprintable() or " " in key:
            raise ConfigurationError(f"{name} holds what no key can be: white space or other characters inside.")
        if api_key_env is None and url.startswith("http:") and not _is_this_machine(url):
            logger.warning(f"{KEY} is not sent to {url}, which is not encrypted. Name it as api_key_env to send it.")
            return cls(url)
        return cls(url, key)

    @property
    def headers(self) -> dict[str, str]:
        """What each request carries."""
        return {} if self.key is None else {"Authorization": f"Bearer {self.key}"}

    def is_repeated_in(self, answer: object) -> bool:
        """Tell whether a text of an answer, at any depth, has the key in it.

        Of a few letters, such as the EMPTY that servers without keys are given, an answer may have by itself.
        """
        if self.key is None or len(self.key) < _SHORTEST_SECRET:
            return False
        left = [answer]
        while left:
            value = left.pop()
            if isinstance(value, str) and self.key in value:
                return True
            left += [*value.keys(), *value.values()] if isinstance(value, dict) else []
            left += value if isinstance(value, list) else []
        return False

    def shown(self, text: str) -> str:
        """Give what a server said on one line, not at any length, and without the key."""
        return one_line(text if self.key is None else text.replace(self.key, "***"))


def checked_url(base_url: str) -> str:
    """Return a base URL as it is used; one that is none, or may hold a secret, is refused unseen."""
    expected = "give one such as http://localhost:8000/v1"
    try:
        parts = urlsplit(base_url.strip())
        host, _ = parts.hostname, parts.port
    except (ValueError, AttributeError):
        raise ConfigurationError(f"base_url is no URL; {expected}.") from None
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError(
            "base_url holds a user name or a password, which logs and files would repeat; put the key into an "
            "environment variable, and give its name (--api-key-env)."
        )
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigurationError(f"base_url={base_url!r} is no address of a server; {expected}.")
    if parts.query or parts.fragment:
        raise ConfigurationError("base_url goes on after ? or #, where a key may stand; give it without.")
    # What a server is started with has no path, and what its clients are given has.
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/') or '/v1'}"


def _is_this_machine(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
