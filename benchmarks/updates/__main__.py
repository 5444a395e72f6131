"""By how much do negative flips fall on real models, against what, and which strategy is the one to take?

    pip install onnx
    python benchmarks/real_models.py --models minilm-l3 minilm-l6 --output real-models
    python -m benchmarks.updates --bases real-models --minutes 60
    python -m benchmarks.updates --table
    python -m benchmarks.updates --into docs/evidence.md
    python -m benchmarks.updates --against focal-ce-25 focal-ce focal-ce-75

    pip install gguf
    python benchmarks/real_models.py --models smollm2 gemma3 --output real-models
    python -m benchmarks.updates --bases real-models --updates smollm2-more smollm2-4bit smollm2-gemma3

Runs cells (update, task, strategy, seed), the cheapest and most telling ones first, and prints the table of all that
are finished. A finished cell is a file below `results/`, which is committed, so that the table is made from the files
alone and a later run adds to them; trained models are kept in the work folder, which may be removed. A cell is there
as a whole or not at all: after a kill, the same command goes on. `LOG.md` has what was expected before each run, and
what came out. Language models are trained with LoRA; the bases smollm2-more (trained on) and smollm2-4bit (rounded)
are made in the work folder by whoever first needs them, once for all seeds. `--smoke` tries all of it out in a minute
or two, with tiny models.
"""

# ruff: noqa: T201, S603 - a benchmark prints, and starts itself once more for each core

import argparse
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from .cells import RESULTS, read_all

THREADS = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}


def run(options: argparse.Namespace) -> int:
    """Run cells in this process; say 1 where one failed."""
    import torch
    import transformers
    from datasets import disable_progress_bars

    from .kinds import KINDS, UPDATES
    from .run import Run
    from .smoke import SMOKE, make_bases, smoke_tasks
    from .tasks import TASKS

    torch.set_num_threads(1)
    disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    if options.smoke:
        make_bases(options.bases)
    updates = SMOKE if options.smoke else {name: UPDATES[name] for name in options.updates}
    tasks = smoke_tasks() if options.smoke else {name: TASKS[name](options.data) for name in tasks_of(options)}
    work = Run(updates, tasks, options.bases, options.results, options.work)
    every = [name for kind in KINDS.values() for name in kind.strategies]
    keys = work.keys(options.seeds, options.strategies or every)
    work.work_off(keys, options.until)
    return 1 if work.failed else 0


def tasks_of(options: argparse.Namespace) -> list[str]:
    """Return the tasks that are asked for, or all of the updates' kinds that need no data from elsewhere."""
    from .kinds import KINDS, UPDATES

    if options.tasks is not None:
        return list(options.tasks)
    kinds = dict.fromkeys(UPDATES[name].kind for name in options.updates)
    return [name for kind in kinds for name in KINDS[kind].tasks if name != "clinc150-oos"]


def refuse_unknown(what: str, names: Sequence[str] | None, known: Iterable[str]) -> None:
    """Refuse names that stand for nothing."""
    known = list(dict.fromkeys(known))
    if unknown := [name for name in names or () if name not in known]:
        raise SystemExit(f"There is no {what} {', '.join(unknown)}; there are {', '.join(known)}.")


def refuse(options: argparse.Namespace) -> None:
    """Refuse names and folders that are not there, before anything is started."""
    from .kinds import KINDS, UPDATES

    refuse_unknown("update", options.updates, UPDATES)
    updates = [UPDATES[name] for name in options.updates]
    kinds = [KINDS[update.kind] for update in updates]
    refuse_unknown("strategy", options.strategies, [name for kind in kinds for name in kind.strategies])
    refuse_unknown("task", options.tasks, [name for kind in kinds for name in kind.tasks])
    if "clinc150-oos" in tasks_of(options) and options.data is None:
        raise SystemExit("clinc150-oos needs --data: a folder with clinc150/oos_train.jsonl, oos_val and oos_test.")
    bases = {update.old_base for update in updates}
    bases |= {update.new_base for update in updates if update.made is None}
    if missing := sorted(base for base in bases if not (options.bases / base / "config.json").exists()):
        raise SystemExit(
            f"{options.bases} has no {' and no '.join(missing)}. Make them: python benchmarks/real_models.py "
            f"--models {' '.join(missing)} --output {options.bases}"
        )


