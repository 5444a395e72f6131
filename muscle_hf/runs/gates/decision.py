"""The record of a decision: what was read, asked and found, so that it can be reproduced and compared."""

import hashlib
import json
import math
import os
import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypeVar

from ...errors import InputError
from ...files import write_text
from ...flips.comparison import Comparison
from ...flips.rates import strict_json
from ...readers.answers import Origin
from ...text import one_line, quote
from ...version import __version__
from ..cells import Estimate, Point
from ..measure import Part
from ..outcomes import Outcomes
from .bounds import Bound
from .gate import Gate
from .kinds import RATES
from .policy import Policy

SCHEMA = "muscle_hf.decision"
SCHEMA_VERSION = 1
"""Version of what a decision is written as; it rises when a field is renamed, removed or changes its meaning."""

# What reading a document that is no decision ends in.
_FAULTS = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError)
_Value = TypeVar("_Value")
_SAME = 1e-9  # relative: so much may libraries of other versions change a figure


@dataclass(frozen=True)
class Decision:
    """A verdict with all that it was made from; made by `Decision.of` or `Decision.read`."""

    document: Mapping[str, Any]
    """What `muscle_hf/decision.schema.json` describes."""
    date: str
    """When it was made, in ISO 8601."""
    digest: str
    """Of the answers that were read, the bounds and the options: of the same ones it is the same."""
    verdict: str
    names: tuple[str, str]
    """Of the old and the new model."""
    inputs: Mapping[str, tuple[str, ...]]
    """"old answers", "new answers", "seed floor" -> digests of what was read."""
    asked: Mapping[str, str]
    """Each bound, required task and option -> its value."""
    held: Mapping[str, tuple[str, float]]
    """Row and bound -> verdict and estimate."""
    rows: Mapping[str, Point]
    """"all", where there is such a row, and each task."""
    files: Mapping[str, str]
    """Digest of each file that was read -> its name."""
    policy: str | None
    """Digest of the policy file."""
    versions: Mapping[str, str]
    """Of muscle_hf and of what decides its figures."""

    @classmethod
    def of(
        cls,
        outcomes: Outcomes,
        gate: Gate,
        bounds: Sequence[Bound],
        *,
        policy: Policy | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Self:
        """Record what came of holding a comparison to bounds.

        Args:
            outcomes: The comparison.
            gate: What `judge` said of it.
            bounds: All that it was held to.
            policy: Where a file has bounds among these.
            options: What else was asked for, by name, as JSON can hold it.

        Returns:
            The decision, of this moment.

        Raises:
            InputError: Answers that were not read from a file or the Hub, so that nobody could tell whether they are
                still the same.
        """
        old, new, *floor = (_input(origin) for origin in outcomes.origins)
        inputs = {"old": old, "new": new, "seed_floor": floor}
        asked = {
            "bounds": [
                {name: getattr(bound, name) for name in ("rate", "where", "value", "tier", "owner", "reason")}
                for bound in bounds
            ],
            "required_tasks": list(policy.required_tasks) if policy else [],
            "options": {"level": outcomes.level, "gate_on": gate.gate_on, **(options or {})},
        }
        document = {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "digest": "",
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "verdict": gate.verdict,
            "inputs": inputs,
            "policy": policy and {"source": policy.source, "sha256": policy.sha256},
            "asked": asked,
            "rows": [_row(name, part, outcomes.level) for name, part in _rows(outcomes)],
            "gate": gate.to_dict(),
            "versions": {"muscle_hf": __version__, "python": platform.python_version(), **_libraries()},
        }
        # As it is read back.
        document = json.loads(strict_json(document))
        return cls.from_dict(document | {"digest": _digest(document)})

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Take a decision as it is written; one of `_FAULTS` where it is none."""
        if document["schema"] != SCHEMA or document["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"its schema is {document['schema']} {document['schema_version']}")
        if document["digest"] != _digest(document):
            raise ValueError("its digest is not that of what it holds")
        datetime.fromisoformat(document["date"])
        inputs, gate = document["inputs"], document["gate"]
        if document["verdict"] != gate["verdict"]:
            raise ValueError("its verdict is not that of its gate")
        return cls(
            document=document,
            date=document["date"],
            digest=document["digest"],
            verdict=str(document["verdict"]),
            names=(str(inputs["old"]["name"]), str(inputs["new"]["name"])),
            inputs={
                "old answers": _identity(inputs["old"]),
                "new answers": _identity(inputs["new"]),
                "seed floor": tuple(part for run in inputs["seed_floor"] for part in _identity(run)),
            },
            asked=_named(_asked(document["asked"])),
            held=_named(
                (_held_name(document, held), (str(held["verdict"]), _number(held["estimate"])))
                for held in gate["bounds"]
            ),
            rows={str(row["row"]): _point(document, row) for row in document["rows"]},
            files={
                str(file["sha256"]): str(file["name"])
                for item in (inputs["old"], inputs["new"], *inputs["seed_floor"])
                for file in item["files"]
            },
            policy=None if document["policy"] is None else str(document["policy"]["sha256"]),
            versions={name: str(version) for name, version in document["versions"].items()},
        )

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a decision that was written.

        Raises:
            InputError: The file cannot be read, or holds no decision, or one that was changed.
        """
        try:
            return cls.parse(Path(path).read_bytes(), str(path))
        except OSError as error:
            raise InputError(
                f"{path} cannot be read ({error.strerror or error}); a file that --decision wrote is needed."
            ) from None

    @classmethod
    def parse(cls, text: bytes, where: str) -> Self:
        """Take a decision from its text; messages name where that stands."""
        try:
            document = json.loads(text.decode("utf-8"))
            if not isinstance(document, dict):
                raise TypeError(f"it holds {quote(document)}")
            return cls.from_dict(document)
        except _FAULTS as error:
            reason = f"no field {error}" if isinstance(error, KeyError) else one_line(error)
            raise InputError(
                f"{where} is no decision of muscle_hf {__version__} ({reason}): it was cut off or changed, or another "
                "version wrote it. Restore it, or remove it."
            ) from None

    def to_json(self, *, indent: int | None = None) -> str:
        """Give it as JSON, with null for what is undefined."""
        return strict_json(dict(self.document), indent=indent)

    def write(self, path: str | Path) -> Path:
        """Write it; to a temporary name, which is renamed."""
        write_text(Path(path), self.to_json(indent=2) + "\n")
        return Path(path)

    def asked_since(self, before: "Decision") -> list[str]:
        """Say what was read or asked otherwise than in an earlier decision."""
        others = [what for what, digests in self.inputs.items() if digests != before.inputs[what]]
        changed = [f"other {' and '.join(others)}"] if others else []
        changed += _differences(before.asked, self.asked)
        if before.asked == self.asked and self.policy and before.policy and self.policy != before.policy:
            changed.append("the policy file was edited, its bounds and options are the same")
        return changed

    def files_since(self, before: "Decision") -> list[str]:
        """Name the files that an earlier decision did not rest on."""
        return list(dict.fromkeys(name for digest, name in self.files.items() if digest not in before.files))

    def came_since(self, before: "Decision") -> list[str]:
        """Say what came of it otherwise than in an earlier decision, bound by bound."""
        changed = [] if self.verdict == before.verdict else [f"verdict {before.verdict} -> {self.verdict}"]
        for name in dict.fromkeys([*before.held, *self.held]):
            (was, old), (now, new) = (decision.held.get(name, ("not judged", math.nan)) for decision in (before, self))
            if was != now:
                changed.append(f"{name} {was} -> {now}")
            elif not (math.isclose(old, new, rel_tol=_SAME) or (math.isnan(old) and math.isnan(new))):
                changed.append(f"{name} {old:.4g} -> {new:.4g}")
        return changed

    def versions_since(self, before: "Decision") -> list[str]:
        """Say which versions are others than those of an earlier decision."""
        return _differences(before.versions, self.versions)


def _held_name(document: Mapping[str, Any], held: Mapping[str, Any]) -> str:
    """Name a bound as tables do: its row and its rate."""
    kinds = {str(row["row"]): str(row["kind"]) for row in document["rows"]}
    # Slices have no row there; they are of the same kind where all is.
    of_others = "answers" if "answers" in kinds.values() else "scores"
    kind = RATES[str(held["rate"])]
    title = kind.title_of_scores if kinds.get(str(held["row"]), of_others) == "scores" else kind.title
    return f"{held['row']}: {title or held['rate']}"


def _rows(outcomes: Outcomes) -> Iterator[tuple[str, Part]]:
    if outcomes.overall:
        yield "all", outcomes.overall
    for part in outcomes.tasks:
        if part is not outcomes.overall:
            yield part.name, part


def _row(name: str, part: Part, level: float) -> dict[str, Any]:
    compared = part.comparison

    def figure(rate: str) -> dict[str, float]:
        low, high = compared.confidence_interval(rate, level)
        return {"estimate": float(getattr(compared, rate)), "low": low, "high": high}

    score = "accuracy" if isinstance(compared, Comparison) else "mean"
    return {
        "row": name,
        "kind": "scores" if part.has_scores else "answers",
        "metric": part.metric,
        "n": part.n,
        "negative_flip_rate": figure("negative_flip_rate"),
        "old": float(getattr(compared, f"old_{score}")),
        "new": figure(f"new_{score}"),
    }


def _input(origin: Origin) -> dict[str, Any]:
    """Digest what was read; of a folder whose reader does not say which of its files it took, all of them."""
    source = Path(origin.source)
    files = [Path(file) for file in origin.files]
    if not files and source.exists():
        files = [source] if source.is_file() else sorted(file for file in source.rglob("*") if file.is_file())
    if not files and origin.revision is None:
        raise InputError(
            f"{origin.source} was not read from files or a commit of the Hub that is known, so nobody could tell "
            "whether these are still the same answers; compare files, or data sets of the Hub."
        )
    return {
        "name": origin.name,
        "source": origin.source,
        # Of one table several models may be read.
        "column": origin.source[len(str(files[0])) + 1 :] if files and str(files[0]) != origin.source else "",
        "revision": origin.revision,
        "files": [_file(file, source if source.is_dir() else file.parent) for file in files],
    }


def _file(file: Path, folder: Path) -> dict[str, Any]:
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return {"name": Path(os.path.relpath(file, folder)).as_posix(), "bytes": file.stat().st_size, "sha256": digest}


def _identity(item: Mapping[str, Any]) -> tuple[str, ...]:
    """Give what has to be the same for the answers to be the same, wherever their files lie."""
    digests = tuple(sorted(str(file["sha256"]) for file in item["files"]))
    return (*(digests or (str(item["source"]), str(item["revision"]))), str(item["column"]))


def _digest(document: Mapping[str, Any]) -> str:
    inputs = document["inputs"]
    identities = [_identity(item) for item in (inputs["old"], inputs["new"], *inputs["seed_floor"])]
    content = [identities, sorted(_asked(document["asked"]))]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _asked(asked: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Give each thing that was asked with its value; who asks and why is not part of it."""
    for bound in asked["bounds"]:
        tier = "" if bound["tier"] == "required" else f" ({bound['tier']})"
        yield f"{bound['rate']} {bound['where']}{tier}", f"{_number(bound['value']):.12g}"
    for task in asked["required_tasks"]:
        yield f"required task {task}", "asked"
    for name, value in asked["options"].items():
        yield str(name), json.dumps(value, sort_keys=True)


def _named(pairs: Iterable[tuple[str, _Value]]) -> dict[str, _Value]:
    """Number names that stand more than once, as of two bounds of one rate on one row."""
    named, seen = dict[str, _Value](), Counter[str]()
    for name, value in pairs:
        seen[name] += 1
        named[name if seen[name] == 1 else f"{name} ({seen[name]})"] = value
    return named


def _differences(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    return [
        f"{name} {old.get(name, 'not asked')} -> {new.get(name, 'not asked')}"
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    ]


def _point(document: Mapping[str, Any], row: Mapping[str, Any]) -> Point:
    def estimate(value: Mapping[str, Any], *, percent: bool) -> Estimate:
        figure, low, high = ((100 if percent else 1) * _number(value[name]) for name in ("estimate", "low", "high"))
        return Estimate(figure, low, high, "z.1f" if percent else "z.4g")

    is_score = row["kind"] == "scores"
    return Point(
        date=document["date"],
        model=str(document["inputs"]["new"]["name"]),
        verdict=str(document["verdict"]),
        n=int(row["n"]),
        is_score=is_score,
        negative_flip_rate=estimate(row["negative_flip_rate"], percent=True),
        new=estimate(row["new"], percent=not is_score),
    )


def _number(value: Any) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{quote(value)} is no number")
    return float(value)


def _libraries() -> dict[str, str]:
    import numpy as np
    import pyarrow as pa

    return {library.__name__: library.__version__ for library in (np, pa)}
