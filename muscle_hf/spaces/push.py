"""The metric modules to the Hub, each as a Space, so that `evaluate.load("org/negative_flips")` works for all."""

import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import RepositoryNotFoundError

from ..errors import ConfigurationError, MuscleError
from ..hub.commit import commit
from ..hub.failures import hub_failures
from ..hub.names import check_repository
from .registration import METRICS, metric_folder

_REQUIREMENTS = "requirements.txt"
_PACKAGE = re.compile(r"(?P<name>muscle_hf)(?P<extras>\[[\w,-]+\])?(?P<rest>\s*[<>=!~;@].*)?")
_HIDDEN_WHEEL = (
    "a private Space cannot install a wheel that lies in it, since its address asks for a token; push public Spaces, "
    "or give a requirement that can be installed without one."
)
_WHEEL = re.compile(r"muscle_hf-[\w.+!]+-[\w.]+-[\w.]+-[\w.]+\.whl")


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
    requirement: str | Path | None = None,
    token: str | bool | None = None,
) -> list[PushedSpace]:
    """Push metric modules to the Hub, each as a Space with one commit of its folder.

    The same call again finishes what a failure has left, and changes nothing otherwise.

    Args:
        namespace: The user or organization that gets the Spaces.
        names: Metrics to push, of `registration.METRICS`. None stands for all.
        private: Whether only the owner sees new Spaces. None leaves it to the owner's settings.
        requirement: From where the Spaces install muscle_hf: a requirement, such as "muscle_hf==0.1.0" or "muscle_hf @
            git+https://…", or the path of a wheel. A wheel is pushed into each Space and installed from its address
            there, which has to be public. None takes what stands in each folder's requirements.txt.
        token: Token of the Hub. None takes the saved one.

    Returns:
        One `PushedSpace` for each metric, sorted by name.

    Raises:
        ConfigurationError: No such metric, a namespace that the Hub cannot have, a requirement of another package, a
            wheel for private Spaces, or a Space of that name that is something else, or public where private ones are
            asked for.
        HubError: The Hub cannot be reached or refuses; the message says which Spaces are there by then.

    Example:
        >>> [space.repository for space in push_metrics("org", names=["consistency"])]  # doctest: +SKIP
        ['org/consistency']
    """
    if private and is_wheel(requirement):
        raise ConfigurationError(_HIDDEN_WHEEL)
    repositories = {name: space_name(namespace, name) for name in chosen_metrics(names)}
    folders = {name: space_files(name, repository, requirement) for name, repository in repositories.items()}
    there = {}
    for name, repository in repositories.items():
        there[name], is_private = _look_at(name, repository, private, token)
        if is_private and is_wheel(requirement):
            raise ConfigurationError(f"{repository} is private: {_HIDDEN_WHEEL} Nothing was pushed.")
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
                # Wheels of an earlier push.
                delete=[path for path in there[name] if _WHEEL.fullmatch(path)],
            )
        except MuscleError as error:
            if not pushed:
                raise
            raise type(error)(f"{error} Pushed before: {', '.join(space.repository for space in pushed)}.") from error
        url = done.repo_url.url
        pushed.append(PushedSpace(name, repository, url, done.oid, done.changed, tuple(sorted(files))))
    return pushed


def chosen_metrics(names: Collection[str] | None = None) -> list[str]:
    """Return the names of metrics, sorted, of all where none are given, or refuse one that there is not."""
    chosen = METRICS if names is None else set(names)
    unknown = sorted(chosen - METRICS)
    if unknown or not chosen:
        got = f"there is no metric {unknown[0]!r}" if unknown else "no metric is named"
        raise ConfigurationError(f"{got}; choose from {', '.join(sorted(METRICS))}.")
    return sorted(chosen)


def space_name(namespace: str, name: str) -> str:
    """Return the id of a metric's Space, or refuse a namespace that the Hub cannot have."""
    if "/" in namespace:
        raise ConfigurationError(f"{namespace!r} is no namespace; give a user or an organization, such as org.")
    return check_repository(f"{namespace}/{name}")


def is_wheel(requirement: str | Path | None) -> bool:
    """Tell whether a requirement is the path of a wheel."""
    text = str(requirement)
    return text.endswith(".whl") and not _PACKAGE.fullmatch(text)


def space_files(name: str, repository: str, requirement: str | Path | None = None) -> dict[str, bytes | Path]:
    """Return the files of a metric's Space: its folder, and where that installs muscle_hf from."""
    folder = metric_folder(name)
    if folder is None:
        raise ConfigurationError(f"this installation lacks the folder of {name}; install muscle_hf again.")
    # What Python and editors leave behind does not belong to the metric.
    kept = (path for path in sorted(Path(folder).iterdir()) if path.is_file() and not path.name.startswith("."))
    files: dict[str, bytes | Path] = {path.name: path for path in kept}
    if requirement is None:
        return files
    own = _PACKAGE.match((Path(folder) / _REQUIREMENTS).read_text(encoding="utf-8"))
    extras = (own and own["extras"]) or ""
    if is_wheel(requirement):
        wheel = Path(requirement)
        if not wheel.is_file() or not _WHEEL.fullmatch(wheel.name):
            raise ConfigurationError(f"{wheel} is no wheel of muscle_hf; `make dist` builds one.")
        files[wheel.name] = wheel
        # Not by its path: a Space installs what is required before its files are there. The hash stands for the
        # content, so that another wheel of the same name is installed anew.
        address = f"{constants.ENDPOINT}/spaces/{repository}/resolve/main/{quote(wheel.name)}"
        line = f"muscle_hf{extras} @ {address}#sha256={hashlib.sha256(wheel.read_bytes()).hexdigest()}"
    else:
        given = _PACKAGE.fullmatch(str(requirement).strip())
        if given is None or given["extras"]:
            raise ConfigurationError(
                f"requirement is {str(requirement)!r}; one of muscle_hf without extras is needed, such as "
                "'muscle_hf>=0.1.0', or the path of its wheel."
            )
        line = f"muscle_hf{extras}{given['rest'] or ''}"
    files[_REQUIREMENTS] = f"{line}\n".encode()
    return dict(sorted(files.items()))


def _look_at(name: str, repository: str, private: bool | None, token: str | bool | None) -> tuple[set[str], bool]:
    """Return a Space's files and whether it is private; one that is something else, or seen by others, is refused."""
    with hub_failures("look at the Space", repository, "space"):
        try:
            found = HfApi(token=token).space_info(repository)
        except RepositoryNotFoundError:
            return set(), False  # new, or hidden from this token, which the push will find out
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
    return there, bool(found.private)
