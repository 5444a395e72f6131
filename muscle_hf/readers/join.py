"""Two models' answers, put row by row about the same instances: joined by id, checked by document and right answer."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..errors import InputError
from ..flips.answers.same_answer import NUMBERS, respell
from ..flips.answers.spelled_otherwise import spelled_otherwise
from ..text import how_many, quote
from .answers import BIG, Column, Positions, Shown, TaskAnswers, kind_of, some
from .formats.chosen_rows import advice
from .formats.columnar import UNNAMED
from .ids import ascending, numbered
from .missing import DROP, HARNESS_ERROR, WRONG, Missing, all_instances, check_name, treat
from .pair_spelling import spelled_alike, spelling_notes
from .selection import same_filter

# How columns of true and false are kept.
_TRUTH = pa.array(["true", "false", None])
_LONGEST_EXAMPLE = 120


@dataclass(frozen=True, eq=False)
class Aligned:
    """Two model versions' answers to the same instances, row by row; made by `align`."""

    old: TaskAnswers
    new: TaskAnswers
    notes: tuple[str, ...] = ()
    """How many instances were left out, and what differs without harm."""
    missing: Missing | None = None
    """How many answers were missing, where somebody said what becomes of them."""
    errors: tuple[TaskAnswers, TaskAnswers] | None = None
    """Both sides of the instances that are errors of the harness, which stand in no row."""


def align(
    old: TaskAnswers,
    new: TaskAnswers,
    *,
    allow_missing: bool = False,
    missing: str | None = None,
    by_position: bool = False,
) -> Aligned:
    """Put the new model's answers into the order of the old model's, by id or row by row.

    Refused are: not all that a run scored; other filters, unless each was chosen by name; an id that stands twice; ids
    that only one file has, documents or right answers that differ; other kinds of ids or answers; other metrics.
    `allow_missing` compares the instances that both have, about the same document and with the same right answer; the
    notes say how many were left out. `missing`, one of `MISSING`, says what becomes of instances that one side lacks
    and of those without an answer; by default the first are refused and the others are wrong.
    """
    check_name(missing)
    some_may_lack = allow_missing or missing in (DROP, WRONG, HARNESS_ERROR)
    if old.metric != new.metric or old.higher_is_better != new.higher_is_better:
        raise InputError(
            f"{old.source} holds {_measure(old)} and {new.source} {_measure(new)}: both must hold the same. Choose "
            "one that both have with --metric (metric=)."
        )
    absent = (0, 0)
    notes = [side.not_whole for side in (old, new) if side.not_whole]
    if notes and not some_may_lack:
        # Ids that stand twice are refused all the same.
        twice = any(pc.count_distinct(side.ids).as_py() < len(side) for side in (old, new) if side.not_whole)
        accept = "" if twice else "; --allow-missing (allow_missing=True) compares what is there"
        raise InputError(f"{' '.join(notes)} Restore the file, or run the evaluation again{accept}.")
    notes += same_filter(old, new)
    old, new = spelled_alike(old, new)
    if by_position:
        if len(old) != len(new):
            raise InputError(
                f"{old.source} has {len(old)} rows and {new.source} has {len(new)}: joined by position, both must "
                "hold the same instances in the same order."
            )
        if old.row_ids_of is None and new.row_ids_of is None and not old.ids.equals(new.ids):
            notes.append("joined by position although both have ids, which differ")
    elif old.row_ids_of != new.row_ids_of:
        without = old if old.row_ids_of else new
        raise InputError(
            f"{without.source} has no column 'id', so its rows cannot be matched with those of another file. Name the "
            "column with --columns id=NAME (columns=), or join row by row with --by-position (by_position=True)."
            f"{_unnamed(without)}"
        )
    else:
        old, new, absent, left_out = _join(old, new, some_may_lack, keep=missing in (WRONG, HARNESS_ERROR))
        notes += [] if missing else left_out
    old, new = _same_types(old, new)
    differ = np.zeros(len(old), np.bool_)
    for what, first, second in (
        ("documents", old.documents, new.documents),
        ("right answers", *_targets(old, new)),
    ):
        if first is not None and second is not None:
            unlike = pc.fill_null(pc.not_equal(first, second), False).to_numpy(zero_copy_only=False)
            if unlike.any() and not allow_missing:
                raise _different(what, np.flatnonzero(unlike), old, new)
            if (unlike & ~differ).any():
                notes.append(f"{np.count_nonzero(unlike & ~differ)} instances left out: their {what} differ")
            differ |= unlike
    if differ.any():
        if differ.all():
            raise InputError(f"nothing is left to compare in {old.source} and {new.source}: {'; '.join(notes)}.")
        same = np.flatnonzero(~differ)
        old, new = old.take(same), new.take(same)
    counted, errors = None, None
    if missing is not None:
        old, new, counted, errors = treat(old, new, missing, absent)
        notes += counted.notes(old.source, new.source)
    if old.prompts is not None and new.prompts is not None:
        count = pc.sum(pc.not_equal(old.prompts, new.prompts)).as_py() or 0
        if count:
            notes.append(f"{count} of {len(old)} prompts differ (other chat templates or examples?)")
    notes += _scales(old, new)
    notes = [f"{old.task}: {note}" for note in [*notes, *spelling_notes(old, new)]]
    told = [note for side in (old, new) for note in (*side.notes, *(() if missing else side.empty_notes))]
    return Aligned(old, new, tuple(dict.fromkeys([*told, *notes])), counted, errors)


