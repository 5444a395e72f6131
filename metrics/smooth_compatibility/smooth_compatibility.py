"""Whether an update of a model makes single texts better or worse, by a score of each; computed by muscle_hf."""

import evaluate

from muscle_hf.flips.scorers import compare_smooth
from muscle_hf.spaces import keys, metric

_DESCRIPTION = """
Smooth compatibility asks of every single text, not of the average, whether an update made it better or worse. Free
texts such as summaries are seldom plainly right or wrong, so each is scored, for instance by ROUGE; a score that falls
is a negative flip, one that rises a positive flip. Scores that are there already can be compared as well.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: The new model's texts, a list of strings, with None where it gave no answer, which scores 0. Or,
        without a scorer, its scores: finite ints or floats, higher is better.
    old_predictions: The old model's texts, or scores, for the same examples, in the same order.
    references: The right texts, one string for each example. Only with a scorer, and needed then.
    scorer: What scores the texts: "exact_match", "rouge1", "rouge2", "rougeL", "bleu" or "chrf", each from 0 to 1.
        Default None: predictions and old_predictions are scores.
    tolerance: Changes up to this size count as no flip; in the unit of the scores, so 0.01 is one point of ROUGE, BLEU
        or chrF. Default 0.0, as in the paper, where ROUGE moves a little on almost every text and 33 to 55 % of them
        are negative flips: set it to a change that somebody would notice.
    level: The level of the confidence intervals, between 0 and 1. Default 0.95.

Returns:
    negative_flip_rate (float): The share of examples whose score falls by more than the tolerance. 0 to 1, lower is
        better.
    positive_flip_rate (float): The share of examples whose score rises by more than the tolerance. 0 to 1, higher is
        better.
    mean_gain (float): The mean rise over the positive flips. Higher is better; nan where nothing rises.
    mean_regression (float): The mean fall over the negative flips, as a positive number. Lower is better; nan where
        nothing falls.
    mean_score (float): Of the new model. Higher is better.
    old_mean_score (float): Of the old model.
    mean_change (float): The mean of new minus old score over all examples. Higher is better.
    negative_flips (int): The number of examples whose score falls by more than the tolerance.
    positive_flips (int): The number of examples whose score rises by more than the tolerance.
    p_value (float): Wilcoxon's signed-rank test, two-sided, of "rises and falls balance", on all changes whatever the
        tolerance. It is 1 where nothing changes.
    confidence_interval (list of two floats): Of the negative flip rate (Wilson's).
    mean_change_interval (list of two floats): Of the mean change (bootstrap); nan for a single example.

Examples:

    Three texts by ROUGE-1: one better, one as before, one worse.

    >>> import evaluate, muscle_hf
    >>> smooth_compatibility = evaluate.load("smooth_compatibility")
    >>> results = smooth_compatibility.compute(
    ...     predictions=["the cat sat on the mat", "a dog", "snow"],
    ...     old_predictions=["the cat sat", "a dog", "rain"],
    ...     references=["the cat sat on the mat", "a dog barks", "rain today"],
    ...     scorer="rouge1",
    ... )
    >>> results["negative_flips"], results["positive_flips"]
    (1, 1)
    >>> round(results["mean_gain"], 3), round(results["mean_regression"], 3), round(results["mean_change"], 3)
    (0.333, 0.667, -0.111)

    Scores that are there already. A change of 0.01 is not worth counting here.

    >>> results = smooth_compatibility.compute(
    ...     predictions=[0.70, 0.52, 0.30, 0.90], old_predictions=[0.71, 0.40, 0.52, 0.90], tolerance=0.02
    ... )
    >>> results["negative_flip_rate"], results["positive_flip_rate"]
    (0.25, 0.25)

    Undefined is nan, never 0: nothing rises here, so there is no mean gain.

    >>> smooth_compatibility.compute(predictions=[0.5, 0.5], old_predictions=[0.5, 0.75])["mean_gain"]
    nan

    Batch by batch, as the texts come; the options stand in compute.

    >>> smooth_compatibility.add_batch(predictions=["yes"], old_predictions=["yes"], references=["yes"])
    >>> smooth_compatibility.add(prediction=None, old_predictions="no", reference="no")
    >>> smooth_compatibility.compute(scorer="exact_match")["negative_flip_rate"]
    0.5
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class SmoothCompatibility(metric.Metric):
    """Smooth flips between two versions of a model."""

    DESCRIPTION, INPUTS = _DESCRIPTION, _KWARGS_DESCRIPTION
    NUMBER = "float64"

    def _compute(self, *, predictions, old_predictions, references, scorer=None, tolerance=0.0, level=0.95):
        compared = compare_smooth(
            old=old_predictions,
            new=predictions,
            references=self.given(references),
            scorer=scorer,
            tolerance=tolerance,
        )
        return keys.figures_of(compared, keys.OF_SCORES) | {
            "confidence_interval": list(compared.confidence_interval("negative_flip_rate", level=level)),
            "mean_change_interval": list(compared.confidence_interval("mean_change", level=level)),
        }
