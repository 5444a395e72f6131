"""Whichever way a model in training is saved or pushed, the card of this package goes along, and nothing private."""

import copy
import gc
import json
import os
import pickle
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fresh
import local_hub
import pytest
import torch
from datasets import Dataset
from local_hub import Fault, Hold, User
from safetensors.torch import load, load_file
from tiny_updates import ROWS, Update, make_update, trainer_of
from transformers import TrainerCallback
from two_processes import run_two

from muscle_hf import ConfigurationError, InputError, compare, compare_runs, compare_scores
from muscle_hf.card.lineage import Lineage
from muscle_hf.errors import HubError
from muscle_hf.publishing.background import resumable_files
from muscle_hf.publishing.from_model import checked_files, record_base
from muscle_hf.training.base import TrainerBase

TESTS = Path(__file__).parents[1]
TOKEN = "secret-of-ann"  # noqa: S105 - a token of the local Hub
COMPARISON = compare(old=list("abxx"), new=list("xbyc"), references=list("abcz"))
OURS = "compatibility-adapter"  # a tag that no draft of a parent has
QUESTIONS = [
    {"prompt": row["prompt"], "choices": ["transfer", "balance please"], "answer": number % 2}
    for number, row in enumerate(ROWS)
]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def update(tmp_path_factory: pytest.TempPathFactory) -> Update:
    return make_update(tmp_path_factory.mktemp("update"))


def _card(folder: Path) -> str:
    return (folder / "README.md").read_text(encoding="utf-8")


def _values(folder: Path) -> set[float]:
    return {float(tensor.mean()) for tensor in load_file(folder / "adapter_model.safetensors").values()}


# The model's own methods ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_models_own_save_pretrained_leaves_our_card_and_not_that_of_peft(update: Update, tmp_path: Path) -> None:
    trainer = trainer_of(update, tmp_path / "out")
    trainer.add_comparison("compatibility adapter", COMPARISON, split="four questions")
    trainer.model.save_pretrained(tmp_path / "saved")
    assert OURS in _card(tmp_path / "saved")
    assert "four questions" in _card(tmp_path / "saved")
    trainer.model.save_pretrained(tmp_path / "other", is_main_process=False)
    assert not (tmp_path / "other" / "README.md").exists()  # two processes must not write one file


def test_a_copy_of_the_model_saves_itself_and_our_card(update: Update, tmp_path: Path) -> None:
    trainer = trainer_of(update, tmp_path / "out")
    twin = copy.deepcopy(trainer.model)
    with torch.no_grad():
        for name, weight in twin.named_parameters():
            if "lora_" in name:
                weight.fill_(7.0)
    twin.save_pretrained(tmp_path / "twin")
    assert _values(tmp_path / "twin") == {7.0}
    assert OURS in _card(tmp_path / "twin")
    trainer.model.save_pretrained(tmp_path / "own")
    assert 7.0 not in _values(tmp_path / "own")


