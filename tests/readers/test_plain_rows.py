"""Rows as they are: what no reader can give is told as what it is."""

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
