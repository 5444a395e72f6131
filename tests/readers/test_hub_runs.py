"""Samples and details on the Hub are found, downloaded and read as a folder is; nothing else is fetched."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fresh
import pytest
from harness_samples import DATES, FOLDER, generation
from lighteval_details import detail, write
from local_hub import serve

Row = dict[str, Any]
DATE, LATER = "2026-02-02T03-04-05.678901", "2026-03-03T03-04-05.678901"

_CLIENT = """
import json, sys
from pathlib import Path
from muscle_hf import InputError, compare_runs, read

for old, new, options in json.loads(sys.argv[1]):
    try:
        if new is None:
            run = read(old, **options)
            print(json.dumps({"name": run.name, "source": run.source, "revision": run.revision, "notes": run.notes,
                              "tasks": {name: task.values().tolist() for name, task in run.tasks.items()}}))
        else:
            result = compare_runs(old, new, **options)
            print(json.dumps({part.name: [part.n, part.comparison.negative_flip_rate] for part in result.tasks}
                             | {"flips": len(list(result.flips()))}))
    except InputError as error:
        print(json.dumps({"error": str(error)}))
cache = Path(sys.argv[2]) / "hub"
print(json.dumps(sorted({file.name for file in cache.glob("*/snapshots/*/**/*") if file.is_file()})))
"""


def _folder(model: str) -> dict[str, bytes]:
    files = sorted((FOLDER / model).rglob("*.json*"))
    return {f"models__{model}/{file.name}": file.read_bytes() for file in files}


def _quiz(date: str, said: str, model: str = "org__m", count: int = 3) -> dict[str, bytes]:
    rows = "".join(json.dumps(generation(i, said)) + "\n" for i in range(3))
    results = {"configs": {"quiz": {}}, "n-samples": {"quiz": {"original": count, "effective": count}}}
    return {
        f"{model}/samples_quiz_{date}.jsonl": rows.encode(),
        f"{model}/results_{date}.json": json.dumps(results).encode(),
    }


def _lighteval(folder: Path, right: list[int], counted: int) -> dict[str, bytes]:
    rows = [
        detail(i, acc=float(ok), response={"logprobs": [-1.5 - i, -2.5] if ok else [-2.5 - i, -1.25]})
        for i, ok in enumerate(right)
    ]
    task = "leaderboard|arc:challenge|25"
    file = write(folder / f"{counted}.parquet", rows)
    results = {"config_tasks": {task: {"effective_num_docs": counted}}}
    return {
        f"{DATE}/details_{task}_{DATE}.parquet": file.read_bytes(),
        f"results_{DATE}.json": json.dumps(results).encode(),
        "README.md": b"# Details\n",
    }


ASKED: list[tuple[str, str | None, Row]] = [
    ("org/tiny-v1", "org/tiny-v2", {"filter": "flexible-extract"}),
    (str(FOLDER / "tiny-v1"), "org/tiny-v2@v2", {"filter": "flexible-extract"}),
    ("org/tiny-v1", None, {"tasks": "piqa_*"}),
    ("org/several", None, {}),
    ("org/several", None, {"config": "org__a"}),
    ("org/several@model=org__b", None, {}),
    ("org/several", None, {"config": "org__c"}),
    ("org/twice", None, {}),
    ("org/twice", None, {"run": "2026-02"}),
    ("org/twice", None, {"run": "2025"}),
    ("org/cut", "org/twice", {}),
    ("org/light-v1", "org/light-v2", {}),
    ("org/light-cut", "org/light-v2", {}),
    ("org/light-v1", None, {"columns": {"id": "x"}}),
    ("org/tiny-v1", None, {"tasks": "nothing"}),
]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, Row], list[str]]]:
    home, folder = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("details")
    repositories = {
        "org/tiny-v1": {"main": _folder("tiny-v1") | {"weights.bin": b"x" * 1000, "README.md": b"# Samples\n"}},
        "org/tiny-v2": {"main": _folder("tiny-v2"), "v2": _folder("tiny-v2")},
        "org/several": {"main": _quiz(DATE, "4", "org__a") | _quiz(DATE, "5", "org__b")},
        "org/twice": {"main": _quiz(DATE, "4") | _quiz(LATER, "5")},
        "org/cut": {"main": _quiz(DATE, "4", count=5)},
        "org/light-v1": {"main": _lighteval(folder, [1, 1, 0], 3)},
        "org/light-v2": {"main": _lighteval(folder, [1, 0, 1, 1], 4)},
        "org/light-cut": {"main": _lighteval(folder, [1, 1, 0], 9)},
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HTTP", "http"))}
    environment |= {"HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "*"}
    with serve(repositories) as endpoint:
        command = [sys.executable, "-c", _CLIENT, json.dumps(ASKED), str(home)]
        done = fresh.run(command, env=environment | {"HF_ENDPOINT": endpoint}, cwd=home)
    assert done.returncode == 0, done.stderr
    *rows, files = [json.loads(line) for line in done.stdout.splitlines()]
    command[3] = json.dumps([("org/twice", None, {}), ("org/never-read", None, {})])
    offline = fresh.run(command, env=environment | {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "1"}, cwd=home)
    assert offline.returncode == 0, offline.stderr
    keys = [" ".join(map(str, filter(None, asked))).replace(f"{FOLDER}/", "") for asked in ASKED]
    without_network = [json.loads(line) for line in offline.stdout.splitlines()[:2]]
    yield dict(zip([*keys, "offline", "never read"], [*rows, *without_network], strict=True)), files


@pytest.mark.slow
def test_samples_on_the_hub_are_compared_as_their_folders_are(told: tuple[dict[str, Row], list[str]]) -> None:
    found, _ = told
    expected = {"gsm8k_local", "hellaswag_local", "piqa_local", "flips"}
    first = found["org/tiny-v1 org/tiny-v2 {'filter': 'flexible-extract'}"]
    assert first.keys() == expected
    assert first == found["tiny-v1 org/tiny-v2@v2 {'filter': 'flexible-extract'}"]


@pytest.mark.slow
def test_only_what_is_read_is_downloaded(told: tuple[dict[str, Row], list[str]]) -> None:
    found, files = told
    assert list(found["org/tiny-v1 {'tasks': 'piqa_*'}"]["tasks"]) == ["piqa_local"]
    assert "weights.bin" not in files and "README.md" not in files
    assert f"samples_piqa_local_{DATES['tiny-v1']}.jsonl" in files and f"results_{DATES['tiny-v1']}.json" in files


@pytest.mark.slow
def test_of_several_models_one_is_chosen_by_name(told: tuple[dict[str, Row], list[str]]) -> None:
    found, _ = told
    message = found["org/several"]["error"]
    assert "the runs of 2 models (org__a, org__b)" in message and "--config NAME" in message
    assert found["org/several {'config': 'org__a'}"]["tasks"]["quiz"] == [1, 1, 1]
    chosen = found["org/several@model=org__b"]
    assert (chosen["name"], chosen["tasks"]["quiz"]) == ("org__b", [0, 0, 0])
    assert "has no run of the model 'org__c'" in found["org/several {'config': 'org__c'}"]["error"]


@pytest.mark.slow
def test_the_newest_run_of_each_task_is_read_unless_another_is_asked_for(
    told: tuple[dict[str, Row], list[str]],
) -> None:
    found, _ = told
    newest = found["org/twice"]
    assert newest["tasks"]["quiz"] == [0, 0, 0] and "run more than once" in newest["notes"][0]
    assert len(newest["revision"]) == 40 and newest["source"] == "org/twice"
    assert found["org/twice {'run': '2026-02'}"]["tasks"]["quiz"] == [1, 1, 1]
    assert f"has no run '2025'; it has {DATE}, {LATER}" in found["org/twice {'run': '2025'}"]["error"]


@pytest.mark.slow
def test_without_a_network_what_was_downloaded_is_read(told: tuple[dict[str, Row], list[str]]) -> None:
    found, _ = told
    assert found["offline"]["tasks"] == found["org/twice"]["tasks"]
    assert "cannot be loaded" in found["never read"]["error"]


@pytest.mark.slow
def test_samples_that_are_fewer_than_their_results_say_are_refused(told: tuple[dict[str, Row], list[str]]) -> None:
    found, _ = told
    assert "holds 3 samples, but" in (message := found["org/cut org/twice"]["error"]) and "5 were scored" in message
    assert "says that 9 were scored" in found["org/light-cut org/light-v2"]["error"]


@pytest.mark.slow
def test_details_of_lighteval_are_read_from_the_hub(told: tuple[dict[str, Row], list[str]]) -> None:
    found, _ = told
    assert "lacks 1 of the 4 ids" in found["org/light-v1 org/light-v2"]["error"]
    assert "columns={'id': 'x'} would choose nothing" in found["org/light-v1 {'columns': {'id': 'x'}}"]["error"]
    assert "has no task 'nothing'" in found["org/tiny-v1 {'tasks': 'nothing'}"]["error"]
