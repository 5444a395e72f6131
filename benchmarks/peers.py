"""What other tools say of the same answers, whether it is so by brute force, and what they cost beside `muscle_hf`.

    python benchmarks/peers.py --environments DIR            # installs each peer into DIR, outside of the repository
    python benchmarks/peers.py --environments DIR --rows 1000000

Every peer gets the same right and wrong answers in files of a format of its own, and is asked through its own command,
or, where it has none, by a few lines that read a file and call it. Brute force is plain Python: counts, and the exact
two-sided test on the flips as a sum of integers. "CPU" is the processor time of the whole process, the least of
`--times` runs, all tools in turn, each with its own packages alone; the ratio is ours over theirs, so that below 1 we
are faster. What cannot be installed or run is said in place of its figures.
"""

# ruff: noqa: T201, S603 - a benchmark prints, and runs what it installs

import argparse
import csv
import json
import math
import os
import platform
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "examples" / "data" / "mmlu_pro" / "answers.csv"
MODELS = ("Llama-2-7b-hf", "Meta-Llama-3-8B")
SECONDS = 600


@dataclass(frozen=True)
class Figures:
    """What a tool says; None where it does not say it."""

    change: float | None = None
    negative: int | None = None
    positive: int | None = None
    p_value: float | None = None
    interval: tuple[float, float] | None = None
    verdict: str | None = None


@dataclass(frozen=True)
class Peer:
    """A tool: how it is installed, what it reads, how it is asked, and what of its output is which figure."""

    package: str
    write: Callable[[Path, Sequence[bool]], Path]
    words: Callable[[Path, Path, Path], list[str]]
    figures: Callable[[str], Figures]
    interpreter: str = "python3"
    what: str = ""


def published() -> tuple[list[bool], list[bool]]:
    """Read which answers of both models are right, of 12,018 on MMLU-Pro."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    old, new = ([row[model] == row["answer"] for row in rows] for model in MODELS)
    return old, new


def drawn(count: int) -> tuple[list[bool], list[bool]]:
    """Draw answers of which 4 % break and 4.2 % are repaired."""
    chance = random.Random(0)  # noqa: S311 - no secret
    old, new = [], []
    for _ in range(count):
        kind = chance.random()
        old.append(kind < 0.6)
        new.append(kind < 0.56 or 0.6 <= kind < 0.642)
    return old, new


def brute_force(old: Sequence[bool], new: Sequence[bool]) -> Figures:
    """Count in plain Python, and add up the exact test in integers."""
    negative = sum(before and not after for before, after in zip(old, new, strict=True))
    positive = sum(after and not before for before, after in zip(old, new, strict=True))
    flips, few = negative + positive, min(negative, positive)
    ways = total = 1
    for k in range(few):
        ways = ways * (flips - k) // (k + 1)
        total += ways
    p_value = min(1.0, total / 2 ** (flips - 1)) if flips else 1.0
    return Figures((positive - negative) / len(old), negative, positive, p_value)


# What each reads and says --------------------------------------------------------------------------------------------


def _lines(path: Path, lines: Sequence[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def _answers(place: Path, right: Sequence[bool]) -> Path:
    return _lines(
        place / "answers.csv", ["id,prediction,reference", *(f"{i},{int(r)},1" for i, r in enumerate(right))]
    )


def _scores(header: str) -> Callable[[Path, Sequence[bool]], Path]:
    return lambda place, right: _lines(place / "s.csv", [header, *(f"{i},{int(r)}" for i, r in enumerate(right))])


def _samples(place: Path, right: Sequence[bool]) -> Path:
    return _lines(place / "samples.jsonl", [f'{{"doc_id": {i}, "acc": {int(r)}}}' for i, r in enumerate(right)])


def _bundle(place: Path, right: Sequence[bool]) -> Path:
    _lines(
        place / "results.jsonl",
        [f'{{"problem_idx": {i}, "repeat": 0, "reward": {float(r)}}}' for i, r in enumerate(right)],
    )
    score = {"value": sum(right) / len(right)}
    content = {"benchmark": {"name": "quiz", "scores": {"accuracy": score}, "samples": len(right)}}
    return _lines(place / "eval-quiz.json", [json.dumps(content)])


def _ours(said: str) -> Figures:
    content = json.loads(said)
    (task,), (bound,) = content["tasks"], content["gate"]["bounds"]
    flips = task["counts"]["negative_flips"], task["counts"]["positive_flips"]
    verdict = f"{content['gate']['verdict']} (margin 1 point)"
    return Figures(bound["estimate"], *flips, task["p_value"], (bound["low"], bound["high"]), verdict)


_BETAPAIR = """
import json, sys
from betapair import mcnemar
def read(path):
    with open(path, encoding="utf-8") as file:
        return {row["doc_id"]: row["acc"] for row in map(json.loads, file)}
