"""What goes wrong with the Hub is told in one line, apart from what else can go wrong, and without a token."""

import importlib
import json
import re
import socket
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from hub_worker import Worker
from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalEntryNotFoundError, LocalTokenNotFoundError
from huggingface_hub.utils import hf_raise_for_status
from local_hub import Fault, Hub, User, hub, run_client

from muscle_hf.errors import HubError, InputError, MuscleError
from muscle_hf.hub.failures import failure_reason, hub_failures

# What the client sends with: httpx, or httpx2 in later versions.
httpx = importlib.import_module(HTTPError.__module__.partition(".")[0])
TOKEN = "hf_" + "x1" * 17
ENDPOINT = "https://huggingface.co"


def answered(
    status: int,
    *,
    url: str = f"{ENDPOINT}/api/models/acme/x",
    method: str = "GET",
    token: str | None = TOKEN,
    headers: dict[str, str] | None = None,
    body: Any = None,
) -> HfHubHTTPError:
    """The exception that the client makes of an answer."""
    sent = {} if token is None else {"authorization": f"Bearer {token}"}
    request = httpx.Request(method, url, headers=sent)
    response = httpx.Response(status, headers=headers, json=body, request=request)
    with pytest.raises(HfHubHTTPError) as caught:
        hf_raise_for_status(response)
    return caught.value


CODE = "X-Error-Code"
ANSWERS: dict[str, tuple[Callable[[], HfHubHTTPError], str]] = {
    "wrong token": (
        lambda: answered(401, headers={"X-Error-Message": "Invalid credentials in Authorization header"}),
        r"the token is wrong or has expired \(401\)",
    ),
    "wrong token, told as missing": (
        lambda: answered(401, headers={CODE: "RepoNotFound"}),
        r"the token is wrong or has expired \(401\)",
    ),
    "no token": (lambda: answered(401, url=f"{ENDPOINT}/api/whoami-v2", token=None), r"needs a login \(401\)"),
    "missing, logged in": (
        lambda: answered(404, headers={CODE: "RepoNotFound"}),
        r"acme/x does not exist, or is private and this token does not see it.*\(404\)",
    ),
    "missing, not logged in": (
        lambda: answered(401, token=None),
        r"acme/x does not exist, or is private and needs a login: log in with `hf auth login`",
    ),
    "missing data set": (
        lambda: answered(404, url=f"{ENDPOINT}/api/datasets/acme/d", headers={CODE: "RepoNotFound"}),
        "the dataset acme/d does not exist",
    ),
    "gated": (
        lambda: answered(403, url=f"{ENDPOINT}/acme/base/resolve/main/config.json", headers={CODE: "GatedRepo"}),
        "acme/base is gated; accept its conditions at https://huggingface.co/acme/base with",
    ),
    "gated, not logged in": (
        lambda: answered(401, token=None, headers={CODE: "GatedRepo"}),
        "acme/x is gated; log in .* and accept its conditions",
    ),
    "disabled": (
        lambda: answered(403, headers={"X-Error-Message": "Access to this resource is disabled."}),
        "acme/other was disabled",
    ),
    "no such revision": (
        lambda: answered(404, url=f"{ENDPOINT}/api/models/acme/x/revision/v9%2Fa", headers={CODE: "RevisionNotFound"}),
        "acme/x has no revision 'v9/a'",
    ),
    "no such file": (
        lambda: answered(404, url=f"{ENDPOINT}/acme/x/resolve/main/a/b.json", headers={CODE: "EntryNotFound"}),
        "acme/x has no file 'a/b.json'",
    ),
    "no right to read": (
        lambda: answered(403, url=f"{ENDPOINT}/acme/base/resolve/main/config.json"),
        r"no right to read acme/base \(403\); take a token that may read it",
    ),
    "no right": (
        lambda: answered(403, method="POST", body={"error": "You do not own it"}),
        r"no right to do that.*\(403\); take a token with write access.*You do not own it",
    ),
    "conflict": (lambda: answered(412, method="POST"), r"changed by somebody else meanwhile \(412\); look"),
    "too many": (lambda: answered(429), r"too many requests \(429\); try again later"),
    "too many, with seconds": (
        lambda: answered(429, headers={"Retry-After": "30"}),
        r"too many requests \(429\); try again in 30 seconds",
    ),
    "too many, with a limit": (
        lambda: answered(429, headers={"ratelimit": '"api";r=0;t=55'}),
        r"too many requests \(429\); try again in 55 seconds",
    ),
    "failure of the Hub": (lambda: answered(503), r"the Hub has a failure of its own \(503\)"),
    "refused": (
        lambda: answered(400, body={"error": "Bad license"}),
        r"refuses it \(400\). The Hub says: Bad license",
    ),
    "storage": (lambda: answered(403, method="PUT", token=None), "storage refused the upload"),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_every_refusal_is_told_apart_from_all_others(case: str) -> None:
    make, words = ANSWERS[case]
    with pytest.raises(HubError) as caught, hub_failures("do it", "acme/other"):
        raise make()
    said = str(caught.value)
    assert re.fullmatch(rf"could not do it: .*{words}.*", said), said
    others = {name: other for name, (_, other) in ANSWERS.items() if other not in (words, ANSWERS[case][1])}
    same = [name for name, other in others.items() if re.search(other, said) and not re.search(words, other)]
    allowed = {"too many"} if case.startswith("too many") else set()
    assert set(same) <= allowed


def test_a_download_names_its_own_repository_where_the_client_does_not_tell_it() -> None:
    # As with huggingface_hub 1.31, which tells it for /api/… only.
    for place, name in (("acme/base", "acme/base"), ("datasets/acme/rows", "the dataset acme/rows")):
        error = answered(404, url=f"{ENDPOINT}/{place}/resolve/main/a.json", headers={CODE: "EntryNotFound"})
        error.repo_id = error.repo_type = None  # type: ignore[attr-defined]
        assert failure_reason(error, "acme/other") == f"{name} has no file 'a.json'; check its name and the revision."


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (401, "write", "the token is wrong or has expired (401)"),
        (403, "write", "no right to do that in acme/x (403); take a token with write access"),
        (403, "read", "no right to read acme/x (403); take a token that may read it"),
        (404, "read", "acme/x or its revision does not exist"),
        (409, "write", "acme/x was changed by somebody else meanwhile (409)"),
        (500, "write", "the Hub's storage (Xet) failed"),
    ],
)
def test_what_the_hub_refuses_to_the_large_file_storage_is_not_the_storages_fault(
    status: int, kind: str, words: str
) -> None:
    level = "client" if status < 500 else "server"
    address = f"{ENDPOINT}/api/models/acme/x/xet-{kind}-token/main"
    text = f"Network error: HTTP status {level} error ({status} Word), domain: {address}"

    def raised(text: str) -> str:
        names: dict[str, Any] = {"__name__": "huggingface_hub._commit_api"}
        exec("def _upload_xet_files(text):\n    raise RuntimeError(text)", names)  # noqa: S102 - as its frame looks
        with pytest.raises(RuntimeError) as caught:
            names["_upload_xet_files"](text)
        return str(failure_reason(caught.value, "acme/x"))

    said = raised(text)
    assert words in said
    assert said.endswith(".")
    # The storage itself knows neither accounts nor repositories.
    assert "storage (Xet) failed" in raised(text.replace("/api/models/acme/x/xet-", "/xet/"))


