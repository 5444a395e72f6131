"""How often two versions of a model give the same answer, right or wrong; computed by muscle_hf."""

import evaluate

from muscle_hf.flips import agreement, compare
from muscle_hf.spaces import keys, metric

_DESCRIPTION = """
Consistency is how often two models give the same answer to the same question. It needs no right answers, so it can be
measured on plain traffic. Where the right answers are known, it also says how much of what was right stays right, and
how often a wrong answer at least stays the same one.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: The new model's answers, a list of ints or of strings. None where it gave no answer; two of them are
        the same answer. Others are compared exactly: "1.0" is not "1".
    old_predictions: The old model's answers to the same examples, in the same order.
    references: The right answers, if known. None is not allowed in them.

Returns:
    agreement (float): The share of examples with the same answer from both models. 0 to 1, higher is more alike.
    kappa (float): Cohen's kappa: the agreement beyond what two models with these answer frequencies would reach by
        chance. -1 to 1, higher is more alike, 0 is chance; nan where both always give one and the same answer.
    correct_agreement (float): Only with references: of the examples that the old model got right, the share that the
        new model gets right. This is the backward trust compatibility (BTC). 0 to 1, higher is better; nan where the
        old model is never right.
    backward_error_compatibility (float): Only with references: of the examples that the old model got wrong, the share
        that the new model gets wrong too. 0 to 1; neither end is better: errors that stay surprise nobody, yet they
        are errors. nan where the old model is never wrong.
    negative_flip_impact (float): Only with references: of the examples that the new model gets wrong, the share that
        the old model got right. 0 to 1, lower is better; nan where the new model is never wrong.
    error_agreement (float): Only with references: of the examples that both got wrong, the share with the same wrong
        answer. 0 to 1, higher is more alike; nan where they are never both wrong.

Examples:

    Without right answers.

    >>> import evaluate, muscle_hf
    >>> consistency = evaluate.load("consistency")
    >>> consistency.compute(predictions=["yes", "no", "no", "yes"], old_predictions=["yes", "no", "yes", "yes"])
    {'agreement': 0.75, 'kappa': 0.5}

    With right answers: two of the three old right answers stay right, and the one shared error is the same error.

    >>> results = consistency.compute(
    ...     predictions=[1, 2, 0, 3], old_predictions=[1, 2, 3, 3], references=[1, 2, 3, 0]
    ... )
    >>> round(results["correct_agreement"], 3), results["error_agreement"]
    (0.667, 1.0)

    Undefined is nan, never 0: the old model is never right here.

    >>> consistency.compute(predictions=[1, 0], old_predictions=[0, 0], references=[1, 1])["correct_agreement"]
    nan
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class Consistency(metric.Metric):
    """Agreement of two versions of a model."""

    DESCRIPTION, INPUTS = _DESCRIPTION, _KWARGS_DESCRIPTION

    def _compute(self, *, predictions, old_predictions, references):
        references = self.given(references)
        if references is None:
            return keys.figures_of(agreement(old=old_predictions, new=predictions), keys.OF_AGREEMENT)
        compared = compare(old=old_predictions, new=predictions, references=references)
        return keys.figures_of(compared, keys.OF_CONSISTENCY)
