"""Files that hold tables in ways that are not read here, known by their first bytes: why, and what to do instead."""

import re
import zipfile
from pathlib import Path

from ...errors import InputError
from .opening import ZIP

_PARQUET = "write it as Parquet or JSON Lines"
_PICKLE = (
    "a pickle, which can run any code when it is opened, so it never is here: open it where it was made, and write it "
    "with df.to_parquet('answers.parquet')"
)
_EXCEL = (
    "a workbook of Excel: save its sheet as CSV (UTF-8), or in pandas with "
    "pd.read_excel(FILE).to_parquet('answers.parquet')"
)
_SQLITE = "a data base of SQLite: write its table with sqlite3 -header -csv FILE 'select * from NAME' > answers.csv"
# A pickle begins with its protocol, and of protocol 4 on with the length of a frame; joblib packs it by zlib.
_MARKS: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"\x80[\x02\x03]|\x80[\x04\x05]\x95", re.DOTALL), _PICKLE),
    (re.compile(rb"\x78[\x01\x5e\x9c\xda]|ZF"), f"compressed by zlib, as joblib writes it; if so, it is {_PICKLE}"),
    (re.compile(rb"\x93NUMPY"), f"an array of numpy: {_PARQUET}, with an id for each row (and arrays of objects are "
     "pickles, which are never opened)"),
    (re.compile(rb"SQLite format 3\0"), _SQLITE),
    (re.compile(rb"\xd0\xcf\x11\xe0"), _EXCEL),
    (re.compile(rb"\x89HDF"), f"an HDF5 file: {_PARQUET}, in pandas with pd.read_hdf(FILE).to_parquet"
     "('answers.parquet')"),
    (re.compile(rb"ORC"), f"an ORC file: {_PARQUET}, in pandas with pd.read_orc(FILE).to_parquet('answers.parquet')"),
    (re.compile(rb"Obj\x01"), f"an Avro file: {_PARQUET}"),
    (re.compile(rb"FEA1"), f"an old Feather file: {_PARQUET}"),
    (re.compile(rb".{8}DUCK", re.DOTALL), f"a data base of DuckDB: {_PARQUET}, with COPY table TO 'answers.parquet'"),
    (re.compile(rb"%PDF"), "a PDF document: the answers themselves are needed"),
    (re.compile(rb".{257}ustar", re.DOTALL), "an archive of tar: unpack it first, with tar -xf"),
)  # fmt: skip


def refuse_other(path: Path, start: bytes) -> None:
    """Refuse a file that begins as one of a kind that is known, and not read."""
    if _is_text(start):
        return
    for mark, what in _MARKS:
        if mark.match(start):
            raise InputError(f"{path} is {what}.")
    if start.startswith(ZIP):
        names = _members(path)
        if any(name.startswith("xl/") for name in names):
            what = _EXCEL
        elif any(name.endswith("data.pkl") for name in names):
            what = f"a file of torch, which holds {_PICKLE}"
        elif any(name.endswith(".npy") for name in names):
            what = f"arrays of numpy (npz): {_PARQUET}, with an id for each row"
        else:
            what = "compressed (zip), and not the log of a program that is known: unpack it first, with unzip"
        raise InputError(f"{path} is {what}.")


def _is_text(start: bytes) -> bool:
    """Tell whether a file may be text, as far as it was read."""
    try:
        start.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > len(start) - 4 and len(start) > 4  # cut inside a letter
    return b"\0" not in start


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (OSError, ValueError, zipfile.BadZipFile):
        return []
