"""An endpoint answers as the model in this process does; its faults cost time and no answer; no key is seen."""

import asyncio
import json
import logging
import math
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from local_endpoint import CUT, DROP, Endpoint, endpoint
from tiny_models import CHAT_TEMPLATE, tiny_llama, tiny_tokenizer

from muscle_hf import (
    ConfigurationError,
    EndpointError,
    InputError,
    MuscleError,
    OpenAIEngine,
    choose_answers,
    generate_answers,
)
from muscle_hf.prediction.engines import server as requests_module
from muscle_hf.prediction.engines.address import Address

TOKENIZER = tiny_tokenizer(chat_template=CHAT_TEMPLATE, add_beginning=True)
MODEL = tiny_llama(7, TOKENIZER, hidden_size=16, layers=1)
TEXTS = ["what is the balance", "  white space at both ends \n", "日本 😀 é", "\n", "x" * 60]
CHATS = [[{"role": "user", "content": text}] for text in ("how do I say", " thank you 😀 ")]
KEY = "sk-" + "k3y" * 9


@pytest.fixture(scope="module")
def running() -> Iterator[Endpoint]:
    with endpoint(MODEL, TOKENIZER) as served:
        yield served


@pytest.fixture
def served(running: Endpoint, monkeypatch: pytest.MonkeyPatch) -> Endpoint:
    """The server, as if nothing had been asked of it."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    running.faults, running.requests, running.gives, running.before = [], [], "prompts", lambda: None
    running.most_at_once = 0
    return running


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited between two tries, without waiting."""
    waited: list[float] = []

    async def pause(seconds: float) -> None:
        waited.append(seconds)
        await asyncio.sleep(0)

    monkeypatch.setattr(requests_module, "_pause", pause)
    return waited


def _engine(served: Endpoint, **options: Any) -> OpenAIEngine:
    return OpenAIEngine(served.url, "tiny", **options)


# Answers -------------------------------------------------------------------------------------------------------------


def test_answers_are_those_of_the_model_in_this_process(served: Endpoint) -> None:
    prompts: list[Any] = [CHATS[0], *TEXTS, CHATS[1]]
    for longest in (1, 12):
        found = _engine(served).generate(prompts, max_new_tokens=longest)
        expected = generate_answers(MODEL, TOKENIZER, prompts, max_new_tokens=longest, show_progress=False)
        assert found.texts == expected.texts
        assert found.finished.tolist() == expected.finished.tolist()
        assert found.token_counts.tolist() == expected.token_counts.tolist()
        np.testing.assert_allclose(found.log_likelihoods, expected.log_likelihoods, atol=1e-4)
        assert found.ends == [""] * len(prompts)
        assert not expected.finished.all()


def test_an_empty_answer_is_an_answer_and_not_one_that_is_missing(served: Endpoint) -> None:
    def ended(answer: dict[str, Any]) -> dict[str, Any]:
        answer["choices"][0] |= {"text": "", "finish_reason": "stop"}
        return answer

    served.faults = [ended]
    found = _engine(served).generate(["x"], max_new_tokens=1)
    assert (found.texts, found.finished.tolist(), found.ends) == ([""], [True], [""])


def test_answers_that_come_back_in_another_order_stay_with_their_prompts(served: Endpoint) -> None:
    prompts = [f"card {number}" for number in range(9)]
    expected = generate_answers(MODEL, TOKENIZER, prompts, max_new_tokens=3, show_progress=False).texts
    arrived: list[threading.Event] = []
    lock = threading.Lock()

    def wait_for_the_next() -> None:
        with lock:
            mine = len(arrived)
            arrived.append(threading.Event())
            if mine == 8:
                arrived[8].set()
        if mine:  # the very first goes alone
            arrived[mine].wait()
            arrived[mine - 1].set()

    served.before = wait_for_the_next
    assert _engine(served, concurrency=8).generate(prompts, max_new_tokens=3).texts == expected
    assert len(set(expected)) > 4


def test_no_more_requests_are_under_way_than_was_said(served: Endpoint) -> None:
    meet = threading.Barrier(3)

    def together() -> None:
        if len(served.requests) > 1:
            meet.wait()

    served.before = together
    _engine(served, concurrency=3).generate([f"card {number}" for number in range(10)], max_new_tokens=1)
    assert served.most_at_once == 3


