"""A cell: one strategy on one task of one update with one seed, kept as a small JSON file, whole or not at all."""

import base64
import hashlib
import importlib.metadata
import json
import platform
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import muscle_hf
from muscle_hf.files import write_text
from muscle_hf.flips.rates import strict_json

RESULTS = Path(__file__).parent / "results"
RATES = (
    *("negative_flip_rate", "positive_flip_rate", "inconsistency_flip_rate", "relative_negative_flip_rate"),
    "balanced_negative_flip_rate",
)
PACKAGES = ("numpy", "torch", "transformers")


class Key(NamedTuple):
    """Which cell."""

    update: str
    task: str
    strategy: str
    seed: int

    def __str__(self) -> str:
        """Name it in a message."""
        return f"{self.update}/{self.task}/{self.strategy}, seed {self.seed}"

    def file(self, folder: Path, suffix: str = ".json") -> Path:
        """Return where it lies below a folder."""
        return folder / self.update / self.task / f"{self.strategy}-{self.seed}{suffix}"


@dataclass(frozen=True)
class Cell:
    """What a cell came to; all that the table needs."""

    update: str
    task: str
    strategy: str
    seed: int
    n: int
    """Test questions."""
    right: str
    """A bit for each of them, whether it is answered rightly: see `bits`."""
    answers: str
    """Digest of the answers."""
    accuracy: float
    counts: dict[str, int]
    """Against the old model: answers lost, gained, both wrong, and both wrong with the same answer."""
    rates: dict[str, float | None]
    validation_accuracy: float | None
    labels: int
    """Labelled rows that it was trained on, those of the models that it starts from included."""
    texts: int
    """Texts without labels that it was trained on."""
    steps: int
    """Optimizer steps, those of the model that it starts from left out."""
    seconds: float
    """Of one thread's processor time, training and answering."""
    needs: dict[str, str]
    """Digests of the answers of the models that it was made from."""
    settings: dict[str, Any]
    versions: dict[str, str]
    machine: str
    references: str = ""
    """Right answers of the test questions, see `packed`, where they are classes; cells of before have none."""
    gradients: dict[str, float] = field(default_factory=dict)
    """Mean cosine between the gradients of task and compatibility loss, and share of the steps where they conflict;
    empty where nobody looked."""

    @property
    def key(self) -> Key:
        """Say which cell it is."""
        return Key(self.update, self.task, self.strategy, self.seed)

    def was_made_with(self, settings: Mapping[str, Any]) -> bool:
        """Say whether it was made with these settings; the precision is the machine's."""
        return self.settings | {"bf16": None} == {**settings, "bf16": None}

    def write(self, folder: Path) -> None:
        """Write its file."""
        path = self.key.file(folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, f"{strict_json(asdict(self), indent=1)}\n")


def read(path: Path) -> Cell:
    """Read a cell, and refuse a file that is none."""
    try:
        cell = Cell(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise SystemExit(f"{path} is no cell ({error}). Remove it; the next run makes it again.") from error
    if cell.key.file(Path()) != Path(*path.parts[-3:]):
        raise SystemExit(f"{path} holds another cell: {cell.key}. Remove it; the next run makes it again.")
    return cell


def read_all(folder: Path) -> Iterator[Cell]:
    """Read all cells below a folder, in the order of their names."""
    for path in sorted(folder.glob("*/*/*.json")):
        yield read(path)


def bits(flags: Sequence[bool] | NDArray[np.bool_]) -> str:
    """Pack flags into text."""
    return base64.b64encode(np.packbits(np.asarray(flags, dtype=bool))).decode("ascii")


def flags(packed: str, n: int) -> NDArray[np.bool_]:
    """Unpack the flags of `bits`."""
    return np.unpackbits(np.frombuffer(base64.b64decode(packed), dtype=np.uint8), count=n).astype(bool)


def packed(texts: Sequence[str]) -> str:
    """Pack texts into one."""
    return base64.b64encode(zlib.compress(json.dumps(list(texts)).encode(), 9)).decode("ascii")


def unpacked(text: str) -> list[str]:
    """Unpack the texts of `packed`."""
    return list(json.loads(zlib.decompress(base64.b64decode(text))))


def digest(answers: Sequence[str]) -> str:
    """Return a digest of answers."""
    return hashlib.sha256(json.dumps(list(answers)).encode()).hexdigest()[:16]


def versions() -> dict[str, str]:
    """Return the versions of what the figures depend on."""
    own = {"python": platform.python_version(), "muscle_hf": muscle_hf.__version__}
    return own | {name: importlib.metadata.version(name) for name in PACKAGES}


def flip_figures(
    old: Sequence[str], answers: Sequence[str], references: Sequence[str]
) -> tuple[dict[str, int], dict[str, float | None]]:
    """Compare answers with the old model's; return counts and rates, an undefined one as None."""
    compared = muscle_hf.compare(old=list(old), new=list(answers), references=list(references))
    counts = {
        "negative_flips": len(compared.negative_flips),
        "positive_flips": len(compared.positive_flips),
        "both_wrong": compared.both_wrong,
        "both_wrong_same": int(compared.both_wrong_same or 0),
    }
    found = {name: float(getattr(compared, name)) for name in RATES}
    return counts, {name: None if np.isnan(rate) else rate for name, rate in found.items()}