old, new = map(read, sys.argv[1:])
repaired = sum(new[key] > right for key, right in old.items())
broken = sum(new[key] < right for key, right in old.items())
result = mcnemar(n_improved=repaired, n_regressed=broken)
print(json.dumps([len(old), broken, repaired, result.p_improved]))
"""


def _betapair(said: str) -> Figures:
    count, broken, repaired, chance = json.loads(said)
    return Figures((repaired - broken) / count, broken, repaired, verdict=f"P(improved) {chance:.4g}")


def _evalsig(said: str) -> Figures:
    content = json.loads(said)
    found = content["comparison"]
    low, high = found["ci"]
    return Figures(found["delta"], None, None, found["p_value"], (low, high), f"{content['verdict']} (margin 1 point)")


def _siggate(said: str) -> Figures:
    content = json.loads(said)
    interval = content["ci_lower"], content["ci_upper"]
    return Figures(content["delta"], None, None, content["p_value"], interval, content["label"])


def _evalci(said: str) -> Figures:
    found = re.search(r"Δ=(\S+), 95% CI \[(\S+), (\S+)\], paired mcnemar p=([\d.e-]+)", said)
    if found is None:
        raise ValueError(said.strip())
    change, low, high, p_value = map(float, found.groups())
    return Figures(change, None, None, p_value, (low, high))


def _nel(said: str) -> Figures:
    content = json.loads(said)
    flips, test = content["flip_report"]["summary"], content["mcnemar"]
    # It gives the fall, and tests for one alone.
    interval = -test["ci_upper"], -test["ci_lower"]
    verdict = f"{content['verdict']}, one-sided p {test['p_value']:.4g}"
    counts = flips["n_regressions"], flips["n_improvements"]
    return Figures(-test["effect_size"], *counts, None, interval, verdict)


OURS = Peer(
    " ".join(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]),
    _answers,
    lambda place, old, new: [
        *(
            str(place / "bin" / "python"),
            "-m",
            "muscle_hf",
            "compare",
            str(old),
            str(new),
            "--margin",
            "0.01",
            "--json",
        ),
    ],
    _ours,
)
PEERS = {
    "betapair": Peer(
        "betapair",
        _samples,
        lambda place, old, new: [str(place / "bin" / "python"), "-c", _BETAPAIR, str(old), str(new)],
        _betapair,
        what="its library, read and counted by eight lines of ours",
    ),
    "evalsig": Peer(
        "evalsig",
        _samples,
        lambda place, old, new: [
            *(str(place / "bin" / "evalsig"), "gate", "--baseline", str(old), "--candidate", str(new)),
            *("--format", "lm_eval", "--metric", "acc", "--output", "json", "--min-delta", "-0.01", "--two-sided"),
        ],
        _evalsig,
    ),
    "siggate": Peer(
        "siggate",
        _scores("id,score"),
        lambda place, old, new: [
            *(str(place / "bin" / "siggate"), "compare", str(old), str(new)),
            *("--adapter", "raw", "--format", "json", "--no-gate"),
        ],
        _siggate,
    ),
    "evalci": Peer(
        "evalci",
        _scores("item_id,score"),
        lambda place, old, new: [
            # It gives the first minus the second.
            *(str(place / "bin" / "evalci"), "compare", str(new), str(old), "--model-a", "new", "--model-b", "old"),
            *("--format", "csv", "--method", "mcnemar"),
        ],
        _evalci,
    ),
    "nemo-evaluator": Peer(
        "nemo-evaluator[stats]",
        _bundle,
        lambda place, old, new: [
            *(str(place / "bin" / "nel"), "compare", str(old), str(new), "--format", "json", "--no-report"),
        ],
        _nel,
        interpreter="python3.12",
    ),
}
NOT_COMPARED = {
    "invarlock": "evaluates requests that are signed and bound to a policy of their own, and has no command that "
    "compares two files of results (0.17.1)"
}


# Installed and run ---------------------------------------------------------------------------------------------------


def environment(folder: Path, name: str, peer: Peer) -> tuple[Path, str]:
    """Install a peer into an environment of its own, where it is not there yet; give its place and version."""
    place = folder / name
    if not (place / "installed").exists():
        interpreter = shutil.which(peer.interpreter)
        if interpreter is None:
            raise RuntimeError(f"{peer.interpreter} is needed and not here")
        subprocess.run([interpreter, "-m", "venv", "--clear", str(place)], check=True, capture_output=True)
        done = subprocess.run(
            [place / "bin" / "python", "-m", "pip", "install", "--quiet", *peer.package.split()],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"cannot be installed: {done.stderr.strip().splitlines()[-1]}")
        (place / "installed").touch()
    if name == "muscle_hf":
        return place, ""
    code = f"from importlib.metadata import version; print(version({name!r}))"
    done = subprocess.run([place / "bin" / "python", "-c", code], capture_output=True, text=True, check=True)
    return place, done.stdout.strip()


def ask(words: Sequence[str], folder: Path) -> tuple[str, float]:
    """Run a command, and give what it said and its processor time in seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        own = os.environ | {"PYTHONPATH": str(ROOT)} if "muscle_hf" in words else os.environ
        done = subprocess.run(words, capture_output=True, text=True, cwd=folder, env=own, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"took more than {SECONDS} s") from None
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if not done.stdout.strip():
        last = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
        raise RuntimeError(f"ended with {done.returncode}: {last}")
    return done.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def compare(
    tools: dict[str, tuple[Path, Peer]], old: Sequence[bool], new: Sequence[bool], times: int
) -> dict[str, Any]:
    """Ask every tool in turn; give its figures and its least time, or why it has none."""
    answers: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        commands = {}
        for tool, (place, peer) in tools.items():
            files = []
            for side, right in (("old", old), ("new", new)):
                (folder / tool / side).mkdir(parents=True)
                files.append(peer.write(folder / tool / side, right))
            commands[tool] = peer.words(place, *files)
        for _ in range(times):
            for tool, words in commands.items():
                if isinstance(answers.get(tool), str):
                    continue
                try:
                    said, seconds = ask(words, folder)
                    figures = tools[tool][1].figures(said)
                except RuntimeError as error:
                    answers[tool] = str(error)
                except (KeyError, ValueError, TypeError, IndexError) as error:
                    answers[tool] = f"says what is not understood here ({type(error).__name__}: {error})"
                else:
                    least = answers[tool][1] if tool in answers else math.inf
                    answers[tool] = figures, min(least, seconds)
    return answers


