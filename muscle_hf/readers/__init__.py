"""Files, folders and data sets of answers: read, and two of them joined by their ids."""

from .answers import Run, TaskAnswers
from .selection import FilterChoice
from .sources import read

__all__ = ["FilterChoice", "Run", "TaskAnswers", "read"]
