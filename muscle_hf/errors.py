"""The exceptions of muscle_hf: every message says what was got, what was expected and how to fix it."""


class MuscleError(Exception):
    """Base class of every exception that muscle_hf raises on purpose."""


class InputError(MuscleError, ValueError):
    """Answers, scores or files that cannot be compared as they are."""


class ConfigurationError(MuscleError, ValueError):
    """Options that contradict each other or that have no meaning."""


class ArgumentError(ConfigurationError, TypeError):
    """An argument that a trainer or a config does not have, or one that is missing."""


class ModelMismatchError(MuscleError, ValueError):
    """Two models that cannot be trained against each other, such as ones with different vocabularies."""


class UnsupportedAdapterError(MuscleError, ValueError):
    """An adapter that the compatibility loss would silently ignore or get wrong."""


class TeacherError(MuscleError, RuntimeError):
    """A teacher whose output cannot be learned from, such as one that gives NaN."""


class HubError(MuscleError, RuntimeError):
    """The Hugging Face Hub cannot be asked, or refuses what was asked; the message says which of the two, and why."""