def test_a_notebook_whose_loop_is_running_can_ask(served: Endpoint) -> None:
    async def cell() -> list[str]:
        return _engine(served).generate(TEXTS[:1], max_new_tokens=2).texts

    expected = generate_answers(MODEL, TOKENIZER, TEXTS[:1], max_new_tokens=2, show_progress=False).texts
    assert asyncio.run(cell()) == expected


@pytest.mark.parametrize(
    ("change", "text", "end", "finished"),
    [
        ({"finish_reason": "content_filter"}, None, "content_filter", False),
        ({"finish_reason": "content_filter", "text": None}, "", "content_filter", False),
        ({"finish_reason": "tool_calls", "text": None}, "", "tool_calls", False),
        ({"finish_reason": "stop", "text": None}, "", "no text", False),
        ({"finish_reason": None}, None, "no finish_reason", False),
        ({"finish_reason": "eos_token"}, None, "", True),
        ({"finish_reason": "stop", "text": "half \ud83d"}, "half �", "", True),
    ],
)
def test_an_answer_that_is_none_is_told_from_one_that_ended(
    served: Endpoint, change: dict[str, Any], text: str | None, end: str, finished: bool
) -> None:
    whole = _engine(served).generate(["x"], max_new_tokens=2).texts[0]

    def changed(answer: dict[str, Any]) -> dict[str, Any]:
        answer["choices"][0] |= change
        return answer

    served.faults = [changed]
    found = _engine(served).generate(["x"], max_new_tokens=2)
    assert found.texts == [whole if text is None else text]
    assert (found.ends, found.finished.tolist()) == ([end], [finished])


@pytest.mark.parametrize(
    "answer",
    [
        *(b"<html>a proxy", b"", b"[1]", b"{}", b'{"choices": []}', b'{"choices": [{"text": 3}]}', b"[" * 9999),
        *(b'{"choices": [{"text": "a"}, {"text": "b"}]}', b'{"choices": [{"message": null}]}'),
    ],
)
def test_what_is_no_answer_is_refused(served: Endpoint, answer: bytes) -> None:
    served.faults = [(200, {}, answer)]
    with pytest.raises(EndpointError, match="answers with"):
        _engine(served).generate(["x"], max_new_tokens=2)


@pytest.mark.parametrize(
    "change",
    [
        {"logprobs": [1]},
        {"logprobs": {"token_logprobs": [None]}},
        {"logprobs": {"content": ["x"]}},
        {"logprobs": {"token_logprobs": None, "content": None}},
        {"logprobs": "none"},
    ],
    ids=str,
)
def test_log_probabilities_of_another_shape_are_none(served: Endpoint, change: dict[str, Any]) -> None:
    def changed(answer: dict[str, Any]) -> dict[str, Any]:
        answer["choices"][0] |= change
        return answer | {"usage": None}

    served.faults = [changed]
    found = _engine(served).generate(["x"], max_new_tokens=2)
    assert np.isnan(found.log_likelihoods).all() and np.isnan(found.mean_log_likelihoods).all()


# Log-likelihoods and choices -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("gives", ["nothing", "refuses"])
def test_a_server_without_log_probabilities_answers_all_the_same(served: Endpoint, gives: str) -> None:
    served.gives = gives
    engine = _engine(served)
    for _ in range(2):
        found = engine.generate([*TEXTS, *CHATS], max_new_tokens=3)
        expected = generate_answers(MODEL, TOKENIZER, [*TEXTS, *CHATS], max_new_tokens=3, show_progress=False)
        assert found.texts == expected.texts
        assert np.isnan(found.log_likelihoods).all() and np.isnan(found.mean_log_likelihoods).all()
    # The refusal was met once, by the request that goes first and alone.
    assert len(served.requests) == 2 * len([*TEXTS, *CHATS]) + (gives == "refuses")


