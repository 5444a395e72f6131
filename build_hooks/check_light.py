"""What `pip install muscle_hf` brings is small, compares, and says in one line what the rest needs.

`make test-light` and `make dist` run it as `python -I` with the installed wheel of an empty environment, which it then
measures; tests/test_packages.py runs it where everything is installed, with all but the light packages hidden.
"""

import contextlib
import importlib
import io
import sys
import sysconfig
import tempfile
from importlib.metadata import distributions
from pathlib import Path

import muscle_hf
from muscle_hf.cli import COMMANDS, main

MOST_PACKAGES, MOST_MEGABYTES = 12, 350
# They come with the environment, whatever is installed into it.
INSTALLERS = {"pip", "setuptools", "wheel"}
DATA = Path(__file__).parents[1] / "examples" / "data" / "mmlu_pro" / "answers.csv"
PAIR = ["compare", f"{DATA}:Llama-2-7b-hf", f"{DATA}:Meta-Llama-3-8B", "--reference", "answer"]
PAIR += ["--columns", "id=question_id", "--by", "category"]
PRIME = DATA.parents[1] / "llmdrift_prime" / "answers.csv"
JUDGES = ["compare", f"{PRIME}:gpt-4-0314", f"{PRIME}:gpt-4-0613", "--reference", "answer", "--yes-no", "yes,no"]
LEETCODE = DATA.parents[1] / "llmdrift_leetcode" / "verdicts.csv"
GRADED = ["compare", *(f"{LEETCODE}@model=gpt-4-{date}" for date in ("0314", "0613")), "--suspects", "5"]
GRADED += ["--metric", "accepted_as_written", "--recognised-by", "has_code_fence"]
BROKEN = ["compare", *(str(DATA.parents[1] / "gsm8k" / f"gpt3-{size}.jsonl") for size in ("6b", "175b"))]
# Command with what it needs to begin -> exit code, and what its one line of complaint has to hold.
WORDS = [
    (PAIR, 0, ""),
    ([*PAIR, "--json"], 0, ""),
    ([*PAIR, "--markdown", "--html", "page.html", "--jsonl", "flips.jsonl"], 0, ""),
    ([*PAIR, "--max-nfr", "0.2"], 0, ""),
    ([*PAIR, "--max-nfr", "0.02"], 1, "--max-nfr 0.02"),
    ([*JUDGES, "--max-bias-shift", "0.1"], 1, "--max-bias-shift 0.1"),
    ([*GRADED, "--to-check", "check.csv"], 0, "wrote check.csv"),
    ([*GRADED, "--verdicts", "check.csv"], 2, "no verdicts"),
    ([*BROKEN, "--pairs", "pairs.jsonl"], 0, "88 pairs of 88 negative flips"),
    (["power", "--questions", "500"], 0, ""),
    (["disagreements", *PAIR[1:3], "--columns", "id=question_id", "--output", "labels.csv"], 0, "wrote labels.csv"),
    (["disagreements", *PAIR[1:3], "--columns", "id=question_id", "--labels", "labels.csv"], 0, ""),
    ([*PAIR, "--png", "picture.png"], 2, 'pip install "muscle_hf[plots]"'),
    (["compare", "org/old", "org/new"], 2, 'pip install "muscle_hf[hub]"'),
    (["find"], 2, 'pip install "muscle_hf[hub]"'),
    (["metrics", "push", "--namespace", "org"], 2, 'pip install "muscle_hf[hub]"'),
    (["demo"], 2, 'pip install "muscle_hf[train]"'),
    (["update"], 2, 'pip install "muscle_hf[train]"'),
    (["cache"], 2, 'pip install "muscle_hf[train]"'),
    (["predict", "org/adapter", "data.jsonl", "--output", "answers.jsonl"], 2, 'pip install "muscle_hf[train]"'),
    (["push", "folder", "org/name"], 2, 'pip install "muscle_hf[train]"'),
    *(([command, "--help"], 0, "") for command in COMMANDS),
    (["--help"], 0, ""),
]
LIGHT_ROOMS = {"errors", "flips", "readers", "runs"}
ROOMS_OF_MODELS = ("alignment", "losses", "prediction", "teachers")


def try_commands() -> None:
    """Run every command, and look at its exit code and its complaint."""
    for words, expected, part in WORDS:
        said, complaint = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complaint):
            code = main(words)
        told = complaint.getvalue()
        if code != expected or part not in told or (part and code == 2 and len(told.splitlines()) != 1):
            sys.exit(f"{' '.join(words)}: exit code {code}, where {expected} was expected with {part!r}: {told}")


def try_names() -> None:
    """Import every public name; those that need more have to say so."""
    for name in muscle_hf.__all__:
        needs_more = muscle_hf._HOMES[name].partition(".")[0] not in LIGHT_ROOMS
        _expect_refusal(name, needs_more, lambda name=name: getattr(muscle_hf, name))  # type: ignore[misc]
    for room in ROOMS_OF_MODELS:
        _expect_refusal(room, True, lambda room=room: importlib.import_module(f"muscle_hf.{room}"))  # type: ignore[misc]


def _expect_refusal(name: str, needs_more: bool, load: "object") -> None:
    try:
        load()  # type: ignore[operator]
    except muscle_hf.MissingPackageError as error:
        if not needs_more or 'pip install "muscle_hf[' not in str(error):
            sys.exit(f"{name}: {error}")
    else:
        if needs_more:
            sys.exit(f"{name} can be loaded, and was expected to need more than the light packages")


def measure() -> str:
    """Count what is installed, and refuse too much of it."""
    place = Path(sysconfig.get_path("purelib"))
    packages = {str(one.metadata["Name"]).lower() for one in distributions(path=[str(place)])} - INSTALLERS
    size = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
    size -= sum(file.stat().st_size for one in INSTALLERS for file in (place / one).rglob("*") if file.is_file())
    text = f"{len(packages)} packages, {size / 1e6:.0f} MB: {', '.join(sorted(packages))}"
    if len(packages) > MOST_PACKAGES or size > MOST_MEGABYTES * 1e6:
        sys.exit(f"{text}; at most {MOST_PACKAGES} and {MOST_MEGABYTES} MB were promised")
    return text


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        try_commands()
    try_names()
    if "--measure" in sys.argv:
        print(measure())  # noqa: T201
