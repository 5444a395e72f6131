"""Whether an update of a model shifts yes/no answers towards no, and whether its ability fell; by muscle_hf."""

import evaluate

from muscle_hf.flips.yes_no.negative_bias import compare_yes_no
from muscle_hf.spaces import keys, metric

_DESCRIPTION = """
Negative bias is how much more often a model wrongly says no than it wrongly says yes. An update that breaks yes/no
answers may have lost the ability to tell, or have turned towards one answer, which a moved threshold repairs. This
metric compares the answers of two models, question by question, and says which of the two it is.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: The new model's answers, a list of strings or of ints (class ids, booleans). None where it gave no
        answer. An answer that is missing or neither label is wrong, and neither yes nor no: other cases and dots are
        not guessed.
    old_predictions: The old model's answers to the same questions, in the same order.
    references: The right answers, each one of the labels. None is not allowed here.
    knowledge: What the new model knows of each question: "correct", "incorrect" or "insufficient", as
        `muscle_hf.knowledge_of` tells from sampled answers to an open form of it. It may be left out, for all.
    positive: The label of yes, or a list of labels that mean it. Default "yes".
    negative: The label of no, or a list of labels that mean it. Default "no".
    level: The level of the confidence interval, between 0 and 1. Default 0.95.

Returns:
    bias (float): FNR - FPR of the new model. -1 to 1: above 0 it errs towards no, below 0 towards yes; nan, as shift,
        sensitivity and criterion are, where no right answer is yes or none is no.
    old_bias (float): Of the old model.
    shift (float): bias - old_bias. -2 to 2: above 0 the update leans more to no.
    accuracy (float): Of the new model. 0 to 1, higher is better.
    old_accuracy (float): Of the old model.
    false_negative_rate (float): FNR of the new model: it says no, of where yes is right. 0 to 1, lower is better.
    old_false_negative_rate (float): Of the old model.
    false_positive_rate (float): FPR of the new model: it says yes, of where no is right. 0 to 1, lower is better.
    old_false_positive_rate (float): Of the old model.
    sensitivity (float): d' of the new model: how well it tells yes from no, wherever it cuts. Higher is better; 0 is
        not at all.
    old_sensitivity (float): Of the old model.
    criterion (float): c of the new model: where it cuts, in units of d'; above 0 it leans to no.
    old_criterion (float): Of the old model.
    negative_flips (int): The number of answers that were right and are wrong now.
    positive_flips (int): The number of answers that were wrong and are right now.
    p_value (float): Exact two-sided paired test of "as many answers went from yes to no as from no to yes", right or
        wrong. It is 1 where none did.
    broken_to_negative (int): The negative flips that say no now.
    broken_to_positive (int): The negative flips that say yes now.
    no_answers (int): Answers of the new model that are missing or neither label.
    old_no_answers (int): Of the old model.
    correct_examples (int), incorrect_examples, insufficient_examples: Only with knowledge: how many each group has.
    correct_bias (float), incorrect_bias, insufficient_bias: Only with knowledge: the new model's bias in each group.
    correct_shift (float), incorrect_shift, insufficient_shift: Only with knowledge: the shift in each group.
    shift_interval (list of two floats): Of the shift (paired, of both shares, combined by squares).

Examples:

    An update that turns towards no: all three answers that it breaks were a right yes.

    >>> import evaluate, muscle_hf
    >>> negative_bias = evaluate.load("negative_bias")
    >>> results = negative_bias.compute(
    ...     predictions=["yes", "no", "no", "no", "no", "no", "no", "no"],
    ...     old_predictions=["yes", "yes", "yes", "yes", "no", "no", "no", "yes"],
    ...     references=["yes", "yes", "yes", "yes", "no", "no", "no", "no"],
    ... )
    >>> results["old_bias"], results["bias"], results["shift"]
    (-0.25, 0.75, 1.0)
    >>> results["negative_flips"], results["broken_to_negative"], results["positive_flips"]
    (3, 3, 1)

    Class ids, and what the model knows of each question: it turned to no where it knows nothing.

    >>> results = negative_bias.compute(
    ...     predictions=[1, 0, 0, 0],
    ...     old_predictions=[1, 0, 1, 0],
    ...     references=[1, 0, 1, 0],
    ...     knowledge=["correct", "correct", "insufficient", "insufficient"],
    ...     positive=1,
    ...     negative=0,
    ... )
    >>> results["correct_shift"], results["insufficient_shift"], results["incorrect_examples"]
    (0.0, 1.0, 0)

    Undefined is nan, never 0: where all right answers are yes, a lean cannot be told from ability.

    >>> negative_bias.compute(predictions=["no"], old_predictions=["yes"], references=["yes"])["shift"]
    nan

    Batch by batch, as the answers come; the options stand in compute.

    >>> negative_bias.add_batch(predictions=["A", "B"], old_predictions=["A", "A"], references=["A", "B"])
    >>> negative_bias.add(prediction="B", old_predictions="A", reference="A")
    >>> negative_bias.compute(positive="A", negative="B")["shift"]
    1.5
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class NegativeBias(metric.Metric):
    """Lean towards no of two versions of a model."""

    DESCRIPTION, INPUTS = _DESCRIPTION, _KWARGS_DESCRIPTION
    OPTIONAL, COLUMNS = frozenset(), ("knowledge",)
    URLS = ("https://arxiv.org/abs/2408.00137", "https://arxiv.org/abs/2511.10881")

    def _compute(
        self,
        *,
        predictions,
        old_predictions,
        references,
        knowledge,
        positive="yes",
        negative="no",
        level=0.95,
    ):
        compared = compare_yes_no(
            old=old_predictions,
            new=predictions,
            references=references,
            knowledge=self.given(knowledge, "knowledge"),
            positive=positive,
            negative=negative,
        )
        interval = list(compared.confidence_interval("shift", level=level))
        return keys.figures_of(compared, keys.OF_BIAS) | {"shift_interval": interval}