@pytest.mark.parametrize("normalization", ["sum", "characters"])
@pytest.mark.parametrize("delimiter", ["", " ", "\n"])
def test_choices_are_those_of_the_model_in_this_process(served: Endpoint, normalization: Any, delimiter: str) -> None:
    prompts: list[Any] = [CHATS[0], *TEXTS[:3], CHATS[1]]
    choices = [["yes", "no", "savings 😀"], ["card", "a"], ["1", "22", "3"], ["é"], ["thank you", "x"]]
    how: dict[str, Any] = {"normalization": normalization, "delimiter": delimiter}
    found = _engine(served).choose(prompts, choices, **how)
    expected = choose_answers(MODEL, TOKENIZER, prompts, choices, show_progress=False, **how)
    assert found.indices.tolist() == expected.indices.tolist()
    for scores, right in zip(found.scores, expected.scores, strict=True):
        np.testing.assert_allclose(scores, right, atol=1e-4)


@pytest.mark.parametrize("gives", ["answers", "nothing", "refuses"])
@pytest.mark.parametrize("prompt", [TEXTS[0], CHATS[0]], ids=["text", "chat"])
def test_a_server_that_says_nothing_of_prompts_cannot_choose(served: Endpoint, gives: str, prompt: Any) -> None:
    served.gives = gives
    with pytest.raises(InputError, match=r"gives no log-probabilities of a prompt.*vLLM gives them"):
        _engine(served).choose([prompt], [["a", "b"]])


def test_a_choice_that_a_chat_template_puts_elsewhere_has_no_score(served: Endpoint) -> None:
    template = TOKENIZER.chat_template
    try:
        served.tokenizer.chat_template = template.replace("assistant\n", "assistant:\n")
        with pytest.raises(InputError, match="does not follow it in the endpoint's chat template"):
            _engine(served).choose([CHATS[0]], [["a", "b"]], delimiter="")
    finally:
        served.tokenizer.chat_template = template


def test_choices_that_do_not_belong_to_the_prompts_are_refused_before_anything_is_asked(served: Endpoint) -> None:
    for choices, words in (([["a"]], "2 prompts but 1"), ([["a"], []], "has no choices"), (["a", "b"], "list of str")):
        with pytest.raises(InputError, match=words):
            _engine(served).choose(["x", "y"], choices)
    assert not served.requests


# Faults --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "faults",
    [[503, 500], [429, 429], [DROP, DROP], [CUT, CUT], [502, DROP], [(504, {}, b"<html>"), 408], [529, CUT]],
    ids=str,
)
def test_a_server_that_fails_twice_and_then_answers_costs_no_answer(
    served: Endpoint, waits: list[float], faults: list[Any]
) -> None:
    served.faults = list(faults)
    prompts = TEXTS[:3]
    expected = generate_answers(MODEL, TOKENIZER, prompts, max_new_tokens=3, show_progress=False).texts
    assert _engine(served).generate(prompts, max_new_tokens=3).texts == expected
    assert len(served.requests) == len(prompts) + 2
    assert 0.25 <= waits[0] <= 0.5 <= waits[1] <= 1.0


def test_a_server_that_never_answers_is_given_up_and_waits_grow(
    served: Endpoint, waits: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    served.faults = [503] * 100
    with pytest.raises(EndpointError, match="answers with status 503: not now, 8 times in a row"):
        _engine(served).generate(TEXTS, max_new_tokens=3)
    # The first one alone, so that the others do not hammer a server that is down.
    assert len(served.requests) == 8
    assert [round(math.log2(wait / 0.75)) in (number - 1, number - 2) for number, wait in enumerate(waits)] == [
        True
    ] * 7
    assert max(waits) <= 60
    told = [line for line in caplog.messages if "it is asked again after" in line]
    assert len(told) == 1 and "answers with status 503: not now; it is asked again after" in told[0]


def test_waits_differ_so_that_clients_do_not_come_back_together(served: Endpoint, waits: list[float]) -> None:
    served.faults = [None, *[503] * 6]
    _engine(served, concurrency=6).generate([f"card {number}" for number in range(7)], max_new_tokens=1)
    assert len(set(waits)) == 6


@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [
        ("7", 7, 7),
        ("0.1", 0.25, 0.5),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 0.25, 0.5),
        ("soon", 0.25, 0.5),
        ("nan", 0.25, 0.5),
    ],
)
def test_a_server_is_left_alone_as_long_as_it_asks(
    served: Endpoint, waits: list[float], asked: str, least: float, most: float
) -> None:
    served.faults = [(429, {"Retry-After": asked}, {})]
    _engine(served).generate(["x"], max_new_tokens=1)
    assert least <= waits[0] <= most


