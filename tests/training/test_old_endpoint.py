"""An endpoint answers unlabelled prompts in the old model's place, once; the loss goes on with the old model."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from local_endpoint import Endpoint, endpoint
from tiny_updates import Update, config_of, make_update, trainer_of

from muscle_hf import ConfigurationError, EndpointError

PROMPTS = [f"what else, number {number}?\n" for number in range(5)]


@pytest.fixture(scope="module")
def update(tmp_path_factory: pytest.TempPathFactory) -> Update:
    return make_update(tmp_path_factory.mktemp("update"))


@pytest.fixture(scope="module")
def running(update: Update) -> Iterator[Endpoint]:
    with endpoint(update.load(1), update.tokenizer) as served:
        yield served


@pytest.fixture
def served(running: Endpoint) -> Endpoint:
    running.faults, running.requests = [], []
    return running


def _ended(answer: dict[str, Any], reason: str = "stop") -> dict[str, Any]:
    """A model of random weights comes to no end."""
    answer["choices"][0]["finish_reason"] = reason
    return answer


def _trainer(update: Update, served: Endpoint, folder: Path, **options: Any) -> Any:
    how = {"old_endpoint": served.url, "old_endpoint_model": "task-on-v1", "unlabelled_max_new_tokens": 3}
    prompts = Dataset.from_dict({"prompt": PROMPTS})
    return trainer_of(update, folder, unlabelled_dataset=prompts, **how | options)


def _kept(folder: Path) -> list[dict[str, Any]]:
    (file,) = folder.glob("unlabelled_answers/old-*/answers.jsonl")
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.mark.slow
def test_unlabelled_prompts_are_answered_by_the_endpoint_and_once(
    update: Update, served: Endpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    served.faults = [_ended, _ended, lambda answer: _ended(answer, "content_filter"), _ended, _ended]
    _trainer(update, served, tmp_path).train()
    assert sorted(row["prompt"] for row in _kept(tmp_path)) == PROMPTS
    assert sorted(row["finished"] for row in _kept(tmp_path)) == [False, True, True, True, True]
    assert {body["model"] for _, _, body in served.requests} == {"task-on-v1"}
    assert "old_endpoint gave no whole answer to 1 of 5 prompts: 1 content_filter." in caplog.text
    served.requests.clear()
    _trainer(update, served, tmp_path)
    assert not served.requests
    # Another model there has not given these answers.
    served.faults = [_ended] * 5
    _trainer(update, served, tmp_path, old_endpoint_model="task-on-v3")
    assert len(served.requests) == 5
    assert "holds answers that are not used" in caplog.text


def test_an_endpoint_that_refuses_ends_the_training_before_it_begins(
    update: Update, served: Endpoint, tmp_path: Path
) -> None:
    served.faults = [401]
    with pytest.raises(EndpointError, match="status 401"):
        _trainer(update, served, tmp_path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"old_endpoint": "http://h/v1"}, "old_endpoint needs old_endpoint_model"),
        ({"old_endpoint": "http://me:secret@h/v1", "old_endpoint_model": "x"}, "old_endpoint: base_url holds a user"),
        ({"old_endpoint": "h:8000", "old_endpoint_model": "x"}, "old_endpoint: base_url='h:8000' is no address"),
        ({"old_endpoint_model": "x"}, "old_endpoint_model would be ignored without old_endpoint"),
        ({"old_endpoint_concurrency": 3}, "old_endpoint_concurrency would be ignored without old_endpoint"),
        ({"old_endpoint_concurrency": 0}, "old_endpoint_concurrency=0 must be an int"),
        (
            {"old_endpoint": "http://h", "old_endpoint_model": "x", "unlabelled_teacher": "more_confident"},
            "compares log-likelihoods with those of old_endpoint",
        ),
    ],
)
def test_options_that_name_no_endpoint_are_refused(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        config_of(tmp_path, **options)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("teacher", [None, "new"])
def test_an_endpoint_that_nobody_asks_is_refused(
    update: Update, served: Endpoint, tmp_path: Path, teacher: str | None
) -> None:
    config = config_of(tmp_path, old_endpoint=served.url, old_endpoint_model="x", unlabelled_teacher=teacher or "old")
    with pytest.raises(ConfigurationError, match="old_endpoint would be ignored"):
        config.refuse_options_without_data(unlabelled_dataset=teacher is not None, flips_dataset=False)
    config.refuse_options_without_data(unlabelled_dataset=True, flips_dataset=False, asks_old_model=True)
