"""How much of what is marked wrong goes with how an answer is written, and not with what it says?

An answer is marked right if it is right *and* the grader recognises it. A logistic model of the marks of both versions
has the form of each answer (is it fenced?), what speaks for its being right (do other models get it right?), and a
level for each of three groups: old answers, new ones where the old answer is marked right, and the other new ones.
What the model says of a new answer as it stands, p, is held beside what it says of the same answer in the form of the
old one, r. Of an answer that is marked wrong, the chance that it would be marked right in the old form is then

    (r - p) / (1 - p),  and 0 where r < p,

the excess fraction of epidemiology. The model is ours. Its coefficients have Jeffreys' prior (Firth 1993), so that
they are finite with few rows and where a form is never recognised; where the groups and one feature leave nothing to
be shared, that adds half an answer to either mark of each cell. A product P(right) P(recognised), which
`coupled.py` fits, is not used: how many answers the grader misses in the old form as well cannot be told from
marks, and with some fifty rows the two intercepts of a product trade places freely, while r and p are held by the
counts themselves.
"""

from dataclasses import dataclass

import numpy as np

from ..intervals import Numbers
from ..special import expit
from .features import independent
from .logistic import Flags, jeffreys_logistic

# In standard deviations of a column.
_STRANGE = 1e-5


@dataclass(frozen=True)
class Recognition:
    """What marks say of the form of answers; made by `recognition`."""

    chances: Numbers
    """Of each new answer that is marked wrong where the old one is marked right: the chance, by the model, that the
    grader made this negative flip; nan where the marks say nothing of the form that changed."""
    contributions: Numbers
    """By how much each change of form lowers the log odds of being marked right, (flips, recognised_by)."""
    unknown: tuple[int, ...]
    """Columns of form of which the marks say nothing: what they hold follows from the version, or from what speaks for
    being right."""
    together: tuple[int, ...]
    """Columns of form that always go with others, and are told with these."""
    slopes: Numbers
    """Log odds of each column of form, nan where they are unknown or told with others."""


def recognition(
    old_right: Flags, new_right: Flags, old_form: Numbers, new_form: Numbers, old_rest: Numbers, new_rest: Numbers
) -> Recognition:
    """Tell from all marks of two versions what a changed form may have cost each answer that broke.

    Args:
        old_right: Whether each old answer is marked right, (n,).
        new_right: The same of the new ones.
        old_form: Features by which the grader may recognise the old answers, (n, features).
        new_form: The same of the new ones.
        old_rest: Features that speak for being right, (n, features).
        new_rest: The same of the new answers.
    """
    n, forms = old_form.shape
    groups = np.zeros((2 * n, 3))
    groups[:n, 0] = 1
    groups[n:, 1] = old_right
    groups[n:, 2] = ~old_right
    groups = groups[:, groups.any(0)]
    columns = np.concatenate([np.vstack([old_form, new_form]), np.vstack([old_rest, new_rest])], axis=1)
    spreads = columns.std(0)
    columns = (columns - columns.mean(0)) / np.where(spreads > 0, spreads, 1)
    # What speaks for being right comes before the form, so that the form is not told for what is said by the rest.
    order = [*range(forms, columns.shape[1]), *range(forms)]
    kept = sorted(order[place] for place in independent(groups, columns[:, order]))
    labels = np.concatenate([old_right, new_right])
    coefficients = jeffreys_logistic(labels, np.concatenate([groups, columns[:, kept]], axis=1))
    slopes = np.full(columns.shape[1], np.nan)
    slopes[kept] = coefficients[groups.shape[1] :]
    flips = np.flatnonzero(old_right & ~new_right)
    known = np.nan_to_num(slopes)
    odds = (groups[n:] @ coefficients[: groups.shape[1]] + columns[n:] @ known)[flips]
    changes = (columns[n:] - columns[:n])[flips][:, :forms]
    contributions = -(changes * known[:forms])
    before, after = expit(odds + contributions.sum(1)), expit(odds)
    chances = np.maximum(0.0, (before - after) / expit(-odds))
    # The new answer as it would be in the form of the old one.
    rewritten = columns[n:][flips]
    rewritten[:, :forms] = columns[:n][flips][:, :forms]
    dropped = np.setdiff1d(np.arange(columns.shape[1]), kept)
    base = np.concatenate([groups, columns[:, kept]], axis=1)
    made_of = np.linalg.lstsq(base, columns[:, dropped], rcond=None)[0]
    of_flips = np.concatenate([groups[n:][flips], rewritten[:, kept]], axis=1)
    # No data have such an answer, so that nothing is known of it, where it holds not what all of these do.
    strange = np.abs(of_flips @ made_of - rewritten[:, dropped]) > _STRANGE
    told = [(place, bool(strange[:, index].any())) for index, place in enumerate(dropped.tolist()) if place < forms]
    return Recognition(
        np.where(strange.any(1), np.nan, chances),
        contributions,
        tuple(place for place, is_strange in told if is_strange),
        tuple(place for place, is_strange in told if not is_strange),
        slopes[:forms] / np.where(spreads > 0, spreads, 1)[:forms],
    )
