"""What an update changed: rates, intervals and tests of negative and positive flips."""

from .agreements import Agreement, agreement
from .comparison import Comparison, compare, compare_correct
from .coupled import coupled_estimate
from .coupled_result import CoupledEstimate, CoupledPart
from .score_comparison import ScoreComparison, compare_scores

__all__ = [
    "Agreement",
    "Comparison",
    "CoupledEstimate",
    "CoupledPart",
    "ScoreComparison",
    "agreement",
    "compare",
    "compare_correct",
    "compare_scores",
    "coupled_estimate",
]
