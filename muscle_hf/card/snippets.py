"""How to load what a card is about, as code that runs as it stands there."""

from collections.abc import Iterator
from dataclasses import dataclass

CLASSES = {
    "text-generation": "AutoModelForCausalLM",
    "text2text-generation": "AutoModelForSeq2SeqLM",
    "text-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
}
"""Task, as the Hub names it -> the class of transformers that has the head for it."""

THIS_FOLDER, NEW_BASE = "path/to/this/folder", "path/to/the/new/base"


@dataclass(frozen=True)
class Snippet:
    """A way to load.

    Args:
        title: What stands above the code, Markdown.
        code: The code.
    """

    title: str
    code: str


def snippets(
    task: str,
    *,
    adapter: str | None,
    base: str | None,
    commit: str | None,
    base_import: str | None,
    is_adapter: bool,
    rows: int | None = None,
) -> Iterator[Snippet]:
    """Give the ways to load a model, the one that needs least first.

    Args:
        task: A key of [`CLASSES`].
        adapter: Id of the adapter, or of the whole model, on the Hub.
        base: Id of the new base on the Hub.
        commit: Commit of that base.
        base_import: Where the base is not on the Hub, an import statement whose last word is its path.
        is_adapter: Whether it is an adapter, or a model that was trained as a whole.
        rows: Rows of the token embeddings, where the base has another number.
    """
    kind, this = CLASSES[task], f'"{adapter or THIS_FOLDER}"'
    if not is_adapter:
        yield Snippet(
            "With transformers:",
            f"from transformers import {kind}, AutoTokenizer\n\n"
            f"model = {kind}.from_pretrained({this})\n"
            f"tokenizer = AutoTokenizer.from_pretrained({this})",
        )
        return
    is_classifier = task.endswith("classification")
    imported = f"{base_import}\n" if base_import and not base else ""
    source = f'"{base}"' if base else base_import.split()[-1] if base_import else f'"{NEW_BASE}"'
    pinned = f', revision="{commit}"' if base and commit else ""
    # An adapter does not say how many classes there are; the configuration beside it does.
    config = f"config = AutoConfig.from_pretrained({this})  # the names of the classes\n" if is_classifier else ""
    with_config = ", config=config" if is_classifier else ""
    resized = f"base.resize_token_embeddings({rows}, mean_resizing=False)  # as in training\n" if rows else ""
    names = ", ".join(sorted(["AutoTokenizer", kind, *(["AutoConfig"] if is_classifier else [])]))
    yield Snippet(
        "With PEFT:",
        f"from peft import PeftModel\nfrom transformers import {names}\n{imported}\n{config}"
        f"base = {kind}.from_pretrained({source}{pinned}{with_config})\n"
        f"{resized}model = PeftModel.from_pretrained(base, {this})\n"
        f"tokenizer = AutoTokenizer.from_pretrained({this})",
    )
    # It finds the base by the adapter's configuration, and beside a config.json only where that lies on the Hub.
    if base and (adapter or not is_classifier) and not rows:
        names = ", ".join(sorted([kind, *(["AutoConfig"] if is_classifier else [])]))
        newest = ", which takes the newest commit of the base" if commit else ""
        yield Snippet(
            f"With transformers alone, where PEFT is installed{newest}:",
            f"from transformers import {names}\n\n{config}model = {kind}.from_pretrained({this}{with_config})",
        )
    given = f", base_model={source}" if not base else ""
    yield Snippet(
        "With muscle_hf, which says so where the base is not the one that this was trained on:",
        f"from muscle_hf import load_adapter\n{imported}\nmodel = load_adapter({this}{given})",
    )
