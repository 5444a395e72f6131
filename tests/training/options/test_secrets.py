"""A token of the Hub stands in nothing that a training writes, logs, pushes or says when it fails."""

import json
import os
import textwrap
from pathlib import Path
from typing import Any

import pytest
from local_hub import Fault, User, hub, run_client
from tiny_updates import make_update

from muscle_hf import CompatibilityClassifierConfig, CompatibilityConfig

TOKEN = "hf_" + "PlantedPlantedPlantedPlanted123456"
SCRIPT = """
import json, logging, sys
from pathlib import Path
logging.basicConfig(level=logging.DEBUG)
for name in ("httpcore", "httpcore2"):
    logging.getLogger(name).setLevel(logging.INFO)  # it writes down what the server says
import transformers
transformers.utils.logging.set_verbosity_debug()
from datasets import Dataset
from transformers import TrainerCallback
from tiny_updates import ROWS, config_of
from muscle_hf import CompatibilityTrainer, HubError

class Tracker(TrainerCallback):
    def on_train_begin(self, args, state, control, **models):
        texts = [str(args), repr(args), args.to_json_string(), *map(str, args.to_sanitized_dict().items())]
        Path("tracked.txt").write_text("\\n".join(texts))

token = sys.argv[1]
args = config_of(
    Path("out"), save_strategy="steps", save_steps=1, eval_strategy="epoch", push_to_hub=True, hub_token=token,
    hub_model_id="acme/compatible", hub_strategy="all_checkpoints", teacher_cache="topk", teacher_cache_k=5,
    model_init_kwargs={"token": token}, old_model_init_kwargs={"token": token}, flips_max_new_tokens=4,
)
assert args.hub_token == args.model_init_kwargs["token"] == token
rows = Dataset.from_list(ROWS)
trainer = CompatibilityTrainer(
    model="acme/base-v2", new_adapter="acme/task-v2", old_model="acme/base-v1", old_adapter="acme/task-v1", args=args,
    train_dataset=rows, unlabelled_dataset=Dataset.from_list([{"prompt": "what else?", "completion": "nothing"}]),
    flips_dataset=rows.select(range(2)), callbacks=[Tracker()],
)
trainer.train()
trainer.push_to_hub()
try:
    trainer.push_to_hub(revision="refused")
except HubError as error:
    logging.error("refused: %s", error)
"""


def _private(folder: Path, name: str) -> dict[str, bytes]:
    files = {path.name: path.read_bytes() for path in (folder / name).iterdir() if path.is_file()}
    if "adapter_config.json" in files:
        config = json.loads(files["adapter_config.json"]) | {"base_model_name_or_path": f"acme/base-{name[-2:]}"}
        files["adapter_config.json"] = json.dumps(config).encode()
    return files


@pytest.mark.slow
def test_a_planted_token_is_found_in_no_file_log_card_or_error(tmp_path: Path) -> None:
    models, home = tmp_path / "models", tmp_path / "home"
    home.mkdir()
    make_update(models)
    paths = os.pathsep.join([str(Path(__file__).parents[2]), str(Path(__file__).parents[3])])
    code = f"import sys; sys.path[:0] = {paths.split(os.pathsep)!r}\n" + textwrap.dedent(SCRIPT)
    with hub(tokens={TOKEN: User("ann", orgs=("acme",))}) as running:
        for name in ("base-v1", "base-v2", "task-v1", "task-v2"):
            running.create(f"acme/{name}", files=_private(models, name), private=True)
        # A server that says what it was sent: the last push.
        words = f"the token {TOKEN} may not do that"
        running.fault(Fault(403, path="/api/models/acme/compatible/.*/refused", times=None, message=words))
        done = run_client(code, running, home=home, token=TOKEN, arguments=(TOKEN,))
        assert done.returncode == 0, done.stderr[-2000:]
        assert "refused: " in done.stderr
        pushed = dict(running.files("acme/compatible"))
    assert "README.md" in pushed and "checkpoint-2/README.md" in pushed
    written = {str(path.relative_to(home)): path.read_bytes() for path in home.rglob("*") if path.is_file()}
    assert {"tracked.txt", "out/training_args.bin", "out/checkpoint-1/training_args.bin"} <= written.keys()
    said = {"stdout": done.stdout.encode(), "stderr": done.stderr.encode()}
    everything: dict[str, bytes] = {**pushed, **written, **said}
    assert [name for name, content in everything.items() if TOKEN.encode() in content] == []


@pytest.mark.parametrize("kind", [CompatibilityConfig, CompatibilityClassifierConfig])
def test_the_text_of_a_config_has_its_options_and_no_token(kind: type[Any], tmp_path: Path) -> None:
    kwargs = {"token": TOKEN, "revision": "abc"}
    config = kind(
        output_dir=str(tmp_path), use_cpu=True, report_to="none", hub_token=TOKEN, old_model_init_kwargs=kwargs
    )
    for text in (str(config), repr(config), config.to_json_string()):
        assert TOKEN not in text
        assert "abc" in text and "temperature" in text
    assert config.hub_token == config.old_model_init_kwargs["token"] == TOKEN