def test_what_follows_a_reason_is_a_sentence_of_its_own() -> None:
    with pytest.raises(HubError) as caught, hub_failures("do it", after=lambda: "Nothing was changed."):
        raise answered(400, body={"error": "Bad license"})
    assert (
        str(caught.value)
        == "could not do it: the Hub refuses it (400). The Hub says: Bad license. Nothing was changed."
    )


def test_what_a_hostile_server_says_stays_one_line_without_commands_and_tokens() -> None:
    hostile = f"\x1b[2J\r\nevil\u202e {TOKEN} Bearer abc.def and https://ann:secret@example.org/x " + "y" * 10_000
    said = failure_reason(answered(400, body={"error": hostile}))
    assert said is not None
    assert said.isprintable()
    assert len(said) < 700
    for secret in (TOKEN, "abc.def", "secret"):
        assert secret not in said


def test_a_token_of_any_form_that_was_sent_is_not_shown() -> None:
    said = failure_reason(answered(400, token="my-own-odd-token", body={"error": "who is my-own-odd-token?"}))  # noqa: S106
    assert said is not None
    assert "odd" not in said


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (httpx.ConnectError("[Errno -2] Name or service not known"), "cannot be reached; check the network"),
        (httpx.ConnectTimeout("timed out"), "cannot be reached"),
        (httpx.ProxyError("407"), "cannot be reached"),
        (httpx.ReadTimeout("timed out"), "took too long"),
        (httpx.ReadError("reset"), "was cut"),
        (httpx.WriteError("broken pipe"), "was cut"),
        (httpx.RemoteProtocolError("Server disconnected"), "was cut"),
        (LocalTokenNotFoundError("Token is required"), "there is no token"),
        (LocalEntryNotFoundError("no"), "the cache does not have it"),
    ],
)
def test_trouble_of_the_network_is_told_apart(error: Exception, words: str) -> None:
    assert words in str(failure_reason(error))


