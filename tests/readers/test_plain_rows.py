"""Rows as they are: what no reader can give is told as what it is."""

import gzip
from pathlib import Path

import pytest

from muscle_hf.errors import InputError
from muscle_hf.readers.plain_rows import raw_rows


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "tsv", "parquet"])
def test_a_file_that_is_not_there_is_told_so_and_not_what_it_should_hold(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"rows.{kind}"
    with pytest.raises(InputError) as caught:
        list(raw_rows(str(path), None, "train"))
    assert str(caught.value) == f"{path} cannot be read: there is no such file."


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.jsonl.gz", b'{"a": "1"}\n{"a": "2"}\n'),
        ("rows.json.gz", b'[{"a": "1"},\n{"a": "2"}]'),
        ("rows.csv.gz", b"a\n1\n2\n"),
    ],
)
def test_compressed_rows_are_those_that_were_compressed(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(gzip.compress(content))
    assert list(raw_rows(str(tmp_path / name), None, "train")) == [{"a": "1"}, {"a": "2"}]
