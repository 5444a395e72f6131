"""Two runs that are one: what proves it in every format, what does not, and what follows."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from comparisons import answers, check, run, scored
from harness_samples import write
from lighteval_details import detail
from lighteval_details import write as write_details

from muscle_hf import compare_runs
from muscle_hf.cli import main
from muscle_hf.errors import InputError
from muscle_hf.readers.answers import TaskAnswers
from muscle_hf.readers.identical import find_identical, identical
from muscle_hf.readers.join import Aligned
from muscle_hf.runs.gates.gate import judge, parse_bound
from muscle_hf.runs.run_comparison import RunComparison

N = 40
RANDOM = np.random.default_rng(0)
LIKELIHOODS = (-30 * RANDOM.random((2, N, 4))).tolist()
WORDS = np.array(
    ["river", "stone", "cloud", "paper", "green", "seven", "night", "table", "chair", "music", "light", "sugar"]
)
ESSAYS = [[" ".join(RANDOM.choice(WORDS, 40)) for _ in range(N)] for _ in range(2)]
GOLD = RANDOM.integers(0, 4, N).tolist()

Make = Callable[[Path, str, list[Any]], Path]
"""Writes a file of one model's outputs: likelihoods, texts or scores, one a row."""


def _choices(folder: Path, name: str, outputs: Sequence[Sequence[float]], text: bool = True) -> Path:
    rows = []
    for i, values in enumerate(outputs):
        told = [[str(value) if text else value, "False" if text else False] for value in values]
        rows.append(
            {
                "doc_id": i,
                "doc": {"question": f"Q{i}"},
                "target": str(GOLD[i]),
                "arguments": {f"gen_args_{j}": {"arg_0": f"Q{i}", "arg_1": f" c{j}"} for j in range(len(values))},
                "resps": [[item] for item in told],
                "filtered_resps": told,
                "filter": "none",
                "metrics": ["acc"],
                "acc": float(np.argmax(values) == GOLD[i]),
            }
        )
    return write(folder / name / f"samples_quiz_2026-01-0{1 + (name == 'v2')}T00-00-00.000000.jsonl", rows)


def _choices_as_numbers(folder: Path, name: str, outputs: Sequence[Sequence[float]]) -> Path:
    return _choices(folder, name, outputs, text=False)


def _one_likelihood(folder: Path, name: str, outputs: Sequence[Sequence[float]]) -> Path:
    rows = [
        {
            "doc_id": i,
            "doc": {"text": f"T{i}"},
            "target": f"T{i}",
            "arguments": [[f"T{i}"]],
            "resps": [[values[0]]],
            "filtered_resps": [values[0]],
            "filter": "none",
            "metrics": ["bits"],
            "bits": -values[0],
        }
        for i, values in enumerate(outputs)
    ]
    return write(folder / f"samples_text_{name}.jsonl", rows)


def _generated(folder: Path, name: str, outputs: Sequence[str]) -> Path:
    rows = [
        {
            "doc_id": i,
            "doc": {"question": f"Q{i}"},
            "target": str(GOLD[i]),
            "arguments": [[f"Q{i}", {"until": ["\n"]}]],
            "resps": [[text]],
            "filtered_resps": [str(i % 4)],
            "filter": "none",
            "metrics": ["exact_match"],
            "exact_match": float(i % 4 == GOLD[i]),
        }
        for i, text in enumerate(outputs)
    ]
    return write(folder / f"samples_math_{name}.jsonl", rows)


def _lighteval(folder: Path, name: str, outputs: Sequence[Sequence[float]]) -> Path:
    doc = {"choices": ["a", "b", "c", "d"]}
    rows = [
        detail(
            i,
            doc=doc | {"gold_index": GOLD[i]},
            response={"logprobs": list(values)},
            acc=float(np.argmax(values) == GOLD[i]),
        )
        for i, values in enumerate(outputs)
    ]
    return write_details(folder / f"{name}.parquet", rows)


def _lighteval_texts(folder: Path, name: str, outputs: Sequence[str]) -> Path:
    doc = {"sampling_methods": ["GENERATIVE"], "choices": ["42"]}
    return write_details(
        folder / f"{name}.parquet",
        [detail(i, doc=doc, response={"text": [text]}, em=float(i % 3 == 0)) for i, text in enumerate(outputs)],
    )


