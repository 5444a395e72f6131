"""Data sets of the Hub, loaded by the real libraries in a fresh interpreter from a Hub on this machine."""

import io
import json
import os
import re
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import fresh
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lighteval_details import detail, old
from local_hub import serve

from muscle_hf import InputError, read

Row = dict[str, Any]

# Each process pays for the imports once: it reads one source after the other, and tells what came of each.
_CLIENT = """
import json, sys
from muscle_hf import InputError, read

for source, options in json.loads(sys.argv[1]):
    try:
        run = read(source, **options)
        print(json.dumps({"name": run.name, "revision": run.revision, "tasks": {
            name: {
                "ids": task.ids.to_pylist(),
                "answers": task.answers.to_pylist(),
                "references": task.references.to_pylist(),
                "row_ids_of": task.row_ids_of,
                "texts": [list(text) for text in task.read_texts(__import__("numpy").arange(len(task)))],
                "slices": {name: column.to_pylist() for name, column in task.slices.items()},
            }
            for name, task in run.tasks.items()
        }}))
    except InputError as error:
        print(json.dumps({"error": str(error)}))
"""


def _rows(said: str, **more: str) -> list[Row]:
    return [{"id": i, "prediction": a, "reference": "A", **more} for i, a in enumerate(said)]


def _jsonl(said: str, **more: str) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in _rows(said, **more)).encode()


def _parquet(said: str) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(_rows(said)), buffer)
    return buffer.getvalue()


_CARD = b"""---
configs:
- config_name: easy
  data_files: easy.jsonl
- config_name: hard
  data_files: hard.jsonl
---
"""

_COUNTED = b"""---
dataset_info:
  features: [{name: id, dtype: int64}, {name: prediction, dtype: string}, {name: reference, dtype: string}]
  splits: [{name: test, num_bytes: 60, num_examples: 3}]
---
"""

REPOSITORIES = {
    "org/answers": {
        "main": {"answers.jsonl": _jsonl("AB", question="What?", subject="law"), "README.md": b"# Answers\n"},
        "v1": {"answers.jsonl": _jsonl("BA", question="What?", subject="law")},
    },
    "org/wide": {"main": {"wide.csv": b"id,reference,model-a,model-b\n1,A,A,B\n2,B,A,B\n"}},
    "org/long": {
        "main": {"long.csv": b"id,model,guess,reference\n1,a,A,A\n1,b:1,B,A\n2,a,B,B\n2,b:1,B,B\n"},
        "v1": {"long.csv": b"id,model,guess,reference\n1,a,B,A\n"},
    },
    "org/parquet": {"main": {"data/test-00000-of-00001.parquet": _parquet("ABA")}},
    "org/whole": {"main": {"data/test-00000-of-00001.parquet": _parquet("ABA"), "README.md": _COUNTED}},
    "org/cut": {"main": {"data/test-00000-of-00001.parquet": _parquet("AB"), "README.md": _COUNTED}},
    "org/splits": {"main": {"train.jsonl": _jsonl("AA"), "test.jsonl": _jsonl("BB")}},
    "org/configs": {"main": {"easy.jsonl": _jsonl("AA"), "hard.jsonl": _jsonl("BB"), "README.md": _CARD}},
    "org/other": {"main": {"data.jsonl": b'{"text": "a"}\n{"text": "b"}\n'}},
    "org/rows": {"main": {"train.csv": b"reference,a:b\nA,A\n", "test.csv": b"reference,a:b\nB,B\n"}},
    "org/broken": {"main": {"data.jsonl": b'{"id": 1, "prediction": "A"\n'}},
    "org/version-1.5": {"main": {"data.jsonl": _jsonl("BBA")}},
    "org/harness": {"main": {"data.jsonl": b'{"doc_id": 0, "resps": "[]", "filtered_resps": "[]", "acc": 1.0}\n'}},
    "org/lighteval": {"main": {"data.jsonl": json.dumps(old(detail(0, acc=1.0))).encode() + b"\n"}},
    "org/empty": {"main": {"README.md": b"# Nothing\n"}},
}


