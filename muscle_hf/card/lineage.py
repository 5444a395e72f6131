"""Where the models of an update come from: names, and the commits of the Hub that were really loaded."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

from ..hub.lookup import is_local
from ..hub.names import is_commit


@dataclass(frozen=True)
class Lineage:
    """Where the models of a training run come from; None where it is not known.

    Args:
        new_base: The new base model, as an id of the Hub or a path.
        new_adapter: The task adapter on the new base.
        old_base: The old base model.
        old_adapter: The task adapter on the old base.
        new_base_revision: Commit of the new base.
        new_adapter_revision: Commit of the task adapter on the new base.
        old_base_revision: Commit of the old base.
        old_adapter_revision: Commit of the task adapter on the old base.
    """

    new_base: str | None
    new_adapter: str | None
    old_base: str | None
    old_adapter: str | None
    new_base_revision: str | None = None
    new_adapter_revision: str | None = None
    old_base_revision: str | None = None
    old_adapter_revision: str | None = None

    @classmethod
    def of(
        cls,
        *,
        new: Any,
        old: Any,
        new_name: Any,
        old_name: Any,
        new_base_revision: str | None = None,
        old_base_revision: str | None = None,
    ) -> "Lineage":
        """Read the names that loaded models carry, and find the commits of adapters that were loaded by name."""

        def base(model: Any) -> str | None:
            return getattr(model.config, "name_or_path", "") or None

        def adapter(model: Any, name: Any) -> str | None:
            return str(name) if hasattr(model, "peft_config") and isinstance(name, str | Path) else None

        new_adapter, old_adapter = adapter(new, new_name), adapter(old, old_name)
        return cls(
            base(new),
            new_adapter,
            base(old),
            old_adapter,
            new_base_revision=new_base_revision,
            new_adapter_revision=commit_of_adapter(new_adapter),
            old_base_revision=old_base_revision,
            old_adapter_revision=commit_of_adapter(old_adapter),
        )


def commit_of(name: str | Path | None, file: str, revision: str | None = None) -> str | None:
    """Tell which commit of a repository of the Hub lies in the cache, which is the one that was loaded last.

    Args:
        name: Id of the repository. A folder of that name is what `from_pretrained` takes, and has no commit.
        file: A file that loading always reads, such as "config.json".
        revision: What was asked for: a branch, a tag or a commit. Defaults to "main".

    Returns:
        The 40 digits of the commit; None where it is not known.

    Example:
        >>> commit_of("no/such-repository", "config.json") is None
        True
    """
    try:
        if name is None or is_local(name):
            return None
        found = try_to_load_from_cache(str(name), file, revision=revision)
    except (HFValidationError, OSError, ValueError):  # no id of the Hub
        return None
    # The client's cache keeps a file as snapshots/COMMIT/FILE.
    commit = Path(found).parent.name if isinstance(found, str) else None
    return commit if is_commit(commit) else None


def commit_of_base(model: Any, given: Any, revision: str | None) -> str | None:
    """Tell which commit of its base a loaded model comes from.

    Args:
        model: The loaded model.
        given: What the user passed. Of a model that the user loaded nobody knows the commit.
        revision: What was asked for.
    """
    base = getattr(model.config, "name_or_path", None)
    return commit_of(base, "config.json", revision) if isinstance(given, str | Path) else None


def commit_of_adapter(name: str | Path | None) -> str | None:
    """Tell which commit of an adapter was loaded."""
    return commit_of(name, "adapter_config.json")


def record_base_commit(model: Any, commit: str | None) -> None:
    """Note the base's commit in an adapter's configuration, so that whoever loads it can take the same base."""
    for config in getattr(model, "peft_config", {}).values():
        if commit and not config.revision:
            config.revision = commit
