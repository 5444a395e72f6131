"""What does an update of real models come to, does it run to its end, also when it is killed, and what does it cost?

    python benchmarks/real_models.py --output real-models
    python benchmarks/real_update.py --models real-models --output real-updates

Trains an old task adapter on SmolLM2 (MASSIVE: which of 18 domains is an utterance about?), and runs `muscle-hf
update` from it to new bases: SmolLM2 trained on as a whole with sentences of Wikipedia, SmolLM2 rounded to 4 bits, and
Gemma 3 270M, whose tokenizer is another (`--alignment chunks`). The first strategy runs twice in folders of one name:
once left alone, and once killed with SIGKILL while the old model is asked and again some steps behind a checkpoint of
the compatibility training, with the same command after each kill. Adapters, answers and evidence of both must be the
same, but for the time that a training took. Further strategies start from the new task adapter of the first. The old
adapter has seen other rows than the update's, as many, or with `--old-rows same` the same ones.

Prints two Markdown tables and what differs. Another seed has other rows, test questions and trainings; rates are means
over seeds, with Student's interval over them, and Wilson's over questions where there is one seed. Costs are those of
the first seed, in seconds of processor time, since a machine may be shared. What is finished in the output folder is
kept, so that a killed benchmark goes on as well.
"""

import argparse
import itertools
import json
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from real_update_models import TASK_LEARNING_RATE, prepare, refresh
from real_update_runs import Stage, behind_a_checkpoint, differing, in_the_asking, run
from real_update_table import FAIR, REFRESH, show

from muscle_hf.files import write_text
from muscle_hf.losses.presets import needs_unlabelled

COMMAND = [sys.executable, "-m", "muscle_hf", "update"]
# Of both updates; the learning rates are high because the steps are few.
OPTIONS = {
    "completion_only_loss": "true",
    "per_device_train_batch_size": 8,
    "learning_rate": 5e-4,
    "gradient_checkpointing": "false",  # memory is there, and each step would take a third longer
    "ask_batch_size": 16,
}
UPDATES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "trained-on": ("SmolLM2 → SmolLM2 trained on", "smollm2-trained-on", {}),
    "rounded": ("SmolLM2 → SmolLM2 rounded to 4 bits", "smollm2-rounded", {}),
    "other-tokenizer": ("SmolLM2 → Gemma 3 270M", "gemma3", {"alignment": "chunks"}),
}
STRATEGIES: dict[str, tuple[str, dict[str, Any]]] = {
    "paper": ("Eq. 1", {}),
    "focal": ('preset="focal"', {"preset": "focal"}),
    "focal_product": ('texts, preset="focal_product"', {"preset": "focal_product"}),
    "focal-surer": ('texts, preset="focal", surer model', {"preset": "focal", "unlabelled_teacher": "more_confident"}),
    "texts-new": (
        FAIR,
        {
            "mask": "none",
            "teacher": "new",
            "temperature": 1.0,
            "cross_entropy_weight": 0.5,
            "unlabelled_teacher": "new",
        },
    ),
    "refresh": (REFRESH, {}),
}


def base_of(update: str, output: Path, options: argparse.Namespace) -> Path:
    """Return the folder of an update's new base: made here, or among the models."""
    _, base, _ = UPDATES[update]
    made: Path = output / base
    return made if made.exists() else options.models / base


def command_of(update: str, strategy: str, output: Path, options: argparse.Namespace, seed: int) -> list[str]:
    """Return the command of an update, which writes into a folder of its own named `massive-domains`.

    Where another strategy has been measured, its new task adapter is taken, and its control is there already.
    """
    (*_, alignment), (_, method) = UPDATES[update], STRATEGIES[strategy]
    words: dict[str, Any] = {
        "old_adapter": output / "old-adapter",
        "new_base": base_of(update, output, options),
        "dataset": output / "massive-domains-train.jsonl",
        "test_dataset": output / "massive-domains-test.jsonl",
        "output_dir": output / f"{update}-{strategy}" / "massive-domains",
        "seed": seed,
        "num_train_epochs": options.epochs,
        **OPTIONS,
        **alignment,
        **method,
    }
    if _takes_texts(strategy):
        words["unlabelled_dataset"] = output / "massive-domains-texts.jsonl"
        words["teacher_cache"] = "chunks" if alignment else "hidden"  # exact; the models are asked once for all epochs
    task_adapters = sorted(
        path
        for path in output.glob(f"{update}-*-alone/task-adapter")
        if path.parent.name != f"{update}-{strategy}-alone"
    )
    words |= {"new_adapter": task_adapters[0]} if task_adapters else {"task_learning_rate": TASK_LEARNING_RATE}
    pairs = ((f"--{name.replace('_', '-')}", str(value)) for name, value in words.items())
    return [*COMMAND, *itertools.chain.from_iterable(pairs), *(["--no-control"] if task_adapters else [])]


def _takes_texts(strategy: str) -> bool:
    _, method = STRATEGIES[strategy]
    return "unlabelled_teacher" in method or needs_unlabelled(method.get("preset"))


def settings_of(strategy: str, options: argparse.Namespace) -> dict[str, int | str]:
    """Return what a strategy's figures depend on, beside update and seed."""
    names = ("rows", "old_rows", "test_rows", "epochs", "base_steps", *(["texts"] if _takes_texts(strategy) else []))
    return {name: getattr(options, name) for name in names}


