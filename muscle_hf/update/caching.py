"""The teacher cache from a command line: models, data and the options of the training that will use it."""

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError, InputError, MuscleError
from ..files import refuse_pointer
from ..locks import held_folder
from .settings import missing_options

REQUIRED = ("model", "old_model", "dataset", "teacher_cache_dir")
"""Options without a default."""


def _option(text: str, default: Any = None) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass
class CacheSettings:
    """What a teacher cache is made from; targets of validation rows go into a folder of their own."""

    model: str | None = _option("the new base, or the adapter on it")
    new_adapter: str | None = _option("the task adapter on the new base, where --model is a base")
    old_model: str | None = _option("the old base, or the adapter on it")
    old_adapter: str | None = _option("the task adapter on the old base, where --old-model is a base")
    dataset: str | None = _option("training rows: JSON Lines, CSV, Parquet or a data set of the Hub")
    dataset_split: str = _option("split of a data set of the Hub (default: train)", "train")
    eval_dataset: str | None = _option("validation rows, likewise")
    process: int = _option("number of this part, from 0 (default: 0)", 0)
    processes: int = _option("how many parts there are (default: 1)", 1)

    def __post_init__(self) -> None:
        """Refuse a part that does not exist."""
        if not 0 <= self.process < self.processes:
            raise ConfigurationError(
                f"process={self.process} of processes={self.processes}; parts are numbered from 0 to one below their "
                "number."
            )


def cache_teachers(arguments: Sequence[str]) -> str:
    """Compute a cache, or this part of it, and say in a line what lies where; an interruption says what is kept."""
    import torch

    from ..models.processes import work_together
    from ..teachers.cache.remote import is_address
    from ..training.config import CompatibilityConfig
    from ..training.loss.cached_targets import folder_of_cache
    from .arguments import read_words

    options = read_words((CacheSettings, CompatibilityConfig), arguments, command="cache")
    missing = [name for name in REQUIRED if not options.get(name)]
    if missing:
        raise InputError(missing_options(missing))
    own = {field.name for field in fields(CacheSettings)}
    settings = CacheSettings(**{name: options.pop(name) for name in own & {*options}})
    on_gpu = torch.cuda.is_available() and not options.get("use_cpu")
    kind = "chunks" if options.get("alignment") == "chunks" else "sampled"
    defaults: dict[str, Any] = {"teacher_cache": kind, "report_to": "none", "disable_tqdm": False}
    options = defaults | {"dataloader_pin_memory": on_gpu} | options
    with tempfile.TemporaryDirectory() as nothing:  # a trainer wants a folder, and nothing is written to it
        if is_address(str(options["teacher_cache_dir"])) and not options.get("output_dir"):
            raise InputError(
                "output_dir is missing; a cache with an address has its files there and, until they are sent, in "
                "teacher_cache in that folder."
            )
        options.setdefault("output_dir", nothing)
        args = CompatibilityConfig(**options)
        return work_together(partial(_cache, settings, args, folder_of_cache(args)))


def _cache(settings: CacheSettings, args: Any, folder: Path) -> str:
    from ..models.processes import entered_by_main, place
    from ..training.checkpoints.kept_work import left_of_cache, sentence
    from ..training.trainer import CompatibilityTrainer

    validation = settings.eval_dataset
    with _names_of_options():
        trainer = CompatibilityTrainer(
            model=str(settings.model),
            old_model=str(settings.old_model),
            new_adapter=settings.new_adapter,
            old_adapter=settings.old_adapter,
            args=args,
            train_dataset=_rows(str(settings.dataset), settings.dataset_split),
            eval_dataset=None if validation is None else _rows(validation, settings.dataset_split),
        )
    part = f"{settings.process}-of-{settings.processes}"
    # This machine's part, of which each of its processes computes a part.
    here, processes = place()
    try:
        with entered_by_main(held_folder(folder, "muscle-hf cache", "compute another part", part=part)):
            done = trainer.cache_teachers(
                process=settings.process * processes + here, processes=settings.processes * processes
            )
    except KeyboardInterrupt:
        left = left_of_cache(folder)
        raise KeyboardInterrupt(sentence(folder, [left] if left else [])) from None
    if not done:
        return f"Part {settings.process} of {settings.processes} of the teacher cache in {folder} is complete."
    size = sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
    return (
        f"The teacher cache in {folder} is complete: {size / 2**20:.1f} MiB. "
        f"Train with teacher_cache_dir={str(args.teacher_cache_dir)!r}."
    )


@contextmanager
def _names_of_options() -> Iterator[None]:
    """Let what a trainer refuses name the options of the command, where these have other names or are not there."""
    try:
        yield
    except MuscleError as error:
        text = re.sub(r"\btrain_dataset\b", "dataset", str(error))
        error.args = (re.sub(r", or give a formatting_func that .*?(?=\.)", "", text),)
        raise


def _rows(source: str, split: str) -> Any:
    """Load rows as a training script would, so that the cache is one of the same rows."""
    from datasets import Dataset, load_dataset
    from datasets.exceptions import DatasetsError

    from ..hub.failures import failure_reason
    from ..hub.lookup import looking_up
    from ..text import printable

    read = {".jsonl": Dataset.from_json, ".json": Dataset.from_json, ".csv": Dataset.from_csv}
    read[".parquet"] = Dataset.from_parquet
    path = Path(source)
    refuse_pointer(path)
    try:
        if path.suffix.lower() in read:
            if not path.is_file():
                raise InputError(f"{source} is not there; name a file of training rows.")
            if not path.stat().st_size:
                raise InputError(f"{source} is empty; name a file of training rows.")
            # Not by load_dataset, which counts at a server whenever it reads a file of this kind.
            return read[path.suffix.lower()](str(path))
        with looking_up(source):
            return load_dataset(source, split=split)
    # What datasets and the Hub raise: no such data set or split, no network, a broken file.
    except (OSError, RuntimeError, KeyError, DatasetsError) as error:
        reason = failure_reason(error, source, "dataset") or printable(str(error))
        raise InputError(f"{source} cannot be loaded: {reason}") from error
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{source} cannot be loaded: {printable(str(error))}") from error
