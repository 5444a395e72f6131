"""The main job, live, in two processes where there are two cores; a second run goes on where the first one stopped.

new task adapter -> compatibility adapters and controls of the same budget -> answers -> comparison, card, evidence
"""

import os
from functools import partial
from pathlib import Path

from ..locks import held_folder
from .contenders import STORY, Cast, DemoSettings
from .evidence import write_evidence
from .jobs import Job, answers_of, jobs_of
from .processes import Watcher, run_jobs
from .results import DemoResult, evaluate_answers, read_answers


def processes_here() -> int:
    """Return how many processes the demo runs in: two, or one where there is only one core for it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(2, cores or 1)


def run_demo(
    output_dir: Path,
    settings: DemoSettings,
    cast: Cast = STORY,
    *,
    watcher: Watcher | None = None,
    processes: int | None = None,
) -> DemoResult:
    """Run every job that is not on disk yet, and write adapter, card, comparison and predictions.

    What an interrupted run with the same settings left in the folder is used, and one with other settings is refused.
    The rows of the story are among all, and are not made again. However many processes run at once, by default
    [`processes_here`], the results are the same: answers and comparisons on the test set.
    """
    with held_folder(output_dir, "muscle-hf demo", "choose another --output-dir"):
        return _run(output_dir, settings, cast, watcher or Watcher(), processes or processes_here())


def _run(output_dir: Path, settings: DemoSettings, cast: Cast, watcher: Watcher, processes: int) -> DemoResult:
    jobs = jobs_of(cast, settings)
    for job in jobs:
        job.on_disk(output_dir, settings).claim()
    left = [job.going_on(output_dir) for job in jobs if not job.on_disk(output_dir, settings).finished]
    do = partial(_do, {job.name: job for job in left}, output_dir, settings)
    run_jobs(left, do, processes, watcher)
    answers = {
        split: {
            job.contender.name: read_answers(answers_of(output_dir, job.contender, split))
            for job in jobs
            if job.split == split
        }
        for split in ("validation", "test")
    }
    result = evaluate_answers(cast, answers["validation"], answers["test"])
    write_evidence(output_dir, settings, result)
    return result


def _do(jobs: dict[str, Job], output_dir: Path, settings: DemoSettings, name: str) -> None:
    # Here, so that the process that shows progress, and waits, loads no library of models.
    from .work import do

    do(jobs[name], output_dir, settings)
