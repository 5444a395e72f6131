"""The teacher cache: the targets of both frozen teachers, computed once, kept on disk and read at each step.

`spec` says what a cache has to hold, `files` how it lies on the disk; `writer` fills it, `reader` reads it, and
`shards` checks and maps what is read. `losses/topk.py` and `losses/sampled.py` have the short forms of a distribution,
`models/fingerprints.py` names what the targets were made from.
"""

from .reader import TeacherCache
from .spec import CacheSpec
from .writer import write_cache

__all__ = ["CacheSpec", "TeacherCache", "write_cache"]
