"""A model's own `save_pretrained` and `push_to_hub`, which leave the card of this package where they write."""

import inspect
import json
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, HfApi
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils._validators import validate_repo_id
from peft import PeftModel
from torch import nn

from ..card.checks import check
from ..card.lineage import Lineage, record_base_commit
from ..card.public_files import checked_texts
from ..errors import ConfigurationError, InputError
from ..files import replaced
from ..hub.commit import commit
from ..hub.failures import hub_failures
from ..hub.lookup import is_local, looking_up
from ..hub.shipped_files import shipped_files
from ..models.embedding_rows import save_with_rows

_HUB_OPTIONS = ("commit_message", "commit_description", "private", "token", "revision", "create_pr", "tags")


class CardSource:
    """Gives the card of a model: its trainer's as long as there is one, and after that the last one that it gave.

    It does not keep the trainer, and with it the old model, in memory.

    Args:
        trainer: Has a method `card`, see [`ShipsItsCard`][muscle_hf.publishing.from_trainer.ShipsItsCard].
        with_config: The model's configuration is saved beside an adapter, because it names the classes.
    """

    def __init__(self, trainer: Any, *, with_config: bool = False) -> None:
        """Remember the trainer, weakly."""
        self._trainer: Callable[[], Any] = weakref.ref(trainer)
        self.with_config = with_config
        self._last: Any = None
        self._tokenizer: Any = None

    def tokenizer(self) -> Any:
        """Return the tokenizer that the model was trained with, or None."""
        trainer = self._trainer()
        if trainer is not None:
            self._tokenizer = trainer.processing_class
        return self._tokenizer

    def card(self, repository: str | None = None) -> Any:
        """Return the card as it is now, or, without a trainer, as it was last; None if there never was one.

        Args:
            repository: Where the model goes; by default where the trainer pushes.
        """
        trainer = self._trainer()
        if trainer is not None:
            self._tokenizer = trainer.processing_class
            self._last = trainer.card()
            return self._last if repository is None else trainer.card(repository)
        if repository is None or self._last is None:
            return self._last
        return replace(self._last, repository=repository)

    def __deepcopy__(self, memo: dict[int, Any]) -> "CardSource":
        """Serve a copy of the model as well."""
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Take the card along, and not the trainer."""
        return {"with_config": self.with_config, "_last": self.card(), "_tokenizer": self.tokenizer()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Go on with the card that was taken along."""
        vars(self).update(state, _trainer=_no_trainer)


def _no_trainer() -> None:
    """Stand for the trainer of a model that comes from a file."""


class _CardedMethod:
    """A function in the place of a method; a copy of the model has it as well, for the copy.

    It does not keep the model in memory, which would otherwise wait for the garbage collector.
    """

    def __init__(self, model: nn.Module, function: Callable[..., Any], source: CardSource) -> None:
        self._model, self._function, self._source = weakref.ref(model), function, source

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._function(self._alive(), self._source, *arguments, **options)

    def _alive(self) -> nn.Module:
        model = self._model()
        if model is None:
            raise ReferenceError("The model that this method was made for is gone; copy it with copy.deepcopy.")
        return model

    def __deepcopy__(self, memo: dict[int, Any]) -> "_CardedMethod":
        model = self._alive()
        return type(self)(memo.get(id(model), model), self._function, self._source)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._alive(), self._function, self._source)


def bring_card_along(model: nn.Module, source: CardSource) -> None:
    """Let a model's `save_pretrained` and `push_to_hub` bring our card along; copies and pickles of it do so too.

    Args:
        model: A [`transformers.PreTrainedModel`] or a [`peft.PeftModel`], changed in place.
        source: Gives its card.
    """
    model.save_pretrained = _CardedMethod(model, _save_with_card, source)  # type: ignore[assignment]
    model.push_to_hub = _CardedMethod(model, _push_with_card, source)  # type: ignore[assignment]


def _save_with_card(
    model: Any, source: CardSource, /, *arguments: Any, push_to_hub: bool = False, **options: Any
) -> None:
    hub = {name: options.pop(name) for name in (*_HUB_OPTIONS, "repo_id") if push_to_hub and name in options}
    given = inspect.signature(type(model).save_pretrained).bind(model, *arguments, **options).arguments
    folder = Path(given["save_directory"])
    with _base_at_hand(model, folder):
        save_with_rows(model, *arguments, **options)
    if not given.get("is_main_process", True):
        return
    if source.with_config and isinstance(model, PeftModel):
        # An adapter's own config does not say what the classes are called, and the next update needs to know.
        model.config.save_pretrained(folder)
    # Last: PEFT has just written a README of its own.
    card = source.card()
    if card is not None:
        card.write(folder)
    if push_to_hub:
        # The push saves once more, and has to save the same.
        saving = {name: value for name, value in options.items() if name != "save_directory"}
        model.push_to_hub(hub.pop("repo_id", folder.name), **hub, **saving)


