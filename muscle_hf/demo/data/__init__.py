"""CLINC150 and the Wikipedia sentences that ship with the demo."""

import json
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent


@cache
def read_intents(split: str) -> tuple[dict[str, str], ...]:
    """Return the rows of a split of CLINC150, each with its `text` and `intent`, in the order of the file.

    The splits are "train" (15,000 rows), "val" (3,000) and "test" (4,500).
    """
    lines = (FOLDER / "clinc150" / f"{split}.jsonl").read_text(encoding="utf-8").split("\n")
    return tuple(json.loads(line) for line in lines if line)


def read_sentences() -> list[str]:
    """Return the Wikipedia sentences that the base models are pre-trained on."""
    return (FOLDER / "clinc150" / "wiki_sentences.txt").read_text(encoding="utf-8").rstrip("\n").split("\n")
