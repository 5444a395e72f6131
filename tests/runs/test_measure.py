"""Rows of a comparison: what is counted as right, the seed floor, the reliable-change rule, Holm's method."""

import math
from dataclasses import replace
from itertools import permutations

import numpy as np
import pyarrow as pa
import pytest
from comparisons import answers, scored
from hypothesis import given
from hypothesis import strategies as st

from muscle_hf import InputError
from muscle_hf.flips.comparison import Comparison
from muscle_hf.flips.score_comparison import ScoreComparison
from muscle_hf.readers.answers import TaskAnswers
from muscle_hf.readers.join import Aligned, align
from muscle_hf.runs.measure import Table, holm, measure, tabulate
from muscle_hf.runs.reliable_change import reliable_change


def _pair(old: TaskAnswers, new: TaskAnswers) -> Aligned:
    return align(old, new)


# What is compared ----------------------------------------------------------------------------------------------------


def test_answers_are_right_where_they_equal_the_reference_and_wrong_where_there_is_none() -> None:
    gold = ["a", "a", "a", "a"]
    table = tabulate(_pair(answers(["a", "b", None, "b"], gold), answers(["b", "a", None, "c"], gold)))
    part = measure("all", table)
    assert isinstance(part.comparison, Comparison)
    assert part.comparison.counts == {
        "both_right": 0,
        "negative_flips": 1,
        "positive_flips": 1,
        "both_wrong": 2,
        "both_wrong_same": 1,  # two missing answers are the same one
    }


def test_scores_of_0_and_1_are_right_and_wrong_and_not_a_smooth_score() -> None:
    part = measure("all", tabulate(_pair(scored([1, 0, 1]), scored([1, 1, 0]))))
    assert isinstance(part.comparison, Comparison)
    assert math.isnan(part.comparison.inconsistency_flip_rate), "without answers, nobody knows which were the same"


def test_a_score_in_one_file_alone_makes_it_a_smooth_comparison() -> None:
    part = measure("all", tabulate(_pair(scored([1, 0, 1]), scored([1, 0.5, 0]))))
    assert isinstance(part.comparison, ScoreComparison)
    assert part.comparison.negative_flips.tolist() == [2]


def test_equal_answers_that_a_metric_grades_are_known_to_be_the_same() -> None:
    def graded(said: list[str], scores: list[float]) -> TaskAnswers:
        return TaskAnswers("t", "f", pa.array([1, 2, 3]), answers=pa.array(said), scores=np.array(scores))

    table = tabulate(_pair(graded(["18", "x", "y"], [1, 0, 0]), graded(["18.0", "x", "z"], [1, 0, 0])))
    compared = measure("all", table).comparison
    assert isinstance(compared, Comparison)
    assert (compared.both_wrong_same, compared.agreement) == (1, 2 / 3)


def test_a_score_where_lower_is_better_is_not_read_as_an_improvement() -> None:
    old, new = (scored(values, metric="perplexity", higher_is_better=False) for values in ([10.0, 20.0], [15.0, 12.0]))
    part = measure("all", tabulate(_pair(old, new)))
    assert part.comparison.negative_flips.tolist() == [0], "a perplexity that rises got worse"
    assert part.metric == "negated perplexity"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_named_and_not_compared(bad: float) -> None:
    with pytest.raises(InputError, match=r"1 of 2 scores .* of id 'q1'"):
        tabulate(_pair(scored([0.5, bad]), scored([0.5, 0.5])))


def test_a_table_without_scores_and_right_answers_is_refused() -> None:
    blank = TaskAnswers("t", "f.csv", pa.array([1]), answers=pa.array(["a"]))
    with pytest.raises(InputError, match=r"f\.csv has neither scores nor answers"):
        tabulate(_pair(blank, blank))


def test_the_tolerance_reaches_the_scores() -> None:
    pair = _pair(scored([0.5, 0.5]), scored([0.49, 0.3]))
    assert measure("all", tabulate(pair)).comparison.negative_flips.tolist() == [0, 1]
    assert measure("all", tabulate(pair, tolerance=0.01)).comparison.negative_flips.tolist() == [1]


def test_pooled_tables_count_every_instance_once() -> None:
    gold = ["a"] * 3
    tables = [
        tabulate(_pair(answers(["a", "b", "a"], gold), answers(["b", "b", "a"], gold))),
        tabulate(_pair(scored([1, 1]), scored([0, 0]))),
    ]
    pooled = measure("all", Table.pooled(tables))
    assert pooled.n == 5
    assert len(pooled.comparison.negative_flips) == 3
    assert pooled.metric == "accuracy / rougeL"


