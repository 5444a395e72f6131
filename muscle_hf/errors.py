"""The exceptions of muscle_hf: every message says what was got, what was expected and how to fix it."""

import difflib
from collections.abc import Mapping
from typing import Any


class MuscleError(Exception):
    """Base class of every exception that muscle_hf raises on purpose."""


class InputError(MuscleError, ValueError):
    """Answers, scores or files that cannot be compared as they are."""


class ConfigurationError(MuscleError, ValueError):
    """Options that contradict each other or that have no meaning."""


class ArgumentError(ConfigurationError, TypeError):
    """An argument that a trainer or a config does not have, or one that is missing."""


class MissingPackageError(ConfigurationError, ImportError):
    """A package that is not installed; the message names the extra of muscle_hf that brings it."""


class ModelMismatchError(MuscleError, ValueError):
    """Two models that cannot be trained against each other, such as ones with different vocabularies."""


class UnsupportedAdapterError(MuscleError, ValueError):
    """An adapter that the compatibility loss would silently ignore or get wrong."""


class TeacherError(MuscleError, RuntimeError):
    """A teacher whose output cannot be learned from, such as one that gives NaN."""


class DivergedError(MuscleError, RuntimeError):
    """A training whose weights have become NaN or infinity; nothing of these is saved."""


class HubError(MuscleError, RuntimeError):
    """The Hugging Face Hub cannot be asked, or refuses what was asked; the message says which of the two, and why."""


class EndpointError(MuscleError, RuntimeError):
    """An endpoint or a storage that cannot be reached, refuses what is asked, or answers with what is no answer."""


def unknown_option(option: str, value: object, known: Mapping[str, Any]) -> ConfigurationError:
    """Return the refusal of a name, with the nearest right one."""
    near = difflib.get_close_matches(str(value), known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return ConfigurationError(f"{option}={value!r} is unknown; choose one of {sorted(known)}.{hint}")
