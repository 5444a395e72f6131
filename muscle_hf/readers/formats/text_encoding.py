"""Files that are not UTF-8: where the fault is, what the file may be, and how to convert it."""

from pathlib import Path

from .opening import opened

_MARKS = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)


def not_utf8(path: Path) -> str:
    """Say where a file of which something could not be decoded is not UTF-8, and what it may be, with the way out."""
    with opened(path, "text") as file:
        head = file.read(4096)
        file.seek(0)
        for mark, name in _MARKS:
            if head.startswith(mark):
                return _message(path, f"it begins with the mark of {name}", name)
        if b"\0" in head:
            # Without a mark, which of both bytes of a plain letter is zero tells the order.
            name = "UTF-16LE" if head[1::2].count(0) > head[::2].count(0) else "UTF-16BE"
            return _message(path, f"it holds NUL bytes; is it {name}?", name)
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                place = f"line {number}, byte {error.start + 1} is 0x{line[error.start]:02x}"
                return _message(path, f"{place}; is it Windows-1252, as Excel writes it?", "WINDOWS-1252")
    return f"{path} is not UTF-8: save the file as UTF-8."


def _message(path: Path, what: str, encoding: str) -> str:
    return f"{path} is not UTF-8 ({what}): save the file as UTF-8, or convert it with iconv -f {encoding} -t UTF-8."