@pytest.mark.parametrize("asked", ["86400", "inf", "Fri, 31 Dec 2100 23:59:59 GMT"])
def test_a_server_that_asks_for_a_day_ends_the_run(served: Endpoint, waits: list[float], asked: str) -> None:
    served.faults = [(429, {"Retry-After": asked}, {"error": {"message": "slow down"}})]
    with pytest.raises(EndpointError, match=r"asks to be left alone for .* seconds .*slow down"):
        _engine(served).generate(["x"], max_new_tokens=1)
    assert not waits


@pytest.mark.parametrize(
    ("status", "said", "kind", "words"),
    [
        (400, {"error": {"message": "too\nlong"}}, InputError, "prompt 1 is refused: .*status 400: too long"),
        (413, {}, InputError, "prompt 1 is refused: .*status 413"),
        (422, {"detail": [{"loc": ["x"]}]}, InputError, "prompt 1 is refused: .*status 422: .*loc"),
        (401, {"error": "no"}, EndpointError, "status 401: no .no key was sent; name its variable"),
        (403, {}, EndpointError, "status 403"),
        (404, {"message": "no model"}, EndpointError, "status 404: no model. Is the name of the model right"),
        (302, {}, EndpointError, "sends elsewhere"),
        (429, {"error": {"message": "no money", "code": "insufficient_quota"}}, EndpointError, "status 429: no money"),
        (418, b"\x1b[2J" + b"t" * 9999, EndpointError, "status 418: "),
    ],
)
def test_what_cannot_help_is_not_tried_again_and_is_told_in_a_line(
    served: Endpoint, waits: list[float], status: int, said: Any, kind: type[Exception], words: str
) -> None:
    served.faults = [None, (status, {"Location": "http://elsewhere"}, said)]
    with pytest.raises(kind, match=words) as caught:
        _engine(served, concurrency=1).generate(["x", "y", "z"], max_new_tokens=1)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 700
    assert (len(served.requests), waits) == (2, [])


def test_a_server_that_was_never_there_is_told_at_once(served: Endpoint, waits: list[float]) -> None:
    with pytest.raises(EndpointError, match=r"cannot be reached .*; is base_url right, and does the server run?"):
        OpenAIEngine("http://127.0.0.1:9", "tiny").generate(["x"], max_new_tokens=1)
    assert not waits


def test_a_request_that_takes_too_long_is_sent_again(served: Endpoint, waits: list[float]) -> None:
    free, calls = threading.Event(), iter(range(9))
    served.before = lambda: free.wait() if next(calls) == 0 else None
    found = _engine(served, timeout=0.2).generate(["x"], max_new_tokens=1)
    free.set()
    assert len(found.texts) == len(waits) == 1


def test_ctrl_c_lets_go_of_requests_that_hang(served: Endpoint) -> None:
    free = threading.Event()

    def interrupt() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        free.wait()

    served.before = interrupt
    with pytest.raises(KeyboardInterrupt):
        _engine(served).generate(["x"], max_new_tokens=1)
    free.set()


# The key and the address ---------------------------------------------------------------------------------------------


