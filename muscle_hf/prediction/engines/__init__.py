"""Where a model runs that answers: in this process."""

from .in_process import TransformersEngine
from .interface import Engine

__all__ = ["Engine", "TransformersEngine"]
