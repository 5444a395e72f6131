"""The share of answers that an update of a model breaks, with its interval and its test; computed by muscle_hf."""

import evaluate

from muscle_hf.flips.comparison import compare
from muscle_hf.spaces import keys, metric

_DESCRIPTION = """
Negative flips are the examples that the old model answered right and the new model answers wrong. Accuracy hides them:
it may rise while the answers that somebody relied on break. This metric compares the answers of two models, example by
example, and says how many were broken, how many were repaired, and whether the difference can be chance.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: The new model's answers, a list of ints or of strings. None where it gave no answer, which is wrong.
        They are compared exactly: "1.0" is not "1".
    old_predictions: The old model's answers to the same examples, in the same order.
    references: The right answers. None is not allowed here.
    level: The level of the confidence interval, between 0 and 1. Default 0.95.

Returns:
    negative_flip_rate (float): Old right, new wrong, as a share of all examples. 0 to 1, lower is better.
    balanced_negative_flip_rate (float): The mean over classes of right answers of the share of their examples that are
        negative flips, so that a rare class counts as much as a common one. 0 to 1, lower is better; nan where the
        references are no classes but texts or numbers, nearly each its own.
    positive_flip_rate (float): Old wrong, new right, as a share of all examples. 0 to 1, higher is better.
    inconsistency_flip_rate (float): The new answer is wrong and not the one that the old model gave: negative flips,
        and examples that both got wrong with different answers. 0 to 1, lower is better.
    accuracy (float): Of the new model. 0 to 1, higher is better.
    old_accuracy (float): Of the old model.
    relative_negative_flip_rate (float): The negative flip rate, divided by what it would be if the two models erred
        independently. Lower is better; 1 is independence; nan where the old model is never right or the new one is
        always right.
    backward_trust_compatibility (float): Of the examples that the old model got right, the share that the new model
        gets right (BTC). 0 to 1, higher is better; nan where the old model is never right.
    backward_error_compatibility (float): Of the examples that the old model got wrong, the share that the new model
        gets wrong too (BEC). 0 to 1; neither end is better: errors that stay surprise nobody, yet they are errors. nan
        where the old model is never wrong.
    negative_flip_impact (float): Of the examples that the new model gets wrong, the share that the old model got right
        (NFI). 0 to 1, lower is better; nan where the new model is never wrong.
    negative_flips (int): The number of broken answers.
    positive_flips (int): The number of repaired answers.
    p_value (float): Exact two-sided paired test (McNemar's, as a binomial) of "as many broken as repaired". It is 1
        where nothing flips.
    confidence_interval (list of two floats): Of the negative flip rate (Wilson's).
    balanced_confidence_interval (list of two floats): Of the balanced negative flip rate (a tilted bootstrap within
        classes).

Examples:

    An update that gains one answer and loses one: the accuracy stays, the answers do not.

    >>> import evaluate, muscle_hf
    >>> negative_flips = evaluate.load("negative_flips")
    >>> results = negative_flips.compute(
    ...     predictions=[0, 1, 1, 0], old_predictions=[0, 0, 1, 1], references=[0, 0, 1, 0]
    ... )
    >>> results["accuracy"], results["old_accuracy"]
    (0.75, 0.75)
    >>> results["negative_flips"], results["negative_flip_rate"], results["p_value"]
    (1, 0.25, 1.0)

    Answers in words. The last question was left unanswered by the new model, which breaks an answer as well.

    >>> results = negative_flips.compute(
    ...     predictions=["Paris", "Bonn", "Vienna", None],
    ...     old_predictions=["Paris", "Bern", "Berne", "Rome"],
    ...     references=["Paris", "Berlin", "Vienna", "Rome"],
    ... )
    >>> results["negative_flip_rate"], results["positive_flip_rate"], results["inconsistency_flip_rate"]
    (0.25, 0.25, 0.5)

    A class with few examples breaks; the plain rate hardly shows it.

    >>> old = ["weather"] * 18 + ["alarm"] * 2
    >>> results = negative_flips.compute(predictions=["weather"] * 20, old_predictions=old, references=old)
    >>> results["negative_flip_rate"], results["balanced_negative_flip_rate"]
    (0.1, 0.5)

    Batch by batch, as the answers come.

    >>> negative_flips.add_batch(predictions=[1, 2], old_predictions=[1, 1], references=[1, 1])
    >>> negative_flips.add(prediction=3, old_predictions=1, reference=1)
    >>> negative_flips.compute()["negative_flips"]
    2
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class NegativeFlips(metric.Metric):
    """Negative flips between two versions of a model."""

    DESCRIPTION, INPUTS = _DESCRIPTION, _KWARGS_DESCRIPTION
    OPTIONAL = frozenset()
    URLS = (metric.PAPER, "https://arxiv.org/abs/2011.09161")

    def _compute(self, *, predictions, old_predictions, references, level=0.95):
        compared = compare(old=old_predictions, new=predictions, references=references)
        plain, balanced = (
            list(compared.confidence_interval(name, level=level))
            for name in ("negative_flip_rate", "balanced_negative_flip_rate")
        )
        intervals = {"confidence_interval": plain, "balanced_confidence_interval": balanced}
        return keys.figures_of(compared, keys.OF_FLIPS) | intervals
