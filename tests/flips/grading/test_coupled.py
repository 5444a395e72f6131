"""The coupled estimate finds relevance where only what was looked at has a label, and says where it cannot."""

from itertools import product as all_of
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

import muscle_hf
from muscle_hf.errors import ConfigurationError, InputError, MuscleError
from muscle_hf.flips import CoupledEstimate
from muscle_hf.flips.grading.logistic import Slopes, climb, logistic, posterior, product, product_slopes
from muscle_hf.flips.special import expit

Numbers = NDArray[np.float64]
N = 4_000


def _simulated(seed: int = 0, n: int = N) -> tuple[NDArray[np.bool_], Numbers, Numbers, NDArray[np.bool_]]:
    """Labels, a feature of relevance, one of selection, and what is relevant, as the benchmark simulates them."""
    draw = np.random.default_rng(seed)
    x, u = draw.standard_normal((2, n))
    relevant, selected = (draw.random(n) < expit(-1 + 1.5 * feature) for feature in (x, u))
    return relevant & selected, x, u, relevant


LABELS, X, U, RELEVANT = _simulated()


@pytest.fixture(scope="module")
def estimate() -> CoupledEstimate:
    return muscle_hf.coupled_estimate(LABELS, relevance={"x": X}, selection={"u": U})


def test_the_truth_is_found_within_three_standard_errors(estimate: CoupledEstimate) -> None:
    for part, name in ((estimate.relevance, "x"), (estimate.selection, "u")):
        assert abs(part.coefficients[name] - 1.5) < 3 * part.standard_errors[name]
        assert abs(part.intercept + 1) < 3 * part.standard_errors["intercept"]
        assert 0 < part.standard_errors[name] < 0.3
    naive, _ = logistic(LABELS, np.column_stack([np.ones(N), X]), np.ones(N), np.zeros(2))
    assert naive[1] < 1.1, "the labels alone must be misleading here, or the test shows nothing"
    assert estimate.identified_by == ("u",)
    assert (estimate.n, estimate.labelled, estimate.separated_by) == (N, LABELS.sum(), ())
    unlabelled = ~LABELS
    assert estimate.probability_relevant[unlabelled].mean() == pytest.approx(RELEVANT[unlabelled].mean(), abs=0.05)


def test_the_likelihood_and_what_a_label_says_are_sums_over_all_that_nobody_saw() -> None:
    draw = np.random.default_rng(3)
    x, z = (np.column_stack([np.ones(6), draw.standard_normal((6, 2))]) for _ in range(2))
    labels, coefficients = draw.random(6) < 0.5, draw.standard_normal(6)
    r, s = expit(x @ coefficients[:3]), expit(z @ coefficients[3:])
    total = 0.0
    relevant, selected = np.zeros(6), np.zeros(6)
    for state in all_of([(0, 0), (0, 1), (1, 0), (1, 1)], repeat=6):
        if all(bool(a and b) == label for (a, b), label in zip(state, labels, strict=True)):
            a, b = np.array(state).T
            weight = float(np.prod(np.where(a, r, 1 - r) * np.where(b, s, 1 - s)))
            total, relevant, selected = total + weight, relevant + weight * a, selected + weight * b
    assert product_slopes(labels, x, z, coefficients).value == pytest.approx(np.log(total))
    after = posterior(labels, x @ coefficients[:3], z @ coefficients[3:])
    np.testing.assert_allclose(after.relevant, relevant / total)
    np.testing.assert_allclose(after.selected, selected / total)


def test_gradient_and_information_are_those_of_finite_differences() -> None:
    draw = np.random.default_rng(4)
    x, z = (np.column_stack([np.ones(30), draw.standard_normal((30, 2))]) for _ in range(2))
    labels, at, step = draw.random(30) < 0.4, draw.standard_normal(6), 1e-5
    here = product_slopes(labels, x, z, at)
    both = [[product_slopes(labels, x, z, at + sign * step * axis) for sign in (1, -1)] for axis in np.eye(6)]
    np.testing.assert_allclose(here.gradient, [(up.value - down.value) / (2 * step) for up, down in both], rtol=1e-6)
    differences = [-(up.gradient - down.gradient) / (2 * step) for up, down in both]
    np.testing.assert_allclose(here.information, differences, atol=1e-7)


def test_what_is_nearly_sure_costs_no_digits() -> None:
    after = posterior(np.array([False, False, True]), np.array([40.0, 800.0, 800.0]), np.array([40.0, 800.0, 800.0]))
    # 1 - r s is e^-40 + e^-40 there, and half of that is that it is irrelevant.
    np.testing.assert_allclose(after.relevant, [0.5, 0.5, 1.0])
    np.testing.assert_allclose(after.log_likelihood, [-40 + np.log(2), -800 + np.log(2), 0.0], atol=1e-12)


