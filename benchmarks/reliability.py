"""Is anything lost where work is killed, the disk is full, a file is damaged, the clock jumps or the Hub goes away?

    python benchmarks/reliability.py
    python benchmarks/reliability.py --only training answering --faults kill damage --times 20

Each kind of work is done on tiny models: once undisturbed, and then with one fault at a time, after which the same
command is given again. What it comes to (weights, cache, answers, report, files on the Hub) has to be what the
undisturbed run came to, bit for bit but for dates. A fault that a command can see, such as a full disk, has to end it
with exit code 2 and a line of ours.

`kill`: SIGKILL at moments drawn by `--seed`, `--times` of them, spread over the run's length. `moment`: SIGKILL at
each kind of moment at which files change or the Hub is asked (see reliability_child.py). `full`: a file system in
memory that fills up (where this process may mount one; else the largest file that may be written). `read-only`: a
folder that cannot be written to, at the beginning and half-way. `second`: the same command while the first one runs.
`clock`: killed, all dates of files drawn anew, and then a clock that jumps by up to a week at each look. `damage`:
killed, then a bit of a file flipped or a file cut in half, each kind of file once. `hub`: the Hub answers 503 from
some request on, cuts the connection once, or cuts all that is sent, at each request.

Prints a Markdown table, and on standard error what was lost; the exit code is 1 where anything was. Needs Linux, and
the folder `tests` beside this one.
"""

# ruff: noqa: T201 - a benchmark prints

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import reliability_child as child
import reliability_faults
import reliability_jobs as jobs
from local_hub import User, hub

FAULTS = {
    "kill": "killed at any moment",
    "moment": "killed where files change",
    "full": "disk full",
    "read-only": "folder read-only",
    "second": "second run beside it",
    "clock": "clock and dates jump",
    "damage": "file damaged",
    "hub": "Hub gone",
}


def tried(
    names: Sequence[str], faults: Sequence[str], times: int, seed: int, root: Path, *, verbose: bool = False
) -> list[tuple[str, str, int, int]]:
    """Try faults on kinds of work; give (work, fault, tried, lost) for each pair that was tried."""
    rows = []
    for folder in ("inputs", "run", "logs", "home"):
        (root / folder).mkdir(parents=True)
    with hub(tokens={jobs.TOKEN: User("ann", orgs=("acme",))}) as running:
        running.create("acme/base-v2", files={"config.json": b"{}"})
        os.environ |= jobs.environment(running.endpoint, root / "home")
        jobs.import_libraries()
        made = child.run(lambda: jobs.make_inputs(root / "inputs"), root / "run", root / "logs")
        if made.code:
            raise SystemExit(made.said)
        for name in names:
            place = reliability_faults.Place(jobs.JOBS[name], root, running, seed)
            for fault in faults:
                outcomes = []
                for what, lost in reliability_faults.RUNS[fault](place, times):
                    outcomes.append(lost)
                    if lost is not None or verbose:
                        print(
                            f"{name}, {what}: {'LOST: ' + lost if lost else 'survived'}", file=sys.stderr, flush=True
                        )
                if outcomes:
                    rows.append((name, fault, len(outcomes), sum(lost is not None for lost in outcomes)))
            place.clear()
    return rows


def main(words: Sequence[str] | None = None) -> int:
    """Try all, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--only", nargs="+", choices=list(jobs.JOBS), default=list(jobs.JOBS), metavar="WORK")
    parser.add_argument("--faults", nargs="+", choices=list(FAULTS), default=list(FAULTS), metavar="FAULT")
    parser.add_argument("--times", type=int, default=20, help="kills at any moment, of each kind of work")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbose", action="store_true", help="say what was done each time")
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="reliability_") as folder:
        rows = tried(options.only, options.faults, options.times, options.seed, Path(folder), verbose=options.verbose)
    print("| work | fault | tried | survived | lost |\n|---|---|---|---|---|")
    for name, fault, count, lost in rows:
        print(f"| {name} | {FAULTS[fault]} | {count} | {count - lost} | {lost} |")
    count, lost = (sum(row[place] for row in rows) for place in (2, 3))
    print(f"| all | | {count} | {count - lost} | {lost} |")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