def measure(update: str, strategy: str, output: Path, options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Run an update left alone and killed, and return what both took; what an earlier call measured is kept."""
    name, settings = f"{update}-{strategy}", settings_of(strategy, options)
    result = output / f"{name}.json"
    measured: dict[str, Any]
    if result.exists():
        kept: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        if kept["settings"] != settings:
            raise SystemExit(
                f"{result} was made with {kept['settings']}, and {settings} is asked: take another --output"
            )
        return kept
    working = output / name
    shutil.rmtree(working, ignore_errors=True)
    working.mkdir()
    if strategy == "refresh":
        measured = {"settings": settings} | _refreshed(update, working, output, options, seed)
        write_text(result, json.dumps(measured, indent=1) + "\n")
        return measured
    command = command_of(update, strategy, output, options, seed)
    folder = working / "massive-domains"
    stages = run(command, output / f"{name}.log")
    alone = output / f"{name}-alone"
    measured = {
        "settings": settings,
        "stages": [vars(stage) for stage in stages],
        "against": json.loads((folder / "comparison.json").read_text(encoding="utf-8"))["old_model_against"],
    }
    shutil.rmtree(alone, ignore_errors=True)
    folder.rename(alone)
    if options.kill and "--no-control" not in command:
        measured["killed"] = _killed(command, stages, alone, folder, output / name)
    shutil.rmtree(working)
    write_text(result, json.dumps(measured, indent=1) + "\n")
    return measured


def _refreshed(update: str, working: Path, output: Path, options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Return what refresh took and came to, against the old model's answers of another strategy."""
    kept = sorted(output.glob(f"{update}-*-alone/answers/old.jsonl"))
    if not kept:
        raise SystemExit("refresh is held against the old model's answers: name another strategy before it")
    base = base_of(update, output, options)
    stages, compared = refresh(base, output, working, kept[0], options.epochs, seed)
    return {"stages": [vars(stage) for stage in stages], "against": {REFRESH: compared}}


def _killed(command: Sequence[str], stages: Sequence[Stage], alone: Path, folder: Path, log: Path) -> dict[str, Any]:
    """Run the command again, kill it twice, and say what differs from the run that was left alone."""
    logs = [log.with_name(f"{log.name}-killed-{number}.log") for number in (1, 2, 3)]
    training = next(stage for stage in stages if stage.title == "the compatibility adapter")
    step = training.seconds / (training.steps or 1)
    killed = [
        *run(command, logs[0], in_the_asking(folder)),
        *run(command, logs[1], behind_a_checkpoint(folder, 2 * step)),
    ]
    went_on = run(command, logs[2])
    differ, bytes_differ, files = differing(alone, folder)
    total, first = (sum(stage.seconds for stage in each) for each in ([*killed, *went_on], stages))
    return {
        "differ": differ,
        "bytes differ": bytes_differ,
        "files": files,
        "cost": total - first,
        "said": re.findall(r"going on from step \d+", logs[2].read_text(encoding="utf-8")),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the updates that were asked for, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--models", type=Path, help="the folder that benchmarks/real_models.py made; not for results that are there"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for rows, adapters, logs and results")
    parser.add_argument("--updates", nargs="+", choices=UPDATES, default=["trained-on", "other-tokenizer"])
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=["paper"])
    parser.add_argument("--rows", type=int, default=256, help="rows of the update (default: 256)")
    parser.add_argument(
        "--old-rows",
        choices=("other", "same"),
        default="other",
        help="what the old adapter learns from (default: other)",
    )
    parser.add_argument("--test-rows", type=int, default=200, help="rows to compare on (default: 200)")
    parser.add_argument("--texts", type=int, default=750, help="for strategies with texts (default: 750)")
    parser.add_argument("--epochs", type=int, default=2, help="of the adapters (default: 2)")
    parser.add_argument("--base-steps", type=int, default=100, help="steps of 8 sentences on SmolLM2 (default: 100)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int, default=1, help="of each process (default: 1)")
    parser.add_argument("--no-kill", dest="kill", action="store_false", help="leave out the runs that are killed")
    options = parser.parse_args(arguments)
    if "other-tokenizer" in options.updates and "focal_product" in options.strategies:
        parser.error("two vocabularies have no product: with other-tokenizer take focal-surer")
    folders = {seed: options.output.resolve() / f"seed-{seed}" for seed in options.seeds}
    names = [f"{update}-{strategy}.json" for update in options.updates for strategy in options.strategies]
    unfinished = [seed for seed, folder in folders.items() if not all((folder / name).exists() for name in names)]
    if unfinished:
        _prepare_all({seed: folders[seed] for seed in unfinished}, options, parser)
    show(
        {
            UPDATES[update][0]: {
                STRATEGIES[strategy][0]: [
                    measure(update, strategy, folder, options, seed) for seed, folder in folders.items()
                ]
                for strategy in options.strategies
            }
            for update in options.updates
        }
    )


def _prepare_all(folders: Mapping[int, Path], options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    if options.models is None:
        parser.error("what is not measured yet needs --models")
    if missing := [name for name in ("smollm2", "gemma3") if not (options.models / name / "config.json").exists()]:
        raise SystemExit(f"{options.models} has no {missing[0]}: python benchmarks/real_models.py --output FOLDER")
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    options.models = options.models.resolve()
    for seed, folder in folders.items():
        prepare(folder, options, seed)


if __name__ == "__main__":
    main()
