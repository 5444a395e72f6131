"""Does any file make a comparison fail otherwise than with an error of ours, hang, or count wrongly?

    python benchmarks/fuzz.py
    python benchmarks/fuzz.py --formats CSV TSV --files 500
    python benchmarks/fuzz.py --formats CSV --only 1234 --keep DIR
    python benchmarks/fuzz.py --formats CSV --guided 20000

Of every format a valid file of the new side is changed: three in ten files byte by byte, half of them in their parts
(other types, nulls, huge numbers, fields twice, depth), and two in ten are written otherwise but mean the same (other
order of rows and fields, white space, line ends, compression), so that the counts are known. Each is compared with the
valid file of the old side, and every flip is shown. Where a reader of a line or two still finds every instance in
a spoiled file, the counts have to be its counts.

What is seen is kept in `--state`, so that a run that was stopped goes on, and a file is made again from its number and
`--seed` alone (`--only`). Prints a Markdown table.

`--guided` lets atheris (`pip install atheris`) look for bytes that reach new branches instead.
"""

# ruff: noqa: T201, S311 - a benchmark prints; chance is no secret here

import argparse
import faulthandler
import importlib
import json
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

from fuzz_files import Kind
from fuzz_formats import COUNTS
from fuzz_mutations import spoil_bytes
from fuzz_programs import kinds

import muscle_hf
from muscle_hf.errors import MuscleError
from muscle_hf.runs.gates.gate import judge
from muscle_hf.runs.gates.policy import read_policy

SECONDS = 20.0
"""What a file may take, on a busy machine too."""
MEMORY = 4 << 30


def spoiled(kind: Kind, name: str, seed: int, number: int) -> tuple[bytes, str]:
    """Make a file from its number: its content, and what was done ("bytes", "parts" or "same")."""
    random = Random(f"{seed}/{name}/{number}")
    way = random.choices(("bytes", "parts", "same"), (3, 5, 2))[0]
    value = kind.value("new")
    if way == "bytes":
        return spoil_bytes(random, kind.write(value)), way
    return (kind.spoil if way == "parts" else kind.rewrite)(random, value), way


class Place:
    """A folder with the valid old side, in which new sides are put one after the other."""

    def __init__(self, kind: Kind, folder: Path) -> None:
        """Write the old side, and what belongs to the new one."""
        self.kind, self.sides = kind, {}
        for side in ("old", "new"):
            # The model's folder, as the programs have one.
            (folder / side).mkdir(parents=True, exist_ok=True)
            for name, content in {kind.file: kind.write(kind.value(side)), **kind.beside(side)}.items():
                (folder / side / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / side / name).write_bytes(content)
            file = folder / side / (kind.answers or kind.file)
            self.sides[side] = f"{file.parent if kind.folder else file}{kind.where}"
        self.file = folder / "new" / kind.file
        # A policy may ask for slices.
        self.old = self.sides["old"] if kind.answers else muscle_hf.read(self.sides["old"], **kind.options)

    def compare(self, content: bytes) -> tuple[str, Any]:
        """Compare the old side with a new one: "read" with its counts, or "refused" with the reason in one line.

        The old side is read once, which is half of the work.
        """
        self.file.write_bytes(content)
        try:
            options = self.kind.options
            if self.kind.answers:
                policy = read_policy(self.file)
                options = policy.options
            result = muscle_hf.compare_runs(self.old, self.sides["new"], **options)
            if self.kind.answers:
                judge(result, policy.bounds, **policy.judging)
            list(result.flips())  # reads texts
        except MuscleError as error:
            return "failed" if "\n" in str(error) else "refused", str(error)
        return "read", [
            (part.comparison.n, len(part.comparison.negative_flips), len(part.comparison.positive_flips))
            if hasattr(part.comparison, "negative_flips")
            else part.name
            for part in result.tasks
        ]


def counted(kind: Kind, content: bytes) -> list[tuple[int, int, int]] | None:
    """Count with a reader of a few lines; None where it cannot tell, or does not find the very same instances."""
    if kind.says is None:
        return None
    try:
        new = kind.says(content)
        old = kind.says(kind.write(kind.value("old")))
        if new.keys() != old.keys() or any(value not in (0, 1) for value in new.values()):
            return None
    except Exception:  # whatever it is: then nothing is known
        return None
    return [(len(old), sum(old[key] > new[key] for key in old), sum(old[key] < new[key] for key in old))]


def work(name: str, seed: int, numbers: Sequence[int], state: Path) -> None:
    """Compare files in this process, and write down what becomes of each."""
    warnings.simplefilter("error")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    kind = kinds()[name]
    in_memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a folder of a name of its own
    with tempfile.TemporaryDirectory(dir=in_memory) as folder, state.open("a", encoding="utf-8") as file:
        place = Place(kind, Path(folder))
        assert place.compare(kind.write(kind.value("new"))) == ("read", [COUNTS]), "the valid file is not read"  # noqa: S101
        for number in numbers:
            content, way = spoiled(kind, name, seed, number)
            faulthandler.dump_traceback_later(SECONDS, exit=True)
            began = time.process_time()
            try:
                outcome, told = place.compare(content)
            except BaseException as error:  # whatever it is: that is the question
                outcome, told = "failed", f"{type(error).__name__}: {error}"[:300]
            if outcome == "read" and way != "same" and (known := counted(kind, content)) not in (None, told):
                outcome, told = "miscounted", f"{told}, and an independent reader {known}"
            if way == "same" and (outcome, told) != ("read", [COUNTS]):
                outcome = "not taken" if outcome == "refused" else "failed" if outcome == "failed" else "miscounted"
            seconds = time.process_time() - began
            faulthandler.cancel_dump_traceback_later()
            row = {"number": number, "way": way, "outcome": outcome, "told": str(told)[:300], "seconds": seconds}
            file.write(json.dumps(row) + "\n")
            file.flush()


