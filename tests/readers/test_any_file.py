"""Whatever a file holds, it is read or refused with an error of ours (`benchmarks/fuzz.py` tries many more)."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muscle_hf import read
from muscle_hf.errors import MuscleError

NAMES = (
    *("id", "prediction", "reference", "score", "sample", "doc_id", "prompt_0", "task_id", "passed", "completion"),
    *("eval", "details", "correct", "example_abbr", "index", "sample_score", "choices", "reviewed", "0", "gold"),
    *("results", "samples", "spec", "instance_id", "stats", "columns", "data", "version"),
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(NAMES)
VALUES: st.SearchStrategy[Any] = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6),
    max_leaves=12,
)
ENDINGS = ("jsonl", "json", "csv", "tsv", "parquet", "eval", "txt")


def _read(content: bytes, ending: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"x.{ending}"
        file.write_bytes(content)
        try:
            for answers in read(file).tasks.values():
                answers.values()
        except MuscleError as error:
            assert "\n" not in str(error)


@pytest.mark.slow
@given(st.lists(VALUES, max_size=4), st.sampled_from(["lines", "array", "object"]), st.sampled_from(ENDINGS))
@settings(max_examples=80, deadline=None)
def test_no_json_makes_reading_fail_otherwise(values: list[Any], layout: str, ending: str) -> None:
    if layout == "lines":
        text = "".join(json.dumps(value) + "\n" for value in values)
    else:
        text = json.dumps(
            values if layout == "array" else {"results": values, **dict(zip(NAMES, values, strict=False))}
        )
    _read(text.encode(), ending)


@pytest.mark.slow
@given(
    st.binary(max_size=60), st.sampled_from([b"", b"{", b"[", b"id,prediction\n", b"PAR1", b"PK\x03\x04", b"\x1f\x8b"])
)
@settings(max_examples=30, deadline=None)
def test_no_bytes_make_reading_fail_otherwise(content: bytes, start: bytes) -> None:
    for ending in ("jsonl", "csv", "parquet", "eval"):
        _read(start + content, ending)
