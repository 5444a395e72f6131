"""The card that `muscle-hf update` makes: rows, tests, limits of how the data were cut, and examples on request."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from muscle_hf.card import check
from muscle_hf.update.evidence import COMPATIBILITY, CONTROL, NEW, OLD, answers_of, card, weigh
from muscle_hf.update.kinds import CAUSAL
from muscle_hf.update.settings import UpdateSettings
from muscle_hf.update.training import FACTS

ANSWERS = {OLD: "aaaab", NEW: "bbaaa", CONTROL: "abaab", COMPATIBILITY: "aaabb"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for contender, answers in ANSWERS.items():
        path = answers_of(tmp_path, contender)
        path.parent.mkdir(exist_ok=True)
        rows = [
            {"id": number, "question": f"secret {number}", "prediction": one, "reference": "a"}
            for number, one in enumerate(answers)
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    facts = {"adapter_type": "lora", "training": {"mask": "student_wrong", "seed": 1}}
    (tmp_path / FACTS).write_text(json.dumps(facts), encoding="utf-8")
    return tmp_path


def _made(folder: Path, known: int = 0, old_endpoint: str | None = None, **changes: Any) -> str:
    (folder / "data.jsonl").touch()
    given = {"old_adapter": "org/task-v1", "new_base": "org/base-v2", "dataset": str(folder / "data.jsonl")} | changes
    plan: Any = SimpleNamespace(
        settings=UpdateSettings(**given),
        config=SimpleNamespace(hub_model_id="org/task-compat", old_endpoint=old_endpoint),
        options=SimpleNamespace(output_dir=folder),
        old_base=SimpleNamespace(name="org/base-v1", init_kwargs={}),
        new_base=SimpleNamespace(name="org/base-v2", init_kwargs={}, kind=CAUSAL),
        delimiter=None,
        data=SimpleNamespace(known=range(known), test=range(5)),
    )
    return card(plan, weigh(folder, control=True), folder).render()


def test_the_card_has_old_new_compatibility_and_control_and_passes_the_check(folder: Path) -> None:
    text = _made(folder)
    rows = [line.split(" | ")[0] for line in text.split("\n") if line.startswith("| ")]
    assert rows[5:9] == [
        "| old model", "| plain update", "| control: same steps more", "| compatibility adapter (this adapter)",
    ]  # fmt: skip
    assert "breaks 1 answer that the old model had right (20.0 % of 5): fewer than the 2 of the plain update" in text
    assert "as many as the 1 of the control of the same budget" in text
    assert "- compatible-with:org/base-v1" in text
    assert check(text) == []


def test_rows_cut_from_the_training_data_are_said_to_be_known_to_the_old_adapter(folder: Path) -> None:
    words = "the old adapter may have been trained on them"
    text = _made(folder)
    assert "On held-out rows of data.jsonl" in text
    assert words in text.split("## Limits")[1]
    text = _made(folder, test_dataset="org/rows:full@v1", test_split="check")
    assert "On the test rows org/rows:full@v1" in text
    assert words not in text
    assert "2 of the 5 test rows are asked in the training data too." in _made(folder, 2, test_dataset="org/rows")
    assert "type: org/rows\n      config: full\n      split: check\n      revision: v1\n" in text


def test_private_rows_are_shown_only_on_request(folder: Path) -> None:
    assert "secret" not in _made(folder)
    text = _made(folder, card_examples=True)
    # Two flips; the negative one comes first.
    assert [text.count(f"secret {number}") for number in range(5)] == [0, 0, 0, 1, 0]
    assert ", 3**: right before, wrong now" in text


def test_old_answers_of_an_endpoint_are_said_to_be_and_its_address_is_not_published(folder: Path) -> None:
    text = _made(folder, old_endpoint="http://private.host:8000/v1")
    assert "greedy, right where they equal the completion; the old model's by the endpoint that serves it" in text
    assert "private.host" not in text
