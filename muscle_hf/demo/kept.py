"""What an interrupted demo has left, in words: read from the disk, so that nothing is promised that is not there."""

from pathlib import Path

from ..training.kept_work import left_of_answers, left_of_training, sentence
from .run import CONTENDERS, NEW, UPDATES, answers_of


def what_is_kept(output_dir: Path) -> str:
    """Say what the next call of the same command does not have to do again.

    Args:
        output_dir: The folder of the demo; it need not exist.

    Returns:
        A sentence or two on one line.
    """
    parts = []
    for contender in (NEW, *UPDATES):
        folder = output_dir / contender.folder
        left = "finished" if (folder / "finished").exists() else left_of_training(folder)
        parts += [f"{contender.name}, {left}"] if left else []
    for split in ("validation", "test"):
        for contender in CONTENDERS:
            path = answers_of(output_dir, contender, split)
            left = "finished" if path.exists() else left_of_answers(path)
            parts += [f"the {split} set asked of {contender.name}, {left}"] if left else []
    return sentence(output_dir, parts)