def run_side_by_side(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Start this command once for each process, and wait for all; they end with this one, however it ends."""
    command = [sys.executable, "-m", "benchmarks.updates", *arguments, "--worker", str(options.until)]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    workers = [
        subprocess.Popen(command, env=os.environ | THREADS, stdin=subprocess.PIPE) for _ in range(options.processes)
    ]
    try:
        return max(worker.wait() for worker in workers)
    finally:
        for worker in workers:
            worker.terminate()
            worker.wait()


def _leave_with_starter() -> None:
    """End when the process that started this one is gone, also by SIGKILL: then the other end of stdin is closed."""
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and show what was asked for."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="benchmarks.updates", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bases", type=Path, default=Path("real-models"), help="folder with the bases' folders")
    parser.add_argument("--data", type=Path, help="folder with clinc150/oos_*.jsonl, for the task clinc150-oos")
    parser.add_argument("--updates", nargs="+", default=["minilm"], help="default: minilm, that of classifiers")
    parser.add_argument("--tasks", nargs="+", help="by default all but clinc150-oos")
    parser.add_argument("--strategies", nargs="+", help="rows; all by default, in the order of worth")
    parser.add_argument("--seeds", type=int, nargs="+", help="default: 0 to 4; of language models fewer")
    parser.add_argument("--minutes", type=float, default=math.inf, help="start no cell after these")
    parser.add_argument("--processes", type=int, help="side by side: default two, or one where there is a GPU")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the cells")
    parser.add_argument("--work", type=Path, default=Path("update-models"), help="folder of the trained models")
    parser.add_argument("--table", action="store_true", help="print the table of what is there, run nothing")
    parser.add_argument(
        "--against", nargs="+", metavar="ROW", help="print how all rows differ from these, run nothing"
    )
    parser.add_argument("--into", type=Path, help="put the table into a page, in the place of the one there")
    parser.add_argument("--smoke", action="store_true", help="tiny models and few rows, in a folder of its own")
    parser.add_argument("--worker", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.until = options.worker or time.monotonic() + 60 * options.minutes
    if options.worker is not None:
        threading.Thread(target=_leave_with_starter, daemon=True).start()
        return run(options)
    if options.smoke:
        return _smoke(options)
    if options.into is not None:
        if not options.into.is_file():
            raise SystemExit(f"There is no page {options.into} for the table; name one with a heading '## The table'.")
        return _put_into(options.into, options.results)
    if options.against is not None:
        return _show_differences(options.results, options.against)
    if options.table:
        return _show(options.results)
    return _all(options, arguments)


def _all(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    refuse(options)
    options.work.mkdir(parents=True, exist_ok=True)
    if options.processes is None:
        import torch

        options.processes = 1 if torch.cuda.is_available() else min(2, os.cpu_count() or 1)
    status = run_side_by_side(options, arguments)
    return max(status, _show(options.results))


def _smoke(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as folder:
        options.bases, options.results, options.work = (Path(folder, name) for name in ("bases", "results", "work"))
        options.seeds = [0]
        options.work.mkdir()
        return max(run(options), _show(options.results))


def _put_into(page: Path, results: Path) -> int:
    from muscle_hf.files import replaced

    from .table import in_page

    text = in_page(page.read_text(encoding="utf-8"), list(read_all(results)))
    with replaced(page) as part:
        part.write_text(text, encoding="utf-8")
    return 0


def _show_differences(results: Path, others: Sequence[str]) -> int:
    from .differences import differences
    from .kinds import KINDS

    refuse_unknown("strategy", others, [name for kind in KINDS.values() for name in kind.strategies])
    print(differences(list(read_all(results)), others))
    return 0


def _show(results: Path) -> int:
    from .table import rendered

    print(rendered(list(read_all(results))))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("Interrupted. Finished cells are kept; the same command goes on.")
        sys.exit(130)
