"""Does an update of real models run to its end, also when it is killed, and what does it cost?

    python benchmarks/real_models.py --output real-models
    python benchmarks/real_update.py --models real-models --output real-updates

Trains an old task adapter on SmolLM2 (MASSIVE: which of 18 domains is an utterance about?), goes on training SmolLM2
as a whole on sentences of Wikipedia, and runs `muscle-hf update` from the old adapter to two new bases: SmolLM2
trained on, and Gemma 3 270M, whose tokenizer is another (`--alignment chunks`). Each update runs twice in folders of
one name: once left alone, and once killed with SIGKILL while the old model is asked and again some steps behind a
checkpoint of the compatibility training, with the same command after each kill. Adapters, answers and evidence of both
must be the same, but for the time that a training took.

Prints two Markdown tables and what differs. Nothing follows from the rates but that the update ran: rows, steps and
models are few and small, and there is one seed. Costs are seconds of processor time, since a machine may be shared.
What is finished in the output folder is kept, so that a killed benchmark goes on as well.
"""

# ruff: noqa: T201, S603 - a benchmark prints, and runs the command that it is about

import argparse
import contextlib
import csv
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muscle_hf.prediction.kept_answers import count_kept
from muscle_hf.training.checkpoints.kept import last_checkpoint

MASSIVE = Path(__file__).parents[1] / "examples" / "data" / "massive"
COMMAND = [sys.executable, "-m", "muscle_hf", "update"]
# Of both updates; the learning rates are high because the steps are few.
OPTIONS = {
    "completion_only_loss": "true",
    "per_device_train_batch_size": 8,
    "task_learning_rate": 1e-3,
    "learning_rate": 5e-4,
    "ask_batch_size": 16,
}
UPDATES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "trained-on": ("SmolLM2 → SmolLM2 trained on", "smollm2-trained-on", {}),
    "other-tokenizer": ("SmolLM2 → Gemma 3 270M", "gemma3", {"alignment": "chunks"}),
}
_STAGE = re.compile(r"^(?P<title>[^:\n]+): (?:training, (?P<steps>\d+) steps|asking \d+ rows|finished before)", re.M)
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Stage:
    """What a stage of the command took: processor time in seconds, the peak of its memory in bytes."""

    title: str
    steps: int | None
    seconds: float
    peak: int


