"""An order of instances at random that does not depend on the order of files, and what a draw is known again by."""

import hashlib
from collections.abc import Iterable


def order_key(seed: int, task: str | None, key: str | int) -> bytes:
    """Give the place of an instance in the order, made of seed, task and id alone.

    A task that stands alone is None: its name is that of its file, which may be another one tomorrow.
    """
    return hashlib.blake2b(f"{seed}\0{task or ''}\0{key}".encode(), digest_size=16).digest()


def digest_of(lines: Iterable[str]) -> str:
    """Give a short digest of what a draw was made from."""
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=6).hexdigest()
