"""What is done to work: one generator a fault, which gives for each try what was done, and what was lost, or None."""

# ruff: noqa: S311, S603, S607 - chance is no secret here

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random

import reliability_child as child
import reliability_jobs as jobs
from local_hub import Fault, Hub

_SIZES, _CLOCKS, _MOMENTS = 5, 4, 60


class Place:
    """Inputs, a Hub, and a folder in which one job is done again and again."""

    def __init__(self, job: jobs.Job, root: Path, running: Hub, seed: int) -> None:
        """Do the job undisturbed, twice, and note what it comes to."""
        self.job, self.root, self.hub, self.random = job, root, running, Random(f"{seed}/{job.name}")
        self.folder, self.inputs, self.logs = root / "run", root / "inputs", root / "logs"
        self.clear()
        whole = self.run()
        if whole.code:
            raise SystemExit(f"{job.name}: undisturbed it ends with {whole.code}:\n{whole.said[-2000:]}")
        self.expected, self.seconds = self.results(), whole.seconds
        self.clear()
        counted = self.run(count=True)
        self.moments = counted.moments
        other = self.differences()
        if other:
            raise SystemExit(f"{job.name}: two undisturbed runs differ in {other}")

    def clear(self) -> None:
        """Begin anew."""
        for path in self.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if self.job.pushes:
            self.hub.clear_faults()
            jobs.remove_remote(self.hub.endpoint)

    def run(self, **fault: object) -> child.Ended:
        """Do the job, with a fault."""
        return child.run(self.call, self.folder, self.logs, **fault)  # type: ignore[arg-type]

    def call(self) -> int:
        """Do the job in this process."""
        return self.job.call(self.inputs, self.folder)

    def results(self) -> dict[str, str]:
        """Give what is there now."""
        is_there = self.job.pushes and self.hub.exists(jobs.REPOSITORY)
        return jobs.results(self.job, self.folder, self.hub.files(jobs.REPOSITORY) if is_there else {})

    def differences(self) -> list[str]:
        """Name what is other than after the undisturbed run."""
        now = self.results()
        return sorted(name for name in now | self.expected if now.get(name) != self.expected.get(name))

    def killed(self) -> child.Ended:
        """Kill it at a random moment."""
        while True:
            self.clear()
            ended = self.run(after=self.random.uniform(0.05, 0.95) * self.seconds)
            if ended.was_killed:
                return ended
            self.seconds = min(self.seconds, ended.seconds)

    def again(self) -> str | None:
        """Give the same command again; say what is lost, or None."""
        ended = self.run()
        if ended.code and not self.job.is_done(ended.complaint):
            return f"the same command ends with {ended.code}: {ended.complaint}"
        return f"other: {', '.join(self.differences()[:4])}" if self.differences() else None


Outcome = tuple[str, str | None]
"""What was done, and what was lost, or None."""


def kill(place: Place, times: int) -> Iterator[Outcome]:
    """Kill it at moments that are spread over its length."""
    for number in range(times):
        while True:
            place.clear()
            after = (number + place.random.random()) / times * place.seconds
            if place.run(after=after).was_killed:
                break
            place.seconds *= 0.95  # the machine has become faster
        yield f"killed after {after:.2f} s", place.again()


def moment(place: Place, times: int) -> Iterator[Outcome]:
    """Kill it at each kind of moment, at one of its times; of very many kinds at some, evenly spread."""
    every = list(kinds(place.moments).items())
    step = max(1.0, len(every) / _MOMENTS)
    for what, numbers in (every[int(number * step)] for number in range(min(len(every), _MOMENTS))):
        place.clear()
        ended = place.run(at=place.random.choice(numbers))
        if not ended.was_killed:
            yield f"killed at {what}", f"it was not: code {ended.code}: {ended.complaint}"
        else:
            yield f"killed at {what}", place.again()


def kinds(moments: Sequence[str]) -> dict[str, list[int]]:
    """Group moments of the same name, whatever the numbers in it."""
    grouped: dict[str, list[int]] = {}
    for number, what in enumerate(moments, start=1):
        grouped.setdefault(re.sub(r"[0-9a-f]{12,}|\d+", "N", what), []).append(number)
    return grouped


