"""Which names mean a path of this machine, and when the Hub is asked, once or not at all."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled

from muscle_hf.errors import HubError, InputError
from muscle_hf.hub import lookup as hub_lookup
from muscle_hf.hub.failures import hub_failures, lookup_failures
from muscle_hf.hub.lookup import is_local, is_switched_off_by_user, located, looking_up, unreachable

# What the client sends with: httpx, or httpx2 in later versions.
httpx = importlib.import_module(HTTPError.__module__.partition(".")[0])


class Client:
    """The Hub's client, which has one answer to all."""

    def __init__(self, answer: int | Exception) -> None:
        self.answer, self.asked = answer, 0

    def head(self, url: str, **_: Any) -> Any:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return httpx.Response(self.answer, request=httpx.Request("HEAD", url))


@pytest.fixture
def client_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | Exception], Client]:
    monkeypatch.setattr(hub_lookup, "_reached", set())
    monkeypatch.setattr(hub_lookup, "_failures", {})

    def make(answer: int | Exception) -> Client:
        client = Client(answer)
        monkeypatch.setattr(hub_lookup, "get_session", lambda: client)
        return client

    return make


PATHS = {
    "a folder of two parts": ("team/base", True),
    "a file": ("team/notes", True),
    "a link to a folder": ("link", True),
    "a link to nothing": ("dangling", True),
    "a folder that is not here": ("team/other", False),
    "an id": ("org/base", False),
    "nothing": ("", False),
    "too long for a path": ("x" * 5000, False),
    "not to be encoded": ("org/\0", False),
}


@pytest.mark.parametrize("case", PATHS)
def test_whatever_exists_here_is_not_looked_up_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "team" / "base").mkdir(parents=True)
    (tmp_path / "team" / "notes").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "team")
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    name, expected = PATHS[case]
    assert is_local(name) is expected


def test_a_folder_stays_the_same_one_in_another_working_directory_and_a_file_is_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "team" / "base").mkdir(parents=True)
    (tmp_path / "team" / "notes").write_text("")
    assert located("team/base") == located(Path("team/base")) == str(tmp_path / "team" / "base")
    assert located("org/base") == "org/base"
    with pytest.raises(InputError, match="team/notes is on this machine and is no folder"):
        located("team/notes")


ANSWERS: dict[str, tuple[int | Exception, bool]] = {
    "it is there": (200, True),
    "it wants a login": (401, True),
    "a mirror has no such page": (404, True),
    "it is down for a moment": (503, True),
    "it cut the connection": (httpx.RemoteProtocolError("Server disconnected"), True),
    "no such host": (httpx.ConnectError("[Errno -2] Name or service not known"), False),
    "no answer": (httpx.ConnectTimeout("timed out"), False),
    "no answer any more": (httpx.ReadTimeout("timed out"), False),
    "the proxy refuses": (httpx.ProxyError("403 Forbidden"), False),
    "the proxy wants a login": (407, False),
    "the gateway has nobody behind it": (502, False),
    "the gateway waits in vain": (504, False),
    "an address that is none": (httpx.InvalidURL("x"), False),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_only_a_hub_that_nobody_reaches_is_given_up_and_it_is_asked_once(
    client_of: Callable[[int | Exception], Client], case: str
) -> None:
    answer, is_reached = ANSWERS[case]
    client = client_of(answer)
    for _ in range(3):
        with looking_up("org/base"):
            assert constants.HF_HUB_OFFLINE is not is_reached
            assert not is_switched_off_by_user()
        assert constants.HF_HUB_OFFLINE is False
    assert client.asked == 1
    assert (unreachable() is None) is is_reached


def test_nobody_is_asked_about_a_path_or_where_the_user_says_so(
    client_of: Callable[[int | Exception], Client], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = client_of(httpx.ConnectError("no"))
    with looking_up(tmp_path), lookup_failures("load it", tmp_path):
        assert constants.HF_HUB_OFFLINE is False
    for path in (tmp_path / "gone", "~/base", "./gone", "models/team/base"):
        with looking_up(path):
            assert constants.HF_HUB_OFFLINE is False
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with looking_up("org/base"), hub_failures("load it", "org/base"):
        assert is_switched_off_by_user()
    assert constants.HF_HUB_OFFLINE is True
    with pytest.raises(HubError, match="offline mode is on; unset HF_HUB_OFFLINE"), hub_failures("load it"):
        raise OfflineModeIsEnabled("no")
    assert client.asked == 0


def test_a_mended_network_is_found_and_another_endpoint_asked_for_itself(
    client_of: Callable[[int | Exception], Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(hub_lookup.time, "monotonic", lambda: now[0])
    broken = client_of(httpx.ConnectError("no"))
    assert unreachable() is not None
    mended = client_of(200)
    now[0] += 14
    assert unreachable() is not None
    now[0] += 2
    assert unreachable() is None
    assert (broken.asked, mended.asked) == (1, 1)
    monkeypatch.setattr(constants, "ENDPOINT", "https://mirror.example")
    assert client_of(httpx.ConnectError("no")) and unreachable() is not None


def test_an_exception_within_leaves_the_hub_as_it_was(client_of: Callable[[int | Exception], Client]) -> None:
    client_of(httpx.ConnectError("no"))
    with pytest.raises(KeyError), looking_up("org/a"), looking_up("org/b"):
        raise KeyError("x")
    assert constants.HF_HUB_OFFLINE is False
    assert not is_switched_off_by_user()


def test_a_failure_says_the_networks_fault_and_not_that_offline_mode_is_on(
    client_of: Callable[[int | Exception], Client],
) -> None:
    client_of(httpx.ConnectError("[Errno -2] Name or service not known"))
    told = "could not load it: https://huggingface.co cannot be reached; check the network, the proxy and HF_ENDPOINT"
    for error in (OfflineModeIsEnabled("no"), ConnectionError("Couldn't reach it (LocalEntryNotFoundError)")):
        with pytest.raises(HubError) as raised, hub_failures("load it"):
            raise error
        assert str(raised.value).startswith(told)


def test_the_time_to_wait_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_ETAG_TIMEOUT", raising=False)
    assert hub_lookup.seconds_to_wait() == 2.5
    monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "30")
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 30)
    assert hub_lookup.seconds_to_wait() == 30