def _scales(old: TaskAnswers, new: TaskAnswers) -> list[str]:
    """Tell where one side's scores go from 0 to 1 and the other's, about a hundredfold, to 100."""
    if old.scores is None or new.scores is None:
        return []
    (share, low), (percent, high) = sorted(
        ((side, side.scores) for side in (old, new) if side.scores is not None), key=lambda pair: float(pair[1].max())
    )
    is_share, is_percent = low.min() >= 0 and low.max() <= 1, high.min() >= 0 and 1 < high.max() <= 100
    if not (is_share and is_percent and 50 * low.mean() <= high.mean() <= 200 * low.mean()):
        return []
    return [
        f"the scores of {share.source} are {low.mean():.4g} in the mean and those of {percent.source} "
        f"{high.mean():.4g}: is one in per cent?"
    ]


def _unnamed(side: TaskAnswers) -> str:
    """Tell the name of an index that was written without one; whether it tells rows apart nobody here can know."""
    name = next((name for name in side.columns if name.startswith(UNNAMED)), None)
    if name is None:
        return ""
    return f" Its column without a name is called {name!r}: as id it is right, unless it counts the rows of each file."


def _join(
    old: TaskAnswers, new: TaskAnswers, some_may_lack: bool, *, keep: bool
) -> tuple[TaskAnswers, TaskAnswers, tuple[int, int], list[str]]:
    """Join by id; also say how many ids each side lacked, which are left out or kept without an answer."""
    kinds = [kind_of(side.ids.type) for side in (old, new)]
    if kinds[0] != kinds[1]:
        raise InputError(
            f"the ids of {old.source} are {kinds[0]} and those of {new.source} are {kinds[1]}: 1 and '1' are "
            "different ids. Write both in the same way."
        )
    if BIG in (old.ids.type, new.ids.type):
        old, new = (replace(side, ids=side.ids.cast(BIG)) for side in (old, new))
    if old.ids.equals(new.ids):
        if not ascending(old.ids):
            _refuse_duplicates(numbered(old.ids)[0], old)
        return old, new, (0, 0), []
    # One pass over both, since looking at a million strings is what takes the time.
    first, second = numbered(old.ids, new.ids)
    _refuse_duplicates(first, old)
    _refuse_duplicates(second, new)
    place = np.full(int(max(first.max(), second.max())) + 1, -1)
    place[second] = np.arange(len(second))
    place = place[first]
    kept = np.flatnonzero(place >= 0)
    if len(kept) < len(old) or len(kept) < len(new):
        lacking_new = old.ids.filter(pa.array(place < 0))
        lacking_old = new.ids.filter(pa.array(~np.isin(np.arange(len(new)), place)))
        told = [
            f"{side.source} lacks {len(ids)} of the {len(other)} ids of {other.source}, for instance {some(ids)}"
            for side, other, ids in ((new, old, lacking_new), (old, new, lacking_old))
            if len(ids)
        ]
        common, nearly = len(kept), _nearly_alike(lacking_new, lacking_old, old.source, new.source)
        if not common:
            raise InputError(f"{'; '.join(told)}{nearly}. They have no id in common, so nothing can be compared.")
        if not some_may_lack:
            raise InputError(
                f"{'; '.join(told)}{nearly}. Both models must have answered the same instances; --allow-missing "
                f"(allow_missing=True) compares the {common} that both have. --missing wrong (missing=) counts the "
                "others as wrong."
            )
        absent = (len(lacking_old), len(lacking_new))
        if keep:
            return *all_instances(old, new, place), absent, []
        note = f"{common} common instances compared, {len(lacking_new)} only in {old.source} and {len(lacking_old)} "
        return old.take(kept), new.take(place[kept]), absent, [f"{note}only in {new.source} left out{nearly}"]
    return old, new.take(place, ids=old.ids), (0, 0), []


