"""How much longer does it take to compare two files of a million answers than to read them with the fastest library?

    python benchmarks/compare.py
    python benchmarks/compare.py --rows 100000
    python benchmarks/compare.py --ids digests

Prints a Markdown table. "read" is Arrow alone, for the columns that a comparison needs: `pyarrow.json`, `pyarrow.csv`
and `pyarrow.parquet`, which `muscle_hf` itself reads with. "compare" is `muscle_hf.compare_runs`: reading, joining by
id, checking, counting, intervals and tests. Both are timed in turn, in one run, the best of five each. "CPU" is the
processor time of all threads, whose ratio holds on any machine, busy or not; "wall" is what passes meanwhile, also by
other work.
"""

# ruff: noqa: T201 - a benchmark prints

import argparse
import hashlib
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

import muscle_hf

COLUMNS = ["id", "prediction", "reference"]
KINDS = ("jsonl", "csv", "parquet")


def write(folder: Path, rows: int, *, shuffle: bool, digests: bool = False) -> None:
    """Write the answers of two models in every format, with questions that a comparison does not need."""
    random = np.random.default_rng(0)
    gold = random.integers(0, 50, rows)
    ids = [hashlib.md5(b"%d" % i).hexdigest() if digests else f"question-{i}" for i in range(rows)]  # noqa: S324
    for name, accuracy in (("old", 0.6), ("new", 0.7)):
        said = np.where(random.random(rows) < accuracy, gold, random.integers(0, 50, rows))
        order = random.permutation(rows) if shuffle and name == "new" else np.arange(rows)
        table = pa.table(
            {
                "id": pa.array([ids[i] for i in order]),
                "question": pa.array([f"How much is {i} plus {7 * i % 1000}?" for i in order]),
                "prediction": pa.array([f"answer {value}" for value in said[order]]),
                "reference": pa.array([f"answer {value}" for value in gold[order]]),
            }
        )
        pyarrow.parquet.write_table(table, folder / f"{name}.parquet")
        pyarrow.csv.write_csv(table, folder / f"{name}.csv")
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            lines = zip(*(table[column].to_pylist() for column in table.column_names), strict=True)
            file.writelines(
                f'{{"id": "{key}", "question": "{asked}", "prediction": "{answer}", "reference": "{right}"}}\n'
                for key, asked, answer, right in lines
            )


def read(file: Path) -> pa.Table:
    """Read the columns that a comparison needs, as fast as Arrow can."""
    if file.suffix == ".parquet":
        return pyarrow.parquet.read_table(file, columns=COLUMNS)
    if file.suffix == ".csv":
        return pyarrow.csv.read_csv(file, convert_options=pyarrow.csv.ConvertOptions(include_columns=COLUMNS))
    schema = pa.schema([(column, pa.string()) for column in COLUMNS])
    options = pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    return pyarrow.json.read_json(file, parse_options=options)


def in_turn(calls: Sequence[Callable[[], object]], times: int = 5) -> list[tuple[float, float]]:
    """Time calls in turn, so that a busy spell hits all of them; the least processor and wall time of each."""
    best = [(float("inf"), float("inf"))] * len(calls)
    for _ in range(times):
        for index, call in enumerate(calls):
            cpu, wall = time.process_time(), time.perf_counter()
            call()
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            best[index] = min(best[index][0], cpu), min(best[index][1], wall)
    return best


def main(argv: Sequence[str] | None = None) -> None:
    """Write the files, time both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="answers in each file (default: a million)")
    parser.add_argument(
        "--ids",
        choices=["numbered", "digests"],
        default="numbered",
        help="question-17, or digests of 32 letters, which have to be looked up in a hash table",
    )
    options = parser.parse_args(argv)
    rows = options.rows
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, pyarrow {pa.__version__}"
    )
    print(f"\n{rows:,} rows a file\n")
    print("| format | order of ids | read, CPU s | compare, CPU s | ratio | read, wall s | compare, wall s | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for shuffle in (False, True):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write(folder, rows, shuffle=shuffle, digests=options.ids == "digests")
            for kind in KINDS:
                old, new = (folder / f"{side}.{kind}" for side in ("old", "new"))
                times = in_turn(
                    [lambda o=old, n=new: (read(o), read(n)), lambda o=old, n=new: muscle_hf.compare_runs(o, n)]  # type: ignore[misc]
                )
                order = "shuffled" if shuffle else "same"
                cells = [
                    f"{reading:.2f} | {comparing:.2f} | {comparing / reading:.1f}"
                    for reading, comparing in zip(*times, strict=True)
                ]
                print(f"| {kind} | {order} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