def shown(figures: Figures, truth: Figures) -> str:
    """Give the cells of a row; what brute force has otherwise is marked."""

    def cell(name: str, form: str) -> str:
        value, right = getattr(figures, name), getattr(truth, name)
        if value is None:
            return ""
        # As many digits as a tool shows have to be right.
        is_right = math.isclose(value, right, rel_tol=1e-9, abs_tol=6e-4 if name == "change" else 0)
        return f"{value:{form}}" + ("" if is_right else " (not exact)")

    interval = figures.interval
    return " | ".join(
        [
            cell("change", "+.4f"),
            cell("negative", ",d"),
            cell("positive", ",d"),
            cell("p_value", ".4g"),
            "" if interval is None else f"{interval[0]:+.4f} to {interval[1]:+.4f}",
            figures.verdict or "",
        ]
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Install what is not there, ask, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", type=Path, metavar="DIR", help="where peers are, or get, installed")
    parser.add_argument("--rows", type=int, help="so many drawn answers in place of the published 12,018")
    parser.add_argument("--times", type=int, default=3, help="runs, of which the fastest counts (default: 3)")
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=list(PEERS), help="default: all")
    options = parser.parse_args(argv)
    old, new = published() if options.rows is None else drawn(options.rows)
    # Without a folder of environments it is the one that this script runs in, which has ours.
    tools, versions, absent = {"muscle_hf": (Path(sys.prefix), OURS)}, dict[str, str](), dict[str, str]()
    for name, peer in {"muscle_hf": OURS, **{name: PEERS[name] for name in options.peers}}.items():
        try:
            if options.environments is not None:
                place, versions[name] = environment(options.environments.resolve(), name, peer)
                tools[name] = place, peer
            elif peer is not OURS:
                raise RuntimeError("--environments names no folder to install it into")
        except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
            absent[name] = str(error)
    answers, truth = compare(tools, old, new, options.times), brute_force(old, new)
    print(f"{len(old):,} answers, Python {platform.python_version()}, {platform.machine()}\n")
    print("| tool | change | broken | repaired | p | 95 % interval of the change | verdict | CPU, s | ours / theirs |")
    print(f"|---|---|---|---|---|---|---|---|---|\n| brute force | {shown(truth, truth)} | | |")
    for name, answer in answers.items():
        if isinstance(answer, str):
            absent[name] = answer
            continue
        figures, seconds = answer
        ours = answers["muscle_hf"]
        ratio = "" if name == "muscle_hf" or isinstance(ours, str) else f"{ours[1] / seconds:.2f}"
        title = f"{name} {versions.get(name, '')}".strip()
        print(f"| {title} | {shown(figures, truth)} | {seconds:.2f} | {ratio} |")
    for name, reason in {**absent, **NOT_COMPARED}.items():
        print(f"\nNot run: {name}: {reason}.")


if __name__ == "__main__":
    main()
