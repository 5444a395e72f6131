"""What interrupted work has left on disk, in a few words: read from the disk, so that nothing is promised in vain."""

from collections.abc import Sequence
from pathlib import Path

from ...prediction.kept_answers import count_kept, part_of
from ...teachers.cache.files import MANIFEST, read_manifest
from .kept import steps_done

UNLABELLED_ANSWERS = "unlabelled_answers"
"""Folder of the answers to unlabelled prompts, below that of the training."""


def sentence(folder: Path, parts: Sequence[str]) -> str:
    """Say what the next call of the same command need not do again: parts such as "the control, step 37 of 120"."""
    if not parts:
        return "Nothing is kept: the same command starts anew."
    return f"Kept in {folder}: {'; '.join(parts)}. The same command goes on there."


def left_of_training(folder: Path) -> str | None:
    """Say what a training that did not end has left, such as "step 37 of 120"; None where it has to start anew."""
    parts = []
    done = steps_done(folder)
    if done is not None:
        parts.append(f"step {done[0]} of {done[1]}")
    else:
        # What comes before the first step.
        answers = count_kept(folder / UNLABELLED_ANSWERS)
        if answers:
            parts.append(f"{answers:,} answers to unlabelled prompts")
        shards = left_of_cache(folder / "teacher_cache")
        if shards is not None:
            parts.append(shards)
    return " and ".join(parts) or None


def left_of_cache(root: Path) -> str | None:
    """Say how much of a teacher cache is there, such as "12 of 40 shards of the teacher cache"; None for nothing."""
    done = total = 0
    for path in root.glob(f"*/{MANIFEST}"):
        manifest = read_manifest(path.parent)
        if manifest is not None:
            total += manifest.shards
            done += sum(manifest.path_of(path.parent, shard).exists() for shard in range(manifest.shards))
    return f"{done:,} of {total:,} shards of the teacher cache" if done else None


def left_of_answers(output: Path) -> str | None:
    """Say how many answers are kept for a file that is not written yet, such as "64 answers"; None for none."""
    answers = count_kept(part_of(output))
    return f"{answers:,} answers" if answers else None
