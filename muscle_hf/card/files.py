"""`AdapterCard`: a card's data, rendered, written into a folder and read from there."""

import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..files import write_text
from .data import CardData
from .names import CARD, PICTURE, RECORD
from .picture import draw
from .record import read_record, to_json
from .rendering import models_side_by_side, render

Ignore = Callable[[Any, list[str]], Iterable[str]]
"""As [`shutil.copytree`] takes it."""


class AdapterCard(CardData):
    """A model card: everything that it says, see [`CardData`][muscle_hf.card.data.CardData], and its files."""

    def render(self) -> str:
        """Return the card: front matter for the Hub and Markdown for people."""
        return render(self.public())

    def write(self, folder: str | Path) -> Path:
        """Write the card, its picture and its data into a folder: README.md, quadrants.png and comparison.json.

        Args:
            folder: A folder that exists. Files of these names are replaced, each as a whole; a picture that would no
                longer belong to the card is taken away.

        Returns:
            The path of the card.
        """
        target = Path(folder)
        card = self.public()
        drawn = card.ours is not None and draw(
            target / PICTURE, card.ours, card.name_of_this, card.slices, models_side_by_side(card.comparisons)
        )
        card = replace(card, has_picture=drawn)
        if not drawn:
            (target / PICTURE).unlink(missing_ok=True)
        for name, text in ((RECORD, to_json(card)), (CARD, render(card))):
            write_text(target / name, text)
        return target / CARD

    def write_with_adapter(self, source: Path, target: Path, ignore: Ignore) -> None:
        """Put a copy of an adapter's folder, but for what `ignore` names, and the card in the place of the target."""
        draft = target.with_name(f"{target.name}.tmp")
        shutil.rmtree(draft, ignore_errors=True)
        shutil.copytree(source, draft, ignore=ignore)
        self.write(draft)
        shutil.rmtree(target, ignore_errors=True)
        draft.replace(target)

    @staticmethod
    def read(folder: str | Path) -> "AdapterCard | None":
        """Read a card's data from the comparison.json of a folder.

        Args:
            folder: Where a card was written.

        Returns:
            The card, whose `render` gives the README.md beside it unless somebody edited that or another version of
            this package wrote it; None where there is no such file, or one of another kind.

        Raises:
            InputError: It is damaged, or written by a newer version.
        """
        return read_record(Path(folder) / RECORD, AdapterCard)
