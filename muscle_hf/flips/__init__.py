"""What an update changed: rates, intervals and tests of negative and positive flips."""

from .agreements import Agreement, agreement
from .comparison import Comparison, compare, compare_correct
from .score_comparison import ScoreComparison, compare_scores

__all__ = ["Agreement", "Comparison", "ScoreComparison", "agreement", "compare", "compare_correct", "compare_scores"]
