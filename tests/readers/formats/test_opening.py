"""Compressed files are unpacked by what they hold, and one that is cut off or was made to fill a memory is refused."""

import bz2
import gzip
import io
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muscle_hf import InputError, compare_runs, read
from muscle_hf.readers.formats import opening
from muscle_hf.readers.formats.opening import opened


def _arrow(codec: str) -> Callable[[bytes], bytes]:
    def pack(content: bytes) -> bytes:
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, codec) as stream:
            stream.write(content)
        return bytes(sink.getvalue())

    return pack


PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": _arrow("zstd"),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lz4": _arrow("lz4"),
}
ROWS = [
    {"id": i, "prediction": f"long answer {i}", "reference": "long answer 1", "question": f"q{i}?"} for i in (0, 1)
]
TABLES = {
    "rows.jsonl": "".join(json.dumps(row) + "\n" for row in ROWS),
    "rows.json": json.dumps(ROWS),
    "rows.csv": "id,prediction,reference,question\n"
    + "".join(",".join(map(str, row.values())) + "\n" for row in ROWS),
    "rows.tsv": "id\tprediction\treference\tquestion\n"
    + "".join("\t".join(map(str, row.values())) + "\n" for row in ROWS),
}


def _write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("packing", PACK)
@pytest.mark.parametrize("name", TABLES)
def test_a_compressed_table_is_read_and_shown_as_it_would_be_unpacked(tmp_path: Path, name: str, packing: str) -> None:
    content = TABLES[name].encode()
    plain = _write(tmp_path, name, content)
    packed = _write(tmp_path, f"{name}.gz", PACK[packing](content))
    result = compare_runs(plain, packed)
    assert result.overall.n == 2
    run = read(packed)
    assert list(run.tasks) == ["rows"]
    assert run.tasks["rows"].read_texts(np.array([1, 0])) == read(plain).tasks["rows"].read_texts(np.array([1, 0]))


def test_what_a_file_is_called_says_nothing_of_how_it_was_compressed(tmp_path: Path) -> None:
    content = TABLES["rows.jsonl"].encode()
    for name, packed in (
        ("a.jsonl", gzip.compress(content)),
        ("b.jsonl.gz", content),
        ("c.zst", bz2.compress(content)),
    ):
        assert len(next(iter(read(_write(tmp_path, name, packed)).tasks.values()))) == 2


@pytest.mark.parametrize("packing", PACK)
@pytest.mark.parametrize("name", TABLES)
def test_a_compressed_file_that_was_cut_off_is_no_smaller_table(tmp_path: Path, name: str, packing: str) -> None:
    packed = PACK[packing](TABLES[name].encode())
    for size in (len(packed) - 1, len(packed) // 2, 9):
        with pytest.raises(InputError, match=r"cannot be unpacked .*was the file cut off\?") as caught:
            read(_write(tmp_path, f"{name}.x", packed[:size]))
        assert len(str(caught.value).splitlines()) == 1


def test_several_archives_in_one_file_are_one_table(tmp_path: Path) -> None:
    first, second = TABLES["rows.jsonl"].splitlines(keepends=True)
    path = _write(tmp_path, "rows.jsonl.gz", gzip.compress(first.encode()) + gzip.compress(second.encode()))
    assert read(path).tasks["rows"].ids.to_pylist() == [0, 1]


def test_an_archive_that_would_fill_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_UNPACKED", 1 << 20)
    path = _write(tmp_path, "rows.jsonl.gz", gzip.compress(b'{"id": "' + b"x" * (1 << 22)))
    with pytest.raises(InputError, match="unpacks to more than"):
        read(path)


def test_a_zip_archive_of_tables_is_not_one_of_them(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"compressed \(zip\)"):
        read(_write(tmp_path, "rows.zip", b"PK\x03\x04" + b"\0" * 100))


@given(
    content=st.binary(max_size=500), places=st.lists(st.tuples(st.integers(0, 600), st.integers(0, 600)), max_size=5)
)
def test_any_part_of_a_compressed_file_is_found_again(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, places: list[tuple[int, int]]
) -> None:
    path = _write(tmp_path_factory.getbasetemp(), "content.zst", PACK["zstd"](content))
    plain = io.BytesIO(content)
    with opened(path, "bytes") as file:
        for place, size in places:
            file.seek(place)
            plain.seek(place)
            assert file.read(size) == plain.read(size)
