"""The tasks: labelled rows, texts without labels, validation rows and test questions, the same ones for every seed.

No test question is among the others, and none is used for a choice. Texts without labels stand for a log: their
classes are in the files, and are never looked at.
"""

import csv
import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

from muscle_hf.demo.data import read_intents

MASSIVE = Path(__file__).parents[2] / "examples" / "data" / "massive"
EQUATIONS = Path(__file__).parent / "data" / "gsm8k_equations"
Row = dict[str, str]


@dataclass(frozen=True)
class Task:
    """Rows of texts and intents; the old model's may be fewer."""

    old_labelled: list[Row]
    old_validation: list[Row]
    labelled: list[Row]
    validation: list[Row]
    unlabelled: list[Row]
    test: list[Row]

    @property
    def labels(self) -> int:
        """How many labelled rows the new model takes, those of the validation included."""
        return len(self.labelled) + len(self.validation)

    @property
    def references(self) -> list[str]:
        """The right answers of the test."""
        return [row["intent"] for row in self.test]

    @cached_property
    def digest(self) -> str:
        """A digest of all rows: another one is another task under the same name."""
        parts = [[(row["text"], row["intent"]) for row in getattr(self, part.name)] for part in fields(self)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def texts_of(rows: Sequence[Row]) -> list[str]:
    """Return the texts of rows."""
    return [row["text"] for row in rows]


def share_right(answers: Sequence[str], rows: Sequence[Row]) -> float:
    """Return the share of the rows that are answered rightly, word for word."""
    return sum(answer == row["intent"] for answer, row in zip(answers, rows, strict=True)) / len(rows)


def shuffled(rows: Sequence[Row]) -> list[Row]:
    """Return rows in an order of their own; the files go by intent."""
    found = list(rows)
    random.Random(0).shuffle(found)  # noqa: S311 - no secret
    return found


def massive(_: Path | None) -> Task:
    """MASSIVE's update by data: 1,000 old rows, 500 more for the new model; half of its test stands for a log."""

    def rows(name: str) -> list[Row]:
        with (MASSIVE / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    train, validation, test = rows("train"), rows("dev"), shuffled(rows("test"))
    return _task(
        [row for row in train if row["split"] == "old"],
        [row for row in validation if row["split"] == "old"],
        train,
        validation,
        test[2000:],
        test[:2000],
    )


def clinc150(_: Path | None) -> Task:
    """CLINC150 with 10 labelled rows a class; 6,000 of the other training rows stand for a log."""
    train = shuffled(read_intents("train"))
    seen: dict[str, int] = {}
    labelled, others = [], []
    for row in train:
        seen[row["intent"]] = seen.get(row["intent"], 0) + 1
        (labelled if seen[row["intent"]] <= 10 else others).append(row)
    validation = shuffled(read_intents("val"))[:1000]
    return _task(labelled, validation, labelled, validation, others[:6000], list(read_intents("test")))


def clinc150_oos(data: Path | None) -> Task:
    """CLINC150 with questions that are out of scope: a class of 100 rows beside 150 of 10, a tenth of the test."""
    folder = (data or Path()) / "clinc150"

    def rows(name: str) -> list[Row]:
        lines = (folder / f"oos_{name}.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line]

    plain, test = clinc150(None), shuffled(rows("test"))
    labelled, validation = plain.labelled + rows("train"), plain.validation + rows("val")
    unlabelled = plain.unlabelled + test[500:]
    return _task(labelled, validation, labelled, validation, unlabelled, plain.test + test[:500])


def clinc150_text(_: Path | None) -> Task:
    """CLINC150 as text to text: the utterance and a line break, the words of its intent; fewer rows of each kind."""
    task = clinc150(None)
    parts = task.labelled, task.validation[:400], task.unlabelled[:2400], shuffled(task.test)[:1000]
    labelled, validation, unlabelled, test = (
        [{"text": f"{row['text']}\n", "intent": row["intent"].replace("_", " ")} for row in part] for part in parts
    )
    return _task(labelled, validation, labelled, validation, unlabelled, test)


def arithmetic(_: Path | None) -> Task:
    """GSM8K's one-step equations: "48/2=" is asked, "24" right; so many rows of each kind as of CLINC150 as text."""

    def rows(name: str) -> list[Row]:
        lines = (EQUATIONS / f"{name}.txt").read_text(encoding="utf-8").split()
        parts = [line.partition("=") for line in lines]
        return shuffled([{"text": f"{asked}=", "intent": right} for asked, _, right in parts])

    train, test = rows("train"), rows("test")
    labelled, validation, unlabelled = train[:1500], train[1500:1900], train[1900:4300]
    return _task(labelled, validation, labelled, validation, unlabelled, test[:1000])


TASKS: dict[str, Callable[[Path | None], Task]] = {
    "massive": massive,
    "clinc150": clinc150,
    "clinc150-oos": clinc150_oos,
    "clinc150-text": clinc150_text,
    "arithmetic": arithmetic,
}


def _task(*parts: list[Row]) -> Task:
    """Make a task of its rows, without test questions outside of the test and without known texts in the log."""
    *others, unlabelled, test = parts
    asked = {row["text"] for row in test}
    others = [[row for row in part if row["text"] not in asked] for part in others]
    known = asked | {row["text"] for part in others for row in part}
    return Task(*others, [row for row in unlabelled if row["text"] not in known], test)


def made_texts(texts: Sequence[str], number: int) -> list[str]:
    """Make texts of texts, no two alike and none of those given: words left out, halves joined, words exchanged."""
    chance = random.Random(0)  # noqa: S311 - no secret
    known, made = set(texts), list[str]()
    for _ in range(100 * number):
        if len(made) == number:
            return made
        words, others = (chance.choice(texts).split() for _ in range(2))
        way = chance.randrange(3)
        if way == 0:
            words = [word for word in words if chance.random() > 0.2]
        elif way == 1:
            words = words[: chance.randint(1, len(words))] + others[chance.randrange(len(others)) :]
        else:
            words = [chance.choice(others) if chance.random() < 0.2 else word for word in words]
        text = " ".join(words)
        if text and text not in known:
            known.add(text)
            made.append(text)
    raise ValueError(f"{number} texts cannot be made of {len(texts)}.")


def small(task: Task, rows: int, classes: int = 4) -> Task:
    """Return a task with so few rows of each kind, of the commonest of the old model's classes."""
    common = {name for name, _ in Counter(row["intent"] for row in task.old_labelled).most_common(classes)}
    parts = [getattr(task, part.name) for part in fields(task)]
    return Task(*(shuffled([row for row in part if row["intent"] in common])[:rows] for part in parts))
