"""Columns of answers, flags or scores, as users have them: taken as arrays, or refused with the place of the fault.

A column is a list, tuple, numpy array, pandas or polars series, Arrow array or `datasets` column.
"""

import math
import operator
from collections.abc import Iterable, Mapping, Set
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

Values: TypeAlias = Iterable[Any]
# What numpy has no type for stays a list.
Answers: TypeAlias = NDArray[np.int64] | list[Any]
_Column: TypeAlias = NDArray[Any] | list[Any]

# Means add scores up and the normal interval squares them: up to here that stays finite for any number of instances.
_LARGEST_SCORE = 1e100


def is_number(value: Any) -> bool:
    """Tell whether a value is one real number that a float can hold; True and False are none."""
    try:
        return _is_real(type(value)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an int beyond 1e308
        return False


def check_level(level: Any) -> None:
    """Refuse a level of intervals that is none."""
    if not is_number(level) or not 0 < level < 1:
        raise InputError(f"level is {level!r}, but must be a number between 0 and 1, such as 0.95 for 95 %")


def take_answers(**columns: Values) -> list[Answers]:
    """Take columns of ints or strings, all as arrays of ints or, failing that, all as lists.

    None is no answer; only `references` must not hold it.
    """
    read = _take(columns)
    # Looking at the type of every value is what takes longest with lists, so it is done once.
    types = {name: set(map(type, v)) if isinstance(v, list) else {v.dtype.type} for name, v in read.items()}
    kinds = {name: _kind(name, values, types[name]) for name, values in read.items()}
    if len(set(kinds.values()) - {None}) > 1:
        shown = ", ".join(f"{name} holds {kind}" for name, kind in kinds.items() if kind)
        raise InputError(
            f"{shown}: an int never equals a string (3 is not '3'), so all of these would count as wrong. Give all "
            "columns the same type, for example [str(answer) for answer in references]"
        )
    arrays = [_integers(values, types[name]) for name, values in read.items()]
    ready = [array for array in arrays if array is not None]
    return [*ready] if len(ready) == len(arrays) else [_plain(values, types[name]) for name, values in read.items()]


def take_clusters(clusters: Values, n: int, beside: Values) -> NDArray[np.int64]:
    """Take the cluster of each instance, ints or strings and never None, numbered from 0; `beside` has n instances."""
    refuse_other_order(old=beside, clusters=clusters)
    (ids,) = take_answers(clusters=clusters)
    if len(ids) != n:
        raise InputError(
            f"old has {n}, clusters has {len(ids)}: all must hold the same instances in the same order; give one "
            "cluster for each instance"
        )
    if not isinstance(ids, np.ndarray):
        numbers = {cluster: place for place, cluster in enumerate(dict.fromkeys(ids))}
        return np.fromiter(map(numbers.__getitem__, ids), np.int64, n)
    return number_from_0(ids)


def number_from_0(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number the distinct values of an array from 0, without a gap."""
    low, high = int(ids.min()), int(ids.max())
    if high - low > 4 * len(ids) + 1024:
        numbers: NDArray[np.int64] = np.unique(ids, return_inverse=True)[1].reshape(-1)
        return numbers
    used = np.zeros(high - low + 1, dtype=np.int64)
    used[ids - low] = 1
    return (np.cumsum(used) - 1)[ids - low]


def take_flags(**columns: Values) -> list[NDArray[np.bool_]]:
    """Take columns of True and False, or of the ints 1 and 0."""
    return [_flags(name, values) for name, values in _take(columns).items()]


def take_scores(**columns: Values) -> tuple[list[NDArray[np.float64]], NDArray[np.float64]]:
    """Take columns of finite numbers, as read-only copies.

    The second array bounds what rounding may have done to the difference of an instance's scores: it is twice the
    precision of each score, in the type that it came in (float32 is coarser).
    """
    read = _take(columns)
    scores = [_scores(name, values) for name, values in read.items()]
    sizes = [2 * _precision(values) * np.abs(taken) for values, taken in zip(read.values(), scores, strict=True)]
    return scores, np.sum(sizes, axis=0)


def equal(first: Answers, second: Answers) -> NDArray[np.bool_]:
    """Tell for each instance whether two columns of answers hold the same."""
    if isinstance(first, np.ndarray):
        return np.asarray(first == second)
    return np.fromiter(map(operator.eq, first, second), np.bool_, len(first))


def number(old: Answers, new: Answers) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number the distinct answers of both columns from 0, so that equal numbers mean equal answers."""
    if isinstance(old, np.ndarray) and isinstance(new, np.ndarray):
        low, high = int(min(old.min(), new.min())), int(max(old.max(), new.max()))
        # Class ids lie close together and serve as they are; others, such as hashes, have to be sorted.
        if high - low <= 4 * len(old) + 1024:
            return old - low, new - low
        keys = np.concatenate([old, new])
    elif isinstance(next((answer for answer in chain(old, new) if answer is not None), None), str):
        # Sorting 64-bit hashes is several times as fast as a dictionary of a million texts. That two texts of a
        # million share one has a chance of 1 in 10 million, and would move kappa by some 1e-12.
        keys = np.fromiter(map(hash, chain(old, new)), np.int64, 2 * len(old))
    else:
        # Not for ints, where hash(-1) == hash(-2).
        numbers = {answer: i for i, answer in enumerate(dict.fromkeys(chain(old, new)))}
        keys = np.fromiter(map(numbers.__getitem__, chain(old, new)), np.int64, 2 * len(old))
        return keys[: len(old)], keys[len(old) :]
    inverse = np.unique(keys, return_inverse=True)[1].reshape(-1)
    return inverse[: len(old)], inverse[len(old) :]


def refuse_other_order(**columns: Any) -> None:
    """Refuse pandas columns that hold the same labels in another order; values are compared by their place."""
    labels = {name: values.index for name, values in columns.items() if hasattr(values, "iloc")}
    for name, index in labels.items():
        first, others = next(iter(labels.items()))
        if not index.equals(others) and len(index) == len(others) and set(index) == set(others):
            raise InputError(
                f"{name} has the labels of {first} in another order, but values are compared by their place: pass "
                f"{name}.loc[{first}.index], or {name}.to_numpy() where the order is right as it is"
            )


def _take(columns: Mapping[str, Values]) -> dict[str, _Column]:
    refuse_other_order(**columns)
    read = {name: _column(name, values) for name, values in columns.items()}
    lengths = {name: len(values) for name, values in read.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise InputError(f"{shown}: all must hold the same instances in the same order; join them by id first")
    if not next(iter(lengths.values())):
        raise InputError(f"{' and '.join(columns)} are empty: give at least one instance")
    return read


def _column(name: str, values: Values) -> _Column:
    if isinstance(values, (str, bytes, Mapping, Set)) or not hasattr(values, "__iter__"):
        got = repr(values) if isinstance(values, (str, bytes)) and len(values) < 40 else f"a {type(values).__name__}"
        raise InputError(f"{name} is {got}, but must be a list or array with one value per instance, in a fixed order")
    if hasattr(values, "to_pylist"):  # Arrow: through numpy, ints with nulls would become floats
        values = values.to_pylist()
    elif isinstance(values, np.ma.MaskedArray):  # np.asarray would bring the masked values back
        values = values.tolist()
    elif hasattr(values, "__array__"):
        array = np.asarray(values)
        if array.ndim != 1:
            raise InputError(
                f"{name} has shape {array.shape}, but must have one dimension, with one value per instance; of logits "
                "or probabilities take the argmax over the last axis"
            )
        # Objects and strings are handled as Python objects, which keep None apart from "None" and numbers from text.
        return array if array.dtype.kind in "biufcmM" else list(array.tolist())
    return values if isinstance(values, list) else list(values)


def _kind(name: str, values: _Column, types: set[type]) -> str | None:
    """Say whether a column holds ints or strings (None: no answers at all), and refuse anything else."""
    if isinstance(values, np.ndarray):
        if values.dtype.kind in "biu":
            return "ints"
        # Of floats a NaN says most: it is where ints had gaps.
        first = int(np.argmax(np.isnan(values))) if values.dtype.kind == "f" else 0
        raise _wrong_answer(name, first, values[first])
    kinds = {}
    for cls in types:
        # numpy has time spans among its ints.
        if issubclass(cls, (str, int, np.integer, np.bool_)) and not issubclass(cls, np.timedelta64):
            kinds["strings" if issubclass(cls, str) else "ints"] = cls
        elif cls is not type(None) or name in ("references", "clusters"):
            places = [i for i, value in enumerate(values) if type(value) is cls]
            gaps = (i for i in places if isinstance(values[i], (float, np.floating)) and math.isnan(values[i]))
            index = next(gaps, places[0])
            raise _wrong_answer(name, index, values[index])
    if len(kinds) > 1:
        examples = sorted(next(i for i, value in enumerate(values) if type(value) is cls) for cls in kinds.values())
        shown = " and ".join(f"{name}[{i}] is {values[i]!r}" for i in examples)
        raise InputError(f"{name} mixes ints and strings: {shown}. Make all of them strings or all of them ints")
    return next(iter(kinds), None)


def _integers(values: _Column, types: set[type]) -> NDArray[np.int64] | None:
    """Give a checked column as an array, or None where it holds strings, None or ints beyond 64 bits."""
    if isinstance(values, np.ndarray):
        too_large = values.dtype == np.uint64 and int(values.max()) > np.iinfo(np.int64).max
        return None if too_large else values.astype(np.int64, copy=False)
    if not all(issubclass(cls, (int, np.integer, np.bool_)) for cls in types):
        return None
    try:
        return np.array(values, dtype=np.int64)
    except OverflowError:
        return None


def _plain(values: _Column, types: set[type]) -> list[Any]:
    """Give a checked column as a list of plain objects, so that equal answers have equal hashes."""
    if isinstance(values, np.ndarray):
        return list(values.tolist())
    # An Enum member that is a string equals its value and hashes by its name.
    if types <= {str, int, bool, type(None)}:
        return values
    return [v if v is None else str.__str__(v) if isinstance(v, str) else operator.index(v) for v in values]


def _flags(name: str, values: _Column) -> NDArray[np.bool_]:
    wrong: Iterable[int] = ()
    if isinstance(values, np.ndarray):
        wrong = [0] if values.dtype.kind not in "biu" else np.flatnonzero((values != 0) & (values != 1)).tolist()
    elif not set(map(type, values)) <= {bool}:
        flags = (bool, int, np.bool_, np.integer)
        odd = {cls for cls in set(map(type, values)) if not issubclass(cls, flags) or issubclass(cls, np.timedelta64)}
        wrong = (i for i, value in enumerate(values) if type(value) in odd or value not in (0, 1))
    for i in wrong:
        raise InputError(
            f"{name}[{i}] is {values[i]!r}, but compare_correct takes True and False (or the ints 1 and 0) for right "
            "and wrong, with False where there is no answer; use compare for answers and compare_scores for scores"
        )
    return np.array(values, dtype=np.bool_)


def _scores(name: str, values: _Column) -> NDArray[np.float64]:
    if isinstance(values, np.ndarray):
        odd = [0] if values.dtype.kind not in "biuf" else []
    else:
        bad = {cls for cls in set(map(type, values)) if not _is_real(cls) and not issubclass(cls, np.bool_)}
        odd = [i for i, value in enumerate(values) if type(value) in bad] if bad else []
    if odd:
        raise _wrong_score(name, odd[0], values[odd[0]])
    try:
        with np.errstate(over="ignore"):  # a long double too large for a float becomes infinite, and is refused below
            scores = np.array(values, dtype=np.float64)  # a copy: the caller's scores may change later
    except OverflowError:
        raise InputError(f"{name} holds an int too large for a float; scale the scores down") from None
    wrong = np.flatnonzero(~np.isfinite(scores))
    if len(wrong):
        raise _wrong_score(name, int(wrong[0]), float(scores[wrong[0]]), f" ({len(wrong)} such in all)")
    large = np.flatnonzero(np.abs(scores) > _LARGEST_SCORE)
    if len(large):
        raise InputError(
            f"{name}[{large[0]}] is {float(scores[large[0]])!r}, but sums and squares of scores beyond "
            f"{_LARGEST_SCORE:g} overflow; scale the scores down"
        )
    scores.setflags(write=False)
    return scores


def _is_real(cls: type) -> bool:
    # Not np.number, which has the complex numbers too; and numpy has time spans among its ints.
    return issubclass(cls, (int, float, np.integer, np.floating)) and not issubclass(cls, np.timedelta64)


def _precision(values: _Column) -> float:
    """Give the relative precision of the coarsest type in a column of scores; of Python's floats at least."""
    types = {values.dtype.type} if isinstance(values, np.ndarray) else set(map(type, values))
    return max(float(np.finfo(cls).eps) for cls in {np.float64, *types} if issubclass(cls, np.floating))


def _wrong_answer(name: str, index: int, value: Any) -> InputError:
    where = f"{name}[{index}] is "
    if value is None and name == "clusters":
        return InputError(f"{where}None, but every instance needs a cluster; give one that stands alone its own id")
    if value is None:
        return InputError(f"{where}None, but every instance needs a right answer; leave instances without one out")
    if isinstance(value, (float, np.floating)):
        if math.isnan(value):
            return InputError(
                f"{where}NaN (numpy and pandas turn ints with gaps into floats with NaN); give a list of ints or "
                "strings, with None where a model has no answer"
            )
        return InputError(
            f"{where}the float {float(value)!r}, but answers are compared for equality and must be ints or strings; "
            "cast class ids with int(...) or .astype(int), and use compare_scores for scores"
        )
    if isinstance(value, (list, dict, set, tuple, np.ndarray)):
        return InputError(
            f"{where}a {type(value).__name__}, but must be one int or string; give one answer per instance, for "
            "example the first of the list or json.dumps(answer, sort_keys=True)"
        )
    return InputError(f"{where}of type {type(value).__name__}, but must be an int, a string or None; convert it first")


def _wrong_score(name: str, index: int, value: Any, more: str = "") -> InputError:
    return InputError(
        f"{name}[{index}] is {value!r}{more}, but every score must be a finite number; leave such instances out of "
        "both columns, or give them the score that a failed answer deserves, such as 0.0"
    )
