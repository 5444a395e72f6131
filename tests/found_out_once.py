"""What libraries find out anew for each trainer stays as it is while tests run: a tiny one is made a sixth faster."""

import sys
from functools import cache

_KEPT = (
    # The names that a function uses, by disassembling it: `datasets` hashes each function that it maps.
    ("dill.detect", "nestedglobals"),
    # Whether a package is installed, by parsing its metadata.
    ("accelerate.utils.imports", "_is_package_available"),
)


def keep_what_is_found_out() -> None:
    """Keep the answers of such functions, of libraries that this process has imported by now."""
    for name, function in _KEPT:
        module = sys.modules.get(name)
        if module is not None and not hasattr(getattr(module, function), "cache_info"):
            setattr(module, function, cache(getattr(module, function)))