class _SaveAndStop(TrainerCallback):
    """Saves the model itself after the second step, and ends the training as Ctrl-C would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        if state.global_step == 2:
            others["model"].save_pretrained(self.folder)
            raise KeyboardInterrupt


def test_a_card_is_of_the_very_weights_that_are_saved_whenever_that_is(update: Update, tmp_path: Path) -> None:
    questions = Dataset.from_list(ROWS[:3])
    options = {"max_steps": 3, "eval_strategy": "steps", "eval_steps": 1, "flips_max_new_tokens": 2}
    callbacks = [_SaveAndStop(tmp_path / "within")]
    trainer = trainer_of(update, tmp_path / "out", flips_dataset=questions, callbacks=callbacks, **options)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    trainer.card_details["license"] = "mit"
    twin = copy.deepcopy(trainer.model)
    trainer.model.save_pretrained(tmp_path / "after")
    twin.save_pretrained(tmp_path / "twin")
    for folder in ("within", "after", "twin"):
        card = _card(tmp_path / folder)
        assert "optimizer steps: 2" in card, folder
        assert "negative_flip_rate" not in card, "figures of the step before"
    assert "license: mit" in _card(tmp_path / "after")
    model = trainer.model
    del trainer
    model.save_pretrained(tmp_path / "alone")
    assert "optimizer steps: 2" in _card(tmp_path / "alone")


def test_a_copy_that_nobody_keeps_says_so_instead_of_saving_nothing(update: Update, tmp_path: Path) -> None:
    save = copy.deepcopy(trainer_of(update, tmp_path / "out").model).save_pretrained
    with pytest.raises(ReferenceError, match="is gone"):
        save(tmp_path / "saved")


@pytest.mark.slow
def test_a_pickled_model_takes_the_card_along_and_neither_trainer_nor_old_model(
    update: Update, tmp_path: Path
) -> None:
    # With gradient checkpointing, transformers hangs functions on a model that no pickle can hold.
    trainer = trainer_of(update, tmp_path / "out", gradient_checkpointing=False)
    trainer.add_comparison("compatibility adapter", COMPARISON, split="four questions")
    whole = pickle.dumps(trainer.model)
    assert b"muscle_hf.training.trainer" not in whole
    assert len(whole) < 1.5 * len(pickle.dumps(update.load(2)))
    del trainer
    loaded = pickle.loads(pickle.dumps(pickle.loads(whole)))  # noqa: S301 - our own bytes
    loaded.save_pretrained(tmp_path / "saved")
    assert "four questions" in _card(tmp_path / "saved")
    assert (tmp_path / "saved" / "adapter_model.safetensors").exists()


@pytest.mark.slow
def test_the_card_outlives_the_trainer_and_the_model_keeps_nothing_alive(update: Update, tmp_path: Path) -> None:
    trainer = trainer_of(update, tmp_path / "out")
    trainer.train()
    model, dead = trainer.model, weakref.ref(trainer)
    old = weakref.ref(trainer.old_teacher.model)
    del trainer
    gc.collect()
    assert dead() is None
    assert old() is None
    model.save_pretrained(tmp_path / "saved")
    assert "optimizer steps: 2" in _card(tmp_path / "saved")
    # Without the garbage collector: a model on a GPU has to go when it is let go of.
    gc.disable()
    try:
        gone = weakref.ref(model)
        del model
        assert gone() is None
    finally:
        gc.enable()


# What is refused, and what is written down ---------------------------------------------------------------------------


@pytest.mark.slow
def test_no_repository_is_made_where_the_data_are_refused(
    update: Update, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def make(trainer: TrainerBase) -> None:
        trainer.hub_model_id = f"ann/{Path(trainer.args.output_dir).name}"
        made.append(trainer.hub_model_id)

    monkeypatch.setattr(TrainerBase, "init_hf_repo", make)
    monkeypatch.setattr("muscle_hf.training.base.refuse_local_base", lambda model: None)
    rows = [row | {"target_index": 0} for row in ROWS]
    with pytest.raises(InputError, match="target_index"):
        trainer_of(update, tmp_path / "bad", rows=rows, push_to_hub=True)
    assert made == []
    trainer = trainer_of(update, tmp_path / "good", push_to_hub=True)
    assert made == ["ann/good"]
    trainer.model.save_pretrained(tmp_path / "saved")
    assert "ann/good" in _card(tmp_path / "saved")


def test_an_adapter_on_a_local_base_is_refused_before_training_if_it_is_to_be_pushed(
    update: Update, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=r"base-v2', a folder of this machine.*--base-model"):
        trainer_of(update, tmp_path / "out", push_to_hub=True, hub_model_id="org/task-compat")


def test_an_adapter_that_cannot_be_pushed_is_saved_all_the_same(update: Update, tmp_path: Path) -> None:
    trainer = trainer_of(update, tmp_path / "out")
    with pytest.raises(ConfigurationError, match="a folder of this machine"):
        trainer.push_to_hub()
    with pytest.raises(ConfigurationError, match="a folder of this machine"):
        trainer.model.push_to_hub("org/task-compat")
    assert (tmp_path / "out" / "adapter_model.safetensors").exists()


# PEFT asks the Hub about the base whenever it saves.
@pytest.mark.filterwarnings("ignore:Unable to fetch remote file:UserWarning")
@pytest.mark.filterwarnings("ignore:Could not find a config file:UserWarning")
def test_an_unreachable_hub_is_one_line_that_says_where_the_adapter_is(update: Update, tmp_path: Path) -> None:
    trainer = trainer_of(update, tmp_path / "out", hub_model_id="org/task-compat", hub_token="hf_" + "x" * 30)
    trainer.model.active_peft_config.base_model_name_or_path = "org/base-v2"
    with pytest.raises(HubError, match=r"cannot be reached.*saved in .*out\. .*muscle-hf push") as caught:
        trainer.push_to_hub()
    assert "\n" not in str(caught.value)
    assert "xxx" not in str(caught.value)
    assert (tmp_path / "out" / "adapter_model.safetensors").exists()


def test_the_adapter_names_the_commit_of_its_base_and_no_folder_of_another_machine(update: Update) -> None:
    model = update.load(2)
    lineage = Lineage("org/base-v2", None, None, None, new_base_revision="a" * 40)
    record_base(model, lineage)
    assert model.active_peft_config.revision == "a" * 40
    assert model.active_peft_config.base_model_name_or_path == "org/base-v2"
    record_base(model, Lineage("org/base-v2", None, None, None, new_base_revision="b" * 40))
    assert model.active_peft_config.revision == "a" * 40  # what is there stays
    other = update.load(2)
    record_base(other, Lineage("/data/base-v2", None, None, None))
    assert other.active_peft_config.revision is None
    assert other.active_peft_config.base_model_name_or_path == str(update.folder / "base-v2")


def test_a_checkpoint_for_the_hub_tells_no_path_and_no_arguments(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint-2"
    (folder / "global_step2").mkdir(parents=True)
    for name in ("optimizer.pt", "training_args.bin", "rng_state.pth", "global_step2/states.pt"):
        (folder / name).write_bytes(b"x")
    state = {"global_step": 2, "best_model_checkpoint": str(tmp_path / "checkpoint-1"), "log_history": [{"loss": 1.0}]}
    (folder / "trainer_state.json").write_text(json.dumps(state))
    files = resumable_files(folder)
    assert sorted(files) == ["global_step2/states.pt", "optimizer.pt", "rng_state.pth", "trainer_state.json"]
    content = files["trainer_state.json"]
    assert isinstance(content, bytes)
    assert json.loads(content) == state | {"best_model_checkpoint": "checkpoint-1"}


def test_a_path_in_a_file_beside_the_card_keeps_a_trainers_push_at_home(update: Update, tmp_path: Path) -> None:
    trainer_of(update, tmp_path / "out").save_model()
    for file, more in (
        ("adapter_config.json", {"base_model_name_or_path": "acme/base-v2"}),
        ("tokenizer_config.json", {"terms": "/home/bob/secret/terms.txt"}),
    ):
        config = tmp_path / "out" / file
        config.write_text(json.dumps(json.loads(config.read_text()) | more))
    with pytest.raises(InputError, match=r"tokenizer_config\.json holds a path of a machine"):
        checked_files(tmp_path / "out")


def test_scores_are_no_row_of_a_table_of_right_answers(update: Update, tmp_path: Path) -> None:
    trainer = trainer_of(update, tmp_path / "out")
    with pytest.raises(InputError, match="compares scores"):
        trainer.add_comparison("adapter", compare_scores(old=[0.1, 0.2], new=[0.3, 0.1]))
    assert trainer.comparisons == {}


def test_a_row_that_the_card_does_not_know_is_told_and_a_misspelt_one_is_refused(
    update: Update, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = trainer_of(update, tmp_path / "out")
    with caplog.at_level("WARNING", logger="muscle_hf"):
        trainer.add_comparison("control: same steps more", COMPARISON)
        assert not caplog.text
        trainer.add_comparison("compatibility adapter, seed 2", COMPARISON)
    assert "'compatibility adapter, seed 2' is a row of the card's table and no more" in caplog.text
    for name in ("Control: same steps more", "control: same step more", "Plain Update", "compatability_adapter"):
        with pytest.raises(InputError, match=r"Did you mean '(control: same|plain update|compatibility adapter)"):
            trainer.add_comparison(name, COMPARISON)
    with pytest.raises(InputError, match="the card makes that row itself"):
        trainer.add_comparison("old model", COMPARISON)
    assert list(trainer.comparisons) == ["control: same steps more", "compatibility adapter, seed 2"]


@pytest.mark.slow
def test_a_comparison_of_runs_gives_its_row_and_this_adapters_slices(update: Update, tmp_path: Path) -> None:
    (tmp_path / "answers.csv").write_text("id,gold,v1,v2,kind\n1,A,A,B,easy\n2,C,C,C,easy\n3,B,A,B,hard\n")
    sources = [f"{tmp_path}/answers.csv:{version}" for version in ("v1", "v2")]
    compared = compare_runs(*sources, columns={"reference": "gold"}, by="kind")
    trainer = trainer_of(update, tmp_path / "out")
    trainer.add_comparison("compatibility adapter", compared, split="three questions")
    assert trainer.comparisons["compatibility adapter"].n == 3
    trainer.save_model()
    card = _card(tmp_path / "out")
    assert "three questions" in card
    assert "hard" in card
    assert str(tmp_path) not in card


# Flips of the evaluation ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_card_shows_the_last_evaluation_only_while_the_weights_are_those_that_were_evaluated(
    update: Update, tmp_path: Path
) -> None:
    trainer = trainer_of(
        update, tmp_path / "out", flips_dataset=Dataset.from_list(QUESTIONS), eval_strategy="steps", eval_steps=1,
        save_strategy="steps", save_steps=2,
    )  # fmt: skip
    trainer.train()
    trainer.save_model()
    card = _card(tmp_path / "out")
    assert "validation questions" in card
    assert "plain update" in card
    measured = trainer.measured_comparisons()["student"]
    logged = [log for log in trainer.state.log_history if "eval_negative_flip_rate" in log][-1]
    assert measured.n == len(QUESTIONS)
    assert 0 < measured.new_accuracy < 1
    assert measured.new_accuracy == logged["eval_accuracy"]
    assert measured.negative_flip_rate == logged["eval_negative_flip_rate"]
    trainer.state.global_step += 1  # as if it had been trained on
    trainer.save_model()
    assert "validation questions" not in _card(tmp_path / "out")
    trainer.state.global_step -= 1
    trainer.add_comparison("compatibility adapter", COMPARISON, split="four questions")
    trainer.save_model()
    assert "validation questions" not in _card(tmp_path / "out")
    assert "four questions" in _card(tmp_path / "out")


@pytest.mark.slow
def test_a_comparison_is_not_shown_of_weights_that_were_trained_on_since(
    update: Update, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = trainer_of(update, tmp_path / "out", max_steps=1)
    trainer.train()
    trainer.add_comparison("plain update", COMPARISON, split="four questions")
    trainer.add_comparison("compatibility adapter", COMPARISON, split="four questions")
    trainer.save_model()
    assert "this adapter breaks" in _card(tmp_path / "out")
    trainer.args.max_steps = 2
    with caplog.at_level("WARNING"):
        trainer.train()
    assert "off the card" in caplog.text
    trainer.save_model()
    card = _card(tmp_path / "out")
    assert "this adapter breaks" not in card
    # That of the plain update holds whatever is trained here.
    assert "| plain update |" in card


def test_rows_that_were_measured_on_other_questions_say_so_and_are_no_rivals(update: Update, tmp_path: Path) -> None:
    trainer = trainer_of(update, tmp_path / "out")
    trainer.add_comparison("plain update", COMPARISON, split="validation set")
    trainer.add_comparison("compatibility adapter", COMPARISON, split="test set")
    card = trainer.card().render()
    assert "On test set, this adapter breaks" in card
    assert "| plain update, validation set |" in card
    assert "negative_flip_rate_reduction" not in card


@pytest.mark.slow
def test_the_card_says_which_step_is_kept_and_what_chose_it(update: Update, tmp_path: Path) -> None:
    trainer = trainer_of(
        update, tmp_path / "out", flips_dataset=Dataset.from_list(QUESTIONS), eval_dataset=Dataset.from_list(ROWS),
        eval_strategy="steps", eval_steps=1, save_strategy="steps", save_steps=1, load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
    )  # fmt: skip
    trainer.train()
    card = trainer.card().render()
    assert f"- kept: step {trainer.state.best_global_step}, by eval_loss" in card
    # The loss is of other rows than the questions.
    assert "was chosen by the questions" not in card
    trainer.args.metric_for_best_model = "eval_negative_flip_rate"
    assert "was chosen by the questions" in trainer.card().render()


# On a Hub ------------------------------------------------------------------------------------------------------------

CHILD = """
import json, logging, sys, traceback
from pathlib import Path
import torch
from datasets import Dataset
from muscle_hf import compare
from tiny_updates import ROWS, trainer_of, weights_of
from transformers import TrainerCallback
from types import SimpleNamespace

