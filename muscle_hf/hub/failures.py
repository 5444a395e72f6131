"""What goes wrong with the Hugging Face Hub, told apart and told in one line."""

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from traceback import walk_tb
from types import TracebackType
from urllib.parse import unquote

from huggingface_hub import constants, get_token
from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ..errors import HubError, MuscleError
from .lookup import is_local, is_switched_off_by_user, looking_up, seconds_to_wait, why_unreachable

_LOG_IN = "log in with `hf auth login` or set HF_TOKEN"
_WRONG_TOKEN = (
    f"the token is wrong or has expired (401); make one at https://huggingface.co/settings/tokens and {_LOG_IN}. "
    "HF_TOKEN comes before a saved token."
)
_WRITE_TOKEN = "take a token with write access, of an account that may write there"  # noqa: S105 - no token
_READ_TOKEN = "take a token that may read it, of an account that may; a fine-grained one has to name it"  # noqa: S105
# Tokens of the Hub (`hf_…`, `api_org_…`, `hf_oauth_…`), whatever sent them back to us.
_TOKEN = re.compile(r"\b(?:hf_|api_org_)[A-Za-z0-9_.-]{20,}|(?<=[Bb]earer )\S+|(?<=//)[^/\s@]+(?=@)")
_REVISION = re.compile(r"/(?:resolve|revision|tree|paths-info|preupload|commit|tag)/([^/?]+)(?:/([^?]+))?")
# Not every version of the client tells whose file it was that could not be downloaded.
_DOWNLOAD = re.compile(r"https?://[^/]+/(?:(datasets|spaces)/)?([^/?]+/[^/?]+)/resolve/")
_XET_TOKEN = re.compile(r"status (?:client|server) error \((\d{3})[^)]*\).*/xet-(read|write)-token/", re.DOTALL)
_LONGEST = 600
_NOT_CACHED = "offline mode is on, and the cache does not have it; unset HF_HUB_OFFLINE."


@contextlib.contextmanager
def hub_failures(
    action: str, repository: str | None = None, kind: str = "model", *, after: Callable[[], str] | None = None
) -> Iterator[None]:
    """Turn what the Hub's client raises in a block into one `HubError` of one line; everything else passes unchanged.

    Where the Hub cannot be reached, the block has the cache of this machine alone, see `looking_up`.

    Args:
        action: What the block does, as it stands after "could not", such as "push the adapter".
        repository: The repository that is meant where an answer of the Hub does not name one.
        kind: "model", "dataset" or "space".
        after: Says, once it has failed, what else is to be told, such as the state that the repository is in.

    Yields:
        None.

    Raises:
        HubError: No token, a wrong one or one without the right; something that is gated or not there; a conflict, too
            many requests, a failure of the Hub, no network, offline mode, a cut connection.

    Example:
        >>> try:
        ...     with hub_failures("read the card", "org/adapter"):
        ...         raise LocalTokenNotFoundError("no token")
        ... except HubError as error:
        ...     print(error)
        could not read the card: there is no token; log in with `hf auth login` or set HF_TOKEN.
    """
    try:
        with looking_up():
            yield
    except MuscleError:
        raise
    except Exception as error:
        reason = failure_reason(error, repository, kind)
        if reason is None:
            raise
        more = f" {after()}" if after is not None else ""
        raise HubError(f"could not {action}: {reason}{more}") from error


def lookup_failures(action: str, name: str | Path) -> contextlib.AbstractContextManager[None]:
    """As `hub_failures`, for a block that loads what may as well lie on this machine; then the block runs as it is."""
    return contextlib.nullcontext() if is_local(name) else hub_failures(action, str(name))


def failure_reason(error: BaseException, repository: str | None = None, kind: str = "model") -> str | None:
    """Say why the Hub's client failed, or return None where the exception is not about the Hub.

    Example:
        >>> failure_reason(KeyError("x")) is None
        True
    """
    chain: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in chain:
        chain.append(following)
        following = following.__cause__
    # That a file is not in the cache is only the consequence of what is below it in the chain.
    chain.sort(key=lambda one: isinstance(one, LocalEntryNotFoundError))
    for one in chain:
        if reason := _reason(one, repository, kind):
            return _one_line(reason, chain)
    return None


