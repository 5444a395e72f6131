"""Labels that are missing because nobody looked: relevance and selection, estimated together.

A label "relevant" is there only where somebody looked *and* the document is relevant; a row without one may be either.
CET (arXiv 2209.05072) trains two models together, one of relevance and one of selection, each of which weighs its
negatives by the other. Here both are logistic, with log odds u of relevance and v of selection:

    method "product"   P(label) = r s,  r = expit(u),  s = expit(v), by maximum likelihood
    method "weights"   the paper's weights: a row without a label counts 1 / (1 - expit(v / T)) times in the fit of r,
                       and 1 / (1 - expit(u / T)) times in the fit of s, in turns until neither moves

The product is ours; its likelihood tells r from s only by a feature that drives one of them alone. That the parts are
logistic, and that they are independent given their features, is assumed and cannot be seen in the labels.
"""

import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ...errors import ConfigurationError, InputError, unknown_option
from ..inputs import is_number, refuse_other_order
from ..intervals import Numbers
from ..special import chdtrc, expit
from .coefficients import Coefficients, coefficients_at
from .coupled_result import METHODS, CoupledEstimate, CoupledPart
from .features import INTERCEPT, Features, own_columns, shared_columns, take_features
from .logistic import Flags, alternate, climb, highest, posterior, product, product_slopes

MOST_WEIGHT = 10.0
"""No row counts more often: a few rows that were hardly ever seen would otherwise outweigh all others.

In `benchmarks/selection.py` models trained with a bound of 100 were no better than naive ones, and with 10 they were.
"""

_TEMPERATURE = 2.0
# exp of more is no float.
_LARGEST = 700.0
# Of the log-likelihood of a fit that leaves nothing open.
_PERFECT = -1e-6
# Of the test that a column is noise, and how much less likely the labels must be with the parts exchanged. Of 280
# columns of noise 277 were refused; the others came with a warning of separation.
_LEVEL = 1e-3
# Of the climb to where the parts are exchanged, in units of the log-likelihood.
_LEAST_GAIN = 1e-6
_NEEDED = (
    "Give selection a feature that drives it alone, such as the rank that the retriever of the pool gave, or more "
    "rows with a label"
)


