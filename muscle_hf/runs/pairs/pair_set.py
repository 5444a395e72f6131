"""Preference pairs that were made: what they are, how long, what was left out; as a file and as a data set."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import InputError
from ...files import replaced
from ...flips.inputs import is_number
from ...flips.paired_tests import coin_test
from ...flips.rates import p_equation, strict_json
from ...packages import require
from ...text import how_many
from .prompts import Prompt

if TYPE_CHECKING:
    from datasets import Dataset

OLD, SAMPLE, REFERENCE, ROLLOUT = "old", "new_sample", "reference", "rollout"
SOURCES = {
    OLD: "the old model's answer",
    SAMPLE: "a sample of the new model",
    REFERENCE: "the right answer",
    ROLLOUT: "a right rollout",
}
"""What `chosen_from` may be -> in words."""

_LEVEL = 0.05
# Longer words on average are none: a script without spaces is measured in characters.
_LONGEST_WORD = 20


@dataclass(frozen=True)
class Pair:
    """A right answer preferred to a wrong one: the columns of the data set."""

    prompt: Prompt
    chosen: str
    rejected: str
    id: str | int
    chosen_from: str


COLUMNS = tuple(field.name for field in fields(Pair))


@dataclass(frozen=True)
class PairSet:
    """Pairs of negative flips, or of other wrong answers, with what is told of them."""

    pairs: tuple[Pair, ...]
    flips: int
    """How many negative flips there were."""
    left_out: Mapping[str, int]
    """Why flips are in no pair -> how many."""
    notes: tuple[str, ...] = ()
    kind: str = "negative flip"
    """What `flips` counts."""

    @classmethod
    def of(
        cls,
        pairs: Iterable[Pair],
        flips: int,
        left_out: Mapping[str, int],
        ratio: float | None,
        notes: Iterable[str],
        kind: str = "negative flip",
    ) -> "PairSet":
        """Leave out what teaches nothing, and pairs in which one answer is longer than so many times the other."""
        check_ratio(ratio)
        reasons, kept = dict(left_out), list(pairs)

        def leave_out(reason: str, unfit: list[bool]) -> None:
            nonlocal kept
            if any(unfit):
                reasons[reason] = sum(unfit)
                kept = [pair for pair, is_unfit in zip(kept, unfit, strict=True) if not is_unfit]

        leave_out("whose chosen answer is empty", [not pair.chosen.strip() for pair in kept])
        leave_out("with the same text on both sides", [pair.chosen.strip() == pair.rejected.strip() for pair in kept])
        leave_out("with half of a character (a surrogate), which no file holds", [_is_cut(pair) for pair in kept])
        if ratio is not None:
            sizes = _sizes(kept)[1]
            unequal = [max(both) > ratio * min(both) for both in sizes]
            leave_out(f"in which one answer is more than {ratio:g} times as long as the other", unequal)
        kinds = {isinstance(pair.prompt, str) for pair in kept}
        if len(kinds) > 1:
            raise InputError(
                "some prompts are texts and others messages, and one data set cannot hold both; bring them to one "
                "form."
            )
        return cls(tuple(kept), flips, reasons, tuple(notes), kind)

    @property
    def lines(self) -> list[str]:
        """Say what the pairs are, what was left out, and how much longer the chosen answers are."""
        if not self.flips:
            return [f"no {self.kind}s, so there are no pairs"]
        counts = {name: sum(pair.chosen_from == name for pair in self.pairs) for name in SOURCES}
        chosen = ", ".join(f"{SOURCES[name]} in {count:,}" for name, count in counts.items() if count)
        told = [f"{how_many(len(self.pairs), 'pair')} of {how_many(self.flips, self.kind)}"]
        told[0] += f"; chosen is {chosen}" if chosen else ""
        told += [f"left out: {count:,} {reason}" for reason, count in self.left_out.items()]
        return [*told, *self._lengths(), *self._glued(), *self.notes] if self.pairs else [*told, *self.notes]

    def _lengths(self) -> list[str]:
        unit, sizes = _sizes(self.pairs)
        chosen, rejected = (sum(side) / len(sizes) for side in zip(*sizes, strict=True))
        longer, shorter = sum(one > other for one, other in sizes), sum(one < other for one, other in sizes)
        p = coin_test(longer, shorter)
        line = (
            f"chosen answers have {chosen:.1f} {unit} on average, rejected ones {rejected:.1f}; longer in {longer:,} "
            f"pairs, shorter in {shorter:,} (sign test, {p_equation(p)})"
        )
        if p <= _LEVEL:
            line += ": a trainer may learn the length in place of what is right"
        return [line]

    def _glued(self) -> list[str]:
        """Say where an answer would follow the last letter of its prompt."""
        count = sum(
            isinstance(pair.prompt, str)
            and not pair.prompt[-1].isspace()
            and any(text[:1].strip() for text in (pair.chosen, pair.rejected))
            for pair in self.pairs
        )
        if not count:
            return []
        return [
            f"nothing stands between prompt and answer in {how_many(count, 'pair')}: end the prompts as the model "
            "knows them, such as with a line end, before you train"
        ]

    def rows(self) -> list[dict[str, Any]]:
        """Give the pairs as TRL takes them: texts, or for prompts of messages one message of the assistant."""
        rows = [{name: getattr(pair, name) for name in COLUMNS} for pair in self.pairs]
        for row in rows:
            if not isinstance(row["prompt"], str):
                for side in ("chosen", "rejected"):
                    row[side] = [{"role": "assistant", "content": row[side]}]
        return rows

    def write(self, path: Path) -> Path:
        """Write a line of JSON for each pair; the file is replaced as a whole."""
        with replaced(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.writelines(f"{strict_json(row)}\n" for row in self.rows())
        return path

    def dataset(self) -> "Dataset":
        """Give a data set; its description is what is told of the pairs."""
        require("hub", "a data set of preference pairs", "datasets")
        from datasets import Dataset, DatasetInfo, Features, Value

        told = "\n".join(self.lines)
        if not self.pairs:
            features = Features(dict.fromkeys(COLUMNS, Value("string")))
            info = DatasetInfo(description=told, features=features)
            return Dataset.from_dict({name: [] for name in features}, features, info)
        return Dataset.from_list(self.rows(), info=DatasetInfo(description=told))


def check_ratio(ratio: Any) -> None:
    """Refuse a ratio of two lengths below 1, which no pair would keep to."""
    if ratio is not None and not (is_number(ratio) and ratio >= 1):
        raise InputError(
            f"max_length_ratio is {ratio!r}, but must be a number from 1 up, such as 1.5: the longer answer of a pair "
            "has at most so many times the length of the other."
        )


def _sizes(pairs: Iterable[Pair]) -> tuple[str, list[tuple[int, int]]]:
    """Measure both answers of each pair in words; in characters where texts have no spaces."""
    texts = [(pair.chosen, pair.rejected) for pair in pairs]
    words = [(len(chosen.split()), len(rejected.split())) for chosen, rejected in texts]
    characters = [(len(chosen), len(rejected)) for chosen, rejected in texts]
    if sum(map(sum, characters)) > _LONGEST_WORD * sum(map(sum, words)):
        return "characters", characters
    return "words", words


def _is_cut(pair: Pair) -> bool:
    texts = [pair.prompt] if isinstance(pair.prompt, str) else [turn["content"] for turn in pair.prompt]
    return any("\ud800" <= letter <= "\udfff" for text in (*texts, pair.chosen, pair.rejected) for letter in text)
