"""`transformers serve` itself, where its packages are installed (`pip install "transformers[serving]"`)."""

import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec

import numpy as np
import pytest
from tiny_models import CHAT_TEMPLATE, tiny_llama, tiny_tokenizer

from muscle_hf import InputError, OpenAIEngine, generate_answers

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(find_spec(name) is None for name in ("fastapi", "openai", "uvicorn")),
        reason="transformers serve needs fastapi, openai and uvicorn",
    ),
]
TOKENIZER = tiny_tokenizer(chat_template=CHAT_TEMPLATE, add_beginning=True)
MODEL = tiny_llama(7, TOKENIZER, hidden_size=16, layers=1)
PROMPTS = [
    *("what is the balance", "  white space at both ends \n", "日本 😀 é", "\n", "x" * 60),
    *([{"role": "user", "content": text}] for text in ("how do I say", " thank you 😀 ")),
]
_SERVE = "from transformers.cli.transformers import main; main()"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAIEngine]:
    folder = tmp_path_factory.mktemp("served") / "tiny"
    MODEL.save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    command = [
        sys.executable,
        "-c",
        _SERVE,
        "serve",
        str(folder),
        "--device",
        "cpu",
        "--host",
        "127.0.0.1",
        "--port",
        "0",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own interpreter
        assert process.stderr is not None
        address = next((found[0] for line in process.stderr if (found := re.search(r"http://\S+:\d+", line))), None)
        try:
            assert address, "it did not start"
            yield OpenAIEngine(address, str(folder), concurrency=4)
        finally:
            process.terminate()
            process.communicate()


@pytest.mark.parametrize("longest", [1, 12])
def test_its_answers_are_those_of_the_model_in_this_process(engine: OpenAIEngine, longest: int) -> None:
    found = engine.generate(PROMPTS, max_new_tokens=longest)
    expected = generate_answers(MODEL, TOKENIZER, PROMPTS, max_new_tokens=longest, show_progress=False)
    assert found.texts == expected.texts
    assert found.token_counts.tolist() == expected.token_counts.tolist()
    # An end token in the last place that there is counts as cut off there.
    full = expected.token_counts == longest
    assert found.finished.tolist() == (expected.finished & ~full).tolist()
    assert np.isnan(found.log_likelihoods).all()


@pytest.mark.parametrize("prompt", [PROMPTS[0], PROMPTS[-1]], ids=["text", "chat"])
def test_it_gives_no_scores_of_choices(engine: OpenAIEngine, prompt: object) -> None:
    with pytest.raises(InputError, match="gives no log-probabilities of a prompt"):
        engine.choose([prompt], [["a", "b"]])
