"""Which negative flips did the grader make, likeliest ones first, and what makes them suspect?

An answer is marked right if it is right and the grader recognises it. See `flips.grading.recognition` for the
model; that a mark is such a product is from CET (arXiv 2209.05072), the rest is ours.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...flips.comparison import Comparison
from ...flips.grading.recognition import Recognition, recognition
from ...flips.paired_tests import coin_test
from ...text import listed, quote
from ..outcomes import Outcomes, plain_ids
from .answer_features import FORMS, RIGHTNESS, Feature, column_feature, given_feature, text_features
from .flip_draw import Suspect
from .shown import FormEvidence, Suspects, graded_tasks

# A built-in form that nobody named counts if the update changes it so one-sidedly, over their number (Bonferroni).
_CHANGED = 0.05

Named: TypeAlias = str | Sequence[str] | Mapping[str, Any]
Flags: TypeAlias = NDArray[np.bool_]
# Row of all -> task, id, row in the task.
_Key: TypeAlias = Callable[[int], tuple[str | None, str | int, int]]


def suspect_flips(
    result: Outcomes | Comparison, recognised_by: Named | None = None, *, right_by: Named | None = None
) -> Suspects:
    """Rank negative flips by how likely the grader made them, and say what makes each suspect.

    An answer may be right and marked wrong, because it has a form that the grader does not recognise. From all marks
    of both versions a logistic model with Jeffreys' prior tells how likely an answer is marked right as it is written,
    p, and in the form of the old answer, r; of an answer marked wrong, (r - p) / (1 - p) is the chance that it was the
    form. No weight is set by hand. A form that is never recognised, or that all new answers have and no old one, is
    told: there the marks say little or nothing, and `audited_rate` is the way on.

    Args:
        result: What `compare_runs` gave; tasks with scores are left out. Or a `Comparison`, where features are given
            as arrays.
        recognised_by: What the grader may recognise an answer by: names of built-in features ("fence", "box",
            "hashes", "bold", "thinking", "other_alphabet", "nothing_extracted", "length"), names of columns that were
            read (`compare_runs(…, features=[…])`), or a mapping of name -> (old values, new values), numbers or
            booleans. None takes the built-in ones that the update changes.
        right_by: What speaks for an answer's being right, in the same way: the built-in "gold_in_text", columns, such
            as the marks of a laxer grader, or of other models on the question; of a mapping also one array of the
            questions. None takes the built-in one where there are texts.

    Returns:
        The flips, the likeliest mistakes of the grader first; flips of the same chance in the order of the file.

    Raises:
        InputError: A result of another kind, or without right and wrong answers; no texts to read
            features from, a column that is not there, a feature that is no number.

    Example:
        >>> import muscle_hf
        >>> c = muscle_hf.compare_correct(old=[1, 1, 1, 1, 1, 1, 0], new=[0, 1, 0, 1, 0, 1, 0])
        >>> fence = [0] * 7, [1, 0, 1, 0, 0, 0, 1]
        >>> suspects = muscle_hf.suspect_flips(c, {"fence": fence})
        >>> [(flip.id, round(flip.chance, 2), flip.reasons) for flip in suspects]
        [(0, 0.64, ('fence',)), (2, 0.64, ('fence',)), (4, 0.0, ())]
    """
    tasks, old_right, new_right, keys = _marks(result)
    n = len(old_right)
    forms, rest, unchanged = _read(result, tasks, recognised_by, right_by, n)
    if shared := {form.name for form in forms} & {feature.name for feature in rest}:
        raise InputError(
            f"{listed(map(quote, sorted(shared)))} is to be what the grader recognises, and what speaks for being "
            "right; a feature is one of both."
        )
    flips = np.flatnonzero(old_right & ~new_right)
    if not len(flips):
        return Suspects(n, (), (), tuple(item.name for item in rest), tuple(unchanged), result)
    told = recognition(old_right, new_right, *_sides(forms, n), *_sides(rest, n))
    # What the marks say nothing of comes first; rounding makes no order.
    chances = np.round(told.chances, 9)
    order = np.lexsort((np.arange(len(flips)), -np.nan_to_num(chances, nan=2.0)))
    ranked = []
    for place in order.tolist():
        row = int(flips[place])
        task, key, row_of_task = keys(row)
        reasons = _reasons(forms, row, told, place)
        ranked.append(Suspect(task, key, float(told.chances[place]), reasons, row_of_task))
    evidence = tuple(
        _evidence(form, float(told.slopes[place]), place in told.together, old_right, new_right)
        for place, form in enumerate(forms)
    )
    return Suspects(n, tuple(ranked), evidence, tuple(item.name for item in rest), tuple(unchanged), result)


def _marks(result: Outcomes | Comparison) -> tuple[list[str], Flags, Flags, _Key]:
    """Give the graded tasks, what is marked right on either side, and how rows are called."""
    if isinstance(result, Comparison):
        if result.right is None:
            raise InputError("this Comparison holds counts alone; make it anew with compare or compare_correct.")
        return [], *result.right, lambda row: (None, row, row)
    _check(result)
    tasks = graded_tasks(result)
    tables = [result.tables[task] for task in tasks]
    starts = np.cumsum([0, *map(len, tables)])
    several = len(result.tasks) > 1

    def key(row: int) -> tuple[str | None, str | int, int]:
        place = int(np.searchsorted(starts, row, side="right")) - 1
        task, row_of_task = tasks[place], row - int(starts[place])
        (name,) = plain_ids(result.pairs[task].old.ids[row_of_task : row_of_task + 1])
        return task if several else None, name, row_of_task

    old, new = (np.concatenate([getattr(table, side) for table in tables]) > 0 for side in ("old", "new"))
    return tasks, old, new, key


def _check(result: object) -> None:
    if not isinstance(result, Outcomes):
        raise InputError(
            f"result is {kind_of(result)}, but must be what compare_runs gave, or a Comparison, as compare and "
            "compare_correct give it."
        )


def kind_of(value: object) -> str:
    """Say what was given where something of another kind is needed."""
    if value is None or (isinstance(value, str) and len(value) < 40):
        return repr(value)
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _forms(
    named: Named | None, built_in: Sequence[Feature], features: list[Feature]
) -> tuple[list[Feature], list[str]]:
    """Give the features of form, and the names of built-in ones that are left out because the update changes none."""
    if named is not None:
        if not features:
            raise InputError("recognised_by names no feature; leave it out for those that the update changes.")
        return features, []
    if not built_in:
        raise InputError(
            "there are no texts to read features from; name columns or give arrays with recognised_by "
            "(--recognised-by)."
        )
    changed = [feature for feature in built_in if _p_of_change(feature) <= _CHANGED / len(built_in)]
    return changed, [feature.name for feature in built_in if feature not in changed]


def _p_of_change(feature: Feature) -> float:
    change = feature.new - feature.old
    return coin_test(int(np.count_nonzero(change < 0)), int(np.count_nonzero(change > 0)))


def _read(
    result: Outcomes | Comparison, tasks: Sequence[str], named: Named | None, right_by: Named | None, n: int
) -> tuple[list[Feature], list[Feature], list[str]]:
    """Give features of form, those that speak for being right, and built-in forms that are left out."""
    asked = [_names(result, features, name) for features, name in ((named, "recognised_by"), (right_by, "right_by"))]
    # A column of the files comes before a built-in feature of that name.
    columns = {} if isinstance(result, Comparison) else result.features
    read = {name for sides in columns.values() for name in sides[0]}
    wanted = [*(FORMS if named is None else asked[0]), *(RIGHTNESS if right_by is None else asked[1])]
    built_in = [name for name in dict.fromkeys(wanted) if name in FORMS | RIGHTNESS and name not in read]
    known = {}
    if not isinstance(result, Comparison):
        known = {feature.name: feature for feature in text_features(result, tasks, built_in)}
    chosen: list[list[Feature]] = []
    for features, names in zip((named, right_by), asked, strict=True):
        if isinstance(features, Mapping):
            of_question = features is right_by
            chosen.append(
                [given_feature(str(name), values, n, of_question=of_question) for name, values in features.items()]
            )
            continue
        if isinstance(result, Comparison):  # which nothing was named of
            chosen.append([])
            continue
        if lacking := [name for name in names if name in built_in and name not in known]:
            raise InputError(
                f"{listed(map(quote, lacking))} cannot be read from these files: there are no texts, or none beside "
                "the extracted answers."
            )
        chosen.append([known.get(name) or column_feature(result, tasks, name) for name in names])
    forms, unchanged = _forms(named, [known[name] for name in FORMS if name in known], chosen[0])
    if right_by is None:
        chosen[1] = [known[name] for name in RIGHTNESS if name in known]
    return forms, chosen[1], unchanged


def _names(result: Outcomes | Comparison, named: Named | None, argument: str) -> list[str]:
    """Give the names of features that are to be read."""
    if named is None or isinstance(named, Mapping):
        return []
    names = list(named) if isinstance(named, Iterable) and not isinstance(named, str) else [named]
    if not all(isinstance(name, str) for name in names):
        raise InputError(
            f"{argument} is {quote(named)}, but must be a name, a list of names, or a mapping of name -> (old values, "
            "new values)."
        )
    names = list(dict.fromkeys(names))
    if names and isinstance(result, Comparison):
        raise InputError(
            f"a Comparison holds no texts and no columns, so {quote(names[0])} cannot be read; give a mapping of name "
            "-> (old values, new values)."
        )
    return names


def _sides(features: Sequence[Feature], n: int) -> list[NDArray[np.float64]]:
    """Give the old and the new answers' features as tables, (n, features)."""
    return [
        np.column_stack([getattr(feature, side) for feature in features]) if features else np.zeros((n, 0))
        for side in ("old", "new")
    ]


