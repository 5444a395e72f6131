"""The version of this package, where its page is, and the versions of the libraries that decide what is trained."""

from functools import cache

__version__ = "0.1.0"


@cache  # each card asks, and each checkpoint has a card
def homepage() -> str | None:
    """Return the page of the repository, as the installed package's metadata has it; None while it names none."""
    import importlib.metadata  # takes as long to import as all of this package but the readers

    try:
        urls = importlib.metadata.metadata("muscle_hf").get_all("Project-URL") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((url.partition(", ")[2] for url in urls if url.startswith("Repository, ")), None)


@cache
def library_versions() -> str:
    """Return the versions of the libraries that decide what is trained, such as "torch 2.13.0, peft 0.21.2"."""
    # Not the metadata for this package: an editable install keeps the version of the day it was made.
    import importlib.metadata

    others = ("torch", "transformers", "trl", "peft")
    return ", ".join([f"muscle_hf {__version__}", *(f"{name} {importlib.metadata.version(name)}" for name in others)])
