"""Details as lighteval wrote them up to 0.10: flat columns, which 0.4 to 0.7 wrote as the texts of Python's values."""

import ast
from collections.abc import Collection, Mapping
from typing import Any

READ = ("example", "choices", "gold", "gold_index", "specifics", "predictions", "metrics")
"""Columns that something here needs; the first versions had no `specifics`."""
_NUMBERS = ("float64", "float32", "float16", "int64", "int32", "bool_", "str_", "array", "tensor")
"""What numpy and torch write around a value: `np.float64(0.5)`, `tensor([1, 2], device='cuda:0')`."""
_NEEDED = frozenset(READ) - {"specifics"}


def is_old(columns: Collection[str]) -> bool:
    """Tell whether a table with some columns is laid out so."""
    return set(columns) >= _NEEDED


def as_new(row: Mapping[str, Any]) -> dict[str, Any]:
    """Lay a row out as lighteval does since 0.11; a ValueError where a text is no value that Python can write.

    Tasks had no ids. Of generated text only the right answers are known, and they stand for the choices.
    """
    choices, gold, places, said = (
        _list(_value(row[name])) for name in ("choices", "gold", "gold_index", "predictions")
    )
    if said and all(isinstance(item, list | tuple) and item and isinstance(item[0], str) for item in said):
        said = [text for item in said for text in item]
    likelihoods = [item[0] if isinstance(item, list | tuple) else item for item in said]
    if any(isinstance(item, str) for item in said) or not choices:
        likelihoods = []
    if len(likelihoods) == 2 * len(choices):
        likelihoods = likelihoods[: len(choices)]  # then the same without their question
    specific = row.get("specifics")
    try:
        specific = _value(specific)
    except ValueError:
        specific = None  # objects of the task's own
    return {
        "doc": {
            "query": row["example"],
            "choices": choices or gold,
            "gold_index": places if choices else list(range(len(gold))),
            "specific": specific,
            "sampling_methods": ["LOGPROBS"] if likelihoods else ["GENERATIVE"],
        },
        "metric": _value(row["metrics"]),
        "model_response": {"text": [item for item in said if isinstance(item, str)], "logprobs": likelihoods},
    }


def _list(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]


def _value(value: Any) -> Any:
    """Read a value that may be written as Python writes it; nan and numbers of numpy are no literals there."""
    if not isinstance(value, str):
        return value
    try:
        return _evaluated(ast.parse(value.strip(), mode="eval").body)
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"{value[:60]!r} is no value ({error})") from None


def _evaluated(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.List | ast.Tuple):
        return [_evaluated(item) for item in node.elts]
    if isinstance(node, ast.Dict) and None not in node.keys:
        return {_evaluated(key): _evaluated(value) for key, value in zip(node.keys, node.values, strict=True) if key}
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_evaluated(node.operand)
    if isinstance(node, ast.Name) and node.id in ("nan", "inf"):
        return float(node.id)
    if isinstance(node, ast.Call) and node.args and ast.unparse(node.func).rpartition(".")[2] in _NUMBERS:
        return _evaluated(node.args[0])
    raise ValueError(f"{ast.unparse(node)[:60]!r} is no value")