def seen(state: Path) -> Iterator[dict[str, Any]]:
    """Read what was seen; a last line that a stop has cut is left out."""
    if state.is_file():
        for line in state.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue


def run(name: str, seed: int, files: int, state: Path) -> list[dict[str, Any]]:
    """Compare files in processes of their own, until all are done; a process that dies has a file to blame."""
    while True:
        rows = list(seen(state))
        start = max((row["number"] for row in rows), default=-1) + 1
        if start >= files:
            return rows
        command = [sys.executable, __file__, "--formats", name, "--seed", str(seed), "--files", str(files)]
        done = subprocess.run([*command, "--worker", str(state)], capture_output=True, text=True)  # noqa: S603
        reached = max((row["number"] for row in seen(state)), default=-1)
        if done.returncode:
            if reached < start and start == 0:
                raise SystemExit(done.stderr[-3000:])
            told = "hang" if "Timeout" in done.stderr else "died"
            row = {"number": reached + 1, "way": "?", "outcome": told, "told": done.stderr[-300:], "seconds": SECONDS}
            with state.open("a", encoding="utf-8") as file:
                file.write("\n" + json.dumps(row) + "\n")


def guided(name: str, runs: int) -> None:
    """Let atheris look for bytes that fail; it says so, keeps them in a file, and exits."""
    import atheris

    # Once more, so that atheris sees which branches are taken.
    for module in [module for module in sys.modules if module.partition(".")[0] == "muscle_hf"]:
        del sys.modules[module]
    with atheris.instrument_imports(include=["muscle_hf"]):
        globals()["muscle_hf"] = importlib.import_module("muscle_hf")
        globals()["MuscleError"] = importlib.import_module("muscle_hf.errors").MuscleError
        importlib.import_module("muscle_hf.readers.sources")
        importlib.import_module("muscle_hf.runs.compare")
    kind = kinds()[name]
    folder = Path(tempfile.mkdtemp())
    place, corpus = Place(kind, folder), folder / "corpus"
    corpus.mkdir()
    for number in range(20):
        (corpus / str(number)).write_bytes(spoiled(kind, name, 0, number)[0])
    atheris.Setup(
        [sys.argv[0], f"-runs={runs}", "-max_len=20000", f"-timeout={SECONDS:.0f}", str(corpus)], place.compare
    )
    atheris.Fuzz()


def main(arguments: Sequence[str] | None = None) -> None:
    """Fuzz the formats and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--formats", nargs="+", default=list(kinds()), choices=list(kinds()), metavar="NAME")
    parser.add_argument("--files", type=int, default=10_000, help="of each format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--state", type=Path, default=Path("fuzz-state"), help="folder of what was seen")
    parser.add_argument("--only", type=int, help="number of the one file to compare, with all that goes wrong")
    parser.add_argument("--keep", type=Path, help="folder for the file of --only")
    parser.add_argument("--guided", type=int, metavar="RUNS", help="let atheris choose the bytes")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.guided:
        guided(options.formats[0], options.guided)
        return
    if options.only is not None:
        kind = kinds()[options.formats[0]]
        content, way = spoiled(kind, options.formats[0], options.seed, options.only)
        folder = options.keep or Path(tempfile.mkdtemp())
        place = Place(kind, folder)
        warnings.simplefilter("error")
        print(way, place.file, *place.compare(content), sep="\n")
        if not options.keep:
            shutil.rmtree(folder)
        return
    if options.worker:
        start = max((row["number"] for row in seen(options.worker)), default=-1) + 1
        work(options.formats[0], options.seed, range(start, options.files), options.worker)
        return
    options.state.mkdir(parents=True, exist_ok=True)
    print("| format | files | read | refused | same meaning: right count | refused | failed, hung or miscounted |")
    print("|---|---|---|---|---|---|---|")
    bad = []
    for name in options.formats:
        state = options.state / (re.sub(r"\W+", "_", name) + f"-{options.seed}.jsonl")
        rows = [row for row in run(name, options.seed, options.files, state) if row["number"] < options.files]
        of = Counter((row["way"] == "same", row["outcome"]) for row in rows)
        wrong = [row for row in rows if row["outcome"] in ("failed", "hang", "died", "miscounted")]
        bad += [(name, row) for row in wrong]
        figures = (
            len(rows),
            of[False, "read"],
            of[False, "refused"],
            of[True, "read"],
            of[True, "not taken"],
            len(wrong),
        )
        print(f"| {name} | {' | '.join(f'{value:,}' for value in figures)} |", flush=True)
    for name, row in bad[:50]:
        print(f"{name} {row['number']}: {row['outcome']} ({row['way']}): {row['told']}")


if __name__ == "__main__":
    main()
