"""Samples as lm-evaluation-harness logs them: real ones, ones made up, and both in the forms of older versions."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "data" / "lm_eval"
DATES = {"tiny-v1": "2026-11-22T15-50-20.703431", "tiny-v2": "2026-11-22T15-52-49.674796"}
TASKS = ("piqa_local", "hellaswag_local", "gsm8k_local")

Row = dict[str, Any]


def model_folder(model: str) -> Path:
    """Folder of one of the two toy models."""
    return FOLDER / model / f"models__{model}"


def samples_file(model: str, task: str) -> Path:
    """File of its samples of a task."""
    return model_folder(model) / f"samples_{task}_{DATES[model]}.jsonl"


def samples(model: str, task: str) -> list[Row]:
    """Read its samples of a task."""
    with samples_file(model, task).open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def results(model: str) -> Row:
    """Read its results file."""
    text = (model_folder(model) / f"results_{DATES[model]}.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def write(path: Path, rows: Sequence[Row]) -> Path:
    """Write samples as the harness does since 0.4.3: one a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=_has_surrogate(row)) + "\n" for row in rows)
    path.write_bytes(text.encode())
    return path


def write_array(path: Path, rows: Sequence[Row]) -> Path:
    """Write samples as the harness did up to 0.4.2: one indented array."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(json.dumps(rows, indent=2, ensure_ascii=False).encode())
    return path


def without_filter(row: Row) -> Row:
    """Give a sample as 0.4.3 to 0.4.6 wrote it."""
    return {key: value for key, value in row.items() if key not in ("filter", "metrics")}


def with_plain_values(row: Row) -> Row:
    """Give a sample as 0.4.0 to 0.4.2 wrote it: no hashes, lists, numbers and booleans."""
    made = {key: value for key, value in without_filter(row).items() if not key.endswith("_hash")}
    made["arguments"] = [list(argument.values()) for argument in row["arguments"].values()]
    made["resps"], made["filtered_resps"] = (_plain(row[key]) for key in ("resps", "filtered_resps"))
    if row["target"].isdecimal():
        made["target"] = int(row["target"])
    return made


def choice(
    doc_id: Any,
    likelihoods: Sequence[float],
    *,
    target: Any = 0,
    texts: Sequence[str] = ("one", "two", "three", "four"),
    contexts: Sequence[str] | None = None,
    doc: Any = None,
    **metrics: Any,
) -> Row:
    """Make a sample of multiple choice; `metrics` defaults to acc, from the likelihoods."""
    context = f"Question {doc_id}?"
    if contexts is None:
        pairs = [(context, f" {text}") for text in texts[: len(likelihoods)]]
    else:
        pairs = [(text, " and so on.") for text in contexts]
    best = max(range(len(likelihoods)), key=likelihoods.__getitem__)
    responses = [[str(value), "False"] for value in likelihoods]
    return _sample(
        doc_id,
        {"question": context} if doc is None else doc,
        target,
        pairs,
        [[response] for response in responses],
        responses,
        metrics or {"acc": float(best == target)},
    )


def generation(
    doc_id: Any,
    response: str,
    answer: Any = None,
    *,
    target: Any = "4",
    name: str = "none",
    doc: Any = None,
    **metrics: Any,
) -> Row:
    """Make a sample of generated text; `metrics` defaults to exact_match."""
    answer = response if answer is None else answer
    return _sample(
        doc_id,
        {"question": f"Question {doc_id}?"} if doc is None else doc,
        target,
        [(f"Question {doc_id}?\nAnswer:", {"until": ["\n"]})],
        [[response]],
        [answer],
        metrics or {"exact_match": float(answer == target)},
        name,
    )


def _sample(
    doc_id: Any,
    doc: Any,
    target: Any,
    arguments: Sequence[tuple[Any, ...]],
    responses: list[Any],
    filtered: list[Any],
    metrics: Row,
    name: str = "none",
) -> Row:
    return {
        "doc_id": doc_id,
        "doc": doc,
        "target": str(target),
        "arguments": {
            f"gen_args_{i}": {f"arg_{j}": part for j, part in enumerate(argument)}
            for i, argument in enumerate(arguments)
        },
        "resps": responses,
        "filtered_resps": filtered,
        "filter": name,
        "metrics": list(metrics),
        "doc_hash": sha256(json.dumps(doc, indent=2, ensure_ascii=False)),
        "prompt_hash": sha256(arguments[0][0]),
        "target_hash": sha256(str(target)),
        **metrics,
    }


def sha256(text: str) -> str:
    """Hash a text as the harness does."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        # Log-likelihood and flag: the only numbers among responses.
        if len(value) == 2 and value[1] in ("True", "False"):
            return [float(value[0]), value[1] == "True"]
        return [_plain(item) for item in value]
    return value


def _has_surrogate(value: Any) -> bool:
    text = json.dumps(value, ensure_ascii=False)
    return any("\ud800" <= character <= "\udfff" for character in text)