@contextmanager
def mounted(folder: Path, size: int) -> Iterator[bool]:
    """Lay a small file system of memory over a folder; False where this process may not."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], capture_output=True, check=False
    )
    if done.returncode:
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def remount(folder: Path, options: str) -> None:
    """Change what is mounted."""
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


def complained(ended: child.Ended) -> str | None:
    """Say what is wrong with how a command told a fault that it could see; None where nothing is."""
    if ended.code not in (0, 2) or "Traceback" in ended.said:
        return f"it ends with {ended.code}: {ended.complaint}"
    return None


def full(place: Place, times: int) -> Iterator[Outcome]:
    """Let the disk fill up at several sizes; then make room."""
    sizes = [path.stat().st_size for path in place.folder.rglob("*") if path.is_file()]
    if not sizes:
        return
    need = sum(-(-size // 4096) * 4096 for size in sizes)
    for number in range(_SIZES):
        share = (number + 0.5) / _SIZES
        place.clear()
        with mounted(place.folder, 4096 * max(2, int(need * share * 1.2 / 4096))) as is_mounted:
            limit = None if is_mounted else int(max(sizes) * share)
            ended = place.run(first=partial(child.limit_files, limit))
            wrong = complained(ended)
            if is_mounted:
                remount(place.folder, "size=1g")
            what = f"disk full at {share:.0%} ({ended.complaint[:300]})"
            yield what, wrong or place.again()


def read_only(place: Place, times: int) -> Iterator[Outcome]:
    """Let a folder be read-only at the beginning, and half-way."""
    if place.job.pushes:
        return
    for when in ("at the beginning", "half-way"):
        place.clear()
        with mounted(place.folder, 2**30) as is_mounted:
            if when == "half-way":
                place.killed()
            if is_mounted:
                remount(place.folder, "ro")
            elif os.geteuid():
                place.folder.chmod(0o555)
            else:
                return
            ended = place.run()
            remount(place.folder, "rw") if is_mounted else place.folder.chmod(0o755)
            wrong = complained(ended) or (None if ended.code == 2 else f"it ends with {ended.code}")
            yield f"read-only {when} ({ended.complaint[:300]})", wrong or place.again()


def second(place: Place, times: int) -> Iterator[Outcome]:
    """Start it a second time while the first one is half-way."""
    if place.job.pushes or place.job.name in ("reporting", "deciding"):
        return  # two may push, write the same report, and wait for each other with decisions
    place.clear()
    number = child.start(place.call, place.folder, place.logs)
    while not any(lock.stat().st_size for lock in place.folder.rglob(".*.lock")):  # until it says whose it is
        time.sleep(0.002)
    os.kill(number, signal.SIGSTOP)
    ended = place.run()
    os.kill(number, signal.SIGCONT)
    code = child.finish(number)
    is_told = ended.code == 2 and f"process {number} on " in ended.complaint
    wrong = None if is_told else f"the second one ends with {ended.code}: {ended.complaint}"
    wrong = wrong or (f"the first one ends with {code}" if code else None)
    yield (
        f"second run ({ended.complaint[:300]})",
        wrong or (f"other: {place.differences()}" if place.differences() else None),
    )


def clock(place: Place, times: int) -> Iterator[Outcome]:
    """Kill it under a clock that jumps, draw the dates of all files anew, and go on under such a clock."""
    for number in range(_CLOCKS):
        place.clear()
        set_up = child.jumping_clock(place.random.randrange(2**32))
        place.run(after=place.random.uniform(0.3, 0.9) * place.seconds, first=set_up)
        for path in place.folder.rglob("*"):
            date = place.random.uniform(1e9, 3e9)
            os.utime(path, (date, date))
        ended = place.run(first=set_up)
        is_bad = ended.code and not place.job.is_done(ended.complaint)
        lost = f"it ends with {ended.code}: {ended.complaint}" if is_bad else None
        yield f"clock {number}", lost or (f"other: {place.differences()}" if place.differences() else None)


def damage(place: Place, times: int) -> Iterator[Outcome]:
    """Damage each kind of file that a kill leaves; a refusal by name is as good as a right result."""
    if place.job.pushes:
        return
    done: set[str] = set()
    for share in (0.4, 0.7, 0.95):
        moments = [number for number, what in enumerate(place.moments, start=1) if not what.startswith("mkdir")]
        at = moments[int(len(moments) * share)]
        for how in (flip, cut):
            place.clear()
            place.run(at=at)
            found = {
                path.relative_to(place.folder): path.stat().st_size
                for path in place.folder.rglob("*")
                if path.is_file()
            }
            for name in sorted(name for name, size in found.items() if size):
                kind = f"{how.__name__} {re.sub(r'[0-9a-f]{12,}|[0-9]+', 'N', str(name))}"
                if kind in done or name.suffix in (".tmp", ".lock"):
                    continue
                done.add(kind)
                yield kind, _damaged(place, at, name, how)


def _damaged(place: Place, at: int, name: Path, how: Callable[[Path], None]) -> str | None:
    place.clear()
    place.run(at=at)
    path = place.folder / name
    before = path.read_bytes()
    how(path)
    ended = place.run()
    if ended.code == 0:
        return f"taken as it is; other: {place.differences()[:4]}" if place.differences() else None
    named = any(part in ended.said for part in (str(name), name.name, str(name.parent)))
    if ended.code != 2 or not named or "Traceback" in ended.said:
        return f"it ends with {ended.code}: {ended.complaint}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(before)
    return place.again()


def flip(path: Path) -> None:
    """Turn one bit in the middle of a file; of a text, one that leaves it a text."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    """Cut a file in half."""
    os.truncate(path, path.stat().st_size // 2)


def gone(place: Place, times: int) -> Iterator[Outcome]:
    """Let the Hub go away at each of the requests, for good, and for one of them."""
    if not place.job.pushes:
        return
    count = sum(what.startswith("request") for what in place.moments)
    for number in range(count):
        for name, fault in (
            ("503 for good", Fault(503, after=number, times=None)),
            ("connection cut", Fault(answer_lost=True, after=number)),
            ("cut in the upload", Fault(cut_after_bytes=20, after=number, times=None)),
        ):
            place.clear()
            place.hub.fault(fault)
            ended = place.run(first=child.no_waiting)
            place.hub.clear_faults()
            yield f"{name}, request {number}", complained(ended) or place.again()


RUNS: dict[str, Callable[[Place, int], Iterator[Outcome]]] = {
    "kill": kill,
    "moment": moment,
    "full": full,
    "read-only": read_only,
    "second": second,
    "clock": clock,
    "damage": damage,
    "hub": gone,
}
