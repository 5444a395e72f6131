"""Two runs compared: measured, held to bounds, and shown in a terminal, on a page and as pictures."""

from .compare import RunComparison, compare_runs

__all__ = ["RunComparison", "compare_runs"]
