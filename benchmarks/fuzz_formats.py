"""Small valid files of each format that `compare_runs` reads, with the counts that are right for it; for `fuzz.py`."""

import json
from random import Random
from typing import Any

import yaml
from fuzz_files import Kind, archive, cells, columns, document, json_lines, lines, pack_gzip, pack_zstd, packed
from fuzz_mutations import dumped, reordered, spoil_json, spoil_text

Row = dict[str, Any]
N = 12
COUNTS = (N, 2, 3)
"""Instances, broken and repaired ones."""
_RIGHT = {"old": [i % 4 != 0 for i in range(N)], "new": [i % 5 != 1 or i == 1 for i in range(N)]}


def right(side: str) -> list[bool]:
    """Whether each answer of the old or the new side is right."""
    return _RIGHT[side]


# --- tables ---


def rows(side: str) -> list[Row]:
    """Give a plain table."""
    return [
        {
            "id": f"q{i}",
            "question": f"What is {i}, and why?",
            "prediction": f"a{i % 3}" if is_right else "none, I fear",
            "reference": f"a{i % 3}",
            "group": f"g{i % 2}",
        }
        for i, is_right in enumerate(right(side))
    ]


def _numbers(side: str) -> list[Row]:
    return [
        {"id": i, "prediction": i % 3 if is_right else 7, "reference": i % 3} for i, is_right in enumerate(right(side))
    ]


def _sampled(side: str) -> list[Row]:
    # All samples of an answer agree, so that the counts are those of single answers.
    return [
        {"id": i, "prediction": ["a"] * 8 if is_right else ["b"] * 8, "reference": "a"}
        for i, is_right in enumerate(right(side))
    ]


# --- programs -------------------------------------------------------------------------------------------------------

_DATE = "2026-11-22T15-50-20.703431"


def _sample(i: int, is_right: bool, side: str) -> Row:
    shift = 0.01 if side == "old" else 0.02
    likelihoods = [-1.0 - i * shift, -2.0 - i * shift] if is_right else [-3.5 - i * shift, -2.25 - i * shift]
    pairs = [[repr(value), "False"] for value in likelihoods]
    return {
        "doc_id": i,
        "doc": {"question": f"Question {i}?", "subject": f"s{i % 2}"},
        "target": "0",
        "arguments": {
            f"gen_args_{place}": {"arg_0": f"Question {i}?", "arg_1": f" {text}"}
            for place, text in enumerate(("one", "two"))
        },
        "resps": [[pair] for pair in pairs],
        "filtered_resps": pairs,
        "filter": "none",
        "metrics": ["acc"],
        "doc_hash": f"{i:064d}",
        "prompt_hash": f"{i + 1:064d}",
        "target_hash": f"{0:064d}",
        "acc": float(is_right),
    }


def _samples(side: str) -> list[Row]:
    return [_sample(i, is_right, side) for i, is_right in enumerate(right(side))]


def _old_samples(side: str) -> list[Row]:
    made = []
    for sample in _samples(side):
        row = {name: value for name, value in sample.items() if not name.endswith("_hash")}
        del row["filter"], row["metrics"]
        # Without hashes in the file, the order of a document's fields is part of what it is.
        row["doc"] = {"question": sample["doc"]["question"]}
        row["arguments"] = [list(argument.values()) for argument in sample["arguments"].values()]
        row["resps"] = [[[float(item[0][0]), False]] for item in sample["resps"]]
        row["filtered_resps"] = [[float(item[0]), False] for item in sample["filtered_resps"]]
        made.append(row)
    return made


def _results(side: str) -> Row:
    share = sum(right(side)) / N
    return {
        "results": {"t": {"alias": "t", "acc,none": share, "acc_stderr,none": 0.1}},
        "configs": {
            "t": {
                "task": "t",
                "target_delimiter": " ",
                "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
            }
        },
        "versions": {"t": 1.0},
        "n-samples": {"t": {"original": N, "effective": N}},
        "higher_is_better": {"t": {"acc": True}},
    }


def _detail(i: int, is_right: bool, side: str) -> Row:
    shift = 0.01 if side == "old" else 0.02
    return {
        "doc": {
            "query": f"Question {i}?",
            "choices": ["a", "b"],
            "gold_index": 0,
            "id": str(i),
            "task_name": "t|0",
            "sampling_methods": ["LOGPROBS"],
            "num_samples": 1,
            "specific": None,
        },
        "model_response": {
            "input": f"Question {i}?",
            "text": [],
            "logprobs": [-1.0 - i * shift, -2.0 - i * shift] if is_right else [-3.0 - i * shift, -2.0 - i * shift],
            "argmax_logits_eq_gold": [False, False],
        },
        "metric": {"acc": int(is_right)},
    }


def _details(side: str) -> list[Row]:
    return [_detail(i, is_right, side) for i, is_right in enumerate(right(side))]


def _old_details(side: str) -> list[Row]:
    return [
        {
            "example": row["doc"]["query"],
            "choices": str(row["doc"]["choices"]),
            "gold": "[]",
            "gold_index": "[0]",
            "specifics": "None",
            "predictions": str([(value, False) for value in row["model_response"]["logprobs"]]),
            "metrics": str(row["metric"]),
        }
        for row in _details(side)
    ]


