"""Targets are read in any order, from any number of shards, in forked processes, and only from a complete cache."""

import json
import multiprocessing
import os
import pickle
import runpy
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from teacher_caches import (
    COUNTS,
    TOKENS,
    assert_same,
    computing,
    heads,
    hidden_of,
    hidden_spec,
    targets_of,
    top_k_spec,
)
from tiny_models import TEXTS, tiny_llama, tiny_tokenizer
from torch import Tensor
from torch.utils.data import DataLoader

from muscle_hf.errors import InputError
from muscle_hf.models.hidden_states import LogitTransform, OutputHead, returning_hidden_states
from muscle_hf.teachers.cache import TeacherCache, files
from muscle_hf.teachers.cache.spec import CacheSpec
from muscle_hf.teachers.cache.writer import write_cache

SPECS = {"topk": top_k_spec(), "hidden": hidden_spec()}


@pytest.fixture(scope="module", name="caches")
def _caches(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TeacherCache]:
    """One cache of each kind in one, and in several shards."""
    found = {}
    for kind, spec in SPECS.items():
        for shards in (1, 7):
            folder = tmp_path_factory.mktemp(f"{kind}-{shards}")
            of_kind = {"heads": heads()} if kind == "hidden" else {}
            write_cache(
                folder, spec, COUNTS, computing(spec), processes=1, shard_bytes=2**30 if shards == 1 else 1, **of_kind
            )
            found[f"{kind}-{shards}"] = TeacherCache.open(folder, spec)
    return found


@pytest.mark.parametrize("which", ["topk-1", "topk-7", "hidden-1", "hidden-7"])
class TestReading:
    @pytest.mark.slow
    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(numbers=st.lists(st.integers(0, TOKENS - 1), max_size=60))
    def test_a_token_gets_the_target_of_another(
        self, caches: dict[str, TeacherCache], which: str, numbers: list[int]
    ) -> None:
        cache = caches[which]
        found = cache.read(torch.tensor(numbers, dtype=torch.int64))
        assert_same(found, targets_of(numbers, cache.spec))

    def test_what_is_read_can_be_changed_in_the_cache(self, caches: dict[str, TeacherCache], which: str) -> None:
        cache = caches[which]
        numbers = torch.arange(TOKENS)
        for tensor in cache.read(numbers).values():
            tensor.view(torch.uint8).fill_(7)
        assert_same(cache.read(numbers), targets_of(range(TOKENS), cache.spec))

    @pytest.mark.parametrize(
        ("numbers", "message"),
        [
            (torch.tensor([0, -1]), "run from -1 to 0"),
            (torch.tensor([TOKENS]), f"tokens 0 to {TOKENS - 1}"),
            (torch.tensor([0], dtype=torch.int32), "int32"),
            (torch.tensor([0.0]), "float32"),
            (torch.tensor(3), "shape"),
            (torch.tensor([[3]]), "shape"),
        ],
    )
    def test_numbers_of_no_token_get_the_target_of_some_token(
        self, caches: dict[str, TeacherCache], which: str, numbers: Tensor, message: str
    ) -> None:
        with pytest.raises(InputError, match=message):
            caches[which].read(numbers)

    @pytest.mark.slow
    def test_data_loader_workers_read_something_else(self, caches: dict[str, TeacherCache], which: str) -> None:
        cache = caches[which]
        cache.read(torch.arange(3))
        loader = DataLoader(
            _Targets(cache), batch_size=5, num_workers=2, multiprocessing_context=multiprocessing.get_context("fork")
        )
        batches = list(loader)
        joined = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
        assert_same(joined, targets_of(range(TOKENS), cache.spec))

    def test_a_pickled_cache_carries_its_gigabytes_or_reads_nothing(
        self, caches: dict[str, TeacherCache], which: str
    ) -> None:
        content = pickle.dumps(caches[which])
        assert len(content) < 2000
        again = pickle.loads(content)  # noqa: S301 - our own
        assert_same(again.read(torch.tensor([22, 0])), targets_of([22, 0], again.spec))

    def test_the_tokens_of_a_cache_are_not_counted(self, caches: dict[str, TeacherCache], which: str) -> None:
        assert caches[which].tokens == TOKENS


class _Targets(torch.utils.data.Dataset[dict[str, Tensor]]):
    def __init__(self, cache: TeacherCache) -> None:
        self.cache = cache

    def __len__(self) -> int:
        return TOKENS

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {name: tensor[0] for name, tensor in self.cache.read(torch.tensor([index])).items()}