def test_rows_of_a_table_can_be_compared_alone() -> None:
    gold = ["a"] * 4
    table = tabulate(_pair(answers(["a", "a", "b", "b"], gold), answers(["b", "a", "a", "b"], gold)))
    part = measure("some", table, np.array([0, 3]))
    assert (part.n, part.comparison.negative_flip_rate, part.coin.negative, part.coin.positive) == (2, 0.5, 1, 0)


# The seed floor ------------------------------------------------------------------------------------------------------


def _right(rows: list[list[int]]) -> list[TaskAnswers]:
    return [answers(["a" if right else "b" for right in row], ["a"] * len(row)) for row in rows]


@pytest.mark.slow
@given(st.integers(2, 5).flatmap(lambda runs: st.lists(st.lists(st.integers(0, 1), min_size=6, max_size=6), min_size=runs, max_size=runs)))  # fmt: skip # noqa: E501
def test_the_floor_is_the_mean_over_ordered_pairs_of_runs(rows: list[list[int]]) -> None:
    runs = _right(rows)
    table = tabulate(_pair(runs[0], runs[1]), seed_floor=runs)
    part = measure("all", table)
    pairs = list(permutations(rows, 2))
    expected = sum(sum(a and not b for a, b in zip(x, y, strict=True)) / 6 for x, y in pairs) / len(pairs)
    assert part.seed_floor is not None
    assert part.seed_floor.negative_flip_rate == pytest.approx(expected)
    assert part.seed_floor.excess == pytest.approx(part.comparison.negative_flip_rate - expected)
    assert part.seed_floor.runs == len(rows)


def test_runs_without_any_variation_have_a_floor_of_zero() -> None:
    runs = _right([[1, 0, 1, 1]] * 3)
    part = measure("all", tabulate(_pair(runs[0], _right([[0, 0, 1, 1]])[0]), seed_floor=runs))
    assert part.seed_floor is not None
    assert (part.seed_floor.negative_flip_rate, part.seed_floor.excess) == (0.0, 0.25)


def test_an_update_that_is_one_more_seed_has_an_excess_around_zero() -> None:
    random = np.random.default_rng(0)
    chance = random.beta(0.5, 0.5, 4000)
    runs = _right([(random.random(4000) < chance).astype(int).tolist() for _ in range(6)])
    part = measure("all", tabulate(_pair(runs[0], runs[1]), seed_floor=runs[2:]))
    assert part.seed_floor is not None
    assert part.seed_floor.excess_low < 0 < part.seed_floor.excess_high
    assert part.seed_floor.low > 0.05, "these runs do differ"


def test_the_floor_of_scores_counts_falls_beyond_the_tolerance() -> None:
    runs = [scored([0.5, 0.5]), scored([0.49, 0.9])]
    pair = _pair(scored([0.5, 0.5]), scored([0.6, 0.6]))
    for tolerance, expected in ((None, 0.5), (0.05, 0.25)):
        floor = measure("all", tabulate(pair, seed_floor=runs, tolerance=tolerance)).seed_floor
        assert floor is not None
        assert floor.negative_flip_rate == expected


def test_a_floor_of_one_run_is_refused_because_it_has_no_pair() -> None:
    runs = _right([[1, 0], [1, 1]])
    with pytest.raises(InputError, match="two or more runs"):
        tabulate(_pair(*runs), seed_floor=runs[:1])


def test_a_floor_run_without_some_of_the_instances_is_refused() -> None:
    runs = _right([[1, 0, 1], [1, 1, 1]])
    with pytest.raises(InputError, match="lacks 1 of the 3 compared ids, for instance 'q2'"):
        tabulate(_pair(*runs), seed_floor=[runs[0], runs[1].take(np.array([0, 1]))])


def test_a_floor_run_in_another_order_is_joined_by_id() -> None:
    runs = _right([[1, 0, 1], [1, 1, 0]])
    shuffled = runs[1].take(np.array([2, 0, 1]))
    pair = _pair(*runs)
    first, second = (
        measure("all", tabulate(pair, seed_floor=[runs[0], other])).seed_floor for other in (runs[1], shuffled)
    )
    assert first == second


def test_a_floor_run_with_more_instances_serves_those_that_are_compared() -> None:
    runs = _right([[1, 0, 1], [1, 1, 0]])
    fewer = _pair(*(run.take(np.array([0, 2])) for run in runs))
    floor = measure("all", tabulate(fewer, seed_floor=runs)).seed_floor
    assert floor is not None
    assert floor.negative_flip_rate == 0.25