def coupled_estimate(
    labels: Iterable[Any],
    *,
    relevance: Any,
    selection: Any,
    method: str = "product",
    temperature: float = _TEMPERATURE,
    max_weight: float = MOST_WEIGHT,
) -> CoupledEstimate:
    """Estimate what is relevant from labels that are there only where somebody looked.

    The setting and the weights are those of CET (arXiv 2209.05072, and the authors' code); the likelihood of the
    product is ours.

    Args:
        labels: Shape (n,), True or 1 where the row was marked relevant, False or 0 where no label is.
        relevance: Features of relevance, (n, features), or a mapping or data frame of name -> column.
        selection: Features of who was looked at, likewise, such as the score or rank of the retriever that made the
            pool. At least one must not be among the relevance columns, nor a linear combination of them.
        method: "product" (default), the likelihood of P(relevant) P(selected), or "weights", the paper's.
        temperature: T of the paper's weights. Defaults to 2.0, as in its code; "product" has none.
        max_weight: The largest weight of a row, over 1. Defaults to 10; the paper's code has no bound (math.inf).

    Returns:
        Both models, the probability that each row is relevant, weights to train with, and what identifies them.

    Raises:
        InputError: No labelled or no unlabelled row, features that are not finite or never change, lengths that
            differ, features that tell labelled rows from others without a mistake.
        ConfigurationError: Not identified: no selection column of its own, columns that are linear combinations of
            others, a likelihood that is flat, or, with "product", columns of one part alone that may be noise (a test
            of the likelihood ratio at .001) or say too little of which part is which; an unknown method, a temperature
            that would be ignored.

    Example:
        >>> import numpy as np, muscle_hf
        >>> draw = np.random.default_rng(0)
        >>> new_score, old_score = draw.standard_normal((2, 20_000))
        >>> is_relevant = draw.random(20_000) < 1 / (1 + np.exp(1 - 1.5 * new_score))
        >>> was_seen = draw.random(20_000) < 1 / (1 + np.exp(1 - 1.5 * old_score))
        >>> e = muscle_hf.coupled_estimate(
        ...     is_relevant & was_seen, relevance={"new_score": new_score}, selection={"old_score": old_score}
        ... )
        >>> e.identified_by, round(e.relevance.coefficients["new_score"], 1)
        (('old_score',), 1.5)
    """
    if method not in METHODS:
        raise unknown_option("method", method, METHODS)
    if not is_number(temperature) or temperature <= 0:
        raise ConfigurationError(f"temperature is {temperature!r}, but must be a number above 0, such as 2.0")
    if method == "product" and temperature != _TEMPERATURE:
        raise ConfigurationError(
            f'temperature={temperature!r} would be ignored by method="product"; leave it out, or take method="weights"'
        )
    if not (is_number(max_weight) or max_weight == math.inf) or max_weight <= 1:
        raise ConfigurationError(f"max_weight is {max_weight!r}, but must be a number above 1, such as 10")
    y = _take_labels(labels)
    _refuse_other_rows(labels, relevance=relevance, selection=selection)
    of_r, of_s = take_features("relevance", relevance, len(y)), take_features("selection", selection, len(y))
    identified_by = own_columns(of_s, of_r)
    if not identified_by:
        raise ConfigurationError(
            f"not identified: every selection column ({', '.join(of_s.names)}) is among the relevance columns "
            f"({', '.join(of_r.names)}) or a linear combination of them, so that the labels cannot tell what is "
            "irrelevant from what nobody looked at. Give selection a feature of its own, such as the rank that the "
            "retriever of the pool gave, or leave one out of relevance"
        )

    x, z = of_r.standardized()[0], of_s.standardized()[0]
    if method == "product":
        point, slopes = product(y, x, z)
        information, value = slopes.information, slopes.value
    else:
        point, information = alternate(y, x, z, lambda odds: np.minimum(_inverse(-odds / temperature), max_weight))
        value = product_slopes(y, x, z, point).value
    if value > _PERFECT:
        raise InputError(
            "Separation: the features tell every labelled row from every other without a mistake, so that any split "
            "of that between relevance and selection fits as well as any other. Leave out the feature that the labels "
            "were made from"
        )
    fitted = coefficients_at(point, information, of_r, of_s)
    if method == "product":
        _refuse_noise(y, of_r, of_s, value)
        _refuse_exchanged(y, of_r, of_s, point, value)
    if method == "weights":  # whose curvature is that of no likelihood
        fitted = replace(fitted, errors=np.full_like(fitted.errors, np.nan))
    separated_by = tuple(name for name, is_so in zip(fitted.names, fitted.separated, strict=True) if is_so)
    if separated_by:
        warnings.warn(
            f"separation: the likelihood is largest where {', '.join(separated_by)} would be infinite, so that some "
            "probabilities of 0 and 1 are a limit and no finding. Where selection is 0 (a format that was never "
            "recognised), a missing label says nothing, and relevance rests on its own features alone; where it is 1, "
            "a missing label says irrelevant",
            stacklevel=2,
        )
    u, v = x @ point[: x.shape[1]], z @ point[x.shape[1] :]
    relevant = posterior(y, u, v).relevant
    # 1 / (1 - expit(a)) is 1 / expit(-a).
    of_product, of_paper = np.where(y, _inverse(v), 1 - relevant), np.where(y, 1.0, _inverse(-v / temperature))
    weights = of_product if method == "product" else of_paper
    kept = np.minimum(weights, max_weight)
    return CoupledEstimate(
        method=method,
        n=len(y),
        labelled=int(y.sum()),
        relevance=_part(fitted, "relevance", u),
        selection=_part(fitted, "selection", v),
        probability_relevant=relevant,
        weights=kept,
        capped=int((weights > max_weight).sum()),
        effective_sample_size=float(kept.sum() ** 2 / np.square(kept).sum()),
        identified_by=identified_by,
        separated_by=separated_by,
        log_likelihood=value,
    )


def _refuse_noise(labels: Flags, of_r: Features, of_s: Features, value: float) -> None:
    """Refuse where features that both parts have explain the labels as well: then the parts could be exchanged."""
    x, z = of_r.standardized()[0], of_s.standardized()[0]
    of_both = shared_columns(x, z), shared_columns(z, x)
    own = x.shape[1] + z.shape[1] - sum(columns.shape[1] for columns in of_both)
    gain = value - highest(labels, *of_both).slopes.value
    chance = chdtrc(own, 2 * gain)
    if chance > _LEVEL:
        raise ConfigurationError(
            f"not identified: what belongs to one part alone ({_names_of_own(of_r, of_s)}) may be noise: without "
            f"it the log-likelihood is {gain:.1f} lower (p = {chance:.2g}, and must be below {_LEVEL:g}), so that "
            f"relevance and selection could be exchanged. {_NEEDED}"
        )


