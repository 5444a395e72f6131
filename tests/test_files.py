"""Files that are replaced as a whole or not at all."""

import os
import sys
from pathlib import Path

import fresh
import pytest

from muscle_hf.files import replaced


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
