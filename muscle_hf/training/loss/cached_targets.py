"""The teacher cache from a trainer's side: what is computed for it, and what comes out of it."""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...alignment.datasets import chunk_counts
from ...errors import ConfigurationError, InputError
from ...losses.logits import IGNORE_INDEX, gold_log_probability
from ...losses.masks import StoredScores
from ...losses.sampled import decode_sampled, draws_of, encode_sampled
from ...losses.targets import CachedHidden, CachedSampled, CachedTopK, tokens_of_a_slice
from ...losses.topk import decode_top_k, encode_top_k
from ...models.adapters import base_model
from ...models.fingerprints import fingerprint_of_rows
from ...models.hidden_states import OutputHead
from ...models.in_step import calls_in_step
from ...models.sharding import is_sharded
from ...progress import progress_bar
from ...teachers.cache import TeacherCache
from ...teachers.cache.reader import read_numbered
from ...teachers.cache.remote import RemoteCache, is_address
from ...teachers.cache.spec import OF_SOME_TOKENS, CacheSpec
from ...teachers.cache.writer import SHARD_BYTES, write_cache
from ...teachers.live import FrozenModelTeacher, SharedBaseTeacher
from ..rows.tokens import ENCODER_DECODER, model_inputs, predicted_labels, trained_token_counts
from .aligned import ChunkScorer

# So many at least, where the rows make so many batches: what a process that is killed loses is one of them.
_SHARDS = 256


class CachedTargets:
    """Both teachers' targets, for several data sets whose trained tokens are numbered one after the other.

    There is a cache for each data set, in the order of their numbers. The new teacher's LM head is in memory anyway;
    that of the old model is put on `device`.
    """

    def __init__(self, caches: Sequence[TeacherCache], new: SharedBaseTeacher, device: torch.device) -> None:
        """Read the old model's LM head, where the cache has hidden states."""
        self.caches, self.new = caches, new
        self._old_head: OutputHead | None = None
        if caches[0].spec.kind == "hidden":
            head = caches[0].heads()["old"]
            bias = None if head.bias is None else head.bias.to(device)
            self._old_head = OutputHead(head.weight.to(device), bias, head.transform)

    def targets(self, numbers: Tensor) -> tuple[Any, ...]:
        """Return the old and the new model's targets of trained tokens, by number."""
        stored = read_numbered(self.caches, numbers)
        old, new = (
            {name.removeprefix(f"{role}."): tensor for name, tensor in stored.items() if name.startswith(f"{role}.")}
            for role in ("old", "new")
        )
        if self._old_head is not None:
            heads = ((old, self._old_head), (new, self.new.project))
            return tuple(CachedHidden(values["hidden"], head, _scores(values)) for values, head in heads)
        make = _drawn if self.caches[0].spec.kind == "sampled" else _top
        return make(old), make(new)


def _top(stored: Mapping[str, Tensor]) -> CachedTopK:
    return CachedTopK(decode_top_k(stored), _scores(stored), stored["confidence"])


def _drawn(stored: Mapping[str, Tensor]) -> CachedSampled:
    return CachedSampled(decode_sampled(stored), _scores(stored), stored["confidence"])


def _scores(stored: Mapping[str, Tensor]) -> StoredScores:
    return StoredScores(stored["right"].bool(), stored["log_likelihood"])


