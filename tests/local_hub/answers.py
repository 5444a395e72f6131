"""What the Hub is asked and what it answers, without the sockets."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import Message
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from .accounts import User


@dataclass(frozen=True)
class Request:
    """One request, read as a whole. `endpoint` is the address of the Hub, for the links in its answers."""

    method: str
    path: str
    headers: Message
    body: bytes
    user: User | None
    endpoint: str

    @property
    def parts(self) -> list[str]:
        """The path, cut at its slashes and only then unquoted: a branch named `a/b` is one part."""
        return [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]

    @property
    def query(self) -> dict[str, list[str]]:
        """Whatever follows the question mark."""
        return parse_qs(urlsplit(self.path).query, keep_blank_values=True)

    def asked(self, name: str) -> str | None:
        """The last value of a parameter, or None."""
        return self.query.get(name, [None])[-1]

    def flag(self, name: str) -> bool:
        """Whether a parameter is there and true."""
        return (self.asked(name) or "").lower() in ("1", "true")

    def json(self) -> Any:
        """The body, as JSON."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise Refusal(400, f"The body is not JSON: {error}") from None


@dataclass(frozen=True)
class Answer:
    """One answer."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class Refusal(Exception):  # noqa: N818 - not an error of the program
    """An answer other than 200: what the client turns into an exception by its status and its X-Error-Code."""

    def __init__(self, status: int, message: str, code: str | None = None, **body: Any) -> None:
        """Refuse with a status, words, the Hub's error code where it has one, and more fields of the body."""
        super().__init__(message)
        self.status, self.message, self.code, self.body = status, message, code, body
        self.headers: dict[str, str] = {}

    def answer(self) -> Answer:
        """As it goes over the wire."""
        # A header is one line of Latin-1; the body says the same in full.
        headers = {"X-Error-Message": " ".join(self.message.split()).encode("latin-1", "replace").decode("latin-1")}
        if self.code is not None:
            headers["X-Error-Code"] = self.code
        return reply({"error": self.message, **self.body}, self.status, {**headers, **self.headers})


def reply(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Answer with JSON."""
    kind = {"Content-Type": "application/json; charset=utf-8"}
    return Answer(status, json.dumps(value).encode(), kind | dict(headers or {}))