def test_a_floor_run_with_other_right_answers_is_refused() -> None:
    runs = _right([[1, 0], [1, 1]])
    other = answers(["a", "x"], ["a", "x"])
    with pytest.raises(InputError, match="another document or right answer"):
        tabulate(_pair(*runs), seed_floor=[runs[0], other])


def test_a_floor_without_ids_is_joined_by_position_where_told() -> None:
    runs = [replace(run, row_ids_of=f"{i}.csv") for i, run in enumerate(_right([[1, 0], [0, 1], [1, 1]]))]
    pair = align(runs[0], runs[1], by_position=True)
    floor = measure("all", tabulate(pair, seed_floor=runs, by_position=True)).seed_floor
    assert floor is not None
    assert floor.negative_flip_rate == pytest.approx(1 / 3)


# The reliable-change rule --------------------------------------------------------------------------------------------


def test_the_standard_error_of_a_change_is_the_one_worked_out_by_hand() -> None:
    # K = 5: p(1-p)/(K-1) is 0.04 for 0.2, 0.06 for 0.4 and 0 for 1.0.
    old = scored([0.2, 1.0, 0.4], samples=[5, 5, 5])
    new = scored([1.0, 1.0, 0.2], samples=[5, 5, 5])
    rule = reliable_change(_pair(old, new))
    assert rule.standard_error == pytest.approx(math.sqrt((0.04 + 0.06) / 3 + 0.04 / 3))
    assert rule.threshold == pytest.approx(1.959964 * rule.standard_error)
    assert (rule.old_samples, rule.new_samples, rule.extreme) == (5.0, 5.0, 1)


def test_the_error_is_that_of_split_half_reliability() -> None:
    """Cacioli (2604.27405) has SD sqrt(1 - r), r from random halves of the samples with Spearman and Brown's step."""
    random = np.random.default_rng(1)
    samples = 10
    hits = random.random((4000, samples)) < random.beta(0.4, 0.6, 4000)[:, None]
    halves = []
    for _ in range(50):
        order = random.permutation(samples)
        half = np.corrcoef(hits[:, order[:5]].mean(axis=1), hits[:, order[5:]].mean(axis=1))[0, 1]
        halves.append(2 * half / (1 + half))
    shares = hits.mean(axis=1)
    expected = shares.std() * math.sqrt(1 - np.median(halves))
    side = scored(shares.tolist(), samples=[samples] * len(shares))
    assert reliable_change(_pair(side, side)).standard_error / math.sqrt(2) == pytest.approx(expected, rel=0.02)


def test_a_change_that_sampling_explains_is_no_flip() -> None:
    random = np.random.default_rng(2)
    chance = random.uniform(0.2, 0.8, 3000)
    old, new = (scored((random.binomial(10, chance) / 10).tolist(), samples=[10] * 3000) for _ in range(2))
    part = measure("all", tabulate(_pair(old, new)))
    assert part.reliable_change is not None
    # The rule is wrong in one of twenty cases, half of them falls; shares in tenths make it a little stricter.
    assert part.comparison.negative_flip_rate < 0.03
    plain = measure("all", tabulate(_pair(old, new), tolerance=0.0))
    assert plain.comparison.negative_flip_rate > 0.4, "without the rule almost every instance flips"


def test_single_answers_beside_sampled_ones_do_not_get_a_made_up_error() -> None:
    with pytest.raises(InputError, match="no instance with two or more sampled answers"):
        tabulate(_pair(scored([0.5, 1.0], samples=[4, 4]), scored([1.0, 0.0])))


def test_sampled_answers_that_are_all_right_or_wrong_stay_shares() -> None:
    part = measure("all", tabulate(_pair(scored([1.0, 0.0], samples=[4, 4]), scored([0.0, 0.0], samples=[4, 4]))))
    assert part.has_scores
    assert part.comparison.negative_flips.tolist() == [0]


# Holm ----------------------------------------------------------------------------------------------------------------


def test_holm_gives_the_values_worked_out_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_rejects_exactly_what_the_step_down_procedure_rejects(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for level in (0.01, 0.05, 0.2):
        rejected: set[int] = set()
        for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
            if p_values[index] * (len(p_values) - rank) > level:
                break
            rejected.add(index)
        assert {i for i, value in enumerate(adjusted) if value <= level} == rejected