def test_relevance_and_selection_can_change_places(estimate: CoupledEstimate) -> None:
    other = muscle_hf.coupled_estimate(LABELS, relevance={"u": U}, selection={"x": X})
    assert other.log_likelihood == pytest.approx(estimate.log_likelihood)
    assert other.relevance.coefficients["u"] == pytest.approx(estimate.selection.coefficients["u"], abs=1e-4)
    np.testing.assert_allclose(other.selection.probability, estimate.relevance.probability, atol=1e-4)


@pytest.mark.slow
def test_units_and_the_order_of_rows_and_columns_change_nothing_else(estimate: CoupledEstimate) -> None:
    back = np.arange(N)[::-1]
    noise = np.random.default_rng(5).standard_normal(N)
    scaled = muscle_hf.coupled_estimate(LABELS[back], relevance={"x": 1000 * X[back] + 7}, selection={"u": U[back]})
    assert 1000 * scaled.relevance.coefficients["x"] == pytest.approx(estimate.relevance.coefficients["x"], abs=1e-4)
    assert 1000 * scaled.relevance.standard_errors["x"] == pytest.approx(
        estimate.relevance.standard_errors["x"], abs=1e-4
    )
    shift = 7 * scaled.relevance.coefficients["x"]
    assert scaled.relevance.intercept + shift == pytest.approx(estimate.relevance.intercept, abs=1e-4)
    one, two = (
        muscle_hf.coupled_estimate(LABELS, relevance={"x": X}, selection=columns)
        for columns in ({"u": U, "noise": noise}, {"noise": noise, "u": U})
    )
    assert one.selection.coefficients["noise"] == pytest.approx(two.selection.coefficients["noise"], abs=1e-4)


def test_weights_of_the_product_teach_relevance_and_not_what_was_selected(estimate: CoupledEstimate) -> None:
    r, s = np.asarray(estimate.relevance), np.asarray(estimate.selection)
    labelled, unlabelled = 1 / s, (1 - r) / (1 - r * s)
    np.testing.assert_allclose(estimate.weights, np.minimum(np.where(LABELS, labelled, unlabelled), 10))
    # On average a row counts r times as relevant and 1 - r times as not: once in all.
    np.testing.assert_allclose(r * s * labelled + (1 - r * s) * unlabelled, 1)
    columns = np.column_stack([np.ones(N), X, U])
    learned, _ = logistic(LABELS, columns, estimate.weights, np.zeros(3))
    assert learned[1] == pytest.approx(1.5, abs=0.4)
    assert abs(learned[2]) < 0.35 < logistic(LABELS, columns, np.ones(N), np.zeros(3))[0][2]
    effective = estimate.weights.sum() ** 2 / (estimate.weights**2).sum()
    assert estimate.effective_sample_size == pytest.approx(effective)


def test_weights_of_the_paper_are_where_both_parts_stand_still() -> None:
    e = muscle_hf.coupled_estimate(LABELS, relevance={"x": X}, selection={"u": U}, method="weights", temperature=2.0)
    by_hand = 1 / (1 - expit((e.selection.intercept + e.selection.coefficients["u"] * U) / 2))
    np.testing.assert_allclose(e.weights, np.where(LABELS, 1, by_hand), rtol=1e-5)
    columns = np.column_stack([np.ones(N), X])
    again, _ = logistic(LABELS, columns, e.weights, np.zeros(2))
    np.testing.assert_allclose(again, [e.relevance.intercept, e.relevance.coefficients["x"]], atol=1e-4)
    # It repairs little: the slope is 1.5.
    assert e.relevance.coefficients["x"] < 1.1
    assert np.isnan(e.confidence_interval("relevance.x")).all()
    likeliest = muscle_hf.coupled_estimate(LABELS, relevance={"x": X}, selection={"u": U})
    assert e.log_likelihood < likeliest.log_likelihood


def test_weights_that_are_cut_down_are_counted() -> None:
    e = muscle_hf.coupled_estimate(LABELS, relevance={"x": X}, selection={"u": U}, max_weight=3)
    assert e.weights.max() == 3
    assert e.capped == (e.weights == 3).sum() > 0
    assert f"{e.capped} of them cut down" in str(e)


