"""Right answers from a file of their own: joined by id, every id needed."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from muscle_hf import InputError, compare_runs, read


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    """What `run_glue.py` of transformers writes."""
    return _write(tmp_path / "predict_results.txt", "index\tprediction\n0\tA\n1\tB\n2\tA\n")


HOW: dict[str, Any] = {"columns": {"id": "index"}}


@pytest.mark.parametrize(
    ("name", "content", "column"),
    [
        ("gold.csv", "index,label\n2,B\n1,B\n0,A\n7,C\n", ""),
        ("gold.csv", "id,class,label\n2,x,B\n1,x,B\n0,x,A\n", ""),
        ("gold.csv", "index,label,right\n2,x,B\n1,x,B\n0,x,A\n", ":right"),
        ("gold.jsonl", '{"id": 0, "reference": "A"}\n{"id": 1, "reference": "B"}\n{"id": 2, "reference": "B"}\n', ""),
        ("gold.csv", "split,index,label\na,0,x\nb,0,A\nb,1,B\nb,2,B\n", "@split=b"),
    ],
)
def test_right_answers_are_found_by_id(
    tmp_path: Path, predictions: Path, name: str, content: str, column: str
) -> None:
    gold = _write(tmp_path / name, content)
    run = read(predictions, references=f"{gold}{column}", **HOW)
    task = run.tasks["predict_results"]
    assert task.values().tolist() == [1, 1, 0]
    assert [text.reference for text in task.read_texts(pa.array([2, 0]).to_numpy())] == ["B", "A"]
    assert task.files == (str(predictions), str(gold))


def test_two_files_of_predictions_are_compared_with_one_of_right_answers(tmp_path: Path, predictions: Path) -> None:
    new = _write(tmp_path / "new.txt", "index\tprediction\n2\tB\n1\tA\n0\tA\n")
    gold = tmp_path / "gold.parquet"
    pq.write_table(pa.table({"index": [0.0, 1.0, 2.0], "label": ["A", "B", "B"]}), gold)
    part = compare_runs(predictions, new, references=str(gold), **HOW).overall.comparison
    assert (len(part.negative_flips), len(part.positive_flips)) == (1, 1)


@pytest.mark.parametrize(
    ("content", "column", "words"),
    [
        ("index,label\n0,A\n1,B\n", "", "has no right answer for 1 ids of the predictions, for instance '2'"),
        ("index,label\n0,A\n0,B\n", "", "1 ids stand more than once, for instance '0'"),
        ("index,label,gold\n0,A,A\n", "", "has 2 columns that may hold right answers"),
        ("index,class\n0,A\n", "", "has 0 columns that may hold right answers"),
        ("index,class\n0,A\n", ":klass", "has no column 'klass'"),
        ("number,label\n0,A\n", "", "has no column 'id'"),
    ],
)
def test_right_answers_that_are_not_those_are_refused(
    tmp_path: Path, predictions: Path, content: str, column: str, words: str
) -> None:
    gold = _write(tmp_path / "gold.csv", content)
    with pytest.raises(InputError, match=words):
        read(predictions, references=f"{gold}{column}", **HOW)


def test_a_table_that_needs_no_right_answers_or_cannot_have_them_says_so(tmp_path: Path, predictions: Path) -> None:
    gold = str(_write(tmp_path / "gold.csv", "id,reference,prediction\n0,A,A\n"))
    with pytest.raises(InputError, match="--references FILE"):
        read(predictions, **HOW)
    with pytest.raises(InputError, match="has right answers itself"):
        read(gold, references=gold)
    with pytest.raises(InputError, match="has no column 'id', by which"):
        read(predictions, references=gold)
    with pytest.raises(InputError, match="would choose nothing"):
        read(tmp_path, references=gold)
    with pytest.raises(InputError, match="is no file; FILE or FILE:COLUMN is needed"):
        read(predictions, references=str(tmp_path), **HOW)
