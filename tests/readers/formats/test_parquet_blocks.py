"""Parquet files that hold few texts once each: read by their dictionaries, no value otherwise than in plain ones."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from muscle_hf.errors import InputError
from muscle_hf.readers.formats.columnar import Parquet

_ROWS = 4_000


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())],
    ids=["string", "large", "category"],
)
def test_few_texts_are_read_by_their_dictionary_as_those_of_a_plain_file(kind: pa.DataType, tmp_path: Path) -> None:
    answers = ["A", "B", None, ""] * (_ROWS // 4)
    table = pa.table({"id": [f"q{i}" for i in range(_ROWS)], "a.b": pa.array(answers, pa.string()).cast(kind)})
    read = {}
    for few in (True, False):
        path = tmp_path / f"{few}.parquet"
        # Two row groups, since each has a dictionary of its own.
        pyarrow.parquet.write_table(table, path, use_dictionary=few, row_group_size=_ROWS // 2)
        file = Parquet(path)
        assert file._few_texts(["id", "a.b"]) == (["a.b"] if few else [])
        blocks = file.scan(["id", "a.b"], lambda _, block: block)
        assert {block[name].type for block in blocks for name in block} == {pa.string()}
        read[few] = [value for block in blocks for value in block["a.b"].to_pylist()]
    assert read[True] == read[False] == answers


def test_a_column_that_cannot_be_read_is_not_asked_about_its_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "answers.parquet"
    pyarrow.parquet.write_table(pa.table({"id": ["a"]}), path)
    file = Parquet(path)

    def spoiled(*_: object, **__: object) -> None:
        raise OSError("Definition level histogram size mismatch")

    # Arrow ends the process where a spoiled column's description is asked for, but only refuses to read it.
    monkeypatch.setattr(pyarrow.parquet.ParquetFile, "iter_batches", spoiled)
    assert file._few_texts(["id"]) == []
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        file.scan(["id"], lambda _, block: block)
