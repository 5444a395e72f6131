"""Lines that a command prints about what it has done."""

import contextlib
import sys


def print_line(text: str) -> None:
    """Print a line; what is done is done, also where nobody reads about it any more."""
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


def tell(command: str, text: str) -> None:
    """Write a line on standard error, also where nobody reads it any more."""
    with contextlib.suppress(BrokenPipeError):
        sys.stderr.write(f"muscle-hf {command}: {text}\n")
