"""What a moved threshold would repair: by brute force, and on rows that it was not fitted on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muscle_hf.errors import InputError
from muscle_hf.flips.yes_no.comparison import YesNoComparison
from muscle_hf.flips.yes_no.moved_threshold import best_threshold
from muscle_hf.flips.yes_no.negative_bias import compare_yes_no

ROWS = st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=1, max_size=30)


@given(ROWS)
def test_the_best_threshold_is_the_one_of_all_that_gives_most_right_answers(rows: list[tuple[int, bool]]) -> None:
    scores = np.array([score for score, _ in rows], np.float64)
    positive = np.array([flag for _, flag in rows])

    def right(threshold: float) -> int:
        return int(np.count_nonzero((scores <= threshold) == positive))

    best = best_threshold(scores, positive)
    assert right(best) == max(right(threshold) for threshold in np.arange(-5, 5.5, 0.5))
    if right(0.0) == right(best):
        assert best == 0.0


def drifted(by: float, n: int = 2_000, noise: float = 0.3) -> YesNoComparison:
    draw = np.random.default_rng(4)
    gold = np.repeat([1, 0], n // 2)
    latent = draw.normal(np.where(gold == 1, 0.9, -0.9))
    scores = [-2 * latent + moved + noise * draw.normal(size=n) for moved in (0.0, by)]
    old, new = ((side <= 0).astype(int) for side in scores)
    return compare_yes_no(
        old=old, new=new, references=gold, positive=1, negative=0, old_scores=scores[0], new_scores=scores[1]
    )


def test_what_only_drifted_is_mostly_repaired_and_what_did_not_is_left_alone() -> None:
    b = drifted(1.8)
    repairs = b.moved_threshold
    assert repairs is not None
    assert repairs.folds == 10
    assert b.threshold_repairs == len(repairs.repaired)
    assert repairs.threshold == pytest.approx(1.8, abs=0.5)
    assert len(repairs.repaired) > 0.9 * len(b.negative_flips)
    assert set(repairs.repaired.tolist()) <= set(b.negative_flips.tolist())
    assert repairs.answers.accuracy == pytest.approx(b.old.accuracy, abs=0.02)
    assert abs(repairs.answers.bias) < 0.1 < b.new.bias
    assert repairs.change.new_accuracy == repairs.answers.accuracy
    assert b.score_shift == pytest.approx(1.8, abs=0.05)
    low, high = b.confidence_interval("score_shift")
    assert low < 1.8 < high
    told = str(b)
    assert "log p(no) - log p(yes) moved by +1.8" in told
    assert f"would repair {len(repairs.repaired)} of the {len(b.negative_flips)} broken answers" in told
    never = drifted(0.0)
    still = never.moved_threshold
    assert still is not None
    low, high = still.change.confidence_interval("accuracy_change")
    assert low < 0 < high
    assert ("No moved threshold would" in str(never)) is (still.threshold == 0)


def test_scores_of_noise_repair_nothing_on_rows_that_they_were_not_fitted_on() -> None:
    draw = np.random.default_rng(5)
    gold = np.repeat([1, 0], 100)
    gains, fitted = [], []
    for _ in range(40):
        scores = draw.normal(size=200)
        said = (scores <= 0).astype(int)
        b = compare_yes_no(old=gold, new=said, references=gold, positive=1, negative=0, new_scores=scores)
        assert b.moved_threshold is not None
        gains.append(b.moved_threshold.change.accuracy_change)
        seemingly = (scores <= b.moved_threshold.threshold) == gold
        fitted.append(float(seemingly.mean()) - b.new.accuracy)
    # The spread of the mean is some 0.005.
    assert np.mean(gains) < 0.015 < 0.03 < np.mean(fitted)


def test_no_threshold_is_fitted_where_a_right_answer_is_absent_or_there_once() -> None:
    b = compare_yes_no(old=["yes"] * 2, new=["yes", "no"], references=["yes"] * 2, new_scores=[-1.0, 1.0])
    assert b.threshold_repairs is None
    assert b.undefined
    with pytest.raises(InputError, match="has to be that of two or more instances"):
        compare_yes_no(
            old=["yes", "no", "no"], new=["yes", "no", "no"], references=["yes", "no", "no"], new_scores=[-1, 1, 1]
        )


def test_scores_of_other_answers_or_of_another_unit_move_a_threshold() -> None:
    draw = np.random.default_rng(0)
    is_no = np.repeat([False, True], 200)
    evidence = np.where(is_no, 1.0, -1.0) + draw.normal(size=400)
    old, new = evidence, evidence + 1.2 + 0.2 * draw.normal(size=400)
    names = np.array(["yes", "no"])
    answers = {"old": names[(old > 0) * 1], "new": names[(new > 0) * 1], "references": names[is_no * 1]}
    nearly = np.where(np.arange(400) % 50 == 0, -new, new)  # another pass: one in fifty says otherwise
    for scores in ((old, new), (old, nearly)):
        compared = compare_yes_no(**answers, old_scores=scores[0], new_scores=scores[1])
        assert compared.threshold_repairs
    other = {
        "exchanged": (new, old),
        "the new model's for both": (new, new),
        "probabilities of no": (old, 1 / (1 + np.exp(-new))),
        "log p(no) alone": (old, -np.log1p(np.exp(-new))),
        "numbers of the rows": (old, np.arange(400.0)),
        "shuffled": (old, draw.permutation(new)),
        "all alike": (old, np.zeros(400)),
        "of the other sign": (old, -new),
        "the old model's of the other sign": (-old, new),
    }
    for name, (before, after) in other.items():
        with pytest.raises(InputError, match="of these very answers"):
            compare_yes_no(**answers, old_scores=before, new_scores=after)
            pytest.fail(name)  # told as the case that passed