def _reasons(forms: Sequence[Feature], row: int, told: Recognition, flip: int) -> tuple[str, ...]:
    """Say which changes of form count against the grader: first what is unknown, then what weighs most."""
    weights = told.contributions[flip]
    # What is told with others has no weight of its own.
    counts = [
        place in told.unknown or weights[place] > 0 or (place in told.together and weights.sum() > 0)
        for place in range(len(forms))
    ]
    order = sorted(range(len(forms)), key=lambda place: (place not in told.unknown, -weights[place], place))
    reasons = []
    for place in order:
        form = forms[place]
        old, new = float(form.old[row]), float(form.new[row])
        if old == new or not counts[place]:
            continue
        if form.is_flag:
            reasons.append(form.phrase if new else f"no {form.phrase}")
        elif form.is_log:
            reasons.append(f"{np.expm1(old):.0f} -> {np.expm1(new):.0f} characters")
        else:
            reasons.append(f"{form.phrase} {old:g} -> {new:g}")
    return tuple(reasons)


def _evidence(form: Feature, slope: float, is_together: bool, old_right: Flags, new_right: Flags) -> FormEvidence:
    old, new = (np.expm1(side) if form.is_log else side for side in (form.old, form.new))
    # Of a form of which marks say nothing, by what became of it.
    is_missed = bool(slope > 0 if slope == slope else new.mean() < old.mean())
    guilty = [side <= 0 if is_missed else side > 0 for side in (old, new)]
    never = guilty[1].any() and not new_right[guilty[1]].any() and not old_right[guilty[0]].any()
    return FormEvidence(
        name=form.name,
        phrase=form.phrase if form.name == form.phrase else f"{form.name}, {form.phrase}",
        is_flag=form.is_flag,
        old=float(np.count_nonzero(old) if form.is_flag else np.median(old)),
        new=float(np.count_nonzero(new) if form.is_flag else np.median(new)),
        is_missed=is_missed,
        broken=int(np.count_nonzero(old_right & ~new_right & (new < old if is_missed else new > old))),
        recognised=_counted(new_right, new > 0) if form.is_flag else (0, 0),
        others_recognised=_counted(new_right, new <= 0) if form.is_flag else (0, 0),
        never_recognised=bool(form.is_flag and never),
        slope=slope,
        goes_with_others=is_together,
    )


def _counted(right: Flags, chosen: Flags) -> tuple[int, int]:
    return int(np.count_nonzero(right & chosen)), int(np.count_nonzero(chosen))


def flip_keys(result: Outcomes | Comparison) -> tuple[list[tuple[str | None, str | int]], int]:
    """Give task and id of each negative flip, and how many answers there are."""
    if isinstance(result, Comparison):
        return [(None, row) for row in result.negative_flips.tolist()], result.n
    _, old, new, keys = _marks(result)
    return [keys(row)[:2] for row in np.flatnonzero(old & ~new).tolist()], len(old)
