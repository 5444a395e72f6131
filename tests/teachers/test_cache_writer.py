"""A teacher cache survives kills, full disks, damaged files and several processes, and never mixes two caches."""

import errno
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

import fresh
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from teacher_caches import (
    BOTH,
    COUNTS,
    FINGERPRINTS,
    TOKENS,
    assert_same,
    computing,
    files_of,
    heads,
    hidden_spec,
    targets_of,
    top_k_spec,
)
from torch import Tensor

import muscle_hf.teachers.cache.files
import muscle_hf.teachers.cache.writer
from muscle_hf.errors import ConfigurationError, InputError, TeacherError
from muscle_hf.models.hidden_states import OutputHead
from muscle_hf.teachers.cache import TeacherCache
from muscle_hf.teachers.cache.files import read_manifest
from muscle_hf.teachers.cache.spec import CacheSpec
from muscle_hf.teachers.cache.writer import write_cache

SPEC = top_k_spec()
# Six tokens a shard, so four shards of 23 tokens.
SMALL: dict[str, Any] = {"shard_bytes": 6 * SPEC.bytes_per_token, "rows_at_once": 2}


def _write(folder: Path, spec: CacheSpec = SPEC, **options: Any) -> list[int]:
    return write_cache(folder, spec, COUNTS, options.pop("compute", computing(spec)), **SMALL | options)


def _all(folder: Path, spec: CacheSpec = SPEC) -> dict[str, Tensor]:
    return TeacherCache.open(folder, spec).read(torch.arange(TOKENS))


