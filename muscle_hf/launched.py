"""Whether torchrun, accelerate launch or the like has started this process as one of several, as they say it."""

import os


def place_of_launcher() -> tuple[int, int]:
    """Return this process's number, counted from 0, and how many there are; (0, 1) where nobody launched it.

    Some clusters name a number of processes for a job that is none; a launcher numbers those of a machine as well.

    Example:
        >>> place_of_launcher()
        (0, 1)
    """
    named = [os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")]
    if not all(number.isdecimal() for number in named):
        return 0, 1
    return int(named[0]), int(named[1])


def is_one_of_several() -> bool:
    """Tell whether there are others."""
    return place_of_launcher()[1] > 1
