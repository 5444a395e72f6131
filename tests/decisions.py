"""Small decisions about two columns of a table, for the tests of decisions and their history."""

from pathlib import Path
from typing import Any

from muscle_hf import compare_runs
from muscle_hf.runs.gates.bounds import Bound
from muscle_hf.runs.gates.decision import Decision
from muscle_hf.runs.gates.gate import judge

BOUNDS = (Bound("max_nfr", "all", 0.5), Bound("max_nfr", "*", 0.5))


def table(path: Path, *, broken: int = 3, n: int = 40) -> Path:
    """Write a table of which the new model breaks some answers."""
    rows = "".join(f"{i},A,A,{'B' if i < broken else 'A'}\n" for i in range(n))
    path.write_text(f"id,reference,v1,v2\n{rows}", encoding="utf-8")
    return path


def decided(path: Path, *bounds: Bound, level: float = 0.95, **options: Any) -> Decision:
    """Decide about two columns of a table."""
    result = compare_runs(f"{path}:v1", f"{path}:v2", level=level)
    return Decision.of(result, judge(result, bounds or BOUNDS), bounds or BOUNDS, options=options)