def test_a_format_that_is_never_recognised_is_said_and_tells_nothing_of_relevance() -> None:
    fenced = np.random.default_rng(1).random(N) < 0.4
    with pytest.warns(UserWarning, match=r"separation: .* selection\.fenced would be infinite"):
        e = muscle_hf.coupled_estimate(LABELS & ~fenced, relevance={"x": X}, selection={"u": U, "fenced": fenced})
    assert e.separated_by == ("selection.fenced",)
    assert e.selection.coefficients["fenced"] == -np.inf
    assert np.isnan(e.confidence_interval("selection.fenced")).all()
    assert abs(e.relevance.coefficients["x"] - 1.5) < 3 * e.relevance.standard_errors["x"]
    np.testing.assert_allclose(e.probability_relevant[fenced], e.relevance.probability[fenced])
    assert "separated: selection.fenced would be infinite" in str(e)


@pytest.mark.slow
def test_where_only_one_format_is_recognised_both_coefficients_are_without_an_end() -> None:
    plain = np.random.default_rng(1).random(N) < 0.6
    with pytest.warns(UserWarning, match="separation"):
        e = muscle_hf.coupled_estimate(LABELS & plain, relevance={"x": X}, selection={"u": U, "plain": plain})
    assert e.separated_by == ("selection.intercept", "selection.plain")
    assert (e.selection.intercept, e.selection.coefficients["plain"]) == (-np.inf, np.inf)
    assert np.isfinite(e.selection.standard_errors["u"])


_BAD: dict[str, tuple[dict[str, Any], type[MuscleError], str]] = {
    "every selection column is one of relevance": (
        {"relevance": {"x": X, "u": U}, "selection": {"u": U}},
        ConfigurationError,
        r"not identified: every selection column \(u\) is among the relevance columns \(x, u\)",
    ),
    "the same arrays": (
        {"relevance": np.column_stack([X, U]), "selection": np.column_stack([U, X])},
        ConfigurationError,
        r"selection\[0\], selection\[1\]",
    ),
    "a selection column made of relevance columns": (
        {"relevance": {"x": X, "u": U}, "selection": {"sum": np.float32(2 * X - U + 3)}},
        ConfigurationError,
        "not identified",
    ),
    "a relevance column made of others": (
        {"relevance": {"x": X, "again": 1 - X}, "selection": {"u": U}},
        ConfigurationError,
        "the relevance column 'again' is a linear combination of 'x'",
    ),
    "yes and no on both sides": (
        {"relevance": {"x": X > 0}, "selection": {"u": U > 0}},
        ConfigurationError,
        "not identified: the likelihood stays the same along",
    ),
    "features that tell labels without a mistake": (
        {"labels": U[:50] > 0, "relevance": {"x": X[:50]}, "selection": {"u": U[:50]}},
        InputError,
        "Separation: the features tell",
    ),
    "no label": ({"labels": np.zeros(N)}, InputError, "no labelled row among 4000"),
    "labels alone": ({"labels": np.ones(N)}, InputError, "no unlabelled row among 4000"),
    "words as labels": ({"labels": ["yes"] * N}, InputError, "labels hold 'yes'"),
    "labels in steps": ({"labels": np.arange(N)}, InputError, r"labels\[2\] is 2"),
    "a feature that is not finite": (
        {"relevance": {"x": np.where(np.arange(N) == 7, np.nan, X)}},
        InputError,
        "Row 7 of the relevance column 'x' is nan",
    ),
    "a feature that never changes": ({"selection": {"u": np.ones(N)}}, InputError, "column 'u' is 1 in every row"),
    "words as features": ({"selection": {"u": ["a"] * N}}, InputError, "column 'u' holds 'a'"),
    "another length": ({"selection": {"u": U[1:]}}, InputError, r"has shape \(3999,\), and there are 4000 labels"),
    "a column with the name of the intercept": ({"relevance": {"intercept": X}}, InputError, "rename it"),
    "no feature": ({"selection": {}}, InputError, "selection has no column"),
    "three dimensions": ({"relevance": np.ones((2, 2, 2))}, InputError, "must be .rows, columns."),
    "an unknown method": ({"method": "wieghts"}, ConfigurationError, "Did you mean 'weights'"),
    "a temperature that the product has not": ({"temperature": 1.0}, ConfigurationError, "would be ignored"),
    "no temperature": ({"method": "weights", "temperature": 0}, ConfigurationError, "above 0"),
    "no largest weight": ({"max_weight": 1}, ConfigurationError, "above 1"),
    "a frame in another order than its labels": (
        {
            "labels": pd.Series(LABELS),
            "relevance": pd.DataFrame({"x": X}).iloc[::-1],
        },
        InputError,
        r"relevance\['x'\] has the labels of labels in another order",
    ),
}