def _nearly_alike(old: Column, new: Column, old_source: str, new_source: str) -> str:
    """Say how many ids that only the old side has are there on the new one in another spelling."""
    if not (pa.types.is_string(old.type) and len(old) and len(new)):
        return ""
    first, second = (respell(ids, ("whitespace", "case", "unicode")) for ids in (old, new))
    places = pc.index_in(first, value_set=second)
    alike = np.flatnonzero(places.is_valid())
    if not len(alike):
        return ""
    # Escaped, since both may look the same; the end of a long one is of no use.
    pair = [ascii(ids[place].as_py()) for ids, place in ((old, alike[0]), (new, places[alike[0]].as_py()))]
    example = f", such as {' and '.join(pair)}" if sum(map(len, pair)) <= _LONGEST_EXAMPLE else ""
    return (
        f"; {how_many(len(alike), 'id')} of {old_source} would stand in {new_source} with other white space, case or "
        f"Unicode form{example}"
    )


def _refuse_duplicates(numbers: NDArray[np.int64], side: TaskAnswers) -> None:
    """Refuse ids of which one stands twice; they come numbered as well."""
    counts = np.bincount(numbers)
    if counts.max() > 1:
        _, first = np.unique(numbers, return_index=True)
        twice = side.ids.take(pa.array(np.sort(first[counts[counts > 0] > 1])))
        raise InputError(
            f"{side.source}: {len(twice)} ids stand more than once, for instance {some(twice)}. Each instance needs "
            "an id of its own; several sampled answers to one go into a list (one row), or get a column `sample`."
            f"{advice(side.columns)}"
        )


def _same_types(old: TaskAnswers, new: TaskAnswers) -> tuple[TaskAnswers, TaskAnswers]:
    """Make the answers of both sides one type, and refuse integers beside strings."""
    columns = [
        (f"{name} of {side.source}", column)
        for side in (old, new)
        for name in ("answers", "references")
        if (column := getattr(side, name)) is not None and column.null_count < len(column)
    ]
    kinds = [kind_of(column.type) for _, column in columns]
    if len(set(kinds)) > 1 and all(side.spelling and side.spelling.kind == NUMBERS for side in (old, new)):
        kinds = ["strings"]  # 1 beside 1.5, which only a text holds as exactly
    if len(set(kinds)) > 1:
        shown = ", ".join(f"the {label} are {kind}" for (label, _), kind in zip(columns, kinds, strict=True))
        truth = all(
            pc.all(pc.is_in(column, _TRUTH)).as_py() for _, column in columns if pa.types.is_string(column.type)
        )
        name = "booleans" if truth else "numbers"
        raise InputError(
            f"{shown}: 1 and '1' are different answers, so all of them would count as wrong. Write all answers as "
            f"strings or all as integers, or compare them as {name} with --normalize {name} (normalize={name!r})."
        )
    kind = next(iter(kinds), "strings")
    big = any(column.type == BIG for _, column in columns)
    wanted = pa.string() if kind == "strings" else BIG if big else pa.int64()

    def cast(side: TaskAnswers) -> TaskAnswers:
        changed: dict[str, Any] = {
            name: column if column.type == wanted else column.cast(wanted)
            for name in ("answers", "references")
            if (column := getattr(side, name)) is not None
        }
        return replace(side, **changed)

    return cast(old), cast(new)


def _targets(old: TaskAnswers, new: TaskAnswers) -> tuple[Column | None, Column | None]:
    """Give what tells the right answers apart on both sides: digests, or where neither has them the answers."""
    if old.targets is None and new.targets is None:
        return old.references, new.references
    return old.targets, new.targets


def _measure(side: TaskAnswers) -> str:
    return f"{side.metric!r} ({'higher' if side.higher_is_better else 'lower'} is better)"


def _different(what: str, places: Positions, old: TaskAnswers, new: TaskAnswers) -> InputError:
    def shown(place: int) -> str:
        key = quote(old.ids[place].as_py())
        if what == "documents" or old.targets is not None or old.references is None or new.references is None:
            return key
        first, second = (quote(side.references[place].as_py()) for side in (old, new) if side.references is not None)
        return f"{key} ({first} and {second})"

    alike = ""
    if what == "right answers" and old.targets is None and old.references is not None and new.references is not None:
        rows = pa.array(places)
        if same := spelled_otherwise(old.references.take(rows), new.references.take(rows)):
            alike = f" {same.rows} of them are the same with --normalize {','.join(same.names)} (normalize=)."
    examples = [Shown(shown(int(place))) for place in places[:9]]
    return InputError(
        f"the {what} of {len(places)} of {len(old)} ids differ between {old.source} and {new.source}, for instance "
        f"{some(examples)}. Both must be about the same data; --allow-missing (allow_missing=True) leaves these out."
        f"{alike}"
    )