def rows_of(name: str, count: int, seed: int) -> list[dict[str, str]]:
    """Return some rows of MASSIVE: an utterance, and the first word of its intent."""
    with (MASSIVE / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        rows = [
            {"prompt": f"{row['text']}\n", "completion": row["intent"].partition("_")[0]}
            for row in csv.DictReader(file)
        ]
    random.Random(seed).shuffle(rows)  # noqa: S311 - no secret
    return rows[:count]


def train(base: Path, rows: Sequence[Mapping[str, str]], output: Path, adapter: Any = None, **options: Any) -> None:
    """Train a base, or an adapter on it, with TRL's own trainer, unless that is done; the tokenizer lies beside it."""
    if output.exists():
        return
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    working = output.with_name(f"{output.name}.part")
    shared: dict[str, Any] = {
        "per_device_train_batch_size": 8,
        "save_strategy": "no",
        "report_to": "none",
        "bf16": False,
        "use_cpu": True,
        "loss_type": "nll",
        "disable_tqdm": True,
    }
    arguments = SFTConfig(output_dir=str(working), **shared, **options)
    trainer = SFTTrainer(
        model=str(base),
        args=arguments,
        train_dataset=Dataset.from_list([dict(row) for row in rows]),
        peft_config=adapter,
    )
    begun = time.process_time()
    trainer.train()
    trainer.save_model(str(working))
    working.rename(output)
    steps = trainer.state.global_step
    print(f"{output.name}: {steps} steps, {(time.process_time() - begun) / steps:.1f} s each", file=sys.stderr)


def prepare(models: Path, output: Path, options: argparse.Namespace) -> None:
    """Write the rows, train the old task adapter and train SmolLM2 on."""
    from peft import LoraConfig

    from muscle_hf.demo.data import read_sentences

    output.mkdir(parents=True, exist_ok=True)
    for name, count in (("train", options.rows), ("test", options.test_rows)):
        lines = (json.dumps(row) + "\n" for row in rows_of(name, count, options.seed))
        (output / f"massive-domains-{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    smollm2 = models / "smollm2"
    lora = LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    # Other rows than the update's, as where a year lies between both.
    rows = rows_of("train", 2 * options.rows, options.seed)[options.rows :]
    epochs = {"num_train_epochs": options.epochs, "learning_rate": 1e-3, "seed": options.seed}
    train(smollm2, rows, output / "old-adapter", lora, **epochs)
    sentences = [{"text": sentence} for sentence in read_sentences()[: 8 * options.base_steps]]
    once = {"num_train_epochs": 1, "learning_rate": 5e-5, "seed": options.seed}
    train(smollm2, sentences, output / "smollm2-trained-on", **once)


def command_of(update: str, models: Path, output: Path, options: argparse.Namespace) -> list[str]:
    """Return the command of an update, which writes into `output/massive-domains`."""
    _, base, more = UPDATES[update]
    given: dict[str, Any] = {
        "old_adapter": output / "old-adapter",
        "new_base": output / base if (output / base).exists() else models / base,
        "dataset": output / "massive-domains-train.jsonl",
        "test_dataset": output / "massive-domains-test.jsonl",
        "output_dir": output / "massive-domains",
        "seed": options.seed,
        "num_train_epochs": options.epochs,
    }
    if options.preset is not None:
        given["preset"] = options.preset
    words = (given | OPTIONS | more).items()
    return [*COMMAND, *(word for name, value in words for word in (f"--{name.replace('_', '-')}", str(value)))]


def run(command: Sequence[str], log: Path, kill: Callable[[float], bool] | None = None) -> list[Stage]:
    """Run a command and return what its stages took; with `kill`, as soon as that says so it is killed.

    `kill` is given the processor time so far. A command that fails, or that ends before it is killed, ends all.
    """
    stages: list[Stage] = []
    with log.open("w", encoding="utf-8") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        began, seconds, peak = 0.0, 0.0, 0
        current: tuple[str, int | None] = ("the start", None)
        has_ended = False
        while not has_ended:
            # Looked at once more after the end, for what was said in between.
            has_ended = process.poll() is not None
            seconds, peak = _seconds(process.pid, seconds), max(peak, _peak(process.pid))
            told = [(stage["title"], stage["steps"]) for stage in _STAGE.finditer(log.read_text(encoding="utf-8"))]
            for title, steps in told[len(stages) :]:
                stages.append(Stage(*current, seconds - began, peak))
                current, began, peak = (title, int(steps) if steps else None), seconds, 0
                _forget_peak(process.pid)
            if not has_ended and kill is not None and kill(seconds):
                process.send_signal(signal.SIGKILL)
                process.wait()
                return [*stages, Stage(*current, seconds - began, peak)]
            time.sleep(0 if has_ended else 0.2)
    if process.returncode or kill is not None:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}; its last words:\n{_end_of(log)}")
    return [*stages, Stage(*current, seconds - began, peak)]


def _end_of(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8").splitlines()[-20:])


def _seconds(pid: int, before: float) -> float:
    """Return the processor time of a process; that of the last look where it has just ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return before
    return max(before, (int(fields[11]) + int(fields[12])) / _TICKS)


def _peak(pid: int) -> int:
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="utf-8"))
    except OSError:
        return 0
    return 1024 * int(found[1]) if found else 0


def _forget_peak(pid: int) -> None:
    """Let Linux measure the peak of a process from here on."""
    with contextlib.suppress(OSError):  # it has just ended
        Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def in_the_asking(folder: Path) -> Callable[[float], bool]:
    """Say when some of the old model's answers are kept, and not all."""
    part = folder / "answers" / "old.jsonl.part"
    return lambda _: count_kept(part) > 0


def behind_a_checkpoint(folder: Path, seconds: float) -> Callable[[float], bool]:
    """Say when the compatibility training is so many seconds of processor time behind its first checkpoint."""
    since: list[float] = []

    def is_time(now: float) -> bool:
        if not since and last_checkpoint(folder / "compatibility") is not None:
            since.append(now)
        return bool(since) and now - since[0] >= seconds

    return is_time


def differing(one: Path, other: Path) -> tuple[list[str], list[str], int]:
    """Return the files of two folders that differ, those that are not the same bytes, and how many files there are.

    No difference are the time that a training took, and the order of PEFT's sets, another in each process.
    """
    names = sorted({path.relative_to(folder) for folder in (one, other) for path in _files(folder)})
    bytes_differ = [name for name in names if _bytes(one / name) != _bytes(other / name)]
    differ = [str(name) for name in bytes_differ if _content(one / name) != _content(other / name)]
    return differ, list(map(str, bytes_differ)), len(names)


def _content(path: Path) -> object:
    """Return what a file says, without the time that a training took."""
    if path.suffix == ".json" and path.is_file():
        return _without_order(json.loads(path.read_text(encoding="utf-8")))
    if path.name == "README.md" and path.is_file():
        return re.sub(r"^- time: .*$", "", path.read_text(encoding="utf-8"), flags=re.M)
    return _bytes(path)


def _without_order(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_order(inner) for name, inner in value.items() if name not in ("time", "hours")}
    is_set = isinstance(value, list) and all(isinstance(inner, str) for inner in value)
    return sorted(value) if is_set else [*map(_without_order, value)] if isinstance(value, list) else value


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def measure(update: str, models: Path, output: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run an update left alone and killed, and return what both took; what an earlier call measured is kept."""
    result = output / f"{update}.json"
    if result.exists():
        kept: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        return kept
    command, folder = command_of(update, models, output, options), output / "massive-domains"
    shutil.rmtree(folder, ignore_errors=True)
    stages = run(command, output / f"{update}.log")
    alone = output / f"{update}-alone"
    shutil.rmtree(alone, ignore_errors=True)
    folder.rename(alone)
    measured: dict[str, Any] = {
        "stages": [vars(stage) for stage in stages],
        "against": json.loads((alone / "comparison.json").read_text(encoding="utf-8"))["old_model_against"],
    }
    if options.kill:
        training = next(stage for stage in stages if stage.title == "the compatibility adapter")
        step = training.seconds / (training.steps or 1)
        log = f"{update}-killed-{{}}.log".format
        killed = [
            *run(command, output / log(1), in_the_asking(folder)),
            *run(command, output / log(2), behind_a_checkpoint(folder, 2 * step)),
        ]
        went_on = run(command, output / log(3))
        differ, bytes_differ, files = differing(alone, folder)
        total, first = (sum(stage.seconds for stage in each) for each in ([*killed, *went_on], stages))
        measured["killed"] = {
            "differ": differ,
            "bytes differ": bytes_differ,
            "files": files,
            "cost": total - first,
            "said": re.findall(r"going on from step \d+", (output / log(3)).read_text(encoding="utf-8")),
        }
        shutil.rmtree(folder)
    result.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    return measured


def show(results: Mapping[str, Mapping[str, Any]]) -> None:
    """Print what the updates came to, and what they took."""
    print("| update | model | right, % | answers lost (NFR), % | of n |\n|---|---|---|---|---|")
    for update, measured in results.items():
        for number, (name, found) in enumerate(measured["against"].items()):
            rates, n = found["rates"], found["n"]
            old, new = (100 * rates[f"{which}_accuracy"]["estimate"] for which in ("old", "new"))
            if not number:
                print(f"| {UPDATES[update][0]} | old model | {old:.1f} | | {n} |")
            lost, low, high = (100 * rates["negative_flip_rate"][key] for key in ("estimate", "low", "high"))
            print(f"| {UPDATES[update][0]} | {name} | {new:.1f} | {lost:.1f} [{low:.1f}, {high:.1f}] | {n} |")
    print("\n| update | stage | steps | processor s | s a step | peak memory, GB |\n|---|---|---|---|---|---|")
    for update, measured in results.items():
        for stage in measured["stages"]:
            steps, seconds = stage["steps"], stage["seconds"]
            each = f"{steps} | {seconds:.0f} | {seconds / steps:.2f}" if steps else f"| {seconds:.0f} | "
            print(f"| {UPDATES[update][0]} | {stage['title']} | {each} | {stage['peak'] / 1e9:.2f} |")
    print()
    for update, measured in results.items():
        if (killed := measured.get("killed")) is not None:
            same = "all the same" if not killed["differ"] else f"these differ: {', '.join(killed['differ'])}"
            same += f" ({killed['files'] - len(killed['bytes differ'])} byte for byte)"
            print(
                f"{UPDATES[update][0]}, killed twice ({', '.join(killed['said'])}): {killed['files']} files, {same}; "
                f"{killed['cost']:.0f} s of processor time more, three starts of the command among them"
            )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the updates that were asked for, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, required=True, help="the folder that benchmarks/real_models.py made")
    parser.add_argument("--output", type=Path, required=True, help="folder for rows, adapters, logs and results")
    parser.add_argument("--updates", nargs="+", choices=UPDATES, default=list(UPDATES))
    parser.add_argument("--rows", type=int, default=256, help="rows of the update (default: 256)")
    parser.add_argument("--test-rows", type=int, default=200, help="rows to compare on (default: 200)")
    parser.add_argument("--epochs", type=int, default=2, help="of the adapters (default: 2)")
    parser.add_argument("--preset", help="of the compatibility training (default: the paper's)")
    parser.add_argument("--base-steps", type=int, default=100, help="steps of 8 sentences on SmolLM2 (default: 100)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="of each process (default: 1)")
    parser.add_argument("--no-kill", dest="kill", action="store_false", help="leave out the runs that are killed")
    options = parser.parse_args(arguments)
    if missing := [name for name in ("smollm2", "gemma3") if not (options.models / name / "config.json").exists()]:
        raise SystemExit(f"{options.models} has no {missing[0]}: python benchmarks/real_models.py --output FOLDER")
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    prepare(options.models.resolve(), options.output.resolve(), options)
    show(
        {
            update: measure(update, options.models.resolve(), options.output.resolve(), options)
            for update in options.updates
        }
    )


if __name__ == "__main__":
    main()
