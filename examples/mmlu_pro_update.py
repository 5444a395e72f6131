"""What did two updates of open base models break on MMLU-Pro? Real answers, by subject, with intervals.

    python examples/mmlu_pro_update.py

Runs offline in a second on `data/mmlu_pro/answers.csv`: the published answers of four models to 12,018 questions.
docs/compare.md shows how the command line does the same.
"""

from pathlib import Path

import muscle_hf

DATA = Path(__file__).parent / "data" / "mmlu_pro" / "answers.csv"
PAIRS = [("Llama-2-7b-hf", "Meta-Llama-3-8B"), ("Mistral-7B-v0.1", "Mistral-7B-v0.2-hf")]


def compare(old: str, new: str) -> muscle_hf.RunComparison:
    """Compare two columns of answers, by subject. An empty answer is none: no letter was found, so it is wrong."""
    columns = {"id": "question_id", "reference": "answer"}
    return muscle_hf.compare_runs(f"{DATA}:{old}", f"{DATA}:{new}", columns=columns, by="category")


def main() -> None:
    """Print both updates, the subject that broke most first."""
    print("\n\n".join(str(compare(old, new)) for old, new in PAIRS))  # noqa: T201


if __name__ == "__main__":
    main()
