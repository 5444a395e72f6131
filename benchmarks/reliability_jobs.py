"""The work that is disturbed: tiny models and data, and for each kind of work its command and what it comes to."""

# ruff: noqa: S310 - the address is one of this machine

import hashlib
import json
import re
import sys
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = "acme/adapter"
TOKEN = "hf_reliability"  # noqa: S105 - of a Hub on this machine
_ROWS, _STEPS = 30, 4
_WORDS = ("balance", "transfer", "freeze", "translate", "weather", "table")
_CPU = ("--use-cpu", "true", "--report-to", "none")


@dataclass(frozen=True)
class Job:
    """One kind of work."""

    name: str
    call: Callable[[Path, Path], int]  # inputs, folder -> exit code
    # What may differ between two runs that nobody disturbs: a pattern of names, or of texts inside.
    ignores: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    pushes: bool = False
    done: str = ""  # what a command says that has come to its end before, and leaves that alone

    def is_done(self, complaint: str) -> bool:
        """Tell whether a command that ends with 2 has come to its end before."""
        return bool(self.done) and self.done in complaint


def _command(words: Callable[[Path, Path], list[str]]) -> Callable[[Path, Path], int]:
    def call(inputs: Path, folder: Path) -> int:
        from muscle_hf.cli import main

        return main(words(inputs, folder))

    return call


