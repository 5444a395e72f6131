"""One run at a time: a second one is refused with the name of the first, and a dead one keeps nobody out."""

import errno
import fcntl
import os
import signal
import socket
import sys
from pathlib import Path

import fresh
import pytest

from muscle_hf.errors import ConfigurationError
from muscle_hf.locks import held_file, held_folder

# Holds the lock, and forks a process that lives on, as one that loads data does for a while.
_HOLDER = """
import os, sys, time
from pathlib import Path
from muscle_hf.locks import held_folder
with held_folder(Path(sys.argv[1]), "muscle-hf update", "choose another --output-dir"):
    child = os.fork()
    if child == 0:
        sys.stdin.read()
        os._exit(0)
    print(child, flush=True)
    sys.stdin.readline()
"""


def _held(folder: Path) -> None:
    with held_folder(folder, "a test", "choose another --output-dir"):
        pass


def test_a_second_run_spoils_the_files_of_the_first_or_a_dead_one_keeps_it_out(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    holder = fresh.Process([sys.executable, "-c", _HOLDER, str(folder)])
    child = int(holder.stdout.readline())
    try:
        with pytest.raises(ConfigurationError) as refused:
            _held(folder)
        assert str(refused.value).startswith(
            f"{folder} is in use: process {holder.pid} on {socket.gethostname()} is at it since 20"
        )
        assert "(muscle-hf update)" in str(refused.value)
        assert str(refused.value).endswith("or end it, or choose another --output-dir.")
        holder.kill()
        assert holder.wait() == -signal.SIGKILL
        assert [path.name for path in folder.iterdir()] == [".muscle-hf.lock"]
        os.kill(child, 0)  # it lives, and holds nothing
        with held_folder(folder, "a test", ""):
            assert str(os.getpid()) in (folder / ".muscle-hf.lock").read_text(encoding="utf-8")
        assert list(folder.iterdir()) == []
    finally:
        holder.communicate()


def test_a_forked_process_that_ends_lets_others_in(tmp_path: Path) -> None:
    code = _HOLDER.replace("sys.stdin.read()\n        os._exit(0)", "sys.exit(0)")
    code = code.replace("print(child", "os.waitpid(child, 0)\n    print(child")
    holder = fresh.Process([sys.executable, "-c", code, str(tmp_path)])
    holder.stdout.readline()
    with pytest.raises(ConfigurationError, match=f"process {holder.pid} on"):
        _held(tmp_path)
    assert holder.communicate("\n")[1] == ""
    _held(tmp_path)


def test_one_process_starts_two_runs_in_one_folder(tmp_path: Path) -> None:
    with held_folder(tmp_path, "a test", "wait"):
        with pytest.raises(ConfigurationError, match=rf"process {os.getpid()} on .* \(a test\)"):
            _held(tmp_path)
        with held_folder(tmp_path, "a test", "wait", part="1-of-2"), held_file(tmp_path / "answers", "a test", "wait"):
            pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "{", '{"process": "x"}', "[]", "null"])
def test_a_lock_without_a_name_is_no_lock(tmp_path: Path, text: str) -> None:
    with held_folder(tmp_path, "a test", "wait"):
        (tmp_path / ".muscle-hf.lock").write_text(text, encoding="utf-8")
        with pytest.raises(ConfigurationError, match="is in use: another process is at it"):
            _held(tmp_path)


def test_a_lock_whose_file_was_just_removed_is_taken_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, calls = tmp_path / ".muscle-hf.lock", []
    take = fcntl.flock

    def removed_meanwhile(descriptor: int, how: int) -> None:
        calls.append(descriptor)
        if len(calls) < 3:
            lock.unlink()
        if len(calls) == 1:
            lock.touch()
        take(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", removed_meanwhile)
    with held_folder(tmp_path, "a test", "wait"):
        assert len(calls) == 3
        with pytest.raises(ConfigurationError):
            _held(tmp_path)


def test_a_file_system_without_locks_stops_all_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with held_folder(tmp_path / "out", "a test", "wait"):
        assert list((tmp_path / "out").iterdir()) == []
    assert not (tmp_path / "out").exists()
    assert caplog.messages == [
        f"The file system of {tmp_path / 'out'} has no locks (No locks available), so a second run there would not be "
        "noticed; start none."
    ]


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_folder_that_is_only_read_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(path: object, *_: object) -> int:
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(os, "open", refuse)
    _held(tmp_path)


def test_a_new_folder_stays_behind_empty_or_goes_with_what_is_in_it(tmp_path: Path) -> None:
    _held(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
    with held_folder(tmp_path / "something", "a test", "wait"):
        (tmp_path / "something" / "made").touch()
    assert (tmp_path / "something" / "made").exists()


def test_a_file_in_the_place_of_the_folder_is_told_by_its_owner(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    _held(tmp_path / "file")  # whoever writes there knows better what is wrong


def test_a_folder_that_cannot_be_made_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    folder = tmp_path / "file" / "out"
    with (
        pytest.raises(ConfigurationError, match=r"cannot be made .*where you may write"),
        held_folder(folder, "a", "b"),
    ):
        pass
