"""Files that are replaced as a whole or not at all."""

from pathlib import Path

import pytest

from muscle_hf.files import replaced


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(ZeroDivisionError), replaced(path) as temporary:
        temporary.write_text("half", encoding="utf-8")
        raise ZeroDivisionError
    assert [(file.name, file.read_text(encoding="utf-8")) for file in tmp_path.iterdir()] == [("file", "old")]


def test_an_error_of_the_system_names_the_file_and_not_its_temporary_name(tmp_path: Path) -> None:
    path = tmp_path / "no" / "file"
    with pytest.raises(FileNotFoundError) as caught, replaced(path) as temporary:
        temporary.write_text("x", encoding="utf-8")
    assert caught.value.filename == str(path)
