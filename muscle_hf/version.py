"""The version of this package, and where its page is."""

__version__ = "0.1.0"


def homepage() -> str | None:
    """Return the page of the repository, as the installed package's metadata has it; None while it names none."""
    from importlib.metadata import PackageNotFoundError, metadata

    try:
        urls = metadata("muscle_hf").get_all("Project-URL") or []
    except PackageNotFoundError:
        return None
    return next((url.partition(", ")[2] for url in urls if url.startswith("Repository, ")), None)