def test_logits_of_cached_hidden_states_are_not_those_of_the_model(tmp_path: Path) -> None:
    """Hidden states and head of a real model, in both precisions, against its own logits."""
    tokenizer = tiny_tokenizer()
    models = {
        one: tiny_llama(seed, tokenizer, layers=1, hidden_size=16 * seed) for one, seed in (("old", 1), ("new", 2))
    }
    models["new"].bfloat16()
    rows = [tokenizer(text)["input_ids"] for text in TEXTS[:3]]
    logits: dict[str, list[Tensor]] = {"old": [], "new": []}

    def compute(asked: range) -> dict[str, Tensor]:
        assert len(asked) == 1
        ids = torch.tensor([rows[asked[0]]])
        found: dict[str, Tensor] = {}
        for one, model in models.items():
            with torch.no_grad(), returning_hidden_states(model):
                output = model(input_ids=ids)
            logits[one].append(output.logits[0, :-1])
            gold = ids[0, 1:]
            found |= {
                f"{one}.hidden": output["hidden_states"][-1][0, :-1],
                f"{one}.log_likelihood": output.logits[0, :-1].float().log_softmax(-1).gather(-1, gold[:, None])[:, 0],
                f"{one}.right": (output.logits[0, :-1].argmax(-1) == gold).to(torch.uint8),
            }
        return found

    spec = CacheSpec(
        "hidden",
        len(tokenizer),
        {one: model.dtype for one, model in models.items()},
        {"data": "rows:1"},
        hidden_sizes={"old": 16, "new": 32},
    )
    dense = {one: OutputHead(model.lm_head.weight) for one, model in models.items()}
    write_cache(tmp_path, spec, [len(row) - 1 for row in rows], compute, heads=dense, rows_at_once=1)
    cache = TeacherCache.open(tmp_path, spec)
    read, stored_heads = cache.read(torch.arange(cache.tokens)), cache.heads()
    for one in models:
        torch.testing.assert_close(stored_heads[one](read[f"{one}.hidden"]), torch.cat(logits[one]))


def test_the_transformation_after_a_head_is_lost(caches: dict[str, TeacherCache]) -> None:
    head, expected = caches["hidden-7"].heads()["old"], heads()["old"]
    assert head.transform == LogitTransform(2.0, 3.0)
    hidden = hidden_of(range(5), "old")
    by_hand = 3 * torch.tanh((hidden @ expected.weight.T + torch.arange(11.0)) * 2 / 3)
    torch.testing.assert_close(head(hidden), by_hand)


def test_top_k_has_heads(caches: dict[str, TeacherCache]) -> None:
    with pytest.raises(InputError, match="no LM heads"):
        caches["topk-1"].heads()