@contextmanager
def _base_at_hand(model: Any, folder: Path) -> Iterator[None]:
    """Let PEFT find the config of a base that lies on this machine, which it would ask the Hub for by another name.

    It wants to know whether the vocabulary has grown. What it writes names the base as the adapter does.
    """
    if not isinstance(model, PeftModel):
        yield
        return
    config, place = model.active_peft_config, str(getattr(model.get_base_model(), "name_or_path", None) or "")
    name = _base_name(model)
    if not is_local(place) or is_local(name):
        with looking_up(name) if name else nullcontext():
            yield
        return
    config.base_model_name_or_path = place
    try:
        yield
    finally:
        config.base_model_name_or_path = name
    written = folder / "adapter_config.json"
    if written.is_file():
        with replaced(written) as temporary:
            content = json.loads(written.read_text(encoding="utf-8")) | {"base_model_name_or_path": name}
            temporary.write_text(json.dumps(content, indent=2, sort_keys=True), encoding="utf-8")


def _push_with_card(
    model: Any,
    source: CardSource,
    /,
    repo_id: str,
    *,
    commit_message: str | None = None,
    commit_description: str | None = None,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    tags: str | list[str] | None = None,
    **saving: Any,
) -> CommitInfo:
    """Push a model as one commit; the arguments are those of [`transformers.utils.PushToHubMixin.push_to_hub`]."""
    refuse_local_base(model)
    with hub_failures("push the model", repo_id):
        name = repo_id if "/" in repo_id else f"{HfApi().whoami(token)['name']}/{repo_id}"
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, **saving)
        # The card's snippets load it from there.
        tokenizer = source.tokenizer()
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
        card = source.card(name)
        if card is not None:
            more = (tags,) if isinstance(tags, str) else tuple(tags or ())
            replace(card, tags=(*card.tags, *more)).write(Path(folder))
        return commit(
            checked_files(Path(folder)),
            name,
            message=": ".join(part for part in (commit_message or "Upload model", commit_description) if part),
            private=private,
            revision=revision,
            create_pr=create_pr,
            token=token,
        )


def checked_files(folder: Path) -> dict[str, Path]:
    """List what of a folder goes to the Hub, if its card can go there and nothing in it tells about this machine.

    Args:
        folder: Where a model was saved.

    Raises:
        InputError: The Hub would refuse the card, or it tells about this machine; or see [`shipped_files`].
    """
    problems = check((folder / "README.md").read_text(encoding="utf-8"))
    if problems:
        raise InputError(f"The card in {folder} cannot go to the Hub: {' '.join(problems)}")
    files = shipped_files(folder)
    checked_texts({name: path for name, path in files.items() if name != "README.md"})
    return files


def record_base(model: Any, lineage: Lineage) -> None:
    """Let an adapter's configuration name the base that it is trained on, by its id and commit where they are known.

    Args:
        model: A [`peft.PeftModel`], changed in place; a model without adapter stays as it is.
        lineage: Where the base comes from.
    """
    if not isinstance(model, PeftModel):
        return
    if lineage.new_base_revision and lineage.new_base:
        # The configuration may still name the folder of somebody's machine.
        model.active_peft_config.base_model_name_or_path = lineage.new_base
    record_base_commit(model, lineage.new_base_revision)


def refuse_local_base(model: Any) -> None:
    """Refuse to push an adapter whose configuration names its base by a path of this machine.

    Args:
        model: A [`peft.PeftModel`]; a model without adapter brings its base along.

    Raises:
        ConfigurationError: Nobody could load it, and the path would be published.
    """
    if not isinstance(model, PeftModel):
        return
    base = _base_name(model)
    if base and not _is_hub_id(base):
        raise ConfigurationError(
            f"The adapter names its base as {base!r}, a folder of this machine, so nobody else could load it. "
            "Load the base by its id on the Hub; or save the adapter and push its folder with that id: `muscle-hf "
            "push FOLDER org/name --base-model org/base`."
        )


def _base_name(model: PeftModel) -> str:
    """The id or path of an adapter's base, empty where it is not known."""
    base = model.get_base_model()
    return str(model.active_peft_config.base_model_name_or_path or getattr(base, "name_or_path", None) or "")


def _is_hub_id(name: str) -> bool:
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return not is_local(name)