class TargetComputer:
    """Asks both teachers about rows of an encoded data set, in the order of the cache: what a cache is filled with."""

    def __init__(
        self,
        dataset: Any,
        collate: Callable[[list[dict[str, Any]]], dict[str, Any]],
        old: FrozenModelTeacher,
        new: SharedBaseTeacher,
        spec: CacheSpec,
        autocast: Any,
    ) -> None:
        """Keep what is needed; nothing is computed yet."""
        self.dataset, self.collate, self.spec, self.autocast = dataset, collate, spec, autocast
        self.teachers: dict[str, FrozenModelTeacher | SharedBaseTeacher] = {"old": old, "new": new}
        self.vocabulary = new.vocabulary
        self._first_tokens = np.concatenate([[0], np.cumsum(trained_token_counts(dataset))])

    @torch.no_grad()
    def __call__(self, rows: range) -> dict[str, Tensor]:
        """Return the tensors of the spec for all trained tokens of these rows, in order."""
        names = ["input_ids", "labels", *({ENCODER_DECODER} & {*self.dataset.column_names})]
        batch = self.collate([{name: self.dataset[row][name] for name in names} for row in rows])
        labels = predicted_labels(batch)
        trained = labels != IGNORE_INDEX
        gold, inputs = labels[trained], model_inputs(batch)
        if self.vocabulary is not None:
            gold = self.vocabulary.labels(gold)
        draws = draws_of(np.arange(*self._first_tokens[[rows.start, rows.stop]]))
        pieces: dict[str, list[dict[str, Tensor]]] = {}
        with self.autocast():
            for name, teacher in self.teachers.items():
                hidden = teacher.hidden_states(inputs)[trained]
                size = tokens_of_a_slice(self.spec.vocabulary_size, hidden.device)
                split = zip(torch.split(hidden, size), torch.split(gold, size), torch.split(draws, size), strict=True)
                with teacher.whole_head():
                    pieces[name] = [self._stored(few, teacher.project(few), some, us, name) for few, some, us in split]
        # Outside of autocast, which puts no tensors together that are in the other half precision than its own.
        return {
            f"{name}.{part}": torch.cat([piece[part] for piece in of_teacher])
            for name, of_teacher in pieces.items()
            for part in of_teacher[0]
        }

    def _stored(self, hidden: Tensor, logits: Tensor, gold: Tensor, draws: Tensor, name: str) -> dict[str, Tensor]:
        k, temperature = self.spec.k, self.spec.temperature
        if k is not None and temperature is not None:
            if self.spec.kind == "topk":
                return encode_top_k(logits, gold, k=k, temperature=temperature)
            return encode_sampled(logits, gold, draws, k=k, temperature=temperature)
        return {
            "hidden": hidden.to(self.spec.dtypes[name]),
            "log_likelihood": gold_log_probability(logits, gold).float(),
            "right": (logits.argmax(-1) == gold).to(torch.uint8),
        }


def hidden_size(config: Any) -> int:
    """Return the width of a model's last hidden states."""
    text = config.get_text_config()
    # OPT may project them to another width before the head.
    return int(getattr(text, "word_embed_proj_dim", None) or text.hidden_size)


def precision(args: Any, model: Any) -> torch.dtype:
    """Return the type in which hidden states reach the LM head, and in which they are stored."""
    if args.bf16:
        return torch.bfloat16
    if args.fp16:
        return torch.float16
    weight = base_model(model).get_output_embeddings().weight
    return weight.dtype if weight.dtype.is_floating_point else torch.float32


def folder_of_cache(args: Any) -> Path:
    """Return where a run's cache lies on this machine; that of an address is where one without a name would be."""
    named = args.teacher_cache_dir
    return Path(named) if named and not is_address(named) else Path(args.output_dir) / "teacher_cache"