def _write_out(side: str) -> list[Row]:
    return [
        {
            "doc_id": i,
            **{f"prompt_{place}": f"Question {i}? {text}" for place, text in enumerate("ab")},
            **{
                f"logit_{place}": value
                for place, value in enumerate(_detail(i, r, side)["model_response"]["logprobs"])
            },
            "truth": 0,
            "acc": str(float(r)),
        }
        for i, r in enumerate(right(side))
    ]


def _inspect(side: str) -> Row:
    samples = [
        {
            "id": i,
            "epoch": 1,
            "input": f"Question {i}?",
            "target": "a",
            "messages": [],
            "output": {"completion": "a" if r else "b"},
            "scores": {"match": {"value": "C" if r else "I", "answer": "a" if r else "b"}},
        }
        for i, r in enumerate(right(side))
    ]
    made = {"task": "t", "model": f"m/{side}", "created": "2026-11-30T00:00:00+00:00", "dataset": {}, "config": {}}
    return {"version": 2, "status": "success", "eval": made, "results": {"scores": []}, "samples": samples}


def _inspect_members(side: str) -> Row:
    log = _inspect(side)
    samples = {f"samples/{sample['id']}_epoch_1.json": sample for sample in log.pop("samples")}
    return {"_journal/start.json": {"version": 2, "eval": log["eval"], "plan": {}}, **samples, "header.json": log}


def _predictions(side: str) -> Row:
    return {
        str(i): {
            "origin_prompt": f"Question {i}?",
            "prediction": "A" if r else "B",
            "gold": "A" if i % 2 else ["A", "a"],
        }
        for i, r in enumerate(right(side))
    }


def _opencompass_details(side: str) -> Row:
    details = [
        {"example_abbr": f"t_{i}", "pred": ["A" if r else "B"], "answer": ["A"], "correct": [r]}
        for i, r in enumerate(right(side))
    ]
    return {"accuracy": 50.0, "details": details}


def _reviews(side: str) -> list[Row]:
    return [
        {
            "index": i,
            "target": ["A"],
            "messages": [{"role": "user", "content": f"Question {i}?"}, {"role": "assistant", "content": "A"}],
            "sample_score": {
                "score": {
                    "value": {"acc": float(r)},
                    "extracted_prediction": "A" if r else "B",
                    "prediction": "It is A" if r else "It is B",
                    "metadata": {},
                    "main_score_name": "acc",
                },
                "sample_id": i,
                "group_id": i,
                "sample_metadata": {"subject": f"s{i % 2}"},
            },
        }
        for i, r in enumerate(right(side))
    ]


def _old_reviews(side: str) -> list[Row]:
    return [
        {
            "index": i,
            "answer_id": f"a{i}",
            "raw_input": {"question": f"Question {i}?"},
            "choices": [
                {
                    "index": 0,
                    "message": {"content": "x"},
                    "review": {"gold": "A", "pred": "A" if r else "B", "result": r},
                }
            ],
            "reviewed": True,
        }
        for i, r in enumerate(right(side))
    ]


def _completions(side: str) -> list[Row]:
    return [
        {"task_id": f"HumanEval/{i}", "completion": "x", "result": "passed" if r else "failed", "passed": r}
        for i, r in enumerate(right(side))
    ]


def _evalplus(side: str) -> Row:
    held = {
        f"HumanEval/{i}": [
            {
                "task_id": f"HumanEval/{i}",
                "solution": "x",
                "base_status": "pass",
                "plus_status": "pass" if r else "fail",
            }
        ]
        for i, r in enumerate(right(side))
    }
    return {"date": "2026-11-30 00:00", "hash": "x", "eval": held}


def _long(side: str) -> list[Row]:
    return [{**row, "model": model} for row in rows(side) for model in ("v1", "v2")]


def _policy(side: str) -> Row:
    return {
        "margin": {"value": 0.5, "tier": "advisory", "owner": "search team", "reason": "half is enough"},
        "max_nfr": [0.2, {"value": 0.1, "tier": "informative"}],
        "slices": {"group": {"*": {"max_nfr": 0.5}, "g1": {"max_relative_nfr": 0.9, "owner": "legal"}}},
        "tasks": {"answers": {"min_accuracy_change": -0.2}},
        "required_tasks": ["answers"],
        "level": 0.9,
        "gate_on": "interval",
        "undecided": "pass",
        "test": "one-sided",
        "missing": "drop",
    }


def _spoil_policy(random: Random, value: Row) -> bytes:
    text = str(yaml.dump(spoil_json(random, value), allow_unicode=random.random() < 0.5))
    return (spoil_text(random, text) if random.random() < 0.4 else text).encode("utf-8", "surrogatepass")


