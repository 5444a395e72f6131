"""A cache at an address: another machine finds it whole, a cut run goes on from it, and nothing damaged is learned."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import fsspec.core
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem
from hub_worker import Worker
from local_hub import User, hub
from teacher_caches import COUNTS, TOKENS, assert_same, computing, files_of, heads, hidden_spec, targets_of, top_k_spec

from muscle_hf.errors import ConfigurationError, EndpointError, MissingPackageError
from muscle_hf.teachers.cache import CacheSpec, TeacherCache, files, write_cache
from muscle_hf.teachers.cache.files import write_tensors
from muscle_hf.teachers.cache.remote import RemoteCache, file_system

SPEC = top_k_spec()
ADDRESS = "memory://caches/one"
SHARD = "shard-0000{}-of-00004.safetensors"


@pytest.fixture(autouse=True)
def empty() -> Iterator[None]:
    MemoryFileSystem.store.clear()
    yield
    MemoryFileSystem.store.clear()


def _run(
    folder: Path, spec: CacheSpec = SPEC, *, compute: Any = None, process: int = 0, processes: int = 1, **options: Any
) -> list[int]:
    """Do as a training run does, and return the shards that were computed."""
    remote = RemoteCache(ADDRESS, folder)
    share = {"process": process, "processes": processes}
    remote.fetch(spec, **share)
    remote.send_missing(spec, **share)
    small = {"shard_bytes": 6 * SPEC.bytes_per_token, "rows_at_once": 2}
    computed = write_cache(
        folder, spec, COUNTS, compute or computing(spec), written=remote.send, **small | share | options
    )
    remote.send_missing(spec, **share)
    return computed


def _fetched(folder: Path, spec: CacheSpec = SPEC) -> dict[str, torch.Tensor]:
    RemoteCache(ADDRESS, folder).fetch(spec)
    return TeacherCache.open(folder, spec).read(torch.arange(TOKENS))


def _there() -> list[str]:
    return sorted(Path(name).name for name in fsspec.filesystem("memory").find("/caches/one"))


def _cut_after(shards: int) -> Callable[[range], dict[str, torch.Tensor]]:
    compute, seen = computing(SPEC), []

    def cut(rows: range) -> dict[str, torch.Tensor]:
        seen.append(rows)
        if len(seen) > shards * 2:
            raise KeyboardInterrupt
        return compute(rows)

    return cut


@pytest.mark.parametrize("spec", [SPEC, hidden_spec()], ids=["topk", "hidden"])
def test_a_whole_cache_is_not_found_by_another_machine(tmp_path: Path, spec: CacheSpec) -> None:
    options: dict[str, Any] = {"heads": heads()} if spec.kind == "hidden" else {}
    _run(tmp_path / "here", spec, **options)
    assert_same(_fetched(tmp_path / "there", spec), targets_of(range(TOKENS), spec))
    assert files_of(tmp_path / "there") == files_of(tmp_path / "here") == _there()
    assert _run(tmp_path / "third", spec, **options) == []


def test_what_a_killed_run_had_done_is_computed_again_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        _run(tmp_path / "here", compute=_cut_after(1))
    done = len(_there()) - 1
    assert 1 <= done < 4
    RemoteCache(ADDRESS, tmp_path / "looks").fetch(SPEC)
    assert files_of(tmp_path / "looks") == ["manifest.json"], "an incomplete cache is no use to a reader"
    assert _run(tmp_path / "there") == list(range(done, 4))
    assert_same(_fetched(tmp_path / "third"), targets_of(range(TOKENS), SPEC))


def test_parts_of_machines_that_share_no_folder_make_no_whole(tmp_path: Path) -> None:
    assert _run(tmp_path / "0", process=0, processes=2) == [0, 2]
    assert _run(tmp_path / "1", process=1, processes=2) == [1, 3]
    for machine in ("0", "1"):
        assert_same(_fetched(tmp_path / machine), targets_of(range(TOKENS), SPEC))


@pytest.mark.parametrize("length", [-9, -1], ids=["cut off", "changed"])
def test_a_damaged_shard_is_learned_from(tmp_path: Path, length: int, caplog: pytest.LogCaptureFixture) -> None:
    _run(tmp_path / "here")
    whole = fsspec.filesystem("memory").cat(f"/caches/one/{SHARD.format(2)}")
    damaged = whole[:length] + (b"" if length == -9 else bytes([whole[-1] ^ 1]))
    fsspec.filesystem("memory").pipe(f"/caches/one/{SHARD.format(2)}", damaged)
    with caplog.at_level(logging.WARNING):
        assert _run(tmp_path / "there") == [2]
    assert f"{SHARD.format(2)} is damaged" in caplog.text
    assert_same(_fetched(tmp_path / "third"), targets_of(range(TOKENS), SPEC))


def test_a_transfer_that_stops_early_is_taken_for_a_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _run(tmp_path / "here")
    monkeypatch.setattr(MemoryFileSystem, "get_file", _cut_off(MemoryFileSystem.get_file))
    with pytest.raises(EndpointError, match="has sent 9 of the"):
        RemoteCache(ADDRESS, tmp_path / "there").fetch(SPEC)
    assert files_of(tmp_path / "there") == ["manifest.json"]


def _cut_off(get_file: Any) -> Any:
    def cut(system: Any, remote: str, local: str, **options: Any) -> None:
        get_file(system, remote, local, **options)
        if "shard" in remote:
            Path(local).write_bytes(Path(local).read_bytes()[:9])

    return cut


def test_a_cache_of_something_else_is_fetched_or_overwritten(tmp_path: Path) -> None:
    _run(tmp_path / "here")
    before = dict(fsspec.filesystem("memory").store)
    other = top_k_spec(temperature=1.0)
    with pytest.raises(ConfigurationError, match=r"memory://caches/one was made from something else.* temperature"):
        _run(tmp_path / "there", other)
    write_cache(tmp_path / "cut", SPEC, COUNTS, computing(SPEC), shard_bytes=9 * SPEC.bytes_per_token)
    with pytest.raises(ConfigurationError, match="is another one than that at memory://caches/one"):
        RemoteCache(ADDRESS, tmp_path / "cut").send_missing(SPEC)
    assert fsspec.filesystem("memory").store == before


def test_work_is_lost_when_the_storage_goes_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    put_file, failures = MemoryFileSystem.put_file, iter([False, True, False, True, False, True])

    def unsure(*arguments: Any, **options: Any) -> None:
        if next(failures, False):
            raise TimeoutError("no route\nto https://host/x?Signature=secret")
        put_file(*arguments, **options)

    monkeypatch.setattr(MemoryFileSystem, "put_file", unsure)
    # The manifest goes, the first and the third shard do not; tried again, the first goes and the third does not.
    with caplog.at_level(logging.WARNING), pytest.raises(EndpointError, match="the same command goes on") as failed:
        _run(tmp_path)
    assert "tried again at the end" in caplog.text
    assert "secret" not in caplog.text + str(failed.value)
    assert "\n" not in str(failed.value)
    assert len(_there()) < len(files_of(tmp_path)) == 5
    assert _run(tmp_path) == [], "what was computed is kept"
    assert _there() == files_of(tmp_path)


def test_what_is_there_is_fetched_or_looked_at_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _run(tmp_path / "here")
    fetched: list[str] = []
    looked: list[int] = []
    get_file, checksum = MemoryFileSystem.get_file, files._checksum
    monkeypatch.setattr(
        MemoryFileSystem,
        "get_file",
        lambda system, remote, *others, **options: (
            fetched.append(Path(remote).name) or get_file(system, remote, *others, **options)
        ),
    )
    monkeypatch.setattr(files, "_checksum", lambda *arguments: looked.append(1) or checksum(*arguments))
    monkeypatch.setattr(files, "_CLOCK_OF_FILES", -(10**18))  # as if the files were larger
    assert _run(tmp_path / "there") == []
    cache = TeacherCache.open(tmp_path / "there", SPEC)
    assert_same(cache.read(torch.arange(TOKENS)), targets_of(range(TOKENS), SPEC))
    assert sorted(fetched) == _there()
    assert len(looked) == len(_there()) - 1


TOKEN = "token-of-ann"  # noqa: S105 - of a Hub that lives for seconds
SEND = """
import sys
from pathlib import Path
sys.path.append(tests)
from teacher_caches import COUNTS, computing, top_k_spec
from muscle_hf.teachers.cache import remote, write_cache
remote._FILES_OF_A_COMMIT, spec = 3, top_k_spec()
cache = remote.RemoteCache("hf://datasets/ann/caches/train", Path("here"))
if seconds is None:
    cache.send_missing(spec)
