"""The page on scale has the tables of its script, which counts the passes of a step and adds up right."""

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from tiny_updates import ROWS, make_update, trainer_of

ROOT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(ROOT / "benchmarks" / "scale.py"))


def test_the_page_shows_other_figures_than_the_script() -> None:
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    parts = SCRIPT["report"]().strip().split("\n\n")
    assert len(parts) == 8
    for part in parts:
        assert part in page


def test_shapes_times_and_bytes_are_those_worked_out_by_hand() -> None:
    base, adapter = SCRIPT["parameters"]()
    # Llama 3 70B has 70,553,706,496 parameters; rank 16 takes 16 (in + out) of each linear layer.
    assert base == 70_553_706_496
    assert adapter == 80 * 16 * (2 * 16384 + 2 * 9216 + 3 * 36864)
    # One pass: 2 x 70.55e9 x 8,192 operations over 395.6e12 a second.
    assert SCRIPT["seconds_of_passes"](1, 8192, 1) == pytest.approx(2.922, abs=1e-3)
    # Of 141.1 GB seven eighths come over NVLink at 315 GB/s; of 64 GPUs, 63 parts.
    assert SCRIPT["seconds_of_gathering"](1, 8) == pytest.approx((123.469e9, 0.39197), rel=1e-4)
    assert SCRIPT["seconds_of_gathering"](1, 64) == pytest.approx((138.903e9, 0.44096), rel=1e-4)
    kinds = ("sampled", "topk", "hidden", "chunks")
    assert [SCRIPT["bytes_of_a_token"](kind) for kind in kinds] == [666, 662, 32778, 5]


@pytest.mark.slow
def test_a_live_step_takes_other_passes_than_are_counted(tmp_path: Path) -> None:
    # Every token asks both; a teacher that no token of a batch goes to would be passed over.
    asks_both = {"mask": "none", "teacher": "ensemble", "gradient_checkpointing": True, "max_steps": 1}
    trainer = trainer_of(make_update(tmp_path / "made"), tmp_path / "out", rows=ROWS[:4], **asks_both)
    passes = {"new base": 0, "old base": 0}

    def count(base: str) -> Any:
        def add(*_: Any) -> None:
            passes[base] += 1

        return add

    for base, model in (("new base", trainer.model), ("old base", trainer.old_teacher.model)):
        (layer,) = (module for name, module in model.named_modules() if re.search(r"layers\.0\.mlp$", name))
        layer.register_forward_pre_hook(count(base))
    trainer.train()
    # The new teacher; the student forward, and again for the way back, which costs one more.
    assert passes == {"new base": 3, "old base": 1}
    assert sum(passes.values()) + 1 == SCRIPT["LIVE"].passes


@pytest.mark.slow
def test_what_the_log_takes_is_measured_anew(capsys: pytest.CaptureFixture[str]) -> None:
    SCRIPT["main"](["--measure", "--rows", "300"])
    shown = dict(re.findall(r'"(\w+)": ([\d.e-]+)', capsys.readouterr().out))
    assert shown.keys() == SCRIPT["MEASURED"].keys()
    for name in ("read_bytes", "kept_bytes"):
        assert float(shown[name]) == pytest.approx(SCRIPT["MEASURED"][name], rel=0.5)