def _same_policy(random: Random, value: Row) -> bytes:
    value = reordered(random, value)
    if random.random() < 0.3:
        return dumped(random, value, one_line=False).replace("\t", "  ").encode()  # YAML is indented by spaces
    text = yaml.dump(
        value, default_flow_style=random.choice((True, False)), indent=random.choice((2, 4)), sort_keys=False
    )
    return (random.choice(("", "# comment\n", "---\n")) + str(text)).encode()


# --- independent readers -------------------------------------------------------------------------------------------


def _plain(row: Row) -> tuple[Any, bool]:
    # 1.0 is the number 1; True is none.
    kinds = {"number" if type(row[name]) in (int, float) else type(row[name]) for name in ("prediction", "reference")}
    return row["id"], len(kinds) == 1 and row["prediction"] == row["reference"]


def _of_inspect(log: Row) -> list[tuple[Any, int]]:
    return [(sample["id"], "IC".index(sample["scores"]["match"]["value"])) for sample in log["samples"]]


def _of_predictions(held: Row) -> list[tuple[Any, bool]]:
    return [
        (
            key,
            item["prediction"] in item["gold"]
            if isinstance(item["gold"], list)
            else item["prediction"] == item["gold"],
        )
        for key, item in held.items()
    ]


def _of_details(held: Row) -> list[tuple[Any, bool]]:
    return [(item["example_abbr"], item["correct"][0]) for item in held["details"] if len(item["correct"]) == 1]


def _of_evalplus(held: Row) -> list[tuple[Any, bool]]:
    return [
        (problem, (sample["base_status"], sample["plus_status"]) == ("pass", "pass"))
        for problem, [sample] in held["eval"].items()
    ]


def kinds() -> dict[str, Kind]:
    """Give every format that is fuzzed by its name."""
    samples = f"samples_t_{_DATE}.jsonl"
    table = lines("answers.jsonl", rows, _plain)
    return {
        "JSON Lines": table,
        "JSON Lines, numbers": lines("answers.jsonl", _numbers, _plain),
        "JSON Lines, samples": lines("answers.jsonl", _sampled),
        "JSON array": document("answers.json", rows, lambda held: list(map(_plain, held))),
        "JSON object": document("answers.json", lambda side: {"data": rows(side)}),
        "JSON columns": document(
            "answers.json", lambda side: {k: [row[k] for row in rows(side)] for k in rows(side)[0]}
        ),
        "JSON Lines, gzip": packed(table, ".gz", pack_gzip),
        "JSON Lines, zstd": packed(table, ".zst", pack_zstd),
        "JSON array, Zstandard": packed(document("answers.json", rows), ".zst", pack_zstd),
        "CSV, gzip": packed(cells("answers.csv", rows), ".gz", pack_gzip),
        "CSV": cells("answers.csv", rows),
        "CSV, numbers": cells("answers.csv", _numbers),
        "CSV, semicolons": cells("answers.csv", rows, ";"),
        "TSV": cells("answers.tsv", rows, "\t"),
        "Parquet": columns("answers.parquet", rows),
        "Parquet, numbers": columns("answers.parquet", _numbers),
        "harness": lines(samples, _samples, lambda row: (row["doc_id"], row["acc"])),
        "harness, folder": lines(
            samples,
            _samples,
            beside=lambda side: {f"results_{_DATE}.json": json.dumps(_results(side)).encode()},
            folder=True,
        ),
        "harness, results": document(
            f"results_{_DATE}.json", _results, beside=lambda side: {samples: json_lines(_samples(side))}, folder=True
        ),
        "harness, array": document(
            "pretrained__m_t.jsonl", _old_samples, lambda held: [(row["doc_id"], row["acc"]) for row in held]
        ),
        "CSV, long": cells("answers.csv", _long, where="@model=v2"),
        "lighteval": columns(f"details_t|0_{_DATE}.parquet", _details),
        "lighteval, old": columns(f"details_t|0_{_DATE}.parquet", _old_details),
        "harness before 0.4": document(
            "t_write_out_info.json", _write_out, lambda held: [(row["doc_id"], float(row["acc"])) for row in held]
        ),
        "inspect_ai, .eval": archive("t.eval", _inspect_members),
        "inspect_ai, .json": document("t.json", _inspect, _of_inspect),
        "OpenCompass, predictions": document("t.json", _predictions, _of_predictions),
        "OpenCompass, results": document("t.json", _opencompass_details, _of_details),
        "evalscope": lines(
            "t.jsonl", _reviews, lambda row: (row["index"], row["sample_score"]["score"]["value"]["acc"])
        ),
        "policy": Kind(
            "policy.yaml",
            _policy,
            lambda value: str(yaml.safe_dump(value)).encode(),
            _spoil_policy,
            _same_policy,
            beside=lambda side: {"answers.jsonl": json_lines(rows(side))},
            answers="answers.jsonl",
        ),
        "evalscope, old": lines(
            "t.jsonl", _old_reviews, lambda row: (row["index"], row["choices"][0]["review"]["result"])
        ),
        "human-eval": lines("t_results.jsonl", _completions, lambda row: (row["task_id"], row["passed"])),
        "EvalPlus": document("t_eval_results.json", _evalplus, _of_evalplus),
    }
