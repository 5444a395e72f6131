"""The process that tests talk to: no test is given the answer that belongs to another, whatever failed before."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_worker import Worker
from local_hub import hub

# Once the file is there, the request is under way; it is never answered.
HANGS = "open(path, 'w').close()\nimport time\nwhile True: time.sleep(1)"


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    with hub() as server:
        running = Worker(server, tmp_path)
        yield running
        running.stop()


def test_the_answer_that_nobody_waited_for_goes_to_the_next_test(worker: Worker) -> None:
    worker.begin("result = 'of a test that failed'")
    assert worker.run("result = 'of the next'")["result"] == "of the next"
    assert worker.run("result = 'of the one after'")["result"] == "of the one after"


def test_a_request_that_never_ends_keeps_the_tests_after_it(worker: Worker, tmp_path: Path) -> None:
    worker.begin(HANGS, path=str(tmp_path / "reached"))
    assert worker.run("result = 1")["result"] == 1
    worker.begin(HANGS, path=str(tmp_path / "reached"))  # and so is the process ended


def test_a_process_that_died_is_said_and_replaced(worker: Worker) -> None:
    with pytest.raises(AssertionError, match="ended with 3 before it answered request 1"):
        worker.run("import os; os._exit(3)")
    assert worker.run("result = 2")["result"] == 2