def test_a_key_is_sent_and_seen_nowhere_else(
    served: Endpoint, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for named in (None, "OLD_KEY"):
        monkeypatch.setenv(named or "OPENAI_API_KEY", f"{KEY}\n")
        engine = _engine(served, api_key_env=named)
        engine.generate(["x"], max_new_tokens=1)
        assert served.requests[-1][1]["Authorization"] == f"Bearer {KEY}"
        # A server may repeat it.
        served.faults = [(401, {}, {"error": {"message": f"no such key: {KEY}"}})]
        with pytest.raises(EndpointError) as caught:
            engine.generate(["x"], max_new_tokens=1)
        assert "no such key: ***" in str(caught.value)
        told = [str(caught.value), repr(caught.value), repr(engine.address), str(vars(engine)), str(engine.identity)]
        assert KEY not in "".join([*told, caplog.text, str(caught.value.__cause__), str(caught.value.__context__)])
        monkeypatch.delenv(named or "OPENAI_API_KEY")


@pytest.mark.parametrize(
    "change",
    [
        {"text": f"the key is {KEY}"},
        {"finish_reason": f"stop {KEY}"},
        {"text": None, "message": 3, "error": f"bad Bearer {KEY}"},
        {f"header {KEY}": [1]},
    ],
)
def test_an_answer_that_repeats_the_key_is_neither_kept_nor_shown(
    served: Endpoint, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, change: dict[str, Any]
) -> None:
    def changed(answer: dict[str, Any]) -> dict[str, Any]:
        answer["choices"][0] |= change
        return answer

    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    served.faults = [changed]
    with pytest.raises(EndpointError, match="repeats the key") as caught:
        _engine(served).generate(["x"], max_new_tokens=2)
    assert KEY not in "".join([str(caught.value), caplog.text])
    # A word that is no secret may be a word of an answer.
    monkeypatch.setenv("OPENAI_API_KEY", "EMPTY")
    served.faults = [lambda answer: answer | {"id": "EMPTY"}]
    assert _engine(served).generate(["x"], max_new_tokens=2).texts


def test_openais_key_does_not_go_unencrypted_to_others_unless_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert Address.of("http://elsewhere/v1").key is None
    assert "OPENAI_API_KEY is not sent to http://elsewhere/v1" in caplog.text and KEY not in caplog.text
    assert Address.of("http://elsewhere/v1", "OPENAI_API_KEY").key == KEY
    for url in ("https://elsewhere/v1", "http://localhost:1/v1", "http://127.0.0.2/v1", "http://[::1]:8/v1"):
        assert Address.of(url).key == KEY


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://localhost:8000", "http://localhost:8000/v1"),
        ("http://localhost:8000/", "http://localhost:8000/v1"),
        ("https://h/openai/v1/", "https://h/openai/v1"),
        (" http://[::1]:8000/v1 ", "http://[::1]:8000/v1"),
    ],
)
def test_an_address_without_a_path_is_that_of_the_first_version(url: str, shown: str) -> None:
    assert OpenAIEngine(url, "x").identity["base_url"] == shown


@pytest.mark.parametrize(
    ("url", "name", "words"),
    [
        (f"http://user:{KEY}@h/v1", None, "holds a user name or a password"),
        (f"http://{KEY}@h/v1", None, "holds a user name or a password"),
        (f"https://h/v1?api_key={KEY}", None, "goes on after . or #"),
        (f"https://h/v1#{KEY}", None, "goes on after . or #"),
        ("localhost:8000", None, "is no address of a server"),
        ("ftp://h/v1", None, "is no address of a server"),
        ("http://", None, "is no address of a server"),
        ("http://h:99999999/v1", None, "base_url is no URL"),
        (None, None, "base_url is no URL"),
        ("http://h/v1", KEY, "is no name of an environment variable"),
        ("http://h/v1", "NOT_SET", "the environment variable NOT_SET is not set"),
        ("http://h/v1", "BROKEN", "BROKEN holds what no key can be"),
    ],
)
def test_an_address_or_a_key_that_cannot_be_is_refused_unseen(
    monkeypatch: pytest.MonkeyPatch, url: Any, name: str | None, words: str
) -> None:
    monkeypatch.setenv("BROKEN", f"{KEY}\r\nX-Other: {KEY}")
    with pytest.raises(ConfigurationError, match=words) as caught:
        OpenAIEngine(url, "x", api_key_env=name)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency": 0},
        {"concurrency": True},
        {"model": " "},
        {"model": None},
        {"timeout": 0},
        {"timeout": math.nan},
    ],
    ids=str,
)
def test_options_without_a_meaning_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(MuscleError):
        OpenAIEngine(**{"base_url": "http://localhost:8000", "model": "x"} | options)


@pytest.mark.parametrize("prompts", [[], "one text", ["x", 3], ["x", []], ["x", ["y"]], [None]], ids=str)
def test_prompts_that_are_no_list_of_prompts_are_refused(served: Endpoint, prompts: Any) -> None:
    with pytest.raises(InputError, match=r"give a list with at least|prompt \d is .*; give a string or a list"):
        _engine(served).generate(prompts, max_new_tokens=1)
    assert json.dumps(_engine(served).identity)