def _table(folder: Path, name: str, outputs: Sequence[str]) -> Path:
    path = folder / f"{name}.jsonl"
    rows = [{"id": f"q{i}", "prediction": text, "reference": "so it is"} for i, text in enumerate(outputs)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _sampled(folder: Path, name: str, outputs: Sequence[str]) -> Path:
    path = folder / f"{name}.jsonl"
    rows = [{"id": i, "prediction": [text, "B"], "reference": "B"} for i, text in enumerate(outputs)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _sample_column(folder: Path, name: str, outputs: Sequence[str]) -> Path:
    columns: dict[str, list[Any]] = {"id": [], "sample": [], "prediction": [], "reference": []}
    for i, text in enumerate(outputs):
        for sample, said in enumerate((text, "B")):
            for column, value in zip(columns, (i, sample, said, "B"), strict=True):
                columns[column].append(value)
    pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    return folder / f"{name}.parquet"


def _scores(folder: Path, name: str, outputs: Sequence[Sequence[float]]) -> Path:
    path = folder / f"{name}.csv"
    path.write_text("id,score\n" + "".join(f"{i},{-values[0]:.4f}\n" for i, values in enumerate(outputs)))
    return path


FORMATS = [
    pytest.param(_choices, LIKELIHOODS, "likelihoods", id="harness, choices"),
    pytest.param(_choices_as_numbers, LIKELIHOODS, "likelihoods", id="harness, choices as numbers"),
    pytest.param(_one_likelihood, LIKELIHOODS, "likelihoods", id="harness, one likelihood"),
    pytest.param(_generated, ESSAYS, "answers", id="harness, generated"),
    pytest.param(_lighteval, LIKELIHOODS, "likelihoods", id="lighteval, choices"),
    pytest.param(_lighteval_texts, ESSAYS, "answers", id="lighteval, generated"),
    pytest.param(_table, ESSAYS, "answers", id="table of texts"),
    pytest.param(_sampled, ESSAYS, "answers", id="lists of sampled texts"),
    pytest.param(_sample_column, ESSAYS, "answers", id="rows of sampled texts"),
    pytest.param(_scores, LIKELIHOODS, "scores", id="table of scores"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("make", "outputs", "what"), FORMATS)
def test_one_run_under_two_names_does_not_pass_for_two(
    make: Make, outputs: list[list[Any]], what: str, tmp_path: Path
) -> None:
    mine, other = outputs
    nearly = [*mine[: N - 1], *other[N - 1 :]]
    same, near, honest = (
        compare_runs(make(tmp_path / place, "v1", mine), make(tmp_path / place, "v2", said))
        for place, said in (("same", mine), ("near", nearly), ("honest", other))
        if not (tmp_path / place).mkdir()
    )
    for result, differ in ((same, 0), (near, 1)):
        (item,) = result.identical
        # A score may happen to be a simple fraction.
        assert (item.what, item.rows - item.identical) == (what, differ)
        assert item.rows == N or what == "scores"
    assert honest.identical == ()
    for result in (same, near):
        with pytest.raises(InputError, match=r"OLD AND NEW ARE ONE RUN, .*--allow-identical \(allow_identical=True\)"):
            check(result, [parse_bound("max_nfr", "*:1")])
    assert check(honest, [parse_bound("max_nfr", "*:1")]) == []


def test_a_part_of_a_cache_is_noted_and_does_not_stop_the_gate(tmp_path: Path) -> None:
    mine, other = LIKELIHOODS
    half = [*mine[: N // 2], *other[N // 2 :]]
    result = compare_runs(_choices(tmp_path, "v1", mine), _choices(tmp_path, "v2", half))
    assert result.identical == ()
    (note,) = (note for note in result.notes if "identical" in note)
    assert f"the log-likelihoods of {N // 2} of {N} rows" in note
    assert "did both use one cache?" in note
    assert judge(result, [parse_bound("max_nfr", "1")]).verdict == "kept"
    little = compare_runs(_choices(tmp_path, "v1", mine), _choices(tmp_path, "v2", [*mine[:6], *other[6:]]))
    assert not any("identical" in note for note in little.notes)


def _honest(**columns: Any) -> tuple[TaskAnswers, TaskAnswers]:
    ids = pa.array([f"q{i}" for i in range(N)])
    return TaskAnswers("t", "v1", ids, **columns), TaskAnswers("t", "v2", ids, **columns)


@pytest.mark.parametrize(
    "columns",
    [
        pytest.param(
            {"answers": pa.array(list("ABCD") * 10), "references": pa.array(list("ABDC") * 10)}, id="letters"
        ),
        pytest.param(
            {"answers": pa.array([f"label_{i}" for i in range(N)]), "references": pa.array(["x"] * N)}, id="labels"
        ),
        pytest.param(
            {"answers": pa.array(ESSAYS[0]), "references": pa.array(ESSAYS[0])}, id="long right answers, both right"
        ),
        pytest.param(
            {"answers": pa.array(["I cannot help with that. " * 9] * N), "references": pa.array(["x"] * N)},
            id="one refusal everywhere",
        ),
        pytest.param({"scores": np.array([0.0, 1.0] * 20)}, id="right and wrong"),
        pytest.param({"scores": np.array([0.6667, 0.5, 2 / 3, 0.85] * 10)}, id="shares of a few words"),
        pytest.param({"scores": np.array([66.67, 50.0, 85.7143, 0.0] * 10)}, id="shares in percent"),
        pytest.param({"scores": np.full(N, 0.7312)}, id="one constant"),
        pytest.param({"scores": np.arange(N) / N, "samples": np.full(N, 40)}, id="shares of samples"),
    ],
)
def test_what_two_good_models_agree_on_is_no_proof(columns: dict[str, Any]) -> None:
    assert identical("t", *_honest(**columns)) is None


@pytest.mark.parametrize("n", [1, 4])
def test_a_handful_of_rows_is_no_proof(n: int, tmp_path: Path) -> None:
    mine = LIKELIHOODS[0][:n]
    assert compare_runs(_choices(tmp_path, "v1", mine), _choices(tmp_path, "v2", mine)).identical == ()


@pytest.mark.parametrize("share", [0.85, 0.9])
def test_a_model_and_its_8_bit_form_are_two(share: float, tmp_path: Path) -> None:
    mine, other = ESSAYS
    cut = int(share * N)
    assert (
        compare_runs(_table(tmp_path, "v1", mine), _table(tmp_path, "v2", [*mine[:cut], *other[cut:]])).identical == ()
    )


def test_long_answers_of_one_side_alone_are_differences(tmp_path: Path) -> None:
    said = [*ESSAYS[0][:20], *["B"] * 20]
    assert compare_runs(_table(tmp_path, "v1", ESSAYS[0]), _table(tmp_path, "v2", said)).identical == ()
    assert compare_runs(_generated(tmp_path, "v1", said), _generated(tmp_path, "v2", ESSAYS[0])).identical == ()


def test_certain_and_impossible_choices_are_no_proof(tmp_path: Path) -> None:
    sure = [[-0.0, -1.1920928955078125e-07, float("-inf"), -12.0]] * N
    assert compare_runs(_choices(tmp_path, "v1", sure), _choices(tmp_path, "v2", sure)).identical == ()


def _one_bad_task(**options: Any) -> RunComparison:
    # None of these is near a simple fraction, whichever tests ran before.
    values = (np.random.default_rng(1).random(N) + 0.01).tolist()
    old = run("v1", answers([0, 1] * 20, GOLD, task="good"), scored(values, task="bad", source="a"))
    new = run("v2", answers([1, 0] * 20, GOLD, task="good", source="n"), scored(values, task="bad", source="b"))
    return compare_runs(old, new, **options)


def test_one_bad_task_among_good_ones_is_named_and_stops_the_gate() -> None:
    result = _one_bad_task()
    assert [item.task for item in result.identical] == ["bad"]
    gate = judge(result, [parse_bound("max_nfr", "good:1")])
    assert gate.verdict == "refused"
    assert "ONE RUN on 1 of 2 tasks" in gate.refusals[0]
    assert {judged.verdict for judged in gate.judgements} == {"refused"}


def test_what_was_accepted_is_noted_and_the_gate_judges() -> None:
    result = _one_bad_task(allow_identical=True)
    assert result.identical == ()
    assert f"bad: the scores of {N} of {N} rows are identical to the last bit" in result.notes
    assert judge(result, [parse_bound("max_nfr", "good:1")]).verdict == "kept"


@pytest.mark.parametrize("style", [[], ["--json"], ["--markdown"]])
def test_it_is_said_first_everywhere_and_the_gate_does_not_pass(
    style: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(_choices(tmp_path, name, LIKELIHOODS[0])) for name in ("v1", "v2")]
    page = tmp_path / "page.html"
    assert main(["compare", *files, *style, "--html", str(page)]) == 0
    out = capsys.readouterr().out
    if style == ["--json"]:
        (item,) = json.loads(out)["identical"]
        assert (item["what"], item["rows"], item["identical"]) == ("likelihoods", N, N)
    else:
        assert out.splitlines()[bool(style)].removeprefix("> ").startswith("OLD AND NEW ARE ONE RUN")
    html = page.read_text()
    assert html.index('role="alert">OLD AND NEW ARE ONE RUN') < html.index("<h1>")

    assert main(["compare", *files, *style, "--max-nfr", "0.5"]) == 2
    out, err = capsys.readouterr()
    assert "OLD AND NEW ARE ONE RUN" in err
    assert "--allow-identical" in err
    if style == ["--json"]:
        assert json.loads(out)["gate"]["verdict"] == "refused"
    else:
        assert "! No verdict: OLD AND NEW ARE ONE RUN" in out

    assert main(["compare", *files, *style, "--max-nfr", "0.5", "--allow-identical"]) == 0
    out, err = capsys.readouterr()
    assert "identical to the last bit" in out
    assert err == ""


@pytest.mark.parametrize("way", ["same path", "other spelling", "link", "folder and file", "column"])
def test_a_file_compared_with_itself_is_no_comparison(way: str, tmp_path: Path) -> None:
    old = _choices(tmp_path / "r", "v1", [[-1.0, -2.0, -3.0, -4.0]] * N)  # nothing that could tell two models apart
    new: str | Path = old
    if way == "other spelling":
        new = f"{old.parent}/../v1/{old.name}"
    elif way == "link":
        new = tmp_path / old.name
        new.symlink_to(old)
    elif way == "folder and file":
        new = old.parent
    elif way == "column":
        table = tmp_path / "wide.csv"
        table.write_text("id,gold,v1,v2\n1,A,A,A\n2,B,C,C\n")
        columns = {"reference": "gold"}
        assert compare_runs(f"{table}:v1", f"{table}:v2", columns=columns).identical == ()
        (item,) = compare_runs(f"{table}:v1", f"{table}:v1", columns=columns).identical
        assert item.what == "source"
        return
    (item,) = compare_runs(old, new).identical
    assert (item.what, item.rows) == ("source", N)
    assert "compared with itself" in item.message


def test_a_copy_of_short_answers_may_be_two_models(tmp_path: Path) -> None:
    files = [_table(tmp_path, name, list("ABCD") * 10) for name in ("v1", "v2")]
    assert compare_runs(*files).identical == ()


def test_two_seeds_that_are_one_run_are_no_seed_floor(tmp_path: Path) -> None:
    mine, other = LIKELIHOODS
    old, new = _choices(tmp_path, "v1", mine), _choices(tmp_path, "v2", other)
    seeds = [_choices(tmp_path / place, "v2", other) for place in ("s1", "s2")]
    with pytest.raises(InputError, match=r"two runs of the seed floor are one.*change with the seed of sampling"):
        compare_runs(old, new, seed_floor=seeds)
    assert compare_runs(old, new, seed_floor=seeds, allow_identical=True).tasks[0].seed_floor is not None
    more = _choices(tmp_path / "s3", "v2", (-30 * np.random.default_rng(1).random((N, 4))).tolist())
    assert compare_runs(old, new, seed_floor=[new, more]).tasks[0].seed_floor is not None


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["texts", "scores", "letters"])
def test_a_million_rows_take_little_time(kind: str) -> None:
    # Counted in work and not in seconds: no row is looked at in Python unless it is long, and then once.
    n = 200_000
    ids = pa.array(range(n))
    if kind == "scores":
        sides = [TaskAnswers("t", name, ids, scores=np.random.default_rng(0).random(n)) for name in ("a", "b")]
    else:
        texts = pa.array([ESSAYS[0][i % N] if kind == "texts" else "ABCD"[i % 4] for i in range(n)])
        sides = [TaskAnswers("t", name, ids, answers=texts, references=pa.array(["x"] * n)) for name in ("a", "b")]
    found = find_identical({"t": Aligned(*sides)})
    assert [item.what for item in found] == (["scores"] if kind == "scores" else [])