def test_the_cause_is_found_below_what_libraries_make_of_it() -> None:
    def wrapped(cause: Exception) -> Exception:
        try:
            try:
                raise LocalEntryNotFoundError("not in the cache") from cause
            except LocalEntryNotFoundError as error:
                raise OSError("We couldn't connect to the Hub; is 'acme/x' a correct path?") from error
        except OSError as error:
            return error

    assert "gated" in str(failure_reason(wrapped(answered(403, headers={CODE: "GatedRepo"}))))
    assert "was cut" in str(failure_reason(wrapped(httpx.ReadError("reset"))))


@pytest.mark.parametrize(
    "error",
    [
        KeyError("x"),
        ValueError("adapter"),
        OSError("disk full"),
        json.JSONDecodeError("bad", "{", 0),
        RuntimeError("CUDA"),
    ],
)
def test_what_is_not_about_the_hub_passes_unchanged(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, hub_failures("do it"):
        raise error
    assert caught.value is error


def test_our_own_complaints_pass_unchanged_and_interrupts_too() -> None:
    for error in (InputError("bad"), HubError("known"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, hub_failures("do it"):
            raise error
        assert caught.value is error
    assert issubclass(HubError, MuscleError)


# ---- the real client against a Hub


@pytest.fixture(scope="module")
def server() -> Iterator[Hub]:
    with hub(tokens={TOKEN: User("ann", orgs=("acme",))}) as running:
        running.create("acme/x", files={"config.json": b"{}"})
        running.create("bob/gated", files={"config.json": b"{}"}, gated=True)
        running.create("bob/private", files={"config.json": b"{}"}, private=True)
        yield running


DOWNLOAD = """
from huggingface_hub import hf_hub_download
from muscle_hf.hub.failures import hub_failures
with hub_failures("read it", repository):
    result = hf_hub_download(repository, file, revision=revision)
"""


def test_the_real_client_and_a_real_server_give_one_line_each(
    server: Hub, tmp_path_factory: pytest.TempPathFactory
) -> None:
    worker = Worker(server, tmp_path_factory.mktemp("home"))

    def said(repository: str, file: str = "config.json", revision: str = "main", token: str | None = TOKEN) -> str:
        answer = worker.run(DOWNLOAD, token=token, repository=repository, file=file, revision=revision)
        assert answer["error"] == "HubError", answer
        return str(answer["message"])

    try:
        assert said("acme/none").startswith("could not read it: acme/none does not exist")
        assert said("bob/private").startswith("could not read it: bob/private does not exist")
        assert said("acme/none", token=None).startswith("could not read it: acme/none does not exist")
        assert said("bob/gated").startswith("could not read it: bob/gated is gated; accept")
        assert said("bob/gated", token=None).startswith("could not read it: bob/gated is gated; log in")
        assert said("acme/x", token="wrong-token").startswith("could not read it: the token is wrong")  # noqa: S106
        assert said("acme/x", file="none.json").startswith("could not read it: acme/x has no file 'none.json'")
        assert said("acme/x", revision="v9").startswith("could not read it: acme/x has no revision 'v9'")
        assert said("not a name").startswith("could not read it: that is no name of a repository.")
        server.fault(Fault(status=403, path="config.json"))
        assert said("acme/x").startswith("could not read it: there is no right")
    finally:
        server.clear_faults()
        worker.stop()


ASK = """
from huggingface_hub import HfApi
from muscle_hf.hub.failures import hub_failures
with hub_failures("read it", "acme/x"):
    HfApi().whoami()
"""


class _ProxyPage(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>Please sign in to the hotel</html>")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the base class
        """Say nothing."""


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("nobody", "cannot be reached; check the network"),
        ("offline", "offline mode is on"),
        ("proxy", "answered with something else than JSON"),
    ],
)
def test_no_network_offline_mode_and_a_proxy_page_are_told_apart(
    server: Hub, tmp_path: Path, case: str, words: str
) -> None:
    with HTTPServer(("127.0.0.1", 0), _ProxyPage) as proxy:
        serving = Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02})
        serving.start()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1] if case == "nobody" else proxy.server_address[1]
        name, value = ("HF_HUB_OFFLINE", "1") if case == "offline" else ("HF_ENDPOINT", f"http://127.0.0.1:{port}")
        done = run_client(f"import os\nos.environ[{name!r}] = {value!r}\n{ASK}", server, home=tmp_path, token=TOKEN)
        proxy.shutdown()
        serving.join()
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("muscle_hf.errors.HubError: could not read it: ")
    assert words in last
