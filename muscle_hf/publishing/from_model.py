"""A model's own `save_pretrained` and `push_to_hub`, which leave the card of this package where they write."""

import inspect
import json
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, HfApi
from peft import PeftModel
from torch import nn

from ..card.checks import check
from ..card.files import AdapterCard
from ..card.lineage import Lineage, record_base_commit
from ..card.public_files import checked_texts
from ..errors import ConfigurationError, InputError
from ..files import write_text
from ..hub.commit import commit
from ..hub.failures import hub_failures
from ..hub.lookup import is_local, looking_up
from ..hub.names import is_id
from ..hub.shipped_files import shipped_files
from ..models.embedding_rows import save_with_rows

_HUB_OPTIONS = ("commit_message", "commit_description", "private", "token", "revision", "create_pr", "tags")


@dataclass(frozen=True)
class CarriedCard:
    """What a model brings along wherever it is saved or pushed: plain data, renewed while its trainer is there."""

    card: AdapterCard
    tokenizer: Any  # the tokenizer that the model was trained with, or None
    with_config: bool  # the configuration is saved beside an adapter, because it names the classes
    has_own_title: bool  # somebody chose it; otherwise it follows the repository's name


class _CardedMethod:
    """A function in the place of a method; a copy or a pickle of the model has it as well, for the copy.

    It keeps neither the model in memory, which would otherwise wait for the garbage collector, nor the trainer.
    """

    def __init__(
        self, model: nn.Module, function: Callable[..., Any], renew: Callable[[], Callable[[], None] | None]
    ) -> None:
        self._model, self._function, self._renew = weakref.ref(model), function, renew

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        model = self._model()
        if model is None:
            raise ReferenceError("The model that this method was made for is gone; keep it, and call its method.")
        if renew := self._renew():
            renew()
        return self._function(model, *arguments, **options)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._model(), self._function, _nobody)


def _nobody() -> None:
    """Stand for the trainer of a copy, which has none."""


def bring_card_along(model: Any, carried: CarriedCard, renew: Callable[[], Callable[[], None] | None]) -> None:
    """Let the `save_pretrained` and `push_to_hub` of a model, and of copies of it, bring our card along.

    `renew` is a weak reference to what puts a new card in the place of this one, whenever it is needed.
    """
    model.save_pretrained = _CardedMethod(model, _save_with_card, renew)
    model.push_to_hub = _CardedMethod(model, _push_with_card, renew)
    model.muscle_card = carried


def _save_with_card(model: Any, /, *arguments: Any, push_to_hub: bool = False, **options: Any) -> None:
    hub = {name: options.pop(name) for name in (*_HUB_OPTIONS, "repo_id") if push_to_hub and name in options}
    saved = inspect.signature(type(model).save_pretrained).bind(model, *arguments, **options).arguments
    folder = Path(saved["save_directory"])
    with _base_at_hand(model, folder):
        save_with_rows(model, *arguments, **options)
    if not saved.get("is_main_process", True):
        return
    if model.muscle_card.with_config and isinstance(model, PeftModel):
        # An adapter's own config does not say what the classes are called, and the next update needs to know.
        model.config.save_pretrained(folder)
    # Last: PEFT has just written a README of its own.
    model.muscle_card.card.write(folder)
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
        content = json.loads(written.read_text(encoding="utf-8")) | {"base_model_name_or_path": name}
        write_text(written, json.dumps(content, indent=2, sort_keys=True))


def _push_with_card(
    model: Any,
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
        carried: CarriedCard = model.muscle_card
        # The card's snippets load it from there.
        if carried.tokenizer is not None:
            carried.tokenizer.save_pretrained(folder)
        more = (tags,) if isinstance(tags, str) else tuple(tags or ())
        title = carried.card.title if carried.has_own_title else name.rpartition("/")[2]
        replace(carried.card, title=title, repository=name, tags=(*carried.card.tags, *more)).write(Path(folder))
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
    """List what of a folder goes to the Hub, if its card can go there and nothing in it tells about this machine."""
    problems = check((folder / "README.md").read_text(encoding="utf-8"))
    if problems:
        raise InputError(f"The card in {folder} cannot go to the Hub: {' '.join(problems)}")
    files = shipped_files(folder)
    checked_texts({name: path for name, path in files.items() if name != "README.md"})
    return files


def record_base(model: Any, lineage: Lineage) -> None:
    """Let an adapter's configuration name its base by the id and the commit of the Hub, where they are known."""
    if not isinstance(model, PeftModel):
        return
    if lineage.new_base_revision and lineage.new_base:
        # The configuration may still name the folder of somebody's machine.
        model.active_peft_config.base_model_name_or_path = lineage.new_base
    record_base_commit(model, lineage.new_base_revision)


def refuse_local_base(model: Any) -> None:
    """Refuse to push an adapter that names its base by a path of this machine: it would be published, and no use."""
    if not isinstance(model, PeftModel):
        return
    base = _base_name(model)
    if base and (is_local(base) or not is_id(base)):
        raise ConfigurationError(
            f"The adapter names its base as {base!r}, a folder of this machine, so nobody else could load it. "
            "Load the base by its id on the Hub; or save the adapter and push its folder with that id: `muscle-hf "
            "push FOLDER org/name --base-model org/base`."
        )


def _base_name(model: PeftModel) -> str:
    """The id or path of an adapter's base, empty where it is not known."""
    base = model.get_base_model()
    return str(model.active_peft_config.base_model_name_or_path or getattr(base, "name_or_path", None) or "")
