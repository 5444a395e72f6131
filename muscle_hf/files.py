"""A file is replaced as a whole or not at all: it is written under a temporary name and renamed."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from .errors import InputError


@contextlib.contextmanager
def replaced(path: str | Path) -> Iterator[Path]:
    """Offer a temporary name beside a file, and rename it to the file when all went well.

    Args:
        path: The file.

    Yields:
        The temporary name.

    Raises:
        InputError: There is something else than a file, such as a folder or a device.
        OSError: The file cannot be written.
    """
    target = Path(path).resolve()  # A link stays one, and what it points to gets the text.
    if target.exists() and not target.is_file():
        raise InputError(f"{path} is no ordinary file, so it is not replaced; name a file.")
    temporary = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
