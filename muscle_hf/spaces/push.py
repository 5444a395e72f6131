"""The metric modules to the Hub, each as a Space, so that `evaluate.load("org/negative_flips")` works for all."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError

from ..errors import ConfigurationError, MuscleError
from ..hub.commit import commit
from ..hub.failures import hub_failures
from ..hub.names import check_repository
from .registration import METRICS, metric_folder


@dataclass(frozen=True)
class PushedSpace:
    """A Space of a metric that is on the Hub now.

    Args:
        name: The metric, such as "negative_flips".
        repository: What `evaluate.load` takes, such as "org/negative_flips".
        url: Its page.
        commit: Hash of the commit that has the files.
        changed: Whether that is a new commit. False where the same files were there already.
        files: Paths in the Space.
    """

    name: str
    repository: str
    url: str
    commit: str
    changed: bool
    files: tuple[str, ...]


def push_metrics(
    namespace: str,
    *,
    names: Collection[str] | None = None,
    private: bool | None = None,
    token: str | bool | None = None,
) -> list[PushedSpace]:
    """Push metric modules to the Hub, each as a Space with one commit of its folder.

    The same call again finishes what a failure has left, and changes nothing otherwise.

    Args:
        namespace: The user or organization that gets the Spaces.
        names: Metrics to push, of `registration.METRICS`. None stands for all.
        private: Whether only the owner sees new Spaces. None leaves it to the owner's settings.
        token: Token of the Hub. None takes the saved one.

    Returns:
        One `PushedSpace` for each metric, sorted by name.

    Raises:
        ConfigurationError: No such metric, a namespace that the Hub cannot have, or a Space of that name that is
            something else, or public where private ones are asked for.
        HubError: The Hub cannot be reached or refuses; the message says which Spaces are there by then.

    Example:
        >>> [space.repository for space in push_metrics("org", names=["consistency"])]  # doctest: +SKIP
        ['org/consistency']
    """
    folders = {name: space_files(name) for name in chosen_metrics(names)}
    repositories = {name: space_name(namespace, name) for name in folders}
    for name, repository in repositories.items():
        _refuse_others(name, repository, private, token)
    pushed: list[PushedSpace] = []
    for name, files in folders.items():
        repository = repositories[name]
        try:
            done = commit(
                files,
                repository,
                message=f"Upload the metric {name}",
                kind="space",
                space_sdk="gradio",
                private=private,
                token=token,
            )
        except MuscleError as error:
            if not pushed:
                raise
            raise type(error)(f"{error} Pushed before: {', '.join(space.repository for space in pushed)}.") from error
        url = done.repo_url.url
        pushed.append(PushedSpace(name, repository, url, done.oid, done.changed, tuple(sorted(files))))
    return pushed


def chosen_metrics(names: Collection[str] | None = None) -> list[str]:
    """Return the names of metrics, sorted, or refuse one that there is not.

    Args:
        names: The names; None stands for all.

    Raises:
        ConfigurationError: There is no such metric, or none is named.

    Example:
        >>> chosen_metrics(["negative_flips", "consistency"])
        ['consistency', 'negative_flips']
    """
    chosen = METRICS if names is None else set(names)
    unknown = sorted(chosen - METRICS)
    if unknown or not chosen:
        got = f"there is no metric {unknown[0]!r}" if unknown else "no metric is named"
        raise ConfigurationError(f"{got}; choose from {', '.join(sorted(METRICS))}.")
    return sorted(chosen)


def space_name(namespace: str, name: str) -> str:
    """Return the id of a metric's Space.

    Args:
        namespace: The user or organization.
        name: The metric.

    Raises:
        ConfigurationError: The Hub has no such names.

    Example:
        >>> space_name("org", "consistency")
        'org/consistency'
    """
    if "/" in namespace:
        raise ConfigurationError(f"{namespace!r} is no namespace; give a user or an organization, such as org.")
    return check_repository(f"{namespace}/{name}")


def space_files(name: str) -> Mapping[str, Path]:
    """Return the files of a metric's folder, as they go into its Space.

    Args:
        name: The metric.

    Returns:
        Path in the Space -> file, sorted.

    Raises:
        ConfigurationError: This installation lacks the folder.

    Example:
        >>> list(space_files("consistency"))
        ['README.md', 'app.py', 'consistency.py', 'requirements.txt', 'tests.py']
    """
    folder = metric_folder(name)
    if folder is None:
        raise ConfigurationError(f"this installation lacks the folder of {name}; install muscle_hf again.")
    # What Python and editors leave behind does not belong to the metric.
    kept = (path for path in sorted(Path(folder).iterdir()) if path.is_file() and not path.name.startswith("."))
    return {path.name: path for path in kept}


def _refuse_others(name: str, repository: str, private: bool | None, token: str | bool | None) -> None:
    """Refuse to write into a Space that is something else, or that others see and should not."""
    with hub_failures("look at the Space", repository, "space"):
        try:
            found = HfApi(token=token).space_info(repository)
        except RepositoryNotFoundError:
            return  # new, or hidden from this token, which the push will find out
    there = {one.rfilename for one in found.siblings or ()}
    if private is not None and bool(found.private) != private:
        is_now, wanted = ("private", "public") if found.private else ("public", "private")
        raise ConfigurationError(
            f"the Space {repository} is {is_now}, and a push does not make it {wanted}; change that in its settings, "
            "or leave the option out. Nothing was pushed."
        )
    if "app.py" in there and f"{name}.py" not in there:
        raise ConfigurationError(
            f"the Space {repository} has an app.py and no {name}.py, so it is something else; rename or delete it on "
            "the Hub, or choose another namespace. Nothing was pushed."
        )