def _train(inputs: Path, folder: Path) -> int:
    """Train as a script of a user does, which always asks to go on."""
    from datasets import Dataset

    from muscle_hf import CompatibilityConfig, CompatibilityTrainer
    from muscle_hf.errors import MuscleError

    sys.modules["matplotlib"] = None  # type: ignore[assignment]  # drawing would take most of the time
    rows = [json.loads(line) for line in (inputs / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    config = CompatibilityConfig(
        output_dir=str(folder / "out"),
        max_steps=_STEPS,
        per_device_train_batch_size=4,
        learning_rate=1e-2,
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="steps",
        save_steps=2,
        save_total_limit=2,
        load_best_model_at_end=True,
        unlabelled_max_new_tokens=12,
        flips_max_new_tokens=12,
        metric_for_best_model="eval_loss",
        use_cpu=True,
        bf16=False,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    try:
        trainer = CompatibilityTrainer(
            model=str(inputs / "base-v2"),
            new_adapter=str(inputs / "task-v2"),
            old_model=str(inputs / "base-v1"),
            old_adapter=str(inputs / "task-v1"),
            args=config,
            train_dataset=Dataset.from_list(rows),
            eval_dataset=Dataset.from_list(rows[:4]),
            unlabelled_dataset=Dataset.from_list([{"prompt": f"and what is number {n}?\n"} for n in range(8)]),
            flips_dataset=Dataset.from_list(rows[:6]),
        )
        trainer.train(resume_from_checkpoint=True)
        trainer.save_model(str(folder / "adapter"))
    except (MuscleError, OSError) as error:
        print(f"{type(error).__name__}: {error}")  # noqa: T201 - what the script's user sees last
        return 2
    return 0


def _update(inputs: Path, folder: Path) -> list[str]:
    return [
        *("update", "--old-adapter", str(inputs / "task-v1"), "--new-base", str(inputs / "base-v2")),
        *("--dataset", str(inputs / "rows.jsonl"), "--output-dir", str(folder / "out")),
        *(
            "--unlabelled-dataset",
            str(inputs / "prompts.jsonl"),
            "--teacher-cache",
            "topk",
            "--unlabelled-max-new-tokens",
            "12",
        ),
        *("--num-train-epochs", "2", "--per-device-train-batch-size", "8", "--per-device-eval-batch-size", "4"),
        *("--ask-batch-size", "2", "--disable-tqdm", "true", *_CPU),
    ]


def _cache(inputs: Path, folder: Path) -> list[str]:
    return [
        *("cache", "--model", str(inputs / "base-v2"), "--new-adapter", str(inputs / "task-v2")),
        *("--old-model", str(inputs / "base-v1"), "--old-adapter", str(inputs / "task-v1")),
        *("--dataset", str(inputs / "rows.jsonl"), "--teacher-cache-dir", str(folder / "cache")),
        *("--per-device-eval-batch-size", "3", "--disable-tqdm", "true", *_CPU),
    ]


def _predict(inputs: Path, folder: Path) -> list[str]:
    data = ["predict", str(inputs / "task-v1"), str(inputs / "rows.jsonl"), "--output", str(folder / "answers.jsonl")]
    return [*data, "--batch-size", "3"]


def _push(inputs: Path, folder: Path) -> list[str]:
    return ["push", str(inputs / "adapter"), REPOSITORY, "--base-model", "acme/base-v2"]


def _report(inputs: Path, folder: Path) -> list[str]:
    pages = [word for kind in ("html", "png", "jsonl") for word in (f"--{kind}", str(folder / f"report.{kind}"))]
    return ["compare", str(inputs / "old.jsonl"), str(inputs / "new.jsonl"), *pages]


def _decide(inputs: Path, folder: Path) -> list[str]:
    decided = ["--max-nfr", "0.9", "--history", str(folder / "history.jsonl")]
    return ["compare", str(inputs / "old.jsonl"), str(inputs / "new.jsonl"), *decided]


_TIME = r'"?time"?: "?[\d.]+ (s|min|h)[^"\n]*"?'
# Dates of a report and of a decision, seconds that a training took, and the version of what wrote a file.
_DATES = r'"?\d{4}-\d\d-\d\d[T ]?\d\d:\d\d(:\d\d)?[^"]{0,8}"?'
# Of files with dates and times, and of the mark that says them.
_CHECKSUMS = r'"crc32": \{[^}]*\},\s*"checksum": \d+'
JOBS = {
    job.name: job
    for job in (
        Job("training", _train, ignores=(r"out/.*",), texts=(_DATES, _TIME)),
        Job("caching", _command(_cache), texts=(_DATES,)),
        Job("answering", _command(_predict), done="is there already, and is not replaced"),
        Job("pushing", _command(_push), pushes=True),
        Job("reporting", _command(_report), texts=(_DATES,)),
        Job("deciding", _command(_decide), texts=(_DATES,)),
        Job("update", _command(_update), texts=(_DATES, _TIME, _CHECKSUMS)),
    )
}


def make_inputs(inputs: Path) -> int:
    """Write two bases, an adapter on each, rows, prompts, and answers of two models."""
    from tiny_updates import make_update  # of the tests

    make_update(inputs, lora_dropout=0.0)
    for version in (1, 2):
        # Random models come to an end where many tokens are one.
        file = inputs / f"base-v{version}" / "generation_config.json"
        config = json.loads(file.read_text(encoding="utf-8"))
        file.write_text(json.dumps(config | {"eos_token_id": [2, *range(4, 320, 4)]}), encoding="utf-8")
    rows = [
        {"prompt": f"what is it, number {number}?\n", "completion": _WORDS[number % len(_WORDS)]}
        for number in range(_ROWS)
    ]
    _write(inputs / "rows.jsonl", rows)
    _write(inputs / "prompts.jsonl", [{"prompt": f"and what is number {number}?\n"} for number in range(8)])
    for name, right in (("old", 3), ("new", 4)):
        answers = [
            {
                "id": number,
                "prompt": row["prompt"],
                "prediction": row["completion"] if number % right else "table",
                "reference": row["completion"],
            }
            for number, row in enumerate(rows)
        ]
        _write(inputs / f"{name}.jsonl", answers)

    code = _train(inputs, inputs / "trained")
    (inputs / "trained" / "adapter").rename(inputs / "adapter")
    return code


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def results(job: Job, folder: Path, remote: Mapping[str, bytes]) -> dict[str, str]:
    """Give name and hash of all that a job has made, on the disk and on the Hub."""
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    kept = {name: path for name, path in found.items() if not any(re.fullmatch(one, name) for one in job.ignores)}
    contents = {name: path.read_bytes() for name, path in kept.items()}
    contents |= {f"Hub: {name}": content for name, content in remote.items()}
    return {name: _digest(content, job.texts) for name, content in contents.items()}


def _digest(content: bytes, texts: tuple[str, ...]) -> str:
    for text in texts:
        content = re.sub(text.encode(), b"-", content)
    return hashlib.sha256(content).hexdigest()[:16]


def remove_remote(endpoint: str) -> None:
    """Take the repository away, if it is there."""
    owner, name = REPOSITORY.split("/")
    body = json.dumps({"name": name, "organization": owner, "type": "model"}).encode()
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{endpoint}/api/repos/delete", body, headers, method="DELETE")
    try:
        urllib.request.urlopen(request, timeout=60).close()
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise


def environment(endpoint: str, home: Path) -> dict[str, str]:
    """Give what the libraries read when they are imported."""
    return {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home),
        "HF_TOKEN": TOKEN,
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_ETAG_TIMEOUT": "600",
        "HF_HUB_DOWNLOAD_TIMEOUT": "600",
        "DO_NOT_TRACK": "1",
        "NO_PROXY": "*",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "MPLCONFIGDIR": str(home),
    }


def import_libraries() -> None:
    """Import once what every process needs; it starts no thread."""
    import importlib

    import torch

    import muscle_hf.cli
    import muscle_hf.publishing.push
    import muscle_hf.training.trainer
    import muscle_hf.update.run
    import muscle_hf.update.show  # noqa: F401

    for name in ("llama.modeling_llama", "auto.modeling_auto", "auto.tokenization_auto"):
        importlib.import_module(f"transformers.models.{name}")
    torch.set_num_threads(1)
