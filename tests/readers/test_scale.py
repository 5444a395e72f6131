"""Files of hundreds of megabytes: memory is bounded by the rows that are kept, and a million rows take seconds.

Each measurement runs in a process of its own, in which nothing else has been read before.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.slow

SIZE = 200 << 20
# About 20 KB, as a long chain of thought has it.
LONG = "so the answer to the first part is 42 and we add the second one, " * 300
SHORT = "so the answer is 42, "

MEASURE = """
import sys, time
import pyarrow.csv, pyarrow.json, pyarrow.parquet
import muscle_hf.readers.formats.harness, muscle_hf.readers.formats.lighteval, muscle_hf.runs.report

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))

before, start = peak(), time.process_time()
{work}
print(peak() - before, time.process_time() - start, result)
"""
READ = """
import numpy
(task,) = muscle_hf.readers.read(sys.argv[1], metric={metric!r}).tasks.values()
texts = task.read_texts(numpy.arange(0, len(task), len(task) // 100))
result = f"{{len(task)}} {{max(len(text.answer) for text in texts)}}"
"""
COMPARE = """
part = muscle_hf.runs.compare_runs(sys.argv[1], sys.argv[2]).tasks[0]
result = f"{part.n} {len(part.comparison.negative_flips)}"
"""


def _measure(work: str, *arguments: Path) -> tuple[float, float, list[int]]:
    """Run some work; give the megabytes that it added, its seconds, and the numbers that it found."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", MEASURE.format(work=work), *map(str, arguments)],
        check=True,
        capture_output=True,
        text=True,
        timeout=900,
    )
    megabytes, seconds, *numbers = done.stdout.split()
    return float(megabytes), float(seconds), list(map(int, numbers))


def _filled(path: Path, line: Callable[[int], str]) -> int:
    """Write lines until the file is large; give how many."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < SIZE:
            file.writelines(line(number) for number in range(count, count + 200))
            count += 200
    return count


def _sample(text: str) -> Callable[[int], str]:
    sample = {
        "doc_id": 0,
        "doc": {"question": "What is the sum of both parts?" * 3, "answer": "42"},
        "target": "42",
        "arguments": {"gen_args_0": {"arg_0": "Question: What is the sum of both parts?" * 3, "arg_1": {"until": []}}},
        "resps": [[f"0 {text}"]],
        "filtered_resps": [f"0 {text}"],
        "filter": "none",
        "metrics": ["exact_match"],
        "doc_hash": "0" * 64,
        "prompt_hash": "0" * 64,
        "target_hash": "0" * 64,
        "exact_match": 0.0,
    }
    whole = json.dumps(sample)
    parts = whole.replace('"doc_id": 0', '"doc_id": %').replace('"0 so', '"% so').split("%")
    return lambda number: str(number).join(parts) + "\n"


def _row(text: str) -> Callable[[int], str]:
    return lambda number: f'{{"id": {number}, "prediction": "{number} {text}", "reference": "{number}"}}\n'


# Measured: 58, 158, 106 and 161 MB. Of each row about a quarter of a kilobyte stays, whatever the length of its texts.
@pytest.mark.parametrize(
    ("line", "text", "bound"),
    [(_sample, LONG, 100), (_sample, SHORT * 20, 220), (_row, LONG, 150), (_row, SHORT * 20, 220)],
    ids=["harness, long", "harness, short", "json lines, long", "json lines, short"],
)
def test_a_file_of_200_megabytes_is_not_held_in_memory(
    tmp_path: Path, line: Callable[[str], Callable[[int], str]], text: str, bound: int
) -> None:
    path = tmp_path / "samples_big_2026-01-01T00-00-00.jsonl"
    count = _filled(path, line(text))
    megabytes, seconds, (rows, longest) = _measure(READ.format(metric=None), path)
    assert rows == count
    assert longest >= len(text), "texts are read whole"
    assert megabytes < bound
    assert seconds < 60


# Measured: 102 and 190 MB.
@pytest.mark.parametrize(("suffix", "bound"), [("csv", 150), ("parquet", 280)])
def test_long_texts_of_a_table_are_not_held_in_memory(tmp_path: Path, suffix: str, bound: int) -> None:
    count = SIZE // len(LONG)
    path = tmp_path / f"big.{suffix}"
    schema = pa.schema([("id", pa.int64()), ("prediction", pa.string()), ("reference", pa.string())])
    open_writer = pa.csv.CSVWriter if suffix == "csv" else pq.ParquetWriter
    # Other texts in every row, or Parquet keeps one of them in a dictionary.
    with open_writer(str(path), schema) as writer:
        for start in range(0, count, 1000):
            numbers = list(range(start, min(start + 1000, count)))
            texts = [f"{number} {LONG}{number}" for number in numbers]
            writer.write_table(pa.table([numbers, texts, list(map(str, numbers))], schema=schema))
    megabytes, seconds, (rows, longest) = _measure(READ.format(metric=None), path)
    assert (rows, longest >= len(LONG)) == (count, True)
    assert megabytes < bound
    assert seconds < 60


COUNT = 1_000_000


def _answers(new: bool) -> Iterator[tuple[list[str], list[str], list[str]]]:
    """Give blocks of ids, answers and right answers; the new model's in another order."""
    size = 10_000
    for start in range(0, COUNT, size):
        numbers = [(number * 7919 + 13) % COUNT if new else number for number in range(start, start + size)]
        said = ["ABCD"[number % 4] if not new or number % 10 else "E" for number in numbers]
        yield [f"question {number}" for number in numbers], said, ["ABCD"[number % 4] for number in numbers]


@pytest.fixture(scope="module")
def tables() -> list[pa.Table]:
    """The answers of the old and the new model."""
    return [
        pa.concat_tables(pa.table(list(block), names=("id", "prediction", "reference")) for block in _answers(new))
        for new in (False, True)
    ]


def _write_lines(table: pa.Table, path: Path) -> None:
    starts = '{"id": "', '", "prediction": "', '", "reference": "'
    parts = [part for start, column in zip(starts, table.columns, strict=True) for part in (start, column)]
    lines = pc.binary_join_element_wise(*parts, '"}\n', "")
    with path.open("w", encoding="utf-8") as file:
        file.writelines(lines.to_pylist())


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_a_million_rows_are_compared_in_seconds(tables: list[pa.Table], tmp_path: Path, suffix: str) -> None:
    files = [tmp_path / f"{name}.{suffix}" for name in ("old", "new")]
    write = {"jsonl": _write_lines, "csv": pyarrow.csv.write_csv, "parquet": pq.write_table}[suffix]
    for path, table in zip(files, tables, strict=True):
        write(table, path)
    megabytes, seconds, numbers = _measure(COMPARE, *files)
    assert numbers == [COUNT, COUNT // 10]
    assert seconds < 30, "it takes 1 to 2 s"
    assert megabytes < 600, "it takes about 320 MB"
