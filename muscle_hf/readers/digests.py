"""What of a row can tell two models apart, as a digest: log-likelihoods, and long answers."""

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from .answers import Column

LONG_ANSWER = 100
"""From so many bytes of UTF-8 on, some twenty words, an answer can tell two models apart."""
# What `answers.shorten` makes of longer ones, and the least that this can take.
_SHORTENED = r"… \[[0-9a-f]{32}\] \d+$"
_SHORTEST = 70
# Below it, a likelihood is 1 but for rounding.
_CERTAIN = 1e-3


def likelihoods_digest(values: Sequence[float]) -> int | None:
    """Give a digest of the log-likelihoods of one row; None where they are whole, infinite or certain."""
    if not any(math.isfinite(value) and value % 1 and abs(value) > _CERTAIN for value in values):
        return None
    return _digest(np.asarray(values, dtype=np.float64).tobytes())


def answer_digest(texts: Sequence[str], right: str | None = None) -> int | None:
    """Give a digest of what was generated for one row; None where it is short, or the right answer itself."""
    telling = [text for text in texts if text.strip() != (right or "").strip()]
    encoded = [text.encode("utf-8", "backslashreplace") for text in telling]
    if not any(len(text) >= LONG_ANSWER for text in encoded):
        return None
    return _digest(b"\0".join(encoded))


def digest_column(digests: Sequence[int | None]) -> Column | None:
    """Make the column `TaskAnswers.outputs`; None where no row can tell."""
    return pa.array(digests, pa.int64()) if any(digest is not None for digest in digests) else None


def long_answers(answers: Column, references: Column | None) -> Column | None:
    """Make `TaskAnswers.outputs` of a column of answers; None where none is a long text."""
    long = are_long(answers, references)
    if not long.any():
        return None
    digests = np.zeros(len(answers), np.int64)
    digests[long] = [_digest(text.encode()) for text in answers.filter(pa.array(long)).to_pylist()]
    return pa.array(digests, mask=~long)


def are_long(answers: Column, references: Column | None) -> NDArray[np.bool_]:
    """Tell which answers are long texts, other than the right answer."""
    if not pa.types.is_string(answers.type):
        return np.zeros(len(answers), np.bool_)
    size = pc.fill_null(pc.binary_length(answers), 0)
    if (pc.max(size).as_py() or 0) <= _SHORTEST:
        return np.zeros(len(answers), np.bool_)
    long = pc.greater_equal(size, LONG_ANSWER)
    maybe = pc.and_(pc.invert(long), pc.greater(size, _SHORTEST))
    if pc.any(maybe).as_py():
        long = pc.or_(long, pc.fill_null(pc.match_substring_regex(answers, _SHORTENED), False))
    if references is not None and pa.types.is_string(references.type):
        long = pc.and_(long, pc.fill_null(pc.not_equal(answers, references), True))
    return np.asarray(pc.fill_null(long, False))


def _digest(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest()) >> 1
