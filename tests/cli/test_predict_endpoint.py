"""`muscle-hf predict --engine openai`: what an endpoint says, whole or not at all, in the order of the file."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from local_endpoint import Endpoint, endpoint
from tiny_models import CHAT_TEMPLATE, tiny_llama, tiny_tokenizer

import muscle_hf
from muscle_hf import choose_answers, generate_answers
from muscle_hf.cli import main
from muscle_hf.prediction.engines import server as requests_module

TOKENIZER = tiny_tokenizer(chat_template=CHAT_TEMPLATE)
MODEL = tiny_llama(5, TOKENIZER, hidden_size=16, layers=1)
PROMPTS = ["transfer ten dollars", "what is the balance", "freeze my account, I lost the card", " how do I say 😀 "]
ANSWERS = ["savings", "checking", "card", "thank you"]
ROWS = [{"prompt": one, "completion": f" {answer}"} for one, answer in zip(PROMPTS, ANSWERS, strict=True)]
KEY = "sk-" + "planted" * 5


@pytest.fixture(scope="module")
def running() -> Iterator[Endpoint]:
    with endpoint(MODEL, TOKENIZER) as served:
        yield served


@pytest.fixture
def served(running: Endpoint, monkeypatch: pytest.MonkeyPatch) -> Endpoint:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(requests_module, "_FIRST_WAIT", 1e-4)
    running.faults, running.requests, running.gives, running.before = [], [], "prompts", lambda: None
    return running


def _command(served: Endpoint, folder: Path, rows: Any, *more: str) -> list[str]:
    data = folder / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    words = ["predict", "task-on-v1", str(data), "--output", str(folder / "answers.jsonl"), "--engine", "openai"]
    return [*words, "--base-url", served.url, *more]


def _answers(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "answers.jsonl").read_text(encoding="utf-8").splitlines()]


def test_answers_of_an_endpoint_are_those_of_the_model_and_in_the_order_of_the_file(
    served: Endpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(_command(served, tmp_path, ROWS, "--concurrency", "2")) == 0
    longest = len("thank you") + 2
    expected = generate_answers(MODEL, TOKENIZER, PROMPTS, max_new_tokens=longest, show_progress=False)
    assert _answers(tmp_path) == [
        {"id": number, "question": prompt.strip(), "prediction": text.strip(), "reference": answer}
        for number, (prompt, text, answer) in enumerate(zip(PROMPTS, expected.texts, ANSWERS, strict=True))
    ]
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'answers.jsonl'}: 4 answers of task-on-v1 at {served.url}\n"
    cut = int((~expected.finished).sum())
    assert f"{cut} of 4 answers were cut off at --max-new-tokens {longest}." in err
    assert {body["model"] for _, _, body in served.requests} == {"task-on-v1"}


@pytest.mark.slow
def test_choices_and_conversations_are_asked_as_of_an_adapter(served: Endpoint, tmp_path: Path) -> None:
    chats = [[{"role": "user", "content": one}] for one in PROMPTS]
    for prompts, delimiter in ((PROMPTS, " "), (chats, "")):
        assert main(_command(served, tmp_path, [{"prompt": one, "choices": ANSWERS} for one in prompts])) == 0
        chosen = choose_answers(
            MODEL, TOKENIZER, prompts, [ANSWERS] * 4, delimiter=delimiter, show_progress=False
        ).indices
        assert [row["prediction"] for row in _answers(tmp_path)] == [ANSWERS[index] for index in chosen]
        (tmp_path / "answers.jsonl").unlink()


def test_a_run_that_an_endpoint_ended_goes_on_and_no_file_or_line_holds_the_key(
    served: Endpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"prompt": f"{prompt} {number}"} for number in range(4) for prompt in PROMPTS]
    command = _command(served, tmp_path, rows, "--max-new-tokens", "3", "--concurrency", "1")
    # Four answers are kept; then it is down.
    served.faults = [None] * 6 + [(503, {}, {"error": f"down, {KEY}"})] * 8
    assert main(command) == 2
    part = tmp_path / "answers.jsonl.part"
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.endswith(
        f"status 503: down, ***, 8 times in a row. 4 of 16 answers are kept in {part}; the same command goes on from "
        "there."
    )
    served.faults = [(400, {}, {"error": "too long"})]
    assert main(command) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "is refused" in line and line.endswith(
        f" 4 of 16 answers are kept in {part}; the same command goes on from there."
    )
    served.requests.clear()
    assert main(command) == 0
    assert len(served.requests) == 12
    expected = generate_answers(
        MODEL, TOKENIZER, [row["prompt"] for row in rows], max_new_tokens=3, show_progress=False
    ).texts
    assert [row["prediction"] for row in _answers(tmp_path)] == [text.strip() for text in expected]
    assert [row["id"] for row in _answers(tmp_path)] == list(range(16))
    seen = "".join(file.read_text(encoding="utf-8") for file in tmp_path.iterdir())
    assert KEY not in seen + line + "".join(capsys.readouterr())
    assert served.requests[0][1]["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("other", ["name", "address"])
def test_answers_of_another_model_or_server_are_not_mixed_in(
    served: Endpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str], other: str
) -> None:
    command = _command(served, tmp_path, ROWS, "--max-new-tokens", "3", "--concurrency", "1")
    served.faults = [*[None] * 4, 404]
    rows = [{"prompt": f"{prompt} {number}"} for number in range(2) for prompt in PROMPTS]
    assert main(_command(served, tmp_path, rows, "--max-new-tokens", "3", "--concurrency", "1")) == 2
    command = _command(served, tmp_path, rows, "--max-new-tokens", "3")
    changed = {
        "name": ("task-on-v1", "task-on-v2"),
        "address": (served.url, served.url.replace("127.0.0.1", "localhost")),
    }
    old, new = changed[other]
    assert main([new if word == old else word for word in command]) == 2
    assert "holds answers of an interrupted run with another" in capsys.readouterr().err.splitlines()[-1]
    assert main(command) == 0


def test_an_answer_that_was_filtered_is_told_and_stays_so_after_an_interruption(
    served: Endpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def filtered(answer: dict[str, Any]) -> dict[str, Any]:
        answer["choices"][0] |= {"text": None, "finish_reason": "content_filter"}
        return answer

    rows = [{"prompt": "x" * (9 - number), "reference": "y"} for number in range(6)]
    command = _command(served, tmp_path, rows, "--max-new-tokens", "2", "--concurrency", "1")
    served.faults = [None, filtered, None, None, 403]
    assert main(command) == 2
    assert main(command) == 0
    assert "1 of 6 answers are no whole ones: 1 content_filter. What came of them" in capsys.readouterr().err
    found = _answers(tmp_path)
    assert [row.get("finish_reason") for row in found] == [None, "content_filter", *[None] * 4]
    assert found[1]["prediction"] == ""
    # `muscle-hf compare` reads the file all the same.
    assert muscle_hf.compare_runs(tmp_path / "answers.jsonl", tmp_path / "answers.jsonl").tasks[0].comparison.n == 6


def test_a_server_that_cannot_choose_is_told_before_much_is_asked(
    served: Endpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served.gives = "answers"
    assert main(_command(served, tmp_path, [{"prompt": one, "choices": ANSWERS} for one in PROMPTS])) == 2
    assert "gives no log-probabilities of a prompt" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--dtype", "float32"), "--dtype would do nothing with --engine openai; leave it out, or ask with --engine"),
        (("--batch-size", "3"), "--batch-size would do nothing with --engine openai"),
        (("--trust-remote-code",), "--trust-remote-code would do nothing with --engine openai"),
        (("--concurrency", "0"), "--concurrency is 0"),
        (("--base-url", f"http://{KEY}@h/v1"), "base_url holds a user name or a password"),
        (("--api-key-env", "NOT_THERE"), "the environment variable NOT_THERE is not set"),
        (("--engine", "transformers"), "--base-url would do nothing with --engine transformers; leave it out, or ask"),
        (("--engine", "vllm"), "--base-url would do nothing with --engine vllm"),
        (("--engine", "vllm", "--batch-size", "2"), "--batch-size would do nothing with --engine vllm"),
    ],
)
def test_options_of_another_engine_are_refused(
    served: Endpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], words: str
) -> None:
    assert main(_command(served, tmp_path, ROWS, *more)) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert words in line and KEY not in line
    assert not served.requests and sorted(file.name for file in tmp_path.iterdir()) == ["data.jsonl"]


def test_an_endpoint_needs_its_address(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["predict", "x", "data.jsonl", "--output", str(tmp_path / "x"), "--engine", "openai"]
    assert main(command) == 2
    assert "--engine openai needs --base-url" in capsys.readouterr().err
