"""The instances that a page shows: chosen, cut to what fits, and encoded for its script."""

import base64
import gzip
import json
import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...text import how_many
from ..outcomes import Outcomes
from .html import KINDS, clean

# The beginning of a text that is kept, and how long it is.
_Text: TypeAlias = tuple[str, int]
# Task numbers and positions, of shape (n, 2).
_Pairs: TypeAlias = NDArray[np.int64]

LIMITS = (4_000, 2_000, 1_000, 500, 250, 120)
"""Characters of a text that are shown; the flips get a smaller limit where they need more room than there is."""
_MEMORY = 200_000_000  # characters of texts that may be held
_PILOT = 500  # instances from which the size of the others is estimated


class _Row(NamedTuple):
    """One instance as the page holds it."""

    task: int
    place: int
    kind: int
    """Its place in `KINDS`."""
    key: str
    texts: tuple[_Text | None, ...]
    """Question, right answer, old and new answer."""
    scores: tuple[float, ...]
    """Old and new one, empty for right and wrong answers."""
    groups: tuple[str | None, ...]


def encode_instances(outcomes: Outcomes, budget: int) -> tuple[str, str]:
    """Choose the instances that are shown; give them encoded, and say in words which they are."""
    flips, others = _places(outcomes)
    limits = [size for size in LIMITS if 4 * size * len(flips) <= _MEMORY] or [LIMITS[-1]]
    rows = _read(outcomes, flips, limits[0])
    some = rows[:: len(rows) // _PILOT + 1]

    def size(sample: Sequence[_Row], of: int, limit: int) -> float:
        return len(_encode(outcomes, sample, limit)) * of / max(1, len(sample))

    limit = next((limit for limit in limits if size(some, len(rows), limit) <= 0.97 * budget), limits[-1])
    others = others[np.random.default_rng(0).permutation(len(others))]
    room = 0.97 * budget - size(rows, len(rows), limit)
    drawn = _read(outcomes, others[:_PILOT], limit) if room > 0 else []
    each = size(drawn, 1, limit)
    count = min(len(others), int(room / each)) if drawn else 0
    drawn += _read(outcomes, others[_PILOT:count], limit)
    while True:
        kept = set(map(tuple, others[:count].tolist()))
        drawn = [row for row in drawn if row[:2] in kept]
        data = _encode(outcomes, sorted(rows + drawn, key=lambda row: row[:2]), limit)
        if len(data) <= budget or not (count or limit > limits[-1]):
            break
        if count:  # The estimate was too low.
            count = max(0, count - math.ceil((len(data) - budget) / each) - 10)
        else:
            limit = limits[limits.index(limit) + 1]
    shown = rows + drawn
    cut = sum(text is not None and text[1] > limit for row in shown for text in row.texts)
    flips_told = f"{_every(len(rows), 'flip')}{_kinds(outcomes)}" if rows else "no flip, as there is none"
    about = f"This page holds {flips_told}"
    if not len(others):
        about += "."
    elif count == len(others):
        about += f", and {_every(len(others), 'other instance')}."
    elif count:
        about += f", and a random sample of {count:,} of {how_many(len(others), 'other instance')}."
    else:
        about += f". There is no room for any of the {how_many(len(others), 'other instance')}."
    about += " The list begins with the flips; the buttons choose what it shows." if rows else ""
    if cut:
        about += f" Texts are cut after {limit:,} characters ({cut:,} of them); each says how much is left out."
    return data, about


def _kinds(outcomes: Outcomes) -> str:
    """Say how many flips of each kind there are, in the words of what was compared."""
    graded, scored = (any(part.has_scores is scores for part in outcomes.tasks) for scores in (False, True))
    broken = " or ".join(["right before, wrong now"] * graded + ["fell"] * scored)
    repaired = " or ".join(["wrong before, right now"] * graded + ["rose"] * scored)
    negative, positive = (
        sum(len(getattr(part.comparison, name)) for part in outcomes.tasks)
        for name in ("negative_flips", "positive_flips")
    )
    return f" ({broken}: {negative:,}; {repaired}: {positive:,})"


def _places(outcomes: Outcomes) -> tuple[_Pairs, _Pairs]:
    """Give task number and position of every flip, and of every other instance."""
    places_of: tuple[list[_Pairs], list[_Pairs]] = ([], [])
    for number, part in enumerate(outcomes.tasks):
        flipped = np.zeros(part.n, np.bool_)
        flipped[part.comparison.negative_flips] = flipped[part.comparison.positive_flips] = True
        for pairs, chosen in zip(places_of, (flipped, ~flipped), strict=True):
            places = np.flatnonzero(chosen)
            pairs.append(np.stack([np.full(len(places), number), places], axis=1))
    return np.concatenate(places_of[0]), np.concatenate(places_of[1])


def _read(outcomes: Outcomes, pairs: _Pairs, limit: int) -> list[_Row]:
    """Read instances in the order of the files, and keep the first `limit` characters of each text."""
    rows, columns, kinds = [], _columns(outcomes), list(KINDS)
    for number, part in enumerate(outcomes.tasks):
        pair = outcomes.pairs[part.name]
        places = np.sort(pairs[pairs[:, 0] == number, 1])
        for place, instance in zip(places.tolist(), outcomes.instances(part.name, places), strict=True):
            texts = (
                (instance.question, None),
                (instance.reference, pair.old.references),
                (instance.old_answer, pair.old.answers),
                (instance.new_answer, pair.new.answers),
            )
            rows.append(
                _Row(
                    number,
                    place,
                    kinds.index(instance.kind),
                    str(instance.id),
                    # A file without texts may still have the answers that were compared.
                    tuple(
                        _kept(column[place].as_py() if text is None and column is not None else text, limit)
                        for text, column in texts
                    ),
                    (instance.old_score, instance.new_score) if part.has_scores else (),
                    tuple(instance.slices.get(column) for column in columns),
                )
            )
    return rows


def _kept(text: object, limit: int) -> _Text | None:
    if text is None:
        return None
    whole = clean(str(text))
    return whole[:limit], len(whole)


def _encode(outcomes: Outcomes, rows: Sequence[_Row], limit: int) -> str:
    """Give instances as gzipped JSON in base64, as the script of the page reads it."""
    known = [False] * len(outcomes.tasks)
    columns = _columns(outcomes)
    groups: list[dict[str, int]] = [{} for _ in columns]
    lines = []
    for row in rows:
        texts = [
            None if text is None else text[0] if text[1] <= limit else [text[0][:limit], text[1] - limit]
            for text in row.texts
        ]
        known[row.task] |= texts[2] is not None or texts[3] is not None
        codes = [
            -1 if name is None else group.setdefault(clean(name), len(group))
            for name, group in zip(row.groups, groups, strict=True)
        ]
        scores = [float(f"{score:.6g}") for score in row.scores]
        lines.append([row.task, row.kind, clean(row.key), *texts, codes, *scores])
    data = {
        "old": clean(outcomes.old_name),
        "new": clean(outcomes.new_name),
        "tasks": [
            {"name": clean(part.name), "metric": clean(part.metric), "scores": part.has_scores, "answers": answers}
            for part, answers in zip(outcomes.tasks, known, strict=True)
        ],
        "columns": [{"name": clean(name), "groups": list(group)} for name, group in zip(columns, groups, strict=True)],
        "rows": lines,
    }
    # A lone surrogate becomes its escape, which JSON reads as what it was.
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
    return base64.b64encode(gzip.compress(text, 9, mtime=0)).decode()


def _columns(outcomes: Outcomes) -> list[str]:
    return list(
        dict.fromkeys(name for pair in outcomes.pairs.values() for name in (*pair.old.slices, *pair.new.slices))
    )


def _every(count: int, noun: str) -> str:
    """Say that none is left out: "the 1 flip", "all 2,060 flips"."""
    return f"{'the' if count == 1 else 'all'} {how_many(count, noun)}"
