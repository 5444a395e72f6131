"""What did two updates of open base models break on MMLU-Pro? Real answers, by subject, with intervals.

    python examples/mmlu_pro_update.py                  # Llama 2 -> 3 and Mistral v0.1 -> v0.2
    python examples/mmlu_pro_update.py --by category    # the same, by subject, most broken first
    python examples/mmlu_pro_update.py --old Mistral-7B-v0.2-hf --new Meta-Llama-3-8B

Runs offline in a second on `data/mmlu_pro/answers.csv`: the published answers of four models to 12,018 questions.
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import muscle_hf

DATA = Path(__file__).parent / "data" / "mmlu_pro" / "answers.csv"
PAIRS = [("Llama-2-7b-hf", "Meta-Llama-3-8B"), ("Mistral-7B-v0.1", "Mistral-7B-v0.2-hf")]

Rows = list[dict[str, str]]


def read(path: Path = DATA) -> Rows:
    """Read the answers, one dictionary for each question."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def compare(rows: Rows, old: str, new: str) -> muscle_hf.Comparison:
    """Compare two columns of answers. An empty one is None: no letter was found, so it is wrong."""
    return muscle_hf.compare(
        old=[row[old] or None for row in rows],
        new=[row[new] or None for row in rows],
        references=[row["answer"] for row in rows],
    )


def slices(rows: Rows, by: str, old: str, new: str) -> list[tuple[str, muscle_hf.Comparison]]:
    """Compare within each value of a column, highest negative flip rate first."""
    groups: dict[str, Rows] = {}
    for row in rows:
        groups.setdefault(row[by], []).append(row)
    compared = [(name, compare(group, old, new)) for name, group in groups.items()]
    return sorted(compared, key=lambda item: -item[1].negative_flip_rate)


def table(rows: Rows, old: str, new: str, by: str | None = None) -> str:
    """Lay out one update as plain text: all questions first, then the slices."""
    parts = [("all", compare(rows, old, new))]
    if by:
        parts += slices(rows, by, old, new)
    width = max(len(name) for name, _ in parts)
    heads = ["n".rjust(6), "accuracy".ljust(16), "NFR ↓ (95 %)".ljust(23), "PFR ↑ (95 %)".ljust(23), "wrong anew"]
    title = "  ".join([" " * width, *heads, "relative NFR ↓ (95 %)"])
    lines = [f"{old} -> {new}", title]
    for name, c in parts:
        cells = [f"{name:{width}}  {c.n:6d}  {c.old_accuracy:.4f} -> {c.new_accuracy:.4f}"]
        for rate in ("negative_flip_rate", "positive_flip_rate"):
            low, high = c.confidence_interval(rate)
            cells.append(f"{getattr(c, rate):.4f} ({low:.4f}, {high:.4f})")
        # Both wrong with different answers: what the inconsistency flip rate has beyond the negative flips.
        cells.append(f"{c.inconsistency_flip_rate - c.negative_flip_rate:<10.4f}")
        low, high = c.confidence_interval("relative_negative_flip_rate")
        cells.append(f"{c.relative_negative_flip_rate:.3f} ({low:.3f}, {high:.3f})")
        lines.append("  ".join(cells))
    whole = parts[0][1]
    lines.append(
        f"{len(whole.negative_flips)} questions broken, {len(whole.positive_flips)} repaired; "
        f"exact paired test p = {whole.p_value:.2g}"
    )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables that the command line asks for."""
    rows = read()
    models = [name for name in rows[0] if name not in ("question_id", "category", "answer")]
    parser = argparse.ArgumentParser(description="What did an update of a base model break on MMLU-Pro?")
    parser.add_argument("--by", choices=["category"], help="also show each subject")
    parser.add_argument("--old", choices=models, help="the model before the update; needs --new")
    parser.add_argument("--new", choices=models, help="the model after it")
    args = parser.parse_args(argv)
    if (args.old is None) != (args.new is None):
        parser.error("--old and --new go together")
    pairs = [(args.old, args.new)] if args.old else PAIRS
    print("\n\n".join(table(rows, old, new, args.by) for old, new in pairs))  # noqa: T201


if __name__ == "__main__":
    main()
