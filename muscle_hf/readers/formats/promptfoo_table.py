"""The table that promptfoo writes as CSV: a row for each test, some columns for each pair of prompt and provider.

The columns of a pair are what it answered, headed "[provider] prompt", Status, Score, Named Scores and others.
"""

import io
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv

from ...errors import InputError
from ...text import one_line
from .head import Head
from .opening import BYTE_ORDER_MARK, opened

_HEADER = b",Status,Score,Named Scores,"
_NEEDED = "the table of promptfoo"
_PAIR = re.compile(r"\[(?P<provider>[^\]]*)\] (?P<prompt>.*)", re.DOTALL)
_STATUS = {"PASS": 0, "FAIL": 1, "ERROR": 2}
"""What stands in a cell -> promptfoo's number for it (`failureReason`)."""


def is_table(head: Head) -> bool:
    """Tell whether a file is such a table, by the columns that follow what was answered."""
    start = head.start.replace(b'"', b"")  # a spreadsheet may have put every name in quotes
    return head.layout == "text" and _HEADER in start and b",Grader Reason,Comment" in start


def read_table_of_results(path: Path) -> list[dict[str, Any]]:
    """Give the results in the shape in which promptfoo's JSON has them; tests are numbered by their rows."""
    rows = _rows(path)
    header = rows[0]
    # What was answered stands before its status.
    places = [place - 1 for place, name in enumerate(header) if name == "Status" and place]
    variables = [place for place in range(places[0]) if header[place] != "Description"]
    return [
        _result(number, header, row, place, {header[variable]: row[variable] for variable in variables})
        for number, row in enumerate(rows[1:])
        for place in places
        if row[place + 1]  # none where the pair did not run the test
    ]


def _result(number: int, header: list[str], row: list[str], place: int, variables: dict[str, str]) -> dict[str, Any]:
    pair = _PAIR.fullmatch(header[place])
    status = _STATUS[row[place + 1]]
    return {
        "testIdx": number,
        "success": status == 0,
        "failureReason": status,
        "score": float(row[place + 2]) if row[place + 2] else None,
        "namedScores": json.loads(row[place + 3] or "{}"),
        "provider": pair["provider"] if pair else "",
        "prompt": {"label": pair["prompt"] if pair else header[place]},
        "vars": variables,
        "response": {"output": row[place]},
    }


def _rows(path: Path) -> list[list[str]]:
    """Read all cells as texts, those of the header too: several columns have one name."""
    with opened(path, _NEEDED) as file:
        content = file.read().removeprefix(BYTE_ORDER_MARK)
    read = pa.csv.ReadOptions(autogenerate_column_names=True, block_size=max(len(content), 1))
    try:
        count = pa.csv.open_csv(io.BytesIO(content), read, _PARSE).schema
        texts = pa.csv.ConvertOptions(column_types=dict.fromkeys(count.names, pa.string()), strings_can_be_null=False)
        table = pa.csv.read_csv(io.BytesIO(content), read, _PARSE, texts)
    except (pa.ArrowException, UnicodeError) as error:
        raise InputError(f"{path} cannot be read as CSV ({one_line(error)}); was it cut off?") from None
    return [list(row) for row in zip(*(column.to_pylist() for column in table.columns), strict=True)]


_PARSE = pa.csv.ParseOptions(newlines_in_values=True)
