"""What an update changed: rates, intervals and tests of negative and positive flips."""

from .comparison import Agreement, Comparison, agreement, compare, compare_correct
from .score_comparison import ScoreComparison, compare_scores

__all__ = ["Agreement", "Comparison", "ScoreComparison", "agreement", "compare", "compare_correct", "compare_scores"]