def _ask(endpoint: str, home: Path, asked: Sequence[tuple[str, Row]]) -> list[Row]:
    """Read in a fresh interpreter, with caches of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HTTP", "http"))}
    environment |= {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "*",
    }
    command = [sys.executable, "-c", _CLIENT, json.dumps(asked)]
    done = fresh.run(command, env=environment, cwd=home)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


ASKED: list[tuple[str, Row]] = [
    ("org/answers", {"slices": ["subject"]}),
    ("org/answers@v1", {}),
    ("org/wide:model-b", {}),
    ("org/long@model=b:1:guess", {}),
    ("org/long@v1@model=a", {"columns": {"prediction": "guess"}}),
    ("org/long@model=c:guess", {}),
    ("org/parquet", {}),
    ("org/whole", {}),
    ("org/cut", {}),
    ("org/version-1.5", {}),
    ("org/splits", {}),
    ("org/splits", {"split": "test"}),
    ("org/splits", {"split": "validation"}),
    ("org/configs", {}),
    ("org/configs", {"config": "hard"}),
    ("org/rows:a:b", {"split": "train"}),
    ("org/rows:a:b", {"split": "test"}),
    ("org/missing", {}),
    ("org/answers@v9", {}),
    ("org/other", {}),
    ("org/broken", {}),
    ("org/harness", {}),
    ("org/lighteval", {}),
    ("org/empty", {}),
    ("org/wide:model-c", {}),
    ("org/answers", {"run": "2026"}),
    ("org/answers", {"filter": "strict"}),
]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Row]]:
    with serve(REPOSITORIES) as endpoint:
        found = _ask(endpoint, tmp_path_factory.mktemp("hub"), ASKED)
    yield {f"{source} {options or ''}".strip(): row for (source, options), row in zip(ASKED, found, strict=True)}


@pytest.mark.parametrize("source", ["org/answers.jsonl", "org/answers.csv:v1", "nothing", "a/b/c"])
def test_a_misspelt_path_does_not_go_to_the_hub(source: str) -> None:
    with pytest.raises(InputError, match=r"cannot be read \(no such file or folder\)"):
        read(source)


def _error(told: dict[str, Row], key: str) -> str:
    message = told[key]["error"]
    assert len(message.splitlines()) == 1
    assert len(message) < 700
    return str(message)


@pytest.mark.slow
def test_a_data_set_is_read_by_its_id(told: dict[str, Row]) -> None:
    found = told["org/answers {'slices': ['subject']}"]
    assert found["name"] == "org/answers"
    task = found["tasks"]["answers"]
    assert (task["ids"], task["answers"], task["references"]) == ([0, 1], ["A", "B"], ["A", "A"])
    assert task["texts"] == [["What?", "A", "A", None], ["What?", "A", "B", None]]  # no column of whole texts
    assert task["slices"] == {"subject": ["law", "law"]}


@pytest.mark.slow
def test_a_revision_is_not_taken_for_the_newest(told: dict[str, Row]) -> None:
    found = told["org/answers@v1"]
    assert found["name"] == "org/answers@v1"
    assert found["tasks"]["answers"]["answers"] == ["B", "A"]
    newest = told["org/answers {'slices': ['subject']}"]["revision"]
    assert re.fullmatch("[0-9a-f]{40}", newest), "what is read has a commit, also where none was asked for"
    assert re.fullmatch("[0-9a-f]{40}", found["revision"])
    assert found["revision"] != newest


@pytest.mark.slow
def test_a_column_of_a_wide_table_is_a_model(told: dict[str, Row]) -> None:
    found = told["org/wide:model-b"]
    assert found["name"] == "model-b"
    assert found["tasks"]["wide"]["answers"] == ["B", "B"]


@pytest.mark.slow
def test_the_rows_of_one_model_are_chosen_on_the_hub_too(told: dict[str, Row]) -> None:
    found = told["org/long@model=b:1:guess"]
    assert (found["name"], found["tasks"]["long"]["answers"]) == ("b:1 guess", ["B", "B"])
    assert told["org/long@v1@model=a {'columns': {'prediction': 'guess'}}"]["tasks"]["long"]["answers"] == ["B"]
    assert "no row has model=c; model has 'a', 'b:1'" in _error(told, "org/long@model=c:guess")


@pytest.mark.slow
def test_rows_of_two_splits_are_not_joined_by_their_number(told: dict[str, Row]) -> None:
    train, test = (told[f"org/rows:a:b {{'split': '{split}'}}"]["tasks"]["rows"] for split in ("train", "test"))
    assert (train["answers"], test["answers"]) == (["A"], ["B"])
    assert train["row_ids_of"] != test["row_ids_of"]


@pytest.mark.slow
def test_parquet_of_the_hub_is_read(told: dict[str, Row]) -> None:
    assert told["org/parquet"]["tasks"]["parquet"]["answers"] == ["A", "B", "A"]


@pytest.mark.slow
def test_fewer_rows_than_the_card_counts_are_refused_with_both_counts(told: dict[str, Row]) -> None:
    assert told["org/whole"]["tasks"]["whole"]["answers"] == ["A", "B", "A"]
    message = _error(told, "org/cut")
    assert "num_examples=3" in message and "num_examples=2" in message


@pytest.mark.slow
def test_an_id_with_a_dot_is_not_taken_for_a_file(told: dict[str, Row]) -> None:
    assert told["org/version-1.5"]["tasks"]["version-1.5"]["answers"] == ["B", "B", "A"]


@pytest.mark.slow
def test_of_two_splits_none_is_picked(told: dict[str, Row]) -> None:
    assert _error(told, "org/splits") == "org/splits has the splits train, test; choose one with --split (split=)."
    assert told["org/splits {'split': 'test'}"]["tasks"]["splits"]["answers"] == ["B", "B"]


@pytest.mark.slow
def test_of_two_configurations_none_is_picked(told: dict[str, Row]) -> None:
    message = _error(told, "org/configs")
    assert "easy" in message and "hard" in message and "--config" in message
    assert told["org/configs {'config': 'hard'}"]["tasks"]["configs"]["answers"] == ["B", "B"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("org/missing", ("org/missing", "cannot be loaded")),
        ("org/answers@v9", ("org/answers", "v9", "cannot be loaded")),
        ("org/splits {'split': 'validation'}", ("validation", "train", "test")),
        ("org/other", ("org/other", "text")),
        ("org/broken", ("org/broken", "cannot be loaded")),
        ("org/empty", ("org/empty", "cannot be loaded")),
        ("org/harness", ("a run of lm-evaluation-harness", "`hf download org/harness --repo-type dataset")),
        ("org/lighteval", ("a run of lighteval", "`hf download org/lighteval --repo-type dataset")),
        ("org/wide:model-c", ("org/wide:model-c", "model-c")),
        ("org/answers {'run': '2026'}", ("org/answers", "run='2026'")),
        ("org/answers {'filter': 'strict'}", ("org/answers", "filter='strict'")),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(told: dict[str, Row], key: str, words: tuple[str, ...]) -> None:
    message = _error(told, key)
    assert all(word in message for word in words), message


@pytest.mark.slow
def test_without_a_network_the_error_says_what_was_looked_for(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
    (found,) = _ask(endpoint, tmp_path, [("org/answers", {})])
    message = found["error"]
    assert len(message.splitlines()) == 1
    assert "org/answers is no file here" in message and "cannot be loaded" in message
