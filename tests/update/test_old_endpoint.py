"""`muscle-hf update` with the old model's answers from its endpoint: asked first, and those of the model itself."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_endpoint import Endpoint, endpoint
from peft import PeftModel
from tiny_updates import ROWS, Update, make_update
from transformers import LlamaForCausalLM

import muscle_hf.update.run as running_module
from muscle_hf import ConfigurationError, EndpointError
from muscle_hf.update.answering import write_answers
from muscle_hf.update.evidence import OLD
from muscle_hf.update.options import read_options
from muscle_hf.update.plan import Plan, make_plan
from muscle_hf.update.run import run_update
from muscle_hf.update.stages import Stages


@pytest.fixture(scope="module")
def update(tmp_path_factory: pytest.TempPathFactory) -> Update:
    made = make_update(tmp_path_factory.mktemp("update"))
    lines = (json.dumps(row | {"choices": ["transfer", "balance please"]}) + "\n" for row in ROWS)
    (made.folder / "data.jsonl").write_text("".join(lines), encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def running(update: Update) -> Iterator[Endpoint]:
    base = LlamaForCausalLM.from_pretrained(update.folder / "base-v1")
    model = PeftModel.from_pretrained(base, update.folder / "task-v1").eval()
    with endpoint(model, update.tokenizer) as served:
        yield served


@pytest.fixture
def served(running: Endpoint) -> Endpoint:
    running.faults, running.requests = [], []
    return running


def _plan(update: Update, out: Path, *more: str) -> Plan:
    folder = update.folder
    words = ["--old-adapter", str(folder / "task-v1"), "--old-base", str(folder / "base-v1")]
    words += ["--new-base", str(folder / "base-v2"), "--dataset", str(folder / "data.jsonl"), "--output-dir", str(out)]
    return make_plan(read_options([*words, "--use-cpu", "true", "--test-share", "0.5", *more]))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["generation", "choice"])
def test_answers_of_the_endpoint_are_those_of_the_old_model(
    update: Update, served: Endpoint, tmp_path: Path, kind: str
) -> None:
    named = ("--old-endpoint", served.url, "--old-endpoint-model", "old", "--kind", kind)
    plans = {"there": _plan(update, tmp_path / "out", *named), "here": _plan(update, tmp_path / "out", "--kind", kind)}
    for name, plan in plans.items():
        path = tmp_path / name / "old.jsonl"
        write_answers(plan, plan.settings.old_adapter, path, old=True, decided_by=Stages(plan).answers(OLD).decided_by)
    there, here = ((tmp_path / name / "old.jsonl").read_text(encoding="utf-8") for name in plans)
    assert there == here and there.count("\n") == 6
    assert served.requests
    assert f"old at {served.url} answers in the old model's place" in plans["there"].notes[-1]


def test_an_endpoint_that_is_gone_is_told_before_hours_of_training(
    update: Update, served: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running_module, "train_task_adapter", lambda *_, **__: pytest.fail("trained"))
    served.faults = [404]
    with pytest.raises(EndpointError, match="status 404"):
        run_update(_plan(update, tmp_path / "out", "--old-endpoint", served.url, "--old-endpoint-model", "x"), print)


@pytest.mark.slow
def test_answers_of_another_endpoint_are_not_taken_and_how_fast_it_was_asked_does_not_count(
    update: Update, served: Endpoint, tmp_path: Path
) -> None:
    named = ("--old-endpoint", served.url, "--old-endpoint-model")
    first = Stages(_plan(update, tmp_path, *named, "x")).answers(OLD)
    first.path.parent.mkdir()
    first.once(lambda: first.path.touch())
    Stages(_plan(update, tmp_path, *named, "x", "--old-endpoint-concurrency", "3")).answers(OLD).claim()
    for plan in (_plan(update, tmp_path, *named, "y"), _plan(update, tmp_path)):
        with pytest.raises(ConfigurationError, match=r"old endpoint .* there"):
            Stages(plan).answers(OLD).claim()


@pytest.mark.slow
def test_an_endpoint_that_answers_test_rows_alone_is_none_of_the_trainings(
    update: Update, served: Endpoint, tmp_path: Path
) -> None:
    """The trainer would refuse one that it has no use for, after everything before it is trained."""
    named = ("--old-endpoint", served.url, "--old-endpoint-model", "x")
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "what else?\\n"}\n', encoding="utf-8")
    asked = ("--unlabelled-dataset", str(prompts))
    assert _plan(update, tmp_path, *named).compatibility_config(tmp_path).old_endpoint is None
    others = _plan(update, tmp_path, *named, *asked, "--unlabelled-teacher", "new")
    assert others.compatibility_config(tmp_path).old_endpoint is None
    assert _plan(update, tmp_path, *named, *asked).compatibility_config(tmp_path).old_endpoint == served.url
