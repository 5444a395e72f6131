"""What an update changed: rates, intervals and tests of negative and positive flips."""

from .agreements import Agreement, agreement
from .comparison import Comparison, compare, compare_correct
from .grading.coupled import coupled_estimate
from .grading.coupled_result import CoupledEstimate, CoupledPart
from .score_comparison import ScoreComparison, compare_scores
from .yes_no.comparison import YesNoComparison
from .yes_no.knowledge import knowledge_of
from .yes_no.negative_bias import compare_yes_no

__all__ = [
    "Agreement",
    "Comparison",
    "CoupledEstimate",
    "CoupledPart",
    "ScoreComparison",
    "YesNoComparison",
    "agreement",
    "compare",
    "compare_correct",
    "compare_scores",
    "compare_yes_no",
    "coupled_estimate",
    "knowledge_of",
]
