"""What an update changed: rates, intervals and tests of negative and positive flips."""

from .agreements import Agreement, agreement
from .comparison import Comparison, compare, compare_correct
from .coupled import coupled_estimate
from .coupled_result import CoupledEstimate, CoupledPart
from .knowledge import knowledge_of
from .negative_bias import compare_yes_no
from .score_comparison import ScoreComparison, compare_scores
from .yes_no_comparison import YesNoComparison

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
