"""Small valid files of promptfoo, HELM, openai/evals and data frames of inspect_ai; for `fuzz.py`."""

from typing import Any

import fuzz_formats
from fuzz_files import Kind, Row, cells, columns, document, lines
from fuzz_formats import right


def _promptfoo(side: str) -> list[Row]:
    return [
        {
            "testIdx": i,
            "promptIdx": 0,
            "success": r,
            "score": float(r),
            "namedScores": {},
            "failureReason": 0 if r else 1,
            "provider": {"id": f"m/{side}", "label": ""},
            "prompt": {"raw": f"Say {i}", "label": "Say {{q}}"},
            "vars": {"q": f"q{i}"},
            "response": {"output": "yes" if r else "no"},
            "testCase": {"vars": {"q": f"q{i}"}, "assert": [{"type": "equals", "value": "yes"}]},
        }
        for i, r in enumerate(right(side))
    ]


def _promptfoo_output(side: str) -> Row:
    rows = _promptfoo(side)
    passed = sum(row["success"] for row in rows)
    stats = {"successes": passed, "failures": len(rows) - passed, "errors": 0}
    return {"evalId": "e", "results": {"version": 3, "prompts": [], "results": rows, "stats": stats}, "config": {}}


def _promptfoo_table(side: str) -> list[Row]:
    return [
        {
            "q": f"q{i}",
            f"[m/{side}] Say {{{{q}}}}": "yes" if r else "no",
            "Status": "PASS" if r else "FAIL",
            "Score": "1.00" if r else "0.00",
            "Named Scores": "{}",
            "Grader Reason": "why, I fear",
            "Comment": "",
        }
        for i, r in enumerate(right(side))
    ]


def _helm(side: str) -> list[Row]:
    return [
        {
            "instance_id": f"id{i}",
            "train_trial_index": 0,
            "stats": [{"name": {"name": name, "split": "test"}, "count": 1, "sum": value, "mean": value}],
        }
        for name in ("exact_match", "num_output_tokens")
        for i, r in enumerate(right(side))
        for value in [float(r) if name == "exact_match" else 3.0]
    ]


def _events(side: str) -> list[Row]:
    spec = {"completion_fns": [f"m/{side}"], "eval_name": "t.dev.v0", "run_id": "r", "created_at": "2026-11-30"}
    said: list[tuple[int, str, Row]] = []
    for i, r in enumerate(right(side)):
        picked = "a" if r else "b"
        said.append((i, "sampling", {"prompt": f"Question {i}?", "sampled": [picked]}))
        said.append((i, "match", {"correct": r, "expected": "a", "picked": picked, "sampled": picked}))
    events = [
        {"run_id": "r", "event_id": number, "sample_id": f"t.dev.{i}", "type": kind, "data": data}
        for number, (i, kind, data) in enumerate(said)
    ]
    return [{"spec": spec}, *events]


def _frame(side: str) -> list[Row]:
    return [
        {
            "sample_id": f"{side}{i}",
            "eval_id": side,
            "log": "logs/2026-11-30T00-00-00+00-00_t_x.eval",
            "id": f"q{i}",
            "epoch": 1,
            "input": f"user:\nQuestion {i}?",
            "target": "a",
            "metadata_group": f"g{i % 2}",
            "score_match": "C" if r else "I",
        }
        for i, r in enumerate(right(side))
    ]


def _of_output(held: Row) -> list[tuple[Any, bool]]:
    return [(row["testIdx"], row["success"]) for row in held["results"]["results"]]


def kinds() -> dict[str, Kind]:
    """Give every format that is fuzzed by its name, these last."""
    return {
        **fuzz_formats.kinds(),
        "promptfoo": document("out.json", _promptfoo_output, _of_output),
        "promptfoo, lines": lines("out.jsonl", _promptfoo, lambda row: (row["testIdx"], row["success"])),
        "promptfoo, CSV": cells("out.csv", _promptfoo_table, in_order=True),
        "HELM": document("per_instance_stats.json", _helm),
        "OpenAI evals": lines("t.jsonl", _events),
        "inspect_ai, CSV": cells("samples.csv", _frame),
        "inspect_ai, Parquet": columns("samples.parquet", _frame),
    }