torch.set_num_threads(1)
told = []
handler = logging.Handler(logging.WARNING)
handler.emit = lambda record: told.append(record.getMessage())
logging.getLogger("muscle_hf").addHandler(handler)
out, sys.stdout = sys.stdout, sys.stderr  # the trainer prints its logs

def make(name, **options):
    ids = {"model": "acme/base-v2", "new_adapter": "acme/task-on-v2", "old_model": "acme/base-v1",
           "old_adapter": "acme/task-on-v1", "max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    if options.get("push_to_hub"):
        options.setdefault("hub_always_push", True)
    return trainer_of(SimpleNamespace(arguments={}), name, **ids | {"hub_model_id": f"acme/{name}"} | options)

class TellSteps(TrainerCallback):
    # Leaves a file when a step is saved and what is to be pushed of it is decided.

    def on_save(self, args, state, control, **others):
        Path(args.output_dir, f"saved-{state.global_step}").touch()

for line in sys.stdin:
    told.clear()
    answer = None
    try:
        exec(json.loads(line), globals())
        found = {"answer": answer}
    except Exception as error:
        traceback.print_exc()
        found = {"error": type(error).__name__, "message": str(error)}
    print(json.dumps(found | {"told": told}), file=out, flush=True)
"""


class Client:
    """A process that trains and pushes; what it is told to do one time is not told it to do again.

    Its folder is the working directory, so an output folder named "x" is `client.folder / "x"`.
    """

    def __init__(self, hub: local_hub.Hub, folder: Path) -> None:
        self.hub, self.folder = hub, folder
        paths = os.pathsep.join(map(str, (TESTS, TESTS / "classifier", TESTS.parent)))
        environment = hub.environment(TOKEN, home=folder / "home") | {"PYTHONPATH": paths, "CI": "1"}
        self._process = fresh.Process([sys.executable, "-c", CHILD], env=environment, cwd=folder)

    def run(self, code: str, *, fails: bool = False) -> dict[str, Any]:
        """Run code; "answer", "told" (warnings), and, where an exception ends it, "error" and "message"."""
        self._process.stdin.write(json.dumps(code) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, self._process.communicate()[1][-3000:]
        found: dict[str, Any] = json.loads(line)
        assert ("error" in found) == fails, found
        return found

    def stop(self) -> None:
        _, errors = self._process.communicate()
        assert self._process.returncode == 0, errors[-3000:]


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def filled_hub(update: Update) -> Iterator[local_hub.Hub]:
    """A Hub with both bases, which have a second commit, and both task adapters, which name a base on a disk."""
    with local_hub.hub(tokens={TOKEN: User("ann", orgs=("acme",))}) as hub:
        for version in (1, 2):
            hub.create(f"acme/base-v{version}", files=_contents(update.folder / f"base-v{version}"))
            hub.create(f"acme/task-on-v{version}", files=_contents(update.folder / f"task-v{version}"))
        yield hub


@pytest.fixture(scope="module")
def client(filled_hub: local_hub.Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    started = Client(filled_hub, tmp_path_factory.mktemp("client"))
    yield started
    started.stop()


@pytest.fixture(autouse=True)
def _no_faults_left(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "filled_hub" in request.fixturenames:
        request.getfixturevalue("filled_hub").clear_faults()


def hold_until(client: Client, repository: str, file: str) -> None:
    """Hold the first commit to a repository until the client leaves a file."""
    hold = Hold()
    client.hub.fault(Fault(method="POST", path=f"{repository}/commit/", hold=hold))
    hold.release_when((client.folder / file).exists)


ADAPTER = {"README.md", "adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "tokenizer_config.json"}
RESUMING = {"optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"}


def _messages(hub: local_hub.Hub, name: str) -> list[str]:
    return [message for _, message in reversed(hub.commits(name)) if message != "initial commit"]


def _check_pushed(client: Client, name: str, *, kinds: set[str] = ADAPTER) -> dict[str, bytes]:
    """What is there is just what should be: our card, an adapter that names its base, nothing of this machine."""
    files = client.hub.files(name)
    evidence = {path for path in files if path.endswith(("comparison.json", "quadrants.png", ".gitattributes"))}
    assert set(files) - evidence == kinds
    card = files["README.md"].decode()
    assert OURS in card
    assert "base_model: acme/base-v2" in card
    config = json.loads(files["adapter_config.json"])
    assert config["base_model_name_or_path"] == "acme/base-v2"
    assert config["revision"] == client.hub.commits("acme/base-v2")[0][0]
    for path, content in files.items():
        for secret in (str(client.folder), TOKEN):
            assert secret.encode() not in content, path
    return files


@pytest.mark.slow
def test_a_push_at_the_end_is_one_commit_of_adapter_tokenizer_and_our_card(client: Client) -> None:
    told = client.run(
        "trainer = make('end'); trainer.train()\n"
        "trainer.push_to_hub(dataset_name='acme/data', license='mit', private=True)"
    )["told"]
    assert not [one for one in told if "ush" in one]
    assert _messages(client.hub, "acme/end") == ["End of training"]
    assert client.hub.info("acme/end")["private"] is True
    card = _check_pushed(client, "acme/end")["README.md"].decode()
    assert '"acme/end"' in card
    assert "license: mit" in card
    assert "- acme/data" in card
    assert "licence:" not in card


@pytest.mark.slow
def test_each_checkpoint_is_pushed_as_one_commit_while_training_goes_on(client: Client) -> None:
    client.run("make('every', push_to_hub=True).train()")
    assert _messages(client.hub, "acme/every") == ["Training in progress, step 1", "Training in progress, step 2"]
    _check_pushed(client, "acme/every")
    newest = client.folder / "every" / "checkpoint-2" / "adapter_model.safetensors"
    assert client.hub.files("acme/every")["adapter_model.safetensors"] == newest.read_bytes()
    assert not list((client.folder / "every").glob(".push-*"))


@pytest.mark.slow
def test_answers_and_teachers_stay_at_home_whatever_else_lies_in_the_output_folder(client: Client) -> None:
    kept = client.folder / "private" / "unlabelled_answers" / "old-0123"
    kept.mkdir(parents=True)
    (kept / "block-000000.jsonl").write_text('{"prompt": "my secret"}\\n')
    client.run(
        "questions = Dataset.from_list(ROWS[:4])\n"
        "trainer = make('private', push_to_hub=True, hub_strategy='all_checkpoints', save_steps=2,\n"
        "    teacher_cache='topk', teacher_cache_k=4,\n"
        "    flips_dataset=questions, flips_max_new_tokens=4, eval_strategy='steps', eval_steps=2)\n"
        "trainer.train(); trainer.push_to_hub()"
    )
    folders = {path.name for path in (client.folder / "private").iterdir() if path.is_dir()}
    assert folders == {"checkpoint-2", "flips_evaluation", "teacher_cache", "unlabelled_answers"}
    names = ADAPTER | {f"checkpoint-2/{name}" for name in ADAPTER | RESUMING}
    _check_pushed(client, "acme/private", kinds=names)


@pytest.mark.slow
def test_saving_with_push_to_hub_pushes_and_the_strategy_end_pushes_nothing_before(client: Client) -> None:
    client.run("trainer = make('saved', push_to_hub=True, hub_strategy='end'); trainer.train(); trainer.save_model()")
    assert _messages(client.hub, "acme/saved") == ["Model save"]
    _check_pushed(client, "acme/saved")


@pytest.mark.slow
def test_a_checkpoint_on_the_hub_holds_what_resuming_needs(client: Client) -> None:
    client.run(
        "make('last', push_to_hub=True, hub_strategy='checkpoint', max_steps=1, lr_scheduler_type='constant').train()"
    )
    names = ADAPTER | {f"last-checkpoint/{name}" for name in ADAPTER | RESUMING}
    files = _check_pushed(client, "acme/last", kinds=names)
    assert _messages(client.hub, "acme/last") == ["Training in progress, step 1"]
    checkpoint = client.folder / "checkpoint-1"
    checkpoint.mkdir()
    for path, content in files.items():
        if path.startswith("last-checkpoint/"):
            (checkpoint / path.removeprefix("last-checkpoint/")).write_bytes(content)
    found = client.run(
        "whole, resumed = (make(name, lr_scheduler_type='constant') for name in ('whole', 'resumed'))\n"
        "whole.train(); resumed.train(resume_from_checkpoint='checkpoint-1')\n"
        "one, other = weights_of(whole), weights_of(resumed)\n"
        "assert resumed.state.global_step == 2\n"
        "answer = all(torch.equal(one[name], other[name]) for name in one)"
    )
    assert found["answer"] is True


@pytest.mark.slow
def test_all_checkpoints_are_there_although_only_one_stays_on_the_disk(client: Client) -> None:
    # The upload of the first one is still under way when it is deleted.
    hold_until(client, "acme/all", "all/saved-2")
    client.run(
        "trainer = make('all', push_to_hub=True, hub_strategy='all_checkpoints', save_total_limit=1)\n"
        "trainer.add_callback(TellSteps); trainer.train()"
    )
    assert not (client.folder / "all" / "checkpoint-1").exists()
    both = {f"checkpoint-{step}/{name}" for step in (1, 2) for name in ADAPTER | RESUMING}
    files = _check_pushed(client, "acme/all", kinds=ADAPTER | both)
    states = [json.loads(files[f"checkpoint-{step}/trainer_state.json"])["global_step"] for step in (1, 2)]
    assert states == [1, 2]
    weights = [files[f"{folder}adapter_model.safetensors"] for folder in ("checkpoint-1/", "checkpoint-2/", "")]
    assert weights[0] != weights[1] == weights[2]


@pytest.mark.slow
def test_a_checkpoint_that_was_left_out_while_another_was_under_way_is_made_up_for(client: Client) -> None:
    hold_until(client, "acme/busy", "busy/saved-2")
    client.run(
        "trainer = make('busy', push_to_hub=True, hub_always_push=False)\n"
        "trainer.add_callback(TellSteps); trainer.train()"
    )
    assert _messages(client.hub, "acme/busy") == ["Training in progress, step 1", "End of training"]
    saved = client.folder / "busy" / "adapter_model.safetensors"
    assert _check_pushed(client, "acme/busy")["adapter_model.safetensors"] == saved.read_bytes()


@pytest.mark.slow
def test_a_failed_push_in_the_background_is_told_and_the_next_one_makes_up_for_it(client: Client) -> None:
    client.hub.fault(Fault(status=403, method="POST", path="acme/hiccup/commit/"))
    found = client.run("make('hiccup', push_to_hub=True).train()")
    assert "The push of checkpoint-1 failed: could not push" in "".join(found["told"])
    assert _messages(client.hub, "acme/hiccup") == ["Training in progress, step 2"]
    _check_pushed(client, "acme/hiccup")


@pytest.mark.slow
def test_when_the_newest_checkpoint_did_not_arrive_training_ends_with_another_push(client: Client) -> None:
    client.hub.fault(Fault(status=403, method="POST", path="acme/second/commit/", after=1))
    found = client.run("make('second', push_to_hub=True).train()")
    assert "The push of checkpoint-2 failed" in "".join(found["told"])
    assert _messages(client.hub, "acme/second") == ["Training in progress, step 1", "End of training"]


@pytest.mark.slow
def test_when_every_push_fails_one_line_says_so_and_nothing_of_the_training_is_lost(client: Client) -> None:
    client.hub.fault(Fault(status=403, method="POST", path="acme/never/commit/", times=None))
    found = client.run("never = make('never', push_to_hub=True); never.train()", fails=True)
    assert found["error"] == "HubError"
    assert "\n" not in found["message"]
    assert "(403)" in found["message"]
    assert "it is saved in never. Push it with `muscle-hf push never acme/never`" in found["message"]
    assert TOKEN not in json.dumps(found)
    steps = client.run("answer = [never.state.global_step, never.is_in_train]")["answer"]
    assert steps == [2, False]
    kept = (client.folder / "never" / "adapter_model.safetensors").read_bytes()
    assert kept == (client.folder / "never" / "checkpoint-2" / "adapter_model.safetensors").read_bytes()
    assert _messages(client.hub, "acme/never") == []
    client.hub.clear_faults()
    client.run("never.push_to_hub()")
    assert _check_pushed(client, "acme/never")["adapter_model.safetensors"] == kept


@pytest.mark.slow
def test_a_card_that_the_hub_would_refuse_ends_no_training_and_is_told_at_once(client: Client) -> None:
    found = client.run(
        "trainer = make('licence', push_to_hub=True); trainer.create_model_card(license='apache')\n"
        "try:\n"
        "    trainer.train()\n"
        "finally:\n"
        "    steps = trainer.state.global_step",
        fails=True,
    )
    assert found["error"] == "InputError"
    assert "license is 'apache'" in found["message"]
    assert "The push of checkpoint-1 failed: The card in" in found["told"][0]
    assert client.run("answer = steps")["answer"] == 2
    assert (client.folder / "licence" / "adapter_model.safetensors").exists()
    assert _messages(client.hub, "acme/licence") == []
    client.run("trainer.push_to_hub(license='apache-2.0')")
    _check_pushed(client, "acme/licence")


@pytest.mark.slow
def test_a_wrong_token_is_told_before_training(client: Client) -> None:
    found = client.run("make('wrong', push_to_hub=True, hub_token='hf_' + 'x' * 30)", fails=True)
    assert found["error"] == "HubError"
    assert "the token is wrong" in found["message"]
    assert not client.hub.exists("acme/wrong")


@pytest.mark.slow
def test_a_push_that_is_not_waited_for_arrives_as_it_was_when_it_was_asked_for(client: Client) -> None:
    hold_until(client, "acme/later", "later/zeros-saved")
    found = client.run(
        "trainer = make('later')\n"
        "future = trainer.push_to_hub(blocking=False)\n"
        "was_done = future.done()\n"
        "for name, weight in trainer.model.named_parameters():\n"
        "    weight.data.zero_()\n"
        "trainer.save_model()\n"
        "Path('later/zeros-saved').touch()\n"
        "answer = [was_done, future.result().oid]"
    )
    assert found["answer"] == [False, client.hub.commits("acme/later")[0][0]]
    weights = _check_pushed(client, "acme/later")["adapter_model.safetensors"]
    assert weights != (client.folder / "later" / "adapter_model.safetensors").read_bytes()


@pytest.mark.slow
def test_the_models_own_push_sends_our_card_and_a_tokenizers_push_leaves_it_alone(client: Client) -> None:
    found = client.run(
        "trainer = make('mine', hub_model_id=None); trainer.train()\n"
        "found = compare(old=list('abxx'), new=list('xbyc'), references=list('abcz'))\n"
        "trainer.add_comparison('compatibility adapter', found, split='four questions')\n"
        "done = trainer.model.push_to_hub('by-model', commit_description='by hand', tags=['finance'])\n"
        "trainer.model.push_to_hub('acme/by-model', revision='branch')\n"
        "tokenizer = trainer.processing_class\n"
        "answer = done.oid"
    )
    assert _messages(client.hub, "ann/by-model") == ["Upload model: by hand"]
    assert found["answer"] == client.hub.commits("ann/by-model")[0][0]
    files = _check_pushed(client, "ann/by-model")
    card = files["README.md"].decode()
    assert '"ann/by-model"' in card
    assert "- finance" in card
    assert "model-index:" in card
    assert "# by-model\n" in card
    assert '"acme/by-model"' in client.hub.files("acme/by-model", revision="branch")["README.md"].decode()
    client.run("tokenizer.push_to_hub('ann/by-model')")
    after = _check_pushed(client, "ann/by-model")
    assert after["README.md"] == files["README.md"]


CLASSIFIER = """
import copy
import test_classifier as cases

def classifier(name, full=False, **options):
    models = cases._models()
    models["model"].config._name_or_path = "acme/base-v2"
    if not full:
        models["model"] = cases._lora(models["model"])
    return cases._trainer(name, models, hub_model_id=f"acme/{name}", **options)
"""


@pytest.mark.slow
def test_a_classifier_is_pushed_with_our_card_and_the_names_of_its_classes(client: Client) -> None:
    client.run(CLASSIFIER)
    client.run(
        "trainer = classifier('intents', eval_dataset=Dataset.from_list(cases.ROWS), eval_strategy='steps',\n"
        "                     eval_steps=1, save_strategy='steps', save_steps=1, max_steps=1, push_to_hub=True)\n"
        "trainer.train(); trainer.model.push_to_hub('acme/intents-by-model')"
    )
    assert _messages(client.hub, "acme/intents") == ["Training in progress, step 1"]
    for name in ("acme/intents", "acme/intents-by-model"):
        files = client.hub.files(name)
        assert "validation questions" in files["README.md"].decode()
        assert OURS in files["README.md"].decode()
        assert json.loads(files["config.json"])["id2label"]["0"] == "savings"
        assert "adapter_model.safetensors" in files
        assert "training_args.bin" not in files


@pytest.mark.slow
def test_a_full_fine_tune_brings_our_card_by_all_of_its_own_methods(client: Client) -> None:
    client.run(CLASSIFIER)
    client.run(
        "trainer = classifier('whole-model', full=True)\n"
        "trainer.model.save_pretrained('whole-saved', push_to_hub=True, repo_id='acme/whole-saved')\n"
        "trainer.push_to_hub()"
    )
    for name in ("acme/whole-model", "acme/whole-saved"):
        files = client.hub.files(name)
        assert {"README.md", "config.json", "model.safetensors"} <= set(files)
        assert "MUSCLE" in files["README.md"].decode()
        assert len(_messages(client.hub, name)) == 1


@pytest.mark.slow
def test_of_two_processes_with_whole_or_split_models_only_the_main_one_pushes(
    filled_hub: local_hub.Hub, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    body = CHILD.partition("for line in")[0].replace("out, sys.stdout = sys.stdout, sys.stderr", "")
    script.write_text(
        f"{body}\n"
        "from sharded import use_fsdp2\n"
        "for name in ('whole', 'split'):\n"
        "    use_fsdp2() if name == 'split' else None\n"
        "    trainer = make(name, push_to_hub=True, hub_strategy='checkpoint', max_steps=1, ddp_backend='gloo')\n"
        "    trainer.train(); trainer.push_to_hub(commit_message='Done')\n"
        "    assert (trainer.hub_model_id is None) == (not trainer.is_world_process_zero())\n"
    )
    paths = os.pathsep.join(map(str, (TESTS, TESTS / "classifier", TESTS.parent)))
    environment = filled_hub.environment(TOKEN, home=tmp_path / "home") | {"PYTHONPATH": paths, "CI": "1"}
    run_two([sys.executable, str(script)], env=environment, cwd=tmp_path)
    made = [path for method, path, _ in filled_hub.requests if method == "POST" and path == "/api/repos/create"]
    assert made
    pushed = {name: filled_hub.files(f"acme/{name}") for name in ("whole", "split")}
    for name, files in pushed.items():
        # The second push has the very same files, but for the final card at most.
        assert _messages(filled_hub, f"acme/{name}")[0] == "Training in progress, step 1"
        assert len(_messages(filled_hub, f"acme/{name}")) <= 2
        random = {file for file in files if "rng_state" in file}
        assert random == {"last-checkpoint/rng_state_0.pth", "last-checkpoint/rng_state_1.pth"}
        assert not [file for file in files if file.endswith("training_args.bin")]
        assert "MUSCLE" in files["README.md"].decode()
        # Each process has written its part of a split checkpoint.
        parts = {Path(file).name for file in files if "pytorch_model_fsdp_0" in file}
        assert parts == ({".metadata", "__0_0.distcp", "__1_0.distcp"} if name == "split" else set())
    weights = {name: load(files["adapter_model.safetensors"]) for name, files in pushed.items()}
    assert weights["whole"].keys() == weights["split"].keys()
    for key, weight in weights["whole"].items():
        torch.testing.assert_close(weights["split"][key], weight, rtol=1e-4, atol=1e-5)
