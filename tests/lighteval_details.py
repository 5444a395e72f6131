"""Details as lighteval 0.13 writes them: `Dataset.from_list` of its data classes as dictionaries, in Parquet."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets

Row = dict[str, Any]


def detail(key: int | str, *, doc: Row | None = None, response: Row | None = None, **metric: Any) -> Row:
    """Make the detail of one sample; multiple choice between a and b, if nothing else is said."""
    return {
        "doc": {
            "query": f"Question {key}?",
            "choices": ["a", "b"],
            "gold_index": 0,
            "instruction": None,
            "images": None,
            "specific": None,
            "unconditioned_query": None,
            "original_query": None,
            "id": str(key),
            "task_name": "leaderboard|arc:challenge|25",
            "fewshot_samples": [],
            "sampling_methods": ["LOGPROBS"],
            "fewshot_sorting_class": None,
            "generation_size": None,
            "stop_sequences": None,
            "use_logits": False,
            "num_samples": 1,
            "generation_grammar": None,
        }
        | (doc or {}),
        "model_response": {
            "input": "the prompt",
            "input_tokens": [1, 2, 3],
            "text": [],
            "output_tokens": [[4], [5]],
            "text_post_processed": None,
            "reasonings": [],
            "logprobs": [],
            "argmax_logits_eq_gold": [],
            "logits": None,
            "unconditioned_logprobs": None,
            "truncated_tokens_count": 0,
            "padded_tokens_count": 0,
        }
        | (response or {}),
        "metric": metric,
    }


def old(row: Row) -> Row:
    """Give a detail as lighteval 0.8 to 0.10 wrote it: flat, typed, log-likelihoods with their flag of greediness."""
    doc, response = row["doc"], row["model_response"]
    is_generated = "GENERATIVE" in doc["sampling_methods"]
    places = doc["gold_index"] if isinstance(doc["gold_index"], list) else [doc["gold_index"]]
    return {
        "example": doc["query"],
        "instruction": "",
        "full_prompt": "the prompt",
        "num_effective_few_shots": 0,
        "num_asked_few_shots": 0,
        "predictions": response["text"] if is_generated else [(value, False) for value in response["logprobs"]],
        "input_tokens": [[1, 2, 3]],
        "cont_tokens": [[4], [5]],
        "truncated": [0],
        "padded": [0],
        "gold": [doc["choices"][place] for place in places] if is_generated else [],
        "pred_logits": [],
        "choices": [] if is_generated else doc["choices"],
        "gold_index": [] if is_generated else places,
        "metrics": row["metric"],
        "specifics": doc["specific"],
    }


def as_texts(row: Row) -> Row:
    """Give a detail as lighteval 0.4 to 0.7 wrote it: every value as the text that Python makes of it."""
    return {name: str(value) for name, value in old(row).items()}


def write(path: Path, rows: Sequence[Row]) -> Path:
    """Write details into a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = datasets.Dataset.from_list(list(rows))
    datasets.disable_progress_bars()
    table.select_columns(sorted(table.column_names)).to_parquet(str(path))
    datasets.enable_progress_bars()
    return path


def run_file(out: Path, model: str, date: str, task: str = "leaderboard|arc:challenge|25") -> Path:
    """Name the file of one task of a run below an output folder."""
    return out / "details" / model / date / f"details_{task}_{date}.parquet"
