"""Work that processes share: real ones, joined by gloo, that wait for each other and fail together."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from two_processes import run_processes

from muscle_hf.models.processes import from_every_process, is_first_to_tell, on_main_process, place

# What each of three processes runs. It writes what it saw to a file of its own.
PROGRAM = """
import json, os, sys, time
from pathlib import Path
import torch.distributed as distributed
from torch.distributed.distributed_c10d import _get_default_store
from muscle_hf.models import processes
from muscle_hf.models.processes import OtherProcessError, from_every_process, is_first_to_tell, on_main_process, place

folder = Path(sys.argv[1])
distributed.init_process_group("gloo")
store, (rank, count) = _get_default_store(), place()
seen = {"place": place(), "gathered": from_every_process(lambda: rank), "main": on_main_process(lambda: place()[0])}

def raised(work):
    try:
        work()
    except BaseException as error:
        return f"{type(error).__name__}: {error}"

def fail(where, error):
    if rank == where:
        raise error

# The last one works until the others are asleep; nobody is in the collective before all can be.
sleep, gather = time.sleep, distributed.all_gather_object
def noted_sleep(seconds):
    store.set(f"asleep-{rank}", "")
    sleep(seconds)
def noted_gather(told, mine):
    seen["arrived"] = store.add(f"muscle_hf/meeting-{meeting}", 0)
    gather(told, mine)
meeting = next(processes._meetings) + 1
processes.time.sleep, distributed.all_gather_object = noted_sleep, noted_gather
from_every_process(lambda: store.wait(["asleep-0", "asleep-1"]) if rank == 2 else None)
processes.time.sleep, distributed.all_gather_object = sleep, gather
from_every_process(lambda: None)  # the key of the meeting before has been read by all
seen["keys"] = store.check([f"muscle_hf/meeting-{meeting}"])

seen["failures"] = [
    raised(lambda: from_every_process(lambda: fail(1, ValueError("out of memory")))),
    raised(lambda: on_main_process(lambda: fail(0, OSError("disk full")))),
    # Two at once, and what is within something else: the first one's message, once.
    raised(lambda: from_every_process(lambda: from_every_process(lambda: fail(2, ValueError("inside"))))),
]
seen["interrupted"] = raised(lambda: from_every_process(lambda: fail(1, KeyboardInterrupt("Ctrl-C"))))
seen["again"] = from_every_process(lambda: rank)
seen["tells"] = sum(from_every_process(is_first_to_tell))
(folder / f"seen-{rank}.json").write_text(json.dumps(seen))
if rank == 0:
    store.wait(["waits-1", "waits-2"])
    os._exit(0)  # as one that is killed, and with it the store
store.set(f"waits-{rank}", "")
(folder / f"gone-{rank}").write_text(raised(lambda: from_every_process(lambda: None)))
os._exit(0)
"""


def test_one_process_does_everything_itself() -> None:
    assert place() == (0, 1)
    assert on_main_process(lambda: "done") == "done"
    assert from_every_process(lambda: "part") == ["part"]
    assert is_first_to_tell()
    with pytest.raises(ZeroDivisionError):
        on_main_process(lambda: 1 // 0)


@pytest.mark.slow
def test_processes_wait_outside_of_the_collective_and_fail_together(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    run_processes(3, [sys.executable, "-c", PROGRAM, str(tmp_path)], env=os.environ | {"PYTHONPATH": str(root)})
    seen: list[dict[str, Any]] = [json.loads((tmp_path / f"seen-{rank}.json").read_text()) for rank in range(3)]
    assert [each["place"] for each in seen] == [[0, 3], [1, 3], [2, 3]]
    for each in seen:
        assert (each["gathered"], each["again"], each["main"], each["tells"]) == ([0, 1, 2], [0, 1, 2], 0, 1)
        assert each["arrived"] == 3
        assert not each["keys"]
    other = "OtherProcessError: Process {} failed: {}".format
    assert [each["failures"][0] for each in seen] == [
        other(1, "ValueError: out of memory"),
        "ValueError: out of memory",
        other(1, "ValueError: out of memory"),
    ]
    of_main = "OtherProcessError: The main process failed: OSError: disk full"
    assert [each["failures"][1] for each in seen] == ["OSError: disk full", of_main, of_main]
    assert [each["failures"][2] for each in seen] == [other(2, "ValueError: inside")] * 2 + ["ValueError: inside"]
    assert {each["interrupted"].partition(":")[0] for each in seen} == {"KeyboardInterrupt"}
    for rank in (1, 2):
        assert "OtherProcessError: The main process has ended" in (tmp_path / f"gone-{rank}").read_text()