else:
    remote._SECONDS_BETWEEN_COMMITS = seconds
    options = {"shard_bytes": 6 * spec.bytes_per_token, "written": cache.send}
    result = write_cache("here", spec, COUNTS, computing(spec), **options)
"""


@pytest.mark.slow
def test_every_shard_is_a_commit_or_one_is_lost(tmp_path: Path) -> None:
    with hub(tokens={TOKEN: User("ann")}) as running:
        running.create("ann/caches", kind="dataset")
        worker = Worker(running, tmp_path)
        commits: list[int] = []
        for seconds in (300, None):  # a run that is killed before it has sent what waits; the next one
            answer = worker.run(SEND, token=TOKEN, seconds=seconds, tests=str(Path(__file__).parents[1]))
            assert "error" not in answer, answer
            commits.append(len(running.commits("ann/caches", "dataset")) - 1)
        worker.stop()
        assert commits == [1, 3], "the manifest, and four shards in two commits"
        assert sorted(running.files("ann/caches", "dataset")) == [
            f"train/{name}" for name in files_of(tmp_path / "here")
        ]


def test_a_damaged_file_here_is_sent(tmp_path: Path) -> None:
    write_cache(tmp_path, SPEC, COUNTS, computing(SPEC), shard_bytes=6 * SPEC.bytes_per_token)
    write_tensors(tmp_path / SHARD.format(1), {"x": torch.zeros(1)}, "another cache")
    RemoteCache(ADDRESS, tmp_path).send_missing(SPEC)
    assert SHARD.format(1) not in _there()
    assert SHARD.format(0) in _there()


@pytest.mark.parametrize("address", ["s3://key:hush@bucket/x", "abfs://box@account.example/x?sig=hush"])
def test_a_secret_in_an_address_is_repeated(address: str) -> None:
    with pytest.raises(ConfigurationError, match="holds a password or goes on after") as refused:
        file_system(address)
    assert "hush" not in str(refused.value)


def test_a_package_that_is_missing_or_an_unknown_storage_ends_in_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="'nowhere://x' cannot be used: Protocol not known: nowhere"):
        file_system("nowhere://x")

    def missing(address: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(MissingPackageError, match=r"Install s3fs to access S3\): pip install s3fs"):
        file_system("s3://bucket/x")