def _reason(error: BaseException, repository: str | None, kind: str) -> str | None:
    if isinstance(error, LocalTokenNotFoundError):
        return f"there is no token; {_LOG_IN}."
    if isinstance(error, OfflineModeIsEnabled):
        return _unreachable_reason() or "offline mode is on; unset HF_HUB_OFFLINE."
    if isinstance(error, HfHubHTTPError):
        return _answer_reason(error, repository, kind)
    if isinstance(error, LocalEntryNotFoundError):
        if is_switched_off_by_user():
            return _NOT_CACHED
        why = _unreachable_reason() or f"{constants.ENDPOINT} cannot be reached; check the network."
        return f"the cache does not have it, and {why}"
    if isinstance(error, EntryNotFoundError):
        return f"a file is missing in {_named(repository, kind)}: {error}"
    if isinstance(error, HFValidationError):
        return f"that is no name of a repository. {error}"
    if isinstance(error, ValueError) and str(error).startswith("LFS batch API"):
        return f"the Hub's storage refused the files; the same command again may go through. {error}"
    if isinstance(error, json.JSONDecodeError) and _from_an_answer(error.__traceback__):
        return f"{constants.ENDPOINT} answered with something else than JSON: an outage or a proxy; try again later."
    reason = _xet_reason(error, repository, kind) or _connection_reason(error)
    if reason is None and isinstance(error, ConnectionError):  # what datasets makes of all of these
        return _NOT_CACHED if is_switched_off_by_user() else _unreachable_reason()
    return reason


def _answer_reason(error: HfHubHTTPError, repository: str | None, kind: str) -> str:
    """Say what an answer with an error status means."""
    status, url = error.response.status_code, str(error.response.url)
    repository, kind = _meant(error, url) or (repository, kind)
    name, page = _named(repository, kind), _page(repository, kind)
    # Not error.request: the client's exception forgets it.
    request = error.response.request
    sent_token = "authorization" in request.headers
    place = _REVISION.search(url)
    said = f" The Hub says: {error.server_message}" if error.server_message else ""
    if isinstance(error, GatedRepoError):
        first = "" if sent_token else f"{_LOG_IN}, and "
        return f"{name} is gated; {first}accept its conditions at {page} with the account of the token."
    if isinstance(error, DisabledRepoError):
        return f"{name} was disabled by its author or by the Hub."
    if status == 401 and sent_token:
        return _WRONG_TOKEN
    if isinstance(error, RevisionNotFoundError):
        revision = f"revision {unquote(place[1])!r}" if place else "such revision"
        return f"{name} has no {revision}; check its name."
    if isinstance(error, RepositoryNotFoundError):
        hint = "this token does not see it" if sent_token else f"needs a login: {_LOG_IN}"
        return f"{name} does not exist, or is private and {hint}; check its name ({status})."
    if isinstance(error, EntryNotFoundError):
        file = f"file {unquote(place[2])!r}" if place and place[2] else "such file"
        return f"{name} has no {file}; check its name and the revision."
    if status == 401:
        return f"it needs a login (401); {_LOG_IN}."
    if status == 403 and request.method == "PUT":
        return "the Hub's storage refused the upload (403); the link may have expired: try again."
    if status == 403:
        return _no_right(name, reads=request.method in ("GET", "HEAD"), sent_token=sent_token) + said
    if status in (409, 412):
        return _conflict(name, status) + said
    if status == 429:
        seconds = _seconds(error)
        return f"too many requests (429); try again {f'in {seconds} seconds' if seconds else 'later'}."
    if status >= 500:
        return f"the Hub has a failure of its own ({status}); try again later."
    return f"the Hub refuses it ({status}).{said}"


def _connection_reason(error: BaseException) -> str | None:
    names = _kinds(error)
    where = constants.ENDPOINT
    if names & {"ConnectError", "ConnectTimeout", "ProxyError", "UnsupportedProtocol", "InvalidURL"}:
        return _no_way_there(error)
    if "TimeoutException" in names:
        return f"{where} took too long to answer; try again."
    if "HTTPError" in names:
        return f"the connection to {where} was cut; try again."
    return None


def _kinds(error: BaseException) -> set[str]:
    # By name: the client's own client is httpx or httpx2, as its version has it.
    return {kind.__name__ for kind in type(error).__mro__ if kind.__module__.partition(".")[0].startswith("httpx")}