class CacheOfRun:
    """The teacher cache of one training run: a folder for each data set, and what each has to hold.

    The data sets are encoded rows, cut to their length, by name and in the order in which their trained tokens are
    numbered. `vocabulary_size` counts the tokens that both models are compared on, and `old_precision` is the type in
    which the old model's hidden states reach its LM head. A folder that cannot be written to is refused. Where the
    cache has an address, its files are fetched from there and sent there.
    """

    def __init__(
        self,
        args: Any,
        datasets: Mapping[str, Any],
        fingerprints: Mapping[str, str],
        student: Any,
        old_config: Any,
        vocabulary_size: int,
        old_precision: torch.dtype,
    ) -> None:
        """Work out what each cache has to hold."""
        self.root = folder_of_cache(args)
        there = next(folder for folder in (self.root, *self.root.absolute().parents) if folder.exists())
        if not there.is_dir() or not os.access(there, os.W_OK):
            raise ConfigurationError(
                f"teacher_cache_dir={str(self.root)!r} cannot be made: {there} is no folder that can be written to."
            )
        address = args.teacher_cache_dir or ""
        self.remotes = {
            name: RemoteCache(f"{address.rstrip('/')}/{name}", self.root / name)
            for name in (datasets if is_address(address) else ())
        }
        self.show_progress = not args.disable_tqdm
        self.datasets = datasets
        kind, dtypes = args.teacher_cache, {"new": precision(args, student), "old": old_precision}
        sizes = {"old": hidden_size(old_config), "new": hidden_size(base_model(student).config)}
        self.specs = {
            name: CacheSpec(
                kind,
                vocabulary_size,
                dtypes,
                {**fingerprints, **_fingerprints_of_data(dataset)},
                k=args.teacher_cache_k if kind in OF_SOME_TOKENS else None,
                temperature=args.temperature if kind in OF_SOME_TOKENS else None,
                hidden_sizes=sizes if kind == "hidden" else None,
            )
            for name, dataset in datasets.items()
        }

    def open(self) -> list[TeacherCache] | None:
        """Return the caches, or None where one is missing or not complete; one made from something else is refused."""
        caches = []
        for name, spec in self.specs.items():
            remote = self.remotes.get(name)
            if remote is not None:
                remote.fetch(spec, show_progress=self.show_progress)
            try:
                caches.append(TeacherCache.open(self.root / name, spec))
            except InputError:  # what is missing can be computed; what is stale is another error
                return None
            if remote is not None:
                remote.send_missing(spec)
        return caches

    def write(
        self,
        old: FrozenModelTeacher,
        new: SharedBaseTeacher,
        collate: Callable[[list[dict[str, Any]]], dict[str, Any]],
        autocast: Any,
        *,
        rows_at_once: int,
        show_progress: bool,
        process: int,
        processes: int,
    ) -> None:
        """Compute what is missing of the caches, or this process's part of it, so many rows at once.

        `collate` makes a batch of some rows on the teachers' device; a bar on stderr counts the rows of this process.
        """
        needs_heads = any(spec.kind == "hidden" for spec in self.specs.values())
        heads = {"old": old.output_head(), "new": new.output_head()} if needs_heads else None
        for name, spec in self.specs.items():
            rows = self.datasets[name]
            remote = self.remotes.get(name)
            if remote is not None:
                remote.fetch(spec, process=process, processes=processes, show_progress=show_progress)
                remote.send_missing(spec, process=process, processes=processes)
            is_by_chunks = spec.kind == "chunks"
            counts = chunk_counts(rows) if is_by_chunks else trained_token_counts(rows)
            compute: Callable[[range], dict[str, Tensor]] = (
                ChunkScorer(rows, collate, old, autocast)
                if is_by_chunks
                else TargetComputer(rows, collate, old, new, spec, autocast)
            )
            size, batches = sum(counts) * spec.bytes_per_token, max(1, len(counts) // rows_at_once)
            # What those take part in that have computed their own: a row with something to compute.
            some = next((row for row, count in enumerate(counts) if count), 0)
            idle = partial(compute, range(some, some + 1))
            with (
                calls_in_step(compute, idle, old.model, new.student) as compute_together,
                _Bar(f"Teacher cache, {name} set", len(counts), processes, is_shown=show_progress) as bar,
            ):
                write_cache(
                    self.root / name,
                    spec,
                    counts,
                    compute_together,
                    heads=heads,
                    process=process,
                    processes=processes,
                    rows_at_once=rows_at_once,
                    shard_bytes=max(1, min(SHARD_BYTES, -(-size // min(_SHARDS, batches)))),
                    report=bar.report,
                    # Of split models, the other processes would wait in a collective for what is being sent.
                    written=None if remote is None or is_sharded(new.student) else remote.send,
                )
            if remote is not None:
                remote.send_missing(spec, process=process, processes=processes)


class _Bar:
    """A progress bar over the rows of a process's shards, which starts where an earlier run stopped."""

    def __init__(self, description: str, rows: int, processes: int, *, is_shown: bool) -> None:
        self.description, self.rows, self.is_shown = description, rows // processes, is_shown
        self.bar: Any = None

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def report(self, done: int) -> None:
        if self.bar is None:
            self.bar = progress_bar(self.rows, self.description, initial=done, unit="row", disable=not self.is_shown)
        self.bar.update(done - self.bar.n)


def _fingerprints_of_data(dataset: Any) -> dict[str, str]:
    """The rows as the new model reads them and, where it has a tokenizer of its own, as the old one does."""
    fingerprints = {"data": fingerprint_of_rows(dataset)}
    if "old_input_ids" in dataset.column_names:
        columns = {"old_input_ids": "input_ids", "old_chunk_ids": "labels"}
        fingerprints["data of the old model"] = fingerprint_of_rows(
            dataset.select_columns(list(columns)).rename_columns(columns)
        )
    return fingerprints
