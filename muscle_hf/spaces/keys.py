"""The figures of each metric: its keys, and where they stand in a comparison; the same from Python and on the page."""

from collections.abc import Mapping

from ..flips.agreements import Agreement
from ..flips.comparison import Comparison
from ..flips.score_comparison import ScoreComparison

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
OF_SCORES = {
    "negative_flip_rate": "negative_flip_rate",
    "positive_flip_rate": "positive_flip_rate",
    "mean_gain": "mean_gain",
    "mean_regression": "mean_regression",
    "mean_score": "new_mean",
    "old_mean_score": "old_mean",
    "mean_change": "mean_change",
}


def figures_of(compared: Comparison | ScoreComparison | Agreement, keys: Mapping[str, str]) -> dict[str, float]:
    """Return a comparison's figures by the keys of a metric; those of flips with their numbers and p-value."""
    figures = {key: float(getattr(compared, attribute)) for key, attribute in keys.items()}
    if not isinstance(compared, Agreement) and "negative_flip_rate" in keys:
        figures |= {
            "negative_flips": len(compared.negative_flips),
            "positive_flips": len(compared.positive_flips),
            "p_value": compared.p_value,
        }
    return figures