class TestWholeCaches:
    def test_a_token_has_the_target_of_another(self, tmp_path: Path) -> None:
        assert _write(tmp_path) == [0, 1, 2, 3]
        assert_same(_all(tmp_path), targets_of(range(TOKENS), SPEC))
        assert files_of(tmp_path) == ["manifest.json", *(f"shard-0000{i}-of-00004.safetensors" for i in range(4))]

    def test_hidden_states_or_heads_are_not_exact(self, tmp_path: Path) -> None:
        spec = hidden_spec()
        _write(tmp_path, spec, heads=heads())
        assert_same(_all(tmp_path, spec), targets_of(range(TOKENS), spec))
        for name, head in TeacherCache.open(tmp_path, spec).heads().items():
            expected = heads()[name]
            assert head.transform == expected.transform
            assert torch.equal(head.weight, expected.weight)
            assert head.weight.dtype == BOTH[name]
            assert (head.bias is None) == (expected.bias is None)
            if head.bias is not None:
                assert torch.equal(head.bias, torch.arange(11.0))

    def test_two_teachers_with_one_head_cannot_be_written(self, tmp_path: Path) -> None:
        spec = hidden_spec(hidden_sizes={"old": 3, "new": 3}, dtypes={"old": torch.float32, "new": torch.float32})
        one = heads()["old"]

        def compute(rows: range) -> dict[str, Tensor]:
            computed = computing(hidden_spec())(rows)
            return computed | {"new.hidden": computed["new.hidden"].float()[:, :3]}

        _write(tmp_path, spec, compute=compute, heads={"old": one, "new": one})
        found = TeacherCache.open(tmp_path, spec).heads()
        assert torch.equal(found["old"].weight, found["new"].weight)

    def test_rows_are_asked_for_out_of_order_twice_or_without_a_token(self, tmp_path: Path) -> None:
        seen: list[range] = []
        _write(tmp_path / "several", compute=computing(SPEC, seen=seen))
        assert max(map(len, seen)) == 2
        assert [row for rows in seen for row in rows] == list(range(12))  # the last one has no token
        seen.clear()
        _write(tmp_path / "single", compute=computing(SPEC, seen=seen), rows_at_once=1)
        assert seen == [range(row, row + 1) for row, count in enumerate(COUNTS) if count]

    @settings(max_examples=60, deadline=None)
    @given(
        counts=st.lists(st.integers(0, 40), min_size=1, max_size=30).filter(any),
        shard_bytes=st.integers(1, 3000),
        processes=st.integers(1, 5),
    )
    def test_shards_miss_tokens_or_are_empty(self, counts: list[int], shard_bytes: int, processes: int) -> None:
        plan = muscle_hf.teachers.cache.writer._plan(
            SPEC, muscle_hf.teachers.cache.writer._checked_counts(counts), shard_bytes, processes
        )
        assert plan.row_offsets[0] == plan.token_offsets[0] == 0
        assert plan.row_offsets[-1] == len(counts)
        assert plan.token_offsets == tuple(sum(counts[:row]) for row in plan.row_offsets)
        assert all(plan.tokens_of(shard) > 0 for shard in range(plan.shards))
        # Of the size that was asked for, but for one row more or less at either end.
        assert max(map(plan.tokens_of, range(plan.shards))) <= shard_bytes / SPEC.bytes_per_token + max(counts) + 1

    def test_a_small_cache_leaves_processes_without_work(self, tmp_path: Path) -> None:
        written = [_write(tmp_path, shard_bytes=2**30, processes=3, process=process) for process in (1, 0, 2)]
        assert written == [[1], [0], [2]]
        assert_same(_all(tmp_path), targets_of(range(TOKENS), SPEC))

    def test_bytes_of_a_token_are_not_those_that_are_documented(self, tmp_path: Path) -> None:
        spec = top_k_spec(vocabulary_size=32_000, k=64)
        assert spec.bytes_per_token == 2 * 331

        def compute(rows: range) -> dict[str, Tensor]:
            return {name: torch.zeros(200, *shape, dtype=dtype) for name, (dtype, shape) in spec.layout().items()}

        write_cache(tmp_path, spec, [200] * 10, compute, rows_at_once=1)
        shard = tmp_path / "shard-00000-of-00001.safetensors"
        assert 662 <= shard.stat().st_size / 2000 < 663  # the header of a shard is less than 2 kB
        assert shard.stat().st_size - 2000 * 662 < 2048

    def test_a_manifest_does_not_say_what_is_cached(self, tmp_path: Path) -> None:
        _write(tmp_path)
        manifest = json.loads((tmp_path / "manifest.json").read_text())
        assert manifest["spec"] == {
            "kind": "topk",
            "vocabulary_size": 11,
            "dtypes": {"old": "float32", "new": "bfloat16"},
            "fingerprints": FINGERPRINTS,
            "k": 3,
            "temperature": 2.0,
        }
        assert (manifest["rows"], manifest["tokens"]) == (13, 23)
        assert manifest["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]


class TestGoingOn:
    def test_small_shards_cut_batches_in_two(self, tmp_path: Path) -> None:
        seen: list[range] = []
        spec = top_k_spec()
        write_cache(
            tmp_path,
            spec,
            [1, 9, 2, 2, 7, 1, 1, 1, 4, 4],
            computing(spec, counts=[1, 9, 2, 2, 7, 1, 1, 1, 4, 4], seen=seen),
            shard_bytes=8 * spec.bytes_per_token,
            rows_at_once=2,
        )
        assert seen == [range(row, row + 2) for row in range(0, 10, 2)]

    def test_complete_shards_are_computed_again(self, tmp_path: Path) -> None:
        _write(tmp_path)
        before = {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
        seen: list[range] = []
        assert _write(tmp_path, compute=computing(SPEC, seen=seen)) == []
        assert seen == []
        assert {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == before

    def test_an_exception_in_the_middle_loses_the_shards_before_it(self, tmp_path: Path) -> None:
        def compute(rows: range) -> dict[str, Tensor]:
            if rows.stop > 7:
                raise KeyboardInterrupt
            return computing(SPEC)(rows)

        with pytest.raises(KeyboardInterrupt):
            _write(tmp_path, compute=compute, rows_at_once=1)
        assert len(files_of(tmp_path)) == 3
        assert _write(tmp_path) == [2, 3]
        assert_same(_all(tmp_path), targets_of(range(TOKENS), SPEC))

    def test_a_cache_that_was_begun_is_cut_otherwise(self, tmp_path: Path) -> None:
        _write(tmp_path, process=1, processes=2)
        assert _write(tmp_path, shard_bytes=2**30, processes=1) == [0, 2]
        assert_same(_all(tmp_path), targets_of(range(TOKENS), SPEC))

    @pytest.mark.slow
    @pytest.mark.parametrize("damage", ["cut", "flipped", "header", "empty", "swapped", "foreign"])
    def test_a_damaged_shard_is_kept_or_nobody_hears_of_it(
        self, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        _write(tmp_path)
        shards = sorted(tmp_path.glob("shard-*"))
        content = bytearray(shards[1].read_bytes())
        if damage == "cut":
            content = content[:-5]
        elif damage == "flipped":
            content[-5] ^= 1
        elif damage == "header":
            content[0:8] = b"\xff" * 8
        elif damage == "empty":
            content = bytearray()
        elif damage == "swapped":
            content = bytearray(shards[2].read_bytes())
        else:
            other = tmp_path / "other"
            _write(other, top_k_spec(temperature=3.0), compute=computing(SPEC))
            content = bytearray((other / shards[1].name).read_bytes())
        shards[1].write_bytes(content)
        if damage != "flipped":  # what the header does not tell is found when the shard is read
            with pytest.raises(InputError, match="shard 1 is") as caught:
                TeacherCache.open(tmp_path, SPEC)
            assert "muscle-hf cache" in str(caught.value)
        with caplog.at_level(logging.WARNING):
            assert _write(tmp_path) == [1]
        assert "computed again" in caplog.text
        assert_same(_all(tmp_path), targets_of(range(TOKENS), SPEC))

    def test_a_swapped_shard_of_the_same_size_is_kept(self, tmp_path: Path) -> None:
        spec = top_k_spec()
        write_cache(tmp_path, spec, [6, 6, 6], computing(spec, [6, 6, 6]), **SMALL)
        shards = sorted(tmp_path.glob("shard-*"))
        assert len(shards) == 3
        shards[0].write_bytes(shards[1].read_bytes())
        with pytest.raises(InputError, match="shard 0 is a copy of shard-00001-of-00003"):
            TeacherCache.open(tmp_path, spec)
        assert write_cache(tmp_path, spec, [6, 6, 6], computing(spec, [6, 6, 6]), **SMALL) == [0]

    def test_lost_heads_stay_lost(self, tmp_path: Path) -> None:
        spec = hidden_spec()
        options: dict[str, Any] = {"heads": heads()}
        _write(tmp_path, spec, **options)
        file = tmp_path / "heads.safetensors"
        file.write_bytes(file.read_bytes()[:-1] + b"!")
        with pytest.raises(InputError, match=r"heads\.safetensors is damaged"):
            TeacherCache.open(tmp_path, spec)
        assert _write(tmp_path, spec, process=1, processes=2, **options) == []
        with pytest.raises(InputError, match="heads"):
            TeacherCache.open(tmp_path, spec)
        assert _write(tmp_path, spec, **options) == []
        assert TeacherCache.open(tmp_path, spec).heads()["old"].transform == heads()["old"].transform


class TestOtherCaches:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("changes", "named"),
        [
            ({"temperature": 1.0}, r"temperature \(in the cache 2.0, now 1.0\)"),
            ({"k": 4}, r"k \(in the cache 3, now 4\)"),
            ({"vocabulary_size": 12}, "vocabulary size"),
            ({"dtypes": BOTH | {"old": torch.float16}}, "precision of the old model"),
            ({"fingerprints": FINGERPRINTS | {"old adapter": "files:9"}}, r"old adapter \(in the cache files:2, now"),
            ({"fingerprints": FINGERPRINTS | {"data": "rows:4"}}, "data"),
            ({"fingerprints": FINGERPRINTS | {"tokenizer": "loaded:1"}}, r"tokenizer \(in the cache none, now loaded"),
        ],
    )
    def test_a_stale_cache_is_used_or_nobody_hears_why(self, tmp_path: Path, changes: Any, named: str) -> None:
        _write(tmp_path)
        spec, seen = top_k_spec(**changes), []
        for use in (
            lambda: _write(tmp_path, spec, compute=computing(SPEC, seen=seen)),
            lambda: TeacherCache.open(tmp_path, spec),
        ):
            with pytest.raises(ConfigurationError, match=named) as caught:
                use()
            assert str(caught.value).count("in the cache") == 1
        assert seen == []
        _all(tmp_path)  # and the old one is whole

    def test_a_cache_of_another_kind_is_used(self, tmp_path: Path) -> None:
        _write(tmp_path)
        with pytest.raises(ConfigurationError, match=r"kind \(in the cache topk, now hidden\)"):
            _write(tmp_path, hidden_spec(), heads=heads())

    def test_one_model_given_in_another_way_looks_like_another_model(self, tmp_path: Path) -> None:
        _write(tmp_path)
        for name, value, hinted in (
            ("old base", "loaded:1", True),
            ("new base", "files:1", True),
            ("old base", "files:3", False),
        ):
            with pytest.raises(ConfigurationError, match=name) as caught:
                TeacherCache.open(tmp_path, top_k_spec(fingerprints=FINGERPRINTS | {name: value}))
            assert ("in the way that it was given" in str(caught.value)) == hinted

    @pytest.mark.parametrize("counts", [COUNTS[:-2], (*COUNTS, 1), (3, 0, 2, *COUNTS[3:-3], 3, 0, 0), COUNTS[::-1]])
    def test_rows_with_other_tokens_go_on_an_old_cache(self, tmp_path: Path, counts: tuple[int, ...]) -> None:
        _write(tmp_path)
        if counts[0] == 3:  # the same at every border of a shard, so that nothing can be mixed up
            counts = (*COUNTS[:-2], 3, 3)
        with pytest.raises(ConfigurationError, match="trained tokens"):
            write_cache(tmp_path, SPEC, counts, computing(SPEC, counts), **SMALL)

    def test_two_that_begin_at_once_disagree_on_the_manifest(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another process writes its manifest after this one has looked for one."""
        original = muscle_hf.teachers.cache.writer.create_manifest

        def late(folder: Path, manifest: Any) -> Any:
            monkeypatch.setattr(muscle_hf.teachers.cache.writer, "create_manifest", original)
            _write(folder, top_k_spec(temperature=1.0), compute=computing(SPEC))
            return original(folder, manifest)

        monkeypatch.setattr(muscle_hf.teachers.cache.writer, "create_manifest", late)
        with pytest.raises(ConfigurationError, match="temperature"):
            _write(tmp_path)

    def test_a_file_system_without_links_cannot_hold_a_cache(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def link(*names: Any) -> None:
            raise PermissionError(errno.EPERM, "no links here")

        monkeypatch.setattr(os, "link", link)
        _write(tmp_path)
        assert_same(_all(tmp_path), targets_of(range(TOKENS), SPEC))


class TestDisk:
    def test_a_disk_that_is_too_small_is_found_out_late(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(muscle_hf.teachers.cache.writer, "_free", lambda folder: 300)
        seen: list[range] = []
        with pytest.raises(ConfigurationError, match=r"needs 17\.\d KiB .*has 300 bytes free"):
            _write(tmp_path / "new", compute=computing(SPEC, seen=seen))
        assert seen == []
        assert not (tmp_path / "new").exists()

    def test_only_what_is_missing_has_to_fit(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        _write(tmp_path)
        (tmp_path / "shard-00002-of-00004.safetensors").unlink()
        manifest = read_manifest(tmp_path)
        assert manifest is not None
        needed = manifest.tokens_of(2) * SPEC.bytes_per_token + 4096
        monkeypatch.setattr(muscle_hf.teachers.cache.writer, "_free", lambda folder: needed - 1)
        with pytest.raises(ConfigurationError, match="free"):
            _write(tmp_path)
        monkeypatch.setattr(muscle_hf.teachers.cache.writer, "_free", lambda folder: needed)
        assert _write(tmp_path) == [2]

    def test_the_heads_are_forgotten_in_the_estimate(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        spec = hidden_spec()
        of_heads = 4 * 11 * (3 + 1) + 2 * 11 * 4
        needed = TOKENS * spec.bytes_per_token + of_heads + 4096
        options: dict[str, Any] = {"heads": heads(), "shard_bytes": 2**30}
        monkeypatch.setattr(muscle_hf.teachers.cache.writer, "_free", lambda folder: needed - 1)
        with pytest.raises(ConfigurationError, match="free"):
            _write(tmp_path, spec, **options)
        monkeypatch.setattr(muscle_hf.teachers.cache.writer, "_free", lambda folder: needed)
        assert _write(tmp_path, spec, **options) == [0]

    @pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
    def test_a_disk_that_fills_up_loses_work_or_leaves_half_a_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
    ) -> None:
        original, calls = os.fsync, []

        def fsync(descriptor: int) -> None:
            calls.append(descriptor)
            # Manifest, shard 0 and its folder, shard 1 and its folder; then no more.
            if len(calls) > 5:
                raise OSError(code, os.strerror(code))
            original(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        with pytest.raises(
            ConfigurationError, match=r"full\. 2 of 4 shards .*are kept; \d.* more are needed"
        ) as caught:
            _write(tmp_path)
        assert "goes on from there" in str(caught.value)
        assert len(files_of(tmp_path)) == 3
        monkeypatch.setattr(os, "fsync", original)
        assert _write(tmp_path) == [2, 3]
        assert_same(_all(tmp_path), targets_of(range(TOKENS), SPEC))

    def test_another_error_of_the_disk_is_called_a_full_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _write(tmp_path, process=0, processes=2)

        def fsync(descriptor: int) -> None:
            raise OSError(errno.EIO, "broken")

        monkeypatch.setattr(os, "fsync", fsync)
        with pytest.raises(OSError, match="broken"):
            _write(tmp_path)
        assert not list(tmp_path.glob("*.tmp"))


class TestTeachers:
    @pytest.mark.parametrize("value", [torch.nan, torch.inf])
    @pytest.mark.parametrize(
        ("name", "row", "token"), [("old.log_probabilities", 5, 7), ("new.tail", 8, 18), ("new.confidence", 0, 1)]
    )
    def test_nan_is_stored_or_its_row_is_not_named(
        self, tmp_path: Path, name: str, row: int, token: int, value: float
    ) -> None:
        def compute(rows: range) -> dict[str, Tensor]:
            computed = computing(SPEC)(rows)
            first = sum(COUNTS[: rows.start])
            if 0 <= token - first < len(computed[name]):
                computed[name][token - first] = value
            return computed

        with pytest.raises(TeacherError, match=rf"The {name[:3]} model .* for row {row} of") as caught:
            _write(tmp_path, compute=compute)
        assert name[4:] in str(caught.value)
        shards = read_manifest(tmp_path)
        assert shards is not None
        whole = sum(end <= token for end in shards.token_offsets[1:])
        assert files_of(tmp_path) == ["manifest.json", *(f"shard-0000{i}-of-00004.safetensors" for i in range(whole))]
        assert _write(tmp_path) == list(range(whole, 4))

    def test_an_overflow_of_half_precision_is_stored_as_a_hidden_state(self, tmp_path: Path) -> None:
        spec = hidden_spec()

        def compute(rows: range) -> dict[str, Tensor]:
            computed = computing(spec)(rows)
            computed["old.hidden"][-1, 0] = -torch.inf
            return computed

        with pytest.raises(TeacherError, match="old model gives NaN or infinity"):
            _write(tmp_path, spec, compute=compute, heads=heads())

    def test_a_token_that_a_teacher_rules_out_is_taken_for_nan(self, tmp_path: Path) -> None:
        def compute(rows: range) -> dict[str, Tensor]:
            computed = computing(SPEC)(rows)
            for name in ("old.log_probabilities", "new.tail", "old.log_likelihood"):
                computed[name][..., -1] = -torch.inf
            return computed

        assert _write(tmp_path, compute=compute) == [0, 1, 2, 3]

    @pytest.mark.parametrize("fault", ["missing", "unknown", "type", "rows", "shape"])
    def test_targets_that_do_not_fit_are_stored(self, tmp_path: Path, fault: str) -> None:
        def compute(rows: range) -> dict[str, Tensor]:
            computed = computing(SPEC)(rows)
            if fault == "missing":
                del computed["old.tail"]
            elif fault == "unknown":
                computed["old.tails"] = computed["old.tail"]
            elif fault == "type":
                computed["old.tail"] = computed["old.tail"].float()
            elif fault == "rows":
                computed = {name: tensor[:-1] for name, tensor in computed.items()}
            else:
                computed["old.log_probabilities"] = computed["old.log_probabilities"][:, :2]
            return computed

        with pytest.raises(InputError, match=r"rows 0 to 1 .*old\.(tail|log_prob)"):
            _write(tmp_path, compute=compute)

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            (None, "heads are needed"),
            ({"old": heads()["old"]}, "keys"),
            ({"old": heads()["old"], "new": heads()["old"]}, r"new model has a weight of shape \(11, 3\)"),
            ({"new": heads()["new"], "old": OutputHead(torch.zeros(11, 3), torch.zeros(3))}, "a bias of shape"),
        ],
    )
    def test_heads_that_do_not_fit_are_stored(self, tmp_path: Path, wrong: Any, message: str) -> None:
        with pytest.raises(ConfigurationError, match=message):
            _write(tmp_path, hidden_spec(), heads=wrong)

    def test_a_head_of_nan_is_stored(self, tmp_path: Path) -> None:
        wrong = heads() | {"new": OutputHead(torch.full((11, 4), torch.nan))}
        with pytest.raises(TeacherError, match="new model"):
            _write(tmp_path, hidden_spec(), heads=wrong)

    def test_heads_of_a_cache_that_has_none_are_ignored(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="nothing else"):
            _write(tmp_path, heads=heads())


@pytest.mark.parametrize("counts", [[], [0, 0], [1, -1], [1.5], [[1]]])
def test_a_data_set_without_tokens_is_cached(tmp_path: Path, counts: Any) -> None:
    with pytest.raises(InputError, match=r"row_token_counts|No row"):
        write_cache(tmp_path, SPEC, counts, computing(SPEC))


@pytest.mark.parametrize("options", [{"process": 1}, {"process": -1}, {"processes": 0}, {"rows_at_once": 0}])
def test_options_without_meaning_are_taken(tmp_path: Path, options: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        _write(tmp_path, **options)


_SLOW_WRITER = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from teacher_caches import *
import muscle_hf.teachers.cache.files as files
from muscle_hf.teachers.cache.writer import write_cache
folder, where, process, processes = sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
spec = top_k_spec()
shards = [0]

def wait():
    print("waiting", flush=True)
    signal.pause()

def compute(rows):
    if where == "computing" and rows.start >= 7:  # of the third shard
        wait()
    return computing(spec)(rows)

if where == "writing":
    def half(path, *content, write=files._write):
        if "shard-00002" in path.name:
            write(path, *content[: len(content) // 2])
            wait()
        write(path, *content)
    files._write = half
print(write_cache(folder, spec, COUNTS, compute, shard_bytes=6 * spec.bytes_per_token, rows_at_once=1,
                  process=process, processes=processes))
"""


def _start(folder: Path, where: str, process: int = 0, processes: int = 1) -> fresh.Process:
    arguments = [str(Path(__file__).parents[1]), str(folder), where, str(process), str(processes)]
    return fresh.Process([sys.executable, "-c", _SLOW_WRITER, *arguments], warm=True)


def test_what_a_killed_process_left_stays_or_takes_the_file_of_one_that_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "manifest.json.12ab.tmp").touch()
    files = muscle_hf.teachers.cache.files
    original, written = files._write, []

    def taken_for_left_over(path: Path, *content: Any) -> None:
        original(path, *content)
        written.append(path.name)
        if len(written) == 2:  # another process begins the same shard
            path.unlink()

    monkeypatch.setattr(files, "_write", taken_for_left_over)
    assert _write(tmp_path) == [0, 1, 2, 3]
    assert len(written) == 6
    assert not list(tmp_path.glob("*.tmp"))
    assert_same(_all(tmp_path), targets_of(range(TOKENS), SPEC))


@pytest.mark.slow
@pytest.mark.parametrize("where", ["computing", "writing"])
def test_a_kill_in_the_middle_of_a_shard_leaves_a_cache_that_cannot_go_on(tmp_path: Path, where: str) -> None:
    writer = _start(tmp_path, where)
    try:
        assert writer.stdout.readline() == "waiting\n"
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
    assert writer.returncode == -signal.SIGKILL
    left = [name for name in files_of(tmp_path) if name.endswith(".tmp")]
    assert len(left) == (1 if where == "writing" else 0)
    with pytest.raises(InputError, match="2 of 4 shards are missing"):
        TeacherCache.open(tmp_path, SPEC)
    assert _write(tmp_path) == [2, 3]
    assert not list(tmp_path.glob("*.tmp"))
    assert_same(_all(tmp_path), targets_of(range(TOKENS), SPEC))


@pytest.mark.slow
def test_processes_at_one_cache_step_on_each_other(tmp_path: Path) -> None:
    writers = [_start(tmp_path, "nowhere", process, 3) for process in range(3)]
    shown = [writer.communicate()[0] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert shown == ["[0, 3]\n", "[1]\n", "[2]\n"]
    assert len(files_of(tmp_path)) == 5
    assert_same(_all(tmp_path), targets_of(range(TOKENS), SPEC))


def test_shards_are_no_plain_safetensors_files(tmp_path: Path) -> None:
    """Whoever wants to look into a cache needs nothing of ours."""
    _write(tmp_path)
    parts = [load_file(file) for file in sorted(tmp_path.glob("shard-*"))]
    joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    assert_same(joined, targets_of(range(TOKENS), SPEC))
