"""What the old and the new model give to learn from: live, or from a cache."""

from .live import FrozenModelTeacher, SharedBaseTeacher

__all__ = ["FrozenModelTeacher", "SharedBaseTeacher"]
