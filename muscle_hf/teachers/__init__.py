"""What the old and the new model give to learn from: live, or from a cache."""

from ..packages import required

with required("train", "muscle_hf.teachers"):
    from .live import FrozenModelTeacher, SharedBaseTeacher, dense_head

__all__ = ["FrozenModelTeacher", "SharedBaseTeacher", "dense_head"]
