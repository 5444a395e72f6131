"""A disk that is full while something of a training is written: what is kept, and what to do, in one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import ConfigurationError
from ...files import is_full_disk
from .kept import is_cut_off, remove_cut_off, steps_done

# What torch and safetensors say, without a number, when a file cannot be written.
_CANNOT_WRITE = (
    *("PytorchStreamWriter", "inline_container", "iostream error"),
    *("No space left", "os error 28", "File too large"),
)


@contextmanager
def explaining_a_full_disk(folder: Path, *, is_command: bool) -> Iterator[None]:
    """Say of a training that cannot write that the disk is full, what of it is kept, and how it goes on.

    A command goes on by itself when it is given again, a script where it asks for it.
    """
    try:
        yield
    except Exception as error:  # tokenizers raises no other
        if not _is_of_full_disk(error):
            raise
        done = steps_done(folder)
        kept = "Nothing of this training is kept" if done is None else f"Step {done[0]} of {done[1]} is kept"
        if is_command:
            remove_cut_off(folder)  # the disk needs the room, and a command begins by removing them anyway
        again = "give the same command again" if is_command else "call train(resume_from_checkpoint=True)"
        raise ConfigurationError(
            f"{_refusal(folder, error)} {kept}. Make room and {again}: it goes on there."
        ) from error


@contextmanager
def saving_whole(folder: Path, *, is_told: bool) -> Iterator[None]:
    """Leave no cut-off weights where a model is saved and the disk is full; say so, unless somebody else does."""
    try:
        yield
    except Exception as error:
        if is_told or not _is_of_full_disk(error):
            raise
        for path in folder.glob("*.safetensors"):
            if is_cut_off(path):
                path.unlink()
        raise ConfigurationError(
            f"{_refusal(folder, error)} What lies there is not whole. Make room and save once more, or elsewhere: "
            "the trainer still has the weights."
        ) from error


def _is_of_full_disk(error: Exception) -> bool:
    return is_full_disk(error) or any(complaint in str(error) for complaint in _CANNOT_WRITE)


def _refusal(folder: Path, error: Exception) -> str:
    return f"{folder} cannot be written to: the disk is full ({str(error).splitlines()[0][:200]})."