@pytest.mark.parametrize("case", _BAD)
def test_what_cannot_be_estimated_is_refused(case: str) -> None:
    options, error, message = _BAD[case]
    columns: dict[str, Any] = {"labels": LABELS, "relevance": {"x": X}, "selection": {"u": U}} | options
    with pytest.raises(error, match=message):
        muscle_hf.coupled_estimate(columns.pop("labels"), **columns)


@pytest.mark.parametrize("seed", range(3))
def test_a_column_of_noise_does_not_tell_the_parts_apart(seed: int) -> None:
    labels, x, u, _ = _simulated(seed, 2_000)
    noise = np.random.default_rng(100 + seed).standard_normal(2_000)
    with pytest.raises(ConfigurationError, match=r"not identified: .*\(selection\.noise\) may be noise.* exchanged"):
        muscle_hf.coupled_estimate(labels, relevance={"x": x, "u": u}, selection={"x": x, "u": u, "noise": noise})
    # Nor does a column that says more only by what both parts have.
    with pytest.raises(ConfigurationError, match=r"selection\.mixed\) may be noise"):
        mixed = {"u": u, "noise": noise, "mixed": noise + x}
        muscle_hf.coupled_estimate(labels, relevance={"x": x, "u": u}, selection=mixed)


def test_what_drives_relevance_alone_tells_the_parts_apart_too() -> None:
    labels, x, u, _ = _simulated(1, 8_000)
    noise = np.random.default_rng(101).standard_normal(8_000)
    e = muscle_hf.coupled_estimate(labels, relevance={"x": x, "u": u}, selection={"u": u, "noise": noise})
    assert abs(e.relevance.coefficients["x"] - 1.5) < 4 * e.relevance.standard_errors["x"]


def test_a_column_that_says_too_little_of_which_part_is_which_is_refused() -> None:
    draw = np.random.default_rng(0)
    x, u, weak = draw.standard_normal((3, 8_000))
    labels = (draw.random(8_000) < expit(-1 + 1.5 * x)) & (draw.random(8_000) < expit(-1 + 1.5 * u + 0.3 * weak))
    with pytest.raises(ConfigurationError, match=r"exchanged the .* only .*\(selection\.weak\) says too"):
        muscle_hf.coupled_estimate(labels, relevance={"x": x, "u": u}, selection={"x": x, "u": u, "weak": weak})


def test_a_name_that_is_no_coefficient_is_refused_with_those_there_are(estimate: CoupledEstimate) -> None:
    with pytest.raises(InputError, match=r"relevance\.intercept, relevance\.x, selection\.intercept, selection\.u"):
        estimate.confidence_interval("x")


@pytest.mark.slow
def test_frames_arrays_and_lists_give_the_same(estimate: CoupledEstimate) -> None:
    frame = muscle_hf.coupled_estimate(
        pd.Series(LABELS), relevance=pd.DataFrame({"x": X}), selection=pd.DataFrame({"labels": U})
    )
    array = muscle_hf.coupled_estimate(LABELS.astype(float).tolist(), relevance=X[:, None], selection=U)
    for e in (frame, array):
        np.testing.assert_array_equal(e.probability_relevant, estimate.probability_relevant)
    assert array.identified_by == ("selection[0]",)
    assert list(array.relevance.coefficients) == ["relevance[0]"]


def test_the_table_says_what_was_estimated_and_what_it_rests_on(estimate: CoupledEstimate) -> None:
    lines = str(estimate).splitlines()
    assert lines[0].startswith(f"4000 rows, {LABELS.sum()} with a label; of the others 2")
    assert lines[1] == "the parts are told apart by u"
    low, high = estimate.confidence_interval("relevance.x")
    assert f"relevance.x              {estimate.relevance.coefficients['x']:.4f}   {low:.4f} to {high:.4f}" in lines


def test_a_climb_without_an_end_is_refused() -> None:
    def rising(point: Numbers) -> Slopes:
        return Slopes(float(np.sqrt(point[0])), 0.5 / np.sqrt(point), np.zeros((1, 1)))

    with pytest.raises(InputError, match="still rose after 300 steps"):
        climb(rising, np.ones(1), 1e-8).reached()


def test_a_start_that_leads_nowhere_does_not_hide_the_maximum() -> None:
    # From one of the starts, selection goes to 0 and 1 without an end, where the likelihood is lower.
    draw = np.random.default_rng(1)
    x, u = draw.standard_normal((2, 3_000))
    relevant = draw.random(3_000) < expit(-1 + 1.5 * x)
    labels = relevant & (draw.random(3_000) < expit(-2.4 + 1.5 * u))
    x, z = (np.column_stack([np.ones(3_000), *columns]) for columns in ((x, u), (u,)))
    assert product(labels, x, z)[1].value == pytest.approx(-432.8513, abs=1e-2)