class TestOpening:
    @pytest.fixture(autouse=True)
    def _cache(self, tmp_path: Path) -> None:
        self.folder, self.spec = tmp_path, top_k_spec()
        write_cache(tmp_path, self.spec, COUNTS, computing(self.spec), shard_bytes=1)

    @pytest.mark.parametrize("made", [False, True])
    def test_a_cache_that_is_not_there_is_empty(self, made: bool) -> None:
        folder = self.folder / "elsewhere"
        if made:
            folder.mkdir()
        with pytest.raises(InputError, match=r"no teacher cache in .*elsewhere.*muscle-hf cache"):
            TeacherCache.open(folder, self.spec)

    def test_a_half_written_cache_is_read(self) -> None:
        shards = sorted(self.folder.glob("shard-*"))
        for shard in shards[3:5]:
            shard.unlink()
        with pytest.raises(InputError, match=f"2 of {len(shards)} shards are missing") as caught:
            TeacherCache.open(self.folder, self.spec)
        assert "(shard 3 is missing; shard 4 is missing)" in str(caught.value)
        assert "`muscle-hf cache`" in str(caught.value)

    def test_a_message_lists_every_shard_of_thousands(self) -> None:
        for shard in self.folder.glob("shard-*"):
            shard.unlink()
        with pytest.raises(InputError, match="shard 4 is missing; …"):
            TeacherCache.open(self.folder, self.spec)

    @pytest.mark.parametrize(
        "content",
        [
            "",
            "{",
            "[]",
            '{"format": 1}',
            '{"format": 1, "spec": {}, "row_offsets": [], "token_offsets": []}',
            '{"format": 1, "spec": {}, "row_offsets": [0, 2, 1], "token_offsets": [0, 1, 2]}',
            '{"format": 1, "spec": {}, "row_offsets": [0, 1, 2], "token_offsets": [0, 1]}',
            '{"format": 1, "spec": [], "row_offsets": [0, 1], "token_offsets": [0, 1]}',
            '{"format": 1, "spec": {}, "row_offsets": [0, "x"], "token_offsets": [0, 1]}',
        ],
    )
    def test_a_damaged_manifest_is_a_traceback(self, content: str) -> None:
        (self.folder / "manifest.json").write_text(content)
        for use in (
            lambda: TeacherCache.open(self.folder, self.spec),
            lambda: write_cache(self.folder, self.spec, COUNTS, computing(self.spec)),
        ):
            with pytest.raises(InputError, match=r"manifest\.json is damaged .*Delete the folder"):
                use()

    def test_a_newer_format_is_read_as_this_one(self) -> None:
        (self.folder / "manifest.json").write_text('{"format": 3}')
        with pytest.raises(InputError, match="has format 3"):
            TeacherCache.open(self.folder, self.spec)

    def test_shards_of_a_changed_manifest_are_read(self) -> None:
        """Whoever edits a fingerprint to have a stale cache accepted gets no cache."""
        file = self.folder / "manifest.json"
        file.write_text(file.read_text().replace("rows:3", "rows:4"))
        fingerprints = dict(self.spec.fingerprints) | {"data": "rows:4"}
        with pytest.raises(InputError, match="of another cache"):
            TeacherCache.open(self.folder, top_k_spec(fingerprints=fingerprints))

    def test_opening_reads_all_bytes(self) -> None:
        """A cache of which every tensor is damaged opens: the headers alone were read."""
        for shard in self.folder.glob("shard-*"):
            content = bytearray(shard.read_bytes())
            content[-40:] = b"!" * 40
            shard.write_bytes(content)
        assert TeacherCache.open(self.folder, self.spec).tokens == TOKENS

    @pytest.mark.parametrize("announced", [False, True])
    def test_a_flipped_bit_is_trained_on_or_its_shard_stays(self, announced: bool) -> None:
        shard = sorted(self.folder.glob("shard-*"))[2]
        content = bytearray(shard.read_bytes())
        content[-5] ^= 1
        shard.write_bytes(content)
        cache = TeacherCache.open(self.folder, self.spec)
        assert_same(cache.read(torch.tensor([0])), targets_of([0], self.spec))
        if announced:
            cache.get_ready()
            _wait_for_background(cache)
            assert shard.exists(), "deleted before anybody can be told"
        with pytest.raises(InputError, match=rf"{shard.name} is damaged .*checksum.* has been deleted"):
            cache.read(torch.arange(TOKENS))
        with pytest.raises(InputError, match=rf"{shard.name} is damaged .*No such file"):
            cache.read(torch.arange(TOKENS))
        assert_same(cache.read(torch.tensor([0])), targets_of([0], self.spec))
        assert write_cache(self.folder, self.spec, COUNTS, computing(self.spec)) == [2]
        again = TeacherCache.open(self.folder, self.spec)
        assert_same(again.read(torch.arange(TOKENS)), targets_of(range(TOKENS), self.spec))

    def test_several_processes_all_read_all_or_trust_a_shard_that_is_gone(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        looked: list[str] = []
        check = files.check_content
        monkeypatch.setattr(
            "muscle_hf.teachers.cache.shards.check_content", lambda path: looked.append(path.name) or check(path)
        )
        caches = [TeacherCache.open(self.folder, self.spec) for _ in range(3)]
        for process, cache in enumerate(caches):
            cache.get_ready(process, 3)
        for cache in caches[:2]:
            assert_same(cache.read(torch.arange(TOKENS)), targets_of(range(TOKENS), self.spec))
        shards = sorted(path.name for path in self.folder.glob("shard-*"))
        assert sorted(looked) == shards
        (self.folder / shards[0]).unlink()
        with pytest.raises(InputError, match=rf"{shards[0]} is damaged .*No such file"):
            caches[2].read(torch.arange(TOKENS))

    def test_what_was_read_in_the_background_is_read_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        cache = TeacherCache.open(self.folder, self.spec)
        cache.get_ready()
        _wait_for_background(cache)
        monkeypatch.setattr("muscle_hf.teachers.cache.shards.check_content", lambda path: f"read again: {path}")
        assert_same(cache.read(torch.arange(TOKENS)), targets_of(range(TOKENS), self.spec))

    def test_a_fork_waits_for_threads_that_it_does_not_have(self) -> None:
        cache = TeacherCache.open(self.folder, self.spec)
        cache.read(torch.tensor([0]))
        with cache._shards._locks[3]:  # as a thread that is at the shard in the moment of the fork
            process = os.fork()
            if process == 0:
                signal.alarm(20)
                cache.get_ready()
                same = cache.read(torch.arange(TOKENS))["old.right"].sum() >= 0
                os._exit(0 if same else 1)
        assert os.waitpid(process, 0)[1] == 0

    def test_a_cache_of_the_first_format_is_refused_or_taken_unchecked(self) -> None:
        """As it was written before: SHA-256 in place of the faster checksum."""
        manifest = json.loads((self.folder / "manifest.json").read_text()) | {"format": 1}
        (self.folder / "manifest.json").write_text(json.dumps(manifest))
        read = files.read_manifest(self.folder)
        assert read is not None
        for shard in self.folder.glob("shard-*"):
            tensors = load_file(shard)
            known = {"cache": read.identity, "file": shard.name, "sha256": files._checksum(tensors, "sha256")}
            save_file(tensors, shard, known)
        assert _all(self.folder, self.spec)["old.right"].shape == (TOKENS,)
        last = sorted(self.folder.glob("shard-*"))[-1]
        last.write_bytes(last.read_bytes()[:-1] + b"!")
        with pytest.raises(InputError, match="checksum"):
            _all(self.folder, self.spec)
        write_cache(self.folder, self.spec, COUNTS, computing(self.spec))
        assert_same(_all(self.folder, self.spec), targets_of(range(TOKENS), self.spec))

    @pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files where Linux lists them")
    def test_a_cache_of_thousands_of_shards_has_too_many_open_files(self) -> None:
        before = len(list(Path("/proc/self/fd").iterdir()))
        cache = TeacherCache.open(self.folder, self.spec)
        assert len(list(Path("/proc/self/fd").iterdir())) <= before
        assert cache.tokens == TOKENS


def _all(folder: Path, spec: CacheSpec) -> dict[str, Tensor]:
    return TeacherCache.open(folder, spec).read(torch.arange(TOKENS))


def _wait_for_background(cache: TeacherCache) -> None:
    for thread in cache._shards._threads:
        thread.join()


@pytest.mark.slow
def test_a_step_of_8192_tokens_takes_more_than_a_blink(tmp_path: Path) -> None:
    """k = 64, in packed order of random rows from several shards, which the page cache holds."""
    spec = top_k_spec(vocabulary_size=32_000, k=64)
    counts = np.random.default_rng(0).integers(20, 180, size=600)

    def compute(rows: range) -> dict[str, Tensor]:
        tokens = int(counts[rows.start : rows.stop].sum())
        return {name: torch.ones(tokens, *shape, dtype=dtype) for name, (dtype, shape) in spec.layout().items()}

    write_cache(tmp_path, spec, counts, compute, shard_bytes=2**23, rows_at_once=100)
    cache = TeacherCache.open(tmp_path, spec)
    assert len(list(tmp_path.glob("shard-*"))) == 5
    offsets = np.concatenate([[0], counts.cumsum()])
    order = np.random.default_rng(1).permutation(600)
    numbers = torch.from_numpy(np.concatenate([np.arange(offsets[row], offsets[row + 1]) for row in order])[:8192])
    taken = []
    for _ in range(5):
        start = time.process_time()
        cache.read(numbers)
        taken.append(time.process_time() - start)
    # 7 ms of processor time, the best of several.
    assert min(taken) < 0.05


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_the_benchmark_does_not_run_or_its_figures_fall_apart(capsys: pytest.CaptureFixture[str]) -> None:
    script = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "teacher_cache.py"))
    script["main"](["--rows", "4", "--draws", "8", "--seeds", "2", "--steps", "1", "--tokens", "2000"])
    tables = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    errors = [[cell.strip() for cell in row] for row in tables if len(row) == 10][1:]
    assert [(row[0], row[2], row[3], row[4]) for row in errors] == [
        (texts, kind, k, size)
        for texts in ("completions", "sentences")
        for k, sizes in (("16", ("91", "93")), ("64", ("331", "333")), ("256", ("1291", "1293")))
        for kind, size in zip(("topk", "sampled"), sizes, strict=True)
    ]
    for first in (0, 6):
        differences = [float(row[7].rstrip("%")) for row in errors[first : first + 6]]
        assert differences[0] < differences[2] < differences[4] < 0
        assert abs(differences[5]) < abs(differences[4])
    assert [row[0].strip() for row in tables if len(row) == 4] == ["targets", "full", *["topk", "sampled"] * 2]
    assert [row[0].strip() for row in tables if len(row) == 7] == ["k", "16", "64", "256"]
