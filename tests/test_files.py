"""Files that are replaced as a whole or not at all."""

import os
import sys
from pathlib import Path

import fresh
import pytest

from muscle_hf.errors import ConfigurationError
from muscle_hf.files import refuse_read_only, replaced


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(ZeroDivisionError), replaced(path) as temporary:
        temporary.write_text("half", encoding="utf-8")
        raise ZeroDivisionError
    assert [(file.name, file.read_text(encoding="utf-8")) for file in tmp_path.iterdir()] == [("file", "old")]


def test_what_killed_processes_left_stays_for_good_or_what_others_write_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "file [1]"
    with replaced(path) as temporary:
        here = temporary.name.removesuffix(f"{os.getpid()}.tmp")
        temporary.touch()
    done = fresh.run([sys.executable, "-c", "import os; print(os.getpid())"])
    dead = here + f"{done.stdout.strip()}.tmp"
    kept = [
        here + f"{os.getppid()}.tmp",
        f"file [1].other-{done.stdout.strip()}.tmp",
        here + "x.tmp",
        here + "9" * 30 + ".tmp",
    ]
    for name in (dead, *kept):
        (tmp_path / name).touch()
    with replaced(path) as temporary:
        temporary.touch()
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([path.name, *kept])


def test_an_error_of_the_system_names_the_file_and_not_its_temporary_name(tmp_path: Path) -> None:
    path = tmp_path / "no" / "file"
    with pytest.raises(FileNotFoundError) as caught, replaced(path) as temporary:
        temporary.write_text("x", encoding="utf-8")
    assert caught.value.filename == str(path)


def test_work_is_done_for_a_folder_that_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_read_only(tmp_path / "new" / "one", "")
    (tmp_path / "file").touch()
    refuse_read_only(tmp_path / "file", "")  # whoever writes there knows better what is wrong
    # What the system says of a file system that is mounted to be read only, to whomever.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    for folder, which in ((tmp_path, "it"), (tmp_path / "new" / "one", str(tmp_path))):
        with pytest.raises(ConfigurationError) as refused:
            refuse_read_only(folder, "Name another.")
        assert str(refused.value) == (
            f"{folder} cannot be written to: {which} is read-only, or somebody else's. Name another."
        )
