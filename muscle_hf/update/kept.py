"""What an interrupted update or demo has left, in words: read from the disk, so that nothing is promised in vain."""

import json
from pathlib import Path

from ..training.checkpoints.kept_work import left_of_answers, left_of_training, sentence
from .stage import FOLDER


def what_is_kept(output_dir: Path) -> str:
    """Say in a sentence or two what the next call of the same command does not have to do again."""
    marks = sorted((output_dir / FOLDER).rglob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    parts = [part for mark in marks if (part := _kept_of(mark, output_dir)) is not None]
    return sentence(output_dir, parts)


def _kept_of(mark: Path, output_dir: Path) -> str | None:
    try:
        stage = json.loads(mark.read_text(encoding="utf-8"))
        title, output = str(stage["title"]), output_dir / stage["outputs"][0]
        is_finished = stage["finished"]
    except (ValueError, KeyError, TypeError, IndexError):
        return None
    if is_finished:
        return f"{title}, finished"
    left = left_of_answers(output) if output.suffix == ".jsonl" else left_of_training(output.parent)
    return None if left is None else f"{title}, {left}"
