"""Files, folders and data sets of answers: read, and two of them joined by their ids."""

from .answers import Run, TaskAnswers
from .sources import read

__all__ = ["Run", "TaskAnswers", "read"]
