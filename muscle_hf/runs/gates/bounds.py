"""The bounds of a gate: what a rate must not be above or below, who asks for it, and how much hangs on it."""

import re
from dataclasses import dataclass, field
from typing import Any

from ...errors import InputError
from ...flips.inputs import is_number
from ...text import printable, quote
from .kinds import RATES as RATES

GATE_ON = ("interval", "estimate")
UNDECIDED = ("fail", "pass")
TIERS = REQUIRED, ADVISORY, INFORMATIVE = ("required", "advisory", "informative")
"""What hangs on a bound: the verdict; a count beside it; nothing, it is shown."""
MARGINS = {"margin": "min_accuracy_change", "relative_margin": "min_relative_accuracy_change"}
"""Options that say by how much a rate may fall -> the bound that this is, with the other sign."""
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


@dataclass(frozen=True)
class Bound:
    """What a rate must not be above ("max_...") or below ("min_..."); a value that it cannot have is refused."""

    rate: str
    """One of `RATES`."""
    where: str
    """A row: "all", a task or "column=value"; or several: "*" for each task, "column=*" for each group of a column."""
    value: float
    source: str = field(default="", compare=False)
    """Where it was given, as messages name it."""
    tier: str = REQUIRED
    """One of `TIERS`."""
    owner: str = ""
    """Who asks for it."""
    reason: str = ""
    """Why."""

    def __post_init__(self) -> None:
        """Refuse what would never be checked, or never hold."""
        if self.rate not in RATES:
            raise InputError(f"there is no bound named {quote(self.rate)}; there are: {', '.join(RATES)}.")
        if not isinstance(self.where, str) or not self.where:
            raise InputError(
                f"{self}: the name of the row is empty; without a name and colon the bound is for all instances."
            )
        kind = RATES[self.rate]
        if not is_number(self.value) or not kind.low <= self.value <= kind.high:
            raise InputError(f"{self}: the value is {quote(self.value)}, but must be {kind.expected}.")
        if self.tier not in TIERS:
            raise InputError(f"{self}: the tier is {quote(self.tier)}, but must be one of {', '.join(TIERS)}.")

    @property
    def asked(self) -> str:
        """Say what hangs on it, who asks for it and why, to follow its source; nothing where nobody said."""
        told = ["" if self.tier == REQUIRED else self.tier, self.owner and f"owner: {self.owner}"]
        return printable("".join(f"; {text}" for text in (*told, self.reason and f"reason: {self.reason}") if text))

    def __str__(self) -> str:
        """Say where it was given, or what it is."""
        return printable(self.source or f"{self.rate} {self.where}:{self.value}")


def parse_bound(name: str, text: str) -> Bound:
    """Read a bound as the command line has it: VALUE or WHERE:VALUE; names of tasks may hold colons themselves."""
    where, colon, value = text.rpartition(":")
    return bound_of(name, where if colon else "all", value.strip(), f"--{name.replace('_', '-')} {text}")


def bound_of(name: str, where: str, value: str | float, source: str) -> Bound:
    """Make a bound of one of `RATES` or `MARGINS`, of a number or of the text of one."""
    given: Any = float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value
    if name not in MARGINS:
        return Bound(name, where, given, source)  # which refuses a text, as no number
    if not is_number(given) or given < 0:
        raise InputError(
            f"{printable(source)}: the value is {quote(given)}, but must be a size from 0 up by which accuracy, or "
            "the mean score, may fall, such as 0.01 for one point of accuracy."
        )
    if 0.0 - given < RATES[MARGINS[name]].low:
        raise InputError(
            f"{printable(source)}: the value is {quote(given)}, but must be a size from 0 to 1, the share of the old "
            "accuracy by which accuracy may fall, such as 0.02."
        )
    return Bound(MARGINS[name], where, 0.0 - given, source)


def wrong_word(gate_on: object) -> str:
    """Say what `gate_on` must be."""
    told = f"gate_on is {quote(gate_on)}, but must be {' or '.join(GATE_ON)}"
    return f"{told}; a bound that is kept on the interval is kept on its upper end" if gate_on == "upper" else told
