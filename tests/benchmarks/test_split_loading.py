"""The benchmark of loading split models runs: a process keeps its part of a model, and says what it held."""

import os
import runpy
from pathlib import Path

import pytest
from tiny_models import tiny_llama, tiny_tokenizer

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "split_loading.py"


@pytest.mark.slow
def test_a_process_that_loads_a_model_does_not_split_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_llama(1, tiny_tokenizer(), hidden_size=16, layers=1)
    model.save_pretrained(tmp_path)
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    for name, value in alone.items():
        monkeypatch.setitem(os.environ, name, value)
    found = runpy.run_path(str(SCRIPT))["measure"](str(tmp_path), "auto")
    assert found["size"] == pytest.approx(sum(weight.numel() * 4 for weight in model.parameters()) / 1e6)
    assert found.keys() >= {"loaded RssAnon", "split RssAnon", "split RssFile"}