def _refuse_exchanged(labels: Flags, of_r: Features, of_s: Features, point: Numbers, value: float) -> None:
    """Refuse where relevance and selection explain the labels nearly as well with their roles exchanged."""
    x, z = of_r.standardized()[0], of_s.standardized()[0]
    if shared_columns(x, z).shape[1] == 1:  # no feature could change its part
        return
    b, d = point[: x.shape[1]], point[x.shape[1] :]
    start = np.concatenate([np.linalg.lstsq(x, z @ d)[0], np.linalg.lstsq(z, x @ b)[0]])
    end = climb(lambda at: product_slopes(labels, x, z, at), start, _LEAST_GAIN)
    r, s = expit(x @ b), expit(z @ d)
    others = (expit(x @ end.point[: len(b)]), s, r), (expit(z @ end.point[len(b) :]), r, s)
    # Each part looks more like what the other was than like what it was.
    is_exchanged = all(np.abs(now - one).mean() < np.abs(now - same).mean() for now, one, same in others)
    gap = value - end.slopes.value
    if is_exchanged and gap < -math.log(_LEVEL):
        raise ConfigurationError(
            f"not identified: with relevance and selection exchanged the log-likelihood is only {gap:.1f} lower, and "
            f"must be {-math.log(_LEVEL):.1f} lower to tell which is which: what belongs to one part alone "
            f"({_names_of_own(of_r, of_s)}) says too little. {_NEEDED}"
        )


def _names_of_own(of_r: Features, of_s: Features) -> str:
    pairs = (of_s, of_r), (of_r, of_s)
    return ", ".join(f"{part.part}.{name}" for part, other in pairs for name in own_columns(part, other))


def _inverse(odds: Numbers) -> Numbers:
    """Give 1 / expit(odds), which does not divide by 0."""
    inverse: Numbers = 1 + np.exp(np.minimum(-odds, _LARGEST))
    return inverse


def _part(fitted: Coefficients, part: str, odds: Numbers) -> CoupledPart:
    of_part = {
        name.removeprefix(f"{part}."): (float(value), float(error))
        for name, value, error in zip(fitted.names, fitted.values, fitted.errors, strict=True)
        if name.startswith(f"{part}.")
    }
    values = {name: value for name, (value, _) in of_part.items()}
    intercept = values.pop(INTERCEPT)
    return CoupledPart(intercept, values, {name: error for name, (_, error) in of_part.items()}, expit(odds))


def _take_labels(labels: Iterable[Any]) -> Flags:
    values = np.asarray(labels if hasattr(labels, "__array__") else list(labels))
    if values.ndim != 1:
        raise InputError(f"labels have shape {values.shape}, but must have one dimension, with one label a row")
    if values.dtype.kind not in "biuf":
        odd = next((value for value in values.tolist() if value not in (0, 1)), values[:1].tolist())
        raise InputError(
            f"labels hold {odd!r}, but must be True (or 1) where a row was marked relevant and False (or 0) where no "
            "label is"
        )
    wrong = np.flatnonzero((values != 0) & (values != 1))
    if len(wrong):
        raise InputError(
            f"labels[{wrong[0]}] is {values[wrong[0]].item()!r}, but must be 1 where the row was marked relevant and "
            "0 where no label is; rows that were looked at and found irrelevant are not known to this estimate: as 0 "
            "they count as rows that may not have been seen"
        )
    flags = values.astype(np.bool_)
    if not flags.any() or flags.all():
        kind = "labelled" if not flags.any() else "unlabelled"
        raise InputError(f"there is no {kind} row among {len(flags)}: both kinds are needed to tell who was looked at")
    return flags


def _refuse_other_rows(labels: Any, **parts: Any) -> None:
    """Refuse pandas columns in another order than the labels."""
    for part, columns in parts.items():
        if isinstance(columns, Mapping) or hasattr(columns, "keys"):
            for name in columns.keys():  # noqa: SIM118 - data frames too
                refuse_other_order(labels=labels, **{f"{part}[{name!r}]": columns[name]})
