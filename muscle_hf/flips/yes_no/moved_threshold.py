"""What a moved threshold between yes and no would repair, with no training: fitted on some rows, tried on others."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ..comparison import Comparison, compare_correct
from ..intervals import Numbers
from ..rates import where_true
from .answers import NEGATIVE, POSITIVE, Codes, YesNoAnswers

_FOLDS = 10


@dataclass(frozen=True, eq=False)
class MovedThreshold:
    """What would become of the new model's answers, were its threshold moved.

    It then says no where its score, log p(no) - log p(yes), is above the threshold. The rows are dealt into ten folds
    (fewer where there are fewer rows of a right answer), with a fixed seed and in the same proportions of right
    answers; the threshold of each fold gives most right answers on the *other* folds (of several such, the nearest to
    0), so that no row has a part in the threshold that it is tried with.
    """

    threshold: float
    """Fitted on all rows: the one to use. It is in nats."""
    folds: int
    answers: YesNoAnswers
    """What the new model would say. Intervals of these, and of `change`, take the thresholds for given."""
    change: Comparison
    """The new model's answers as they are ("old") against those at the moved thresholds ("new")."""
    negative_flips: int
    """Of the update, as it is."""
    repaired: NDArray[np.int64] = field(repr=False)
    """Positions of negative flips of the update that would be right, rising, counted from 0."""
    broken: NDArray[np.int64] = field(repr=False)
    """Positions that are right now and would be wrong."""

    def to_dict(self) -> dict[str, Any]:
        """Give everything but the positions as a dictionary of plain Python values.

        Without intervals: how far the threshold itself may be off is in none of them.
        """
        return {
            "threshold": self.threshold,
            "folds": self.folds,
            "negative_flips": self.negative_flips,
            "repaired": len(self.repaired),
            "broken": len(self.broken),
            "accuracy": self.answers.accuracy,
            "bias": self.answers.bias,
        }


def moved_threshold(scores: Numbers, gold: Codes, said: Codes, old_right: NDArray[np.bool_]) -> MovedThreshold:
    """Try a moved threshold on rows that it was not fitted on.

    Scores are log p(no) - log p(yes) of the new model; `gold` and `said` are codes of the right answers and of the new
    model's own, and `may_be_fitted`.
    """
    is_positive = gold == POSITIVE
    folds = min(_FOLDS, int(is_positive.sum()), int((~is_positive).sum()))
    moved = np.empty(len(gold), np.int64)
    fold = np.empty(len(gold), np.int64)
    draw = np.random.default_rng(0)
    for rows in (np.flatnonzero(is_positive), np.flatnonzero(~is_positive)):
        fold[draw.permutation(rows)] = np.arange(len(rows)) % folds
    for number in range(folds):
        held_out = fold == number
        threshold = best_threshold(scores[~held_out], is_positive[~held_out])
        moved[held_out] = np.where(scores[held_out] > threshold, NEGATIVE, POSITIVE)
    right, would_be = said == gold, moved == gold
    counts = np.bincount(gold * 3 + moved, minlength=6).reshape(2, 3)
    negative_flips = old_right & ~right
    return MovedThreshold(
        threshold=best_threshold(scores, is_positive),
        folds=folds,
        answers=YesNoAnswers(counts),
        change=compare_correct(old=right, new=would_be),
        negative_flips=int(np.count_nonzero(negative_flips)),
        repaired=where_true(negative_flips & would_be),
        broken=where_true(right & ~would_be),
    )


def may_be_fitted(gold: Codes) -> bool:
    """Tell whether each right answer is that of two or more instances, so that there are others to fit it on."""
    return int(np.bincount(gold, minlength=2).min()) >= 2


def best_threshold(scores: Numbers, is_positive: NDArray[np.bool_]) -> float:
    """Find the threshold, half-way between two scores, that gives most right answers; of several the nearest to 0.

    One that calls everything yes, or no, is as far beyond the last score as the widest gap is half.
    """
    order = np.argsort(scores, kind="stable")
    ordered, positive = scores[order], is_positive[order]
    # Right answers where the first k are called yes and the others no.
    right = np.concatenate([[0], np.cumsum(positive)]) + np.concatenate([np.cumsum(~positive[::-1])[::-1], [0]])
    gaps = np.diff(ordered)
    beyond = float(gaps.max()) / 2 if len(gaps) and gaps.max() > 0 else 1.0
    edges = np.concatenate([[ordered[0] - beyond], ordered[:-1] + gaps / 2, [ordered[-1] + beyond]])
    # Between equal scores there is no threshold.
    possible = np.concatenate([[True], gaps > 0, [True]])
    # 0 itself is one, and the best where it is as good.
    at_0 = int(np.count_nonzero((scores <= 0) == is_positive))
    most = max(at_0, int(right[possible].max()))
    if at_0 == most:
        return 0.0
    best = edges[possible & (right == most)]
    return float(best[np.argmin(np.abs(best))])


def check_scores(which: str, scores: Numbers, said: Codes) -> None:
    """Refuse scores that are not those of the "old" or "new" answers: of another sign, unit or model, or all alike.

    An answer is yes where log p(no) - log p(yes) is below 0. Near 0 another pass may say otherwise: of either answer
    a twentieth, or one.
    """
    given = f"the scores of the {which} model ({which}_scores=, --yes-no-scores)"
    advice = (
        "scores must be log p(no) - log p(yes) of these very answers, the old model's and the new model's each in a "
        "column of its own. If the model cuts elsewhere than at 0, subtract where from its scores"
    )
    if {POSITIVE, NEGATIVE} <= set(said.tolist()) and (scores == scores[0]).all():
        raise InputError(f"{given} are all {scores[0]:g}; {advice}")
    told = {answer: said == answer for answer in (POSITIVE, NEGATIVE)}
    against = {POSITIVE: told[POSITIVE] & (scores > 0), NEGATIVE: told[NEGATIVE] & (scores < 0)}
    all_turned = sum(int(part.sum()) for part in against.values()) == sum(int(part.sum()) for part in told.values())
    for answer, name, side in ((POSITIVE, "yes", "above"), (NEGATIVE, "no", "below")):
        turned, answers = int(against[answer].sum()), int(told[answer].sum())
        if turned > (0 if all_turned else max(1, 0.05 * answers)):
            raise InputError(
                f"{given} are {side} 0 for {turned:,} of the {answers:,} answers that are {name}; {advice}"
            )
