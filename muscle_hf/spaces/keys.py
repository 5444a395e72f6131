"""The figures of each metric: its keys, and where they stand in a comparison; the same from Python and on the page."""

from collections.abc import Mapping
from operator import attrgetter

from ..flips.agreements import Agreement
from ..flips.comparison import Comparison
from ..flips.score_comparison import ScoreComparison
from ..flips.yes_no.comparison import YesNoComparison

# Key of the metric -> attribute of the comparison.
OF_FLIPS = {
    "negative_flip_rate": "negative_flip_rate",
    "balanced_negative_flip_rate": "balanced_negative_flip_rate",
    "positive_flip_rate": "positive_flip_rate",
    "inconsistency_flip_rate": "inconsistency_flip_rate",
    "accuracy": "new_accuracy",
    "old_accuracy": "old_accuracy",
    "relative_negative_flip_rate": "relative_negative_flip_rate",
    "backward_trust_compatibility": "backward_trust_compatibility",
    "backward_error_compatibility": "backward_error_compatibility",
    "negative_flip_impact": "negative_flip_impact",
}
OF_AGREEMENT = {"agreement": "agreement", "kappa": "kappa"}
OF_CONSISTENCY = OF_AGREEMENT | {
    "correct_agreement": "backward_trust_compatibility",
    "backward_error_compatibility": "backward_error_compatibility",
    "negative_flip_impact": "negative_flip_impact",
    "error_agreement": "error_agreement",
}
OF_BIAS = {
    "bias": "new.bias",
    "old_bias": "old.bias",
    "shift": "shift",
    "accuracy": "new.accuracy",
    "old_accuracy": "old.accuracy",
    "false_negative_rate": "new.false_negative_rate",
    "old_false_negative_rate": "old.false_negative_rate",
    "false_positive_rate": "new.false_positive_rate",
    "old_false_positive_rate": "old.false_positive_rate",
    "sensitivity": "new.sensitivity",
    "old_sensitivity": "old.sensitivity",
    "criterion": "new.criterion",
    "old_criterion": "old.criterion",
}
OF_SCORES = {
    "negative_flip_rate": "negative_flip_rate",
    "positive_flip_rate": "positive_flip_rate",
    "mean_gain": "mean_gain",
    "mean_regression": "mean_regression",
    "mean_score": "new_mean",
    "old_mean_score": "old_mean",
    "mean_change": "mean_change",
}


def figures_of(
    compared: Comparison | ScoreComparison | Agreement | YesNoComparison, keys: Mapping[str, str]
) -> dict[str, float]:
    """Return a comparison's figures by the keys of a metric; those of flips with their numbers and p-value."""
    figures = {key: float(attrgetter(attribute)(compared)) for key, attribute in keys.items()}
    if isinstance(compared, YesNoComparison) or (not isinstance(compared, Agreement) and "negative_flip_rate" in keys):
        figures |= {
            "negative_flips": len(compared.negative_flips),
            "positive_flips": len(compared.positive_flips),
            "p_value": compared.p_value,
        }
    if isinstance(compared, YesNoComparison):
        figures |= {
            "broken_to_negative": compared.broken_to_negative,
            "broken_to_positive": compared.broken_to_positive,
            "no_answers": compared.new.no_answers,
            "old_no_answers": compared.old.no_answers,
        }
        for name, group in compared.by_knowledge.items():
            figures |= {f"{name}_examples": group.n, f"{name}_bias": group.new.bias, f"{name}_shift": group.shift}
    return figures
