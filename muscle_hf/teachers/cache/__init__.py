"""The teacher cache: the targets of both frozen teachers, computed once, kept on disk and read at each step.

`spec` says what a cache has to hold, `files` how it lies on the disk; `writer` fills it, and `reader` reads it. `topk`
is the short form of a distribution, and `fingerprints` names what the targets were made from.
"""

from .reader import TeacherCache
from .spec import CacheSpec
from .writer import write_cache

__all__ = ["CacheSpec", "TeacherCache", "write_cache"]
