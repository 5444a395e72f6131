"""Processor time: what a machine that does other work besides does not change much."""

import resource
from collections.abc import Callable


def seconds_of_children(run: Callable[[], object]) -> float:
    """Give the seconds that the processes which `run` starts and waits for keep a processor busy."""

    def spent() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = spent()
    run()
    return spent() - before
