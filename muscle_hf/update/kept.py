"""What an interrupted update has left, in words: read from the disk, so that nothing is promised that is not there."""

import json
from pathlib import Path
from typing import Any

from ..training.kept_work import left_of_answers, left_of_training, sentence
from .evidence import ANSWERS
from .stage import FOLDER


def what_is_kept(output_dir: Path) -> str:
    """Say what the next call of the same command does not have to do again.

    Args:
        output_dir: The folder of the update; it need not exist.

    Returns:
        A sentence or two on one line.
    """
    marks = sorted((output_dir / FOLDER).glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    parts = [part for mark in marks if (part := _kept_of(mark, output_dir)) is not None]
    return sentence(output_dir, parts)


def _kept_of(mark: Path, output_dir: Path) -> str | None:
    try:
        stage: dict[str, Any] = json.loads(mark.read_text(encoding="utf-8"))
        title = str(stage.get("title", mark.stem))
        if stage["finished"]:
            return f"{title}, finished"
    except (ValueError, KeyError, AttributeError):
        return None
    kind, _, key = mark.stem.partition("-")
    left = (
        left_of_answers(output_dir / ANSWERS / f"{key}.jsonl")
        if kind == "answers"
        else left_of_training(output_dir / mark.stem)
    )
    return None if left is None else f"{title}, {left}"