def _unreachable_reason() -> str | None:
    """Say why nobody was asked, where that is why; None where the user has switched it off."""
    failure = why_unreachable()
    if failure is None:
        return None
    if isinstance(failure, TimeoutError) or "TimeoutException" in _kinds(failure):
        return (
            f"{constants.ENDPOINT} did not answer within {seconds_to_wait():g} seconds; check the network, the proxy "
            "and HF_ENDPOINT, or set HF_HUB_ETAG_TIMEOUT to wait longer."
        )
    return _no_way_there(failure)


def _no_way_there(error: BaseException) -> str:
    return f"{constants.ENDPOINT} cannot be reached; check the network, the proxy and HF_ENDPOINT. {error}"


def _xet_reason(error: BaseException, repository: str | None, kind: str) -> str | None:
    """Say why the storage for large files failed; its library raises Python's own exceptions, with a text."""
    frames = list(walk_tb(error.__traceback__))
    if not frames or not isinstance(error, OSError | RuntimeError):
        return None
    last = frames[-1][0]
    if "xet" not in last.f_code.co_name or not last.f_globals.get("__name__", "").startswith("huggingface_hub"):
        return None
    name, refused = _named(repository, kind), _XET_TOKEN.search(str(error))
    # What the Hub itself says; the storage behind it knows neither accounts nor repositories.
    if refused is not None and refused[1] == "401":
        return _WRONG_TOKEN
    if refused is not None and refused[1] == "403":
        return _no_right(name, reads=refused[2] == "read", sent_token=True)
    if refused is not None and refused[1] == "404":
        return f"{name} or its revision does not exist, or this token does not see it; check its name (404)."
    if refused is not None and refused[1] in ("409", "412"):
        return _conflict(name, int(refused[1]))
    return f"the Hub's storage (Xet) failed; try again, or set HF_HUB_DISABLE_XET=1 to go another way. {error}"


def _no_right(name: str, *, reads: bool, sent_token: bool) -> str:
    need = _LOG_IN if not sent_token else _READ_TOKEN if reads else _WRITE_TOKEN
    return f"there is no right to {f'read {name}' if reads else f'do that in {name}'} (403); {need}."


def _conflict(name: str, status: int) -> str:
    return f"{name} was changed by somebody else meanwhile ({status}); look at it and try again."


def _meant(error: HfHubHTTPError, url: str) -> tuple[str, str] | None:
    """Return which repository an answer is about, and its kind, as far as the client or the address tells."""
    if named := getattr(error, "repo_id", None):
        return named, getattr(error, "repo_type", None) or "model"
    if place := _DOWNLOAD.match(url):
        return unquote(place[2]), (place[1] or "models").removesuffix("s")
    return None


def _from_an_answer(traceback: TracebackType | None) -> bool:
    """Whether an exception came out of an answer of the network, and not out of a file that was read."""
    return any(frame.f_globals.get("__name__", "").startswith("httpx") for frame, _ in walk_tb(traceback))


def _seconds(error: HfHubHTTPError) -> int | None:
    """Return how long the Hub wants to be left alone, where it says so."""
    headers = error.response.headers
    found = re.fullmatch(r"\d+", headers.get("retry-after", "")) or re.search(
        r"(?<=t=)\d+", headers.get("ratelimit", "")
    )
    return int(found[0]) if found else None


def _named(repository: str | None, kind: str) -> str:
    if repository is None:
        return f"the {kind}"
    return repository if kind == "model" else f"the {kind} {repository}"


def _page(repository: str | None, kind: str) -> str:
    return f"{constants.ENDPOINT}/{constants.REPO_TYPES_URL_PREFIXES.get(kind, '')}{repository or ''}"


def _one_line(text: str, errors: list[BaseException]) -> str:
    """Return text without line breaks, control characters and tokens; it may hold what somebody else's server said."""
    headers = [error.response.request.headers for error in errors if isinstance(error, HfHubHTTPError)]
    tokens = [one.get("authorization", "").rpartition(" ")[2] for one in headers]
    for token in filter(None, [*tokens, get_token()]):
        if len(token) > 7:  # Shorter ones are no tokens, and would be found in any text.
            text = text.replace(token, "<token>")
    text = " ".join(_TOKEN.sub("<token>", text).split())
    text = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
    if len(text) > _LONGEST:
        return f"{text[:_LONGEST]} …"
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."
