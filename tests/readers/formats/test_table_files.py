"""Which kind of table a file holds is told by its content, and what is none is refused by name."""

import gzip
import io
import json
import pickle
import sqlite3
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from muscle_hf import InputError, read

ROWS = [{"id": i, "prediction": said, "reference": "A"} for i, said in enumerate("AB")]
TABLE = pa.Table.from_pylist(ROWS)


def _parquet() -> bytes:
    pq.write_table(TABLE, sink := io.BytesIO())
    return sink.getvalue()


def _arrow(stream: bool = False) -> bytes:
    sink = io.BytesIO()
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(sink, TABLE.schema) as writer:
        writer.write_table(TABLE)
    return sink.getvalue()


def _feather() -> bytes:
    pyarrow.feather.write_feather(TABLE, sink := io.BytesIO(), compression="zstd")
    return sink.getvalue()


READ: dict[str, Callable[[], bytes]] = {
    "jsonl": lambda: "".join(json.dumps(row) + "\n" for row in ROWS).encode(),
    "json": lambda: json.dumps(ROWS).encode(),
    "parquet": _parquet,
    "arrow": _arrow,
    "stream": lambda: _arrow(stream=True),
    "feather": _feather,
    "tabs": lambda: b"id\tprediction\treference\n0\tA\tA\n1\tB\tA\n",
}


@pytest.mark.parametrize("kind", READ)
@pytest.mark.parametrize("name", ["a.txt", "b", "c.data"])
def test_a_table_is_known_by_what_it_holds(tmp_path: Path, kind: str, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(READ[kind]())
    task = next(iter(read(path).tasks.values()))
    assert task.values().tolist() == [1, 0]
    assert [text.answer for text in task.read_texts(np.array([1]))] == ["B"]


@pytest.mark.parametrize("kind", ["arrow", "stream", "feather", "parquet"])
def test_a_binary_table_that_was_cut_off_is_no_smaller_one(tmp_path: Path, kind: str) -> None:
    content = READ[kind]()
    for size in (len(content) // 2, len(content) - 30 if kind != "stream" else 20):
        path = tmp_path / "a"
        path.write_bytes(content[:size])
        with pytest.raises(InputError, match="was it cut off"):
            read(path)


def _workbook() -> bytes:
    with zipfile.ZipFile(sink := io.BytesIO(), "w") as archive:
        archive.writestr("[Content_Types].xml", "<x/>")
        archive.writestr("xl/workbook.xml", "<x/>")
    return sink.getvalue()


def _data_base(tmp_path: Path) -> bytes:
    with sqlite3.connect(tmp_path / "x.db") as base:
        base.execute("create table answers (id, prediction)")
    base.close()
    return (tmp_path / "x.db").read_bytes()


def _numpy(pickled: bool) -> bytes:
    np.save(sink := io.BytesIO(), np.array(["A", None] if pickled else [1, 0]), allow_pickle=pickled)
    return sink.getvalue()


FRAME = pd.DataFrame(ROWS)
REFUSED: list[tuple[Callable[[Path], bytes], str]] = [
    *((lambda _, p=p: pickle.dumps(FRAME, p), "a pickle, which can run any code when it is opened") for p in (2, 4)),
    (lambda _: gzip.compress(pickle.dumps(FRAME)), "a pickle"),
    (lambda _: b"\x78\x9c" + bytes(range(256)), "compressed by zlib, as joblib writes it"),
    (lambda _: _numpy(pickled=True), "an array of numpy"),
    (lambda _: _numpy(pickled=False), "an array of numpy"),
    (lambda _: _workbook(), r"a workbook of Excel.*to_parquet"),
    (lambda _: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "a workbook of Excel"),
    (_data_base, r"a data base of SQLite: .*sqlite3 -header -csv"),
    (lambda _: b"\x89HDF\r\n\x1a\n" + b"\0" * 100, "an HDF5 file"),
    (lambda _: bytes(range(256)) * 3, r"no table that is known here .* lm-evaluation-harness, lighteval"),
    (lambda _: b"some text\nand more\n", "no table that is known here"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "words"), REFUSED)
@pytest.mark.parametrize("name", ["a.bin", "answers.csv", "answers.json"])
def test_what_is_no_table_here_is_refused_by_name(
    tmp_path: Path, make: Callable[[Path], bytes], words: str, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(make(tmp_path))
    with pytest.raises(InputError) as caught:
        read(path)
    assert len(str(caught.value).splitlines()) == 1
    if name == "a.bin" or "known here" not in words:
        assert caught.match(words)


def test_a_header_that_begins_like_a_binary_file_is_one(tmp_path: Path) -> None:
    for first in ("ORC", "ZFoo", "x^2", "%PDF"):
        path = tmp_path / "a.csv"
        path.write_text(f"{first},id,prediction,reference\n1,1,A,A\n", encoding="utf-8")
        assert len(read(path).tasks["a"]) == 1
