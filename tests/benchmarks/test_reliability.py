"""Work that is killed where files change comes to the same, and what is lost is noticed."""

import sys
from pathlib import Path

import fresh
import pytest

# With a command that writes half of its file, and takes it for whole the next time.
_PROGRAM = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2] / "benchmarks")!r})
import reliability, reliability_jobs as jobs

def spoiled(inputs, folder):
    file = folder / "out"
    if not file.exists():
        file.write_text("half")
        file.write_text("whole")
    return 0

jobs.JOBS["spoiled"] = jobs.Job("spoiled", spoiled)
sys.exit(reliability.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_killed_command_loses_something_or_a_loss_is_not_noticed(tmp_path: Path) -> None:
    words = ["--only", "deciding", "spoiled", "--faults", "moment"]
    done = fresh.run([sys.executable, "-c", _PROGRAM, *words], cwd=tmp_path)
    assert done.returncode == 1, done.stderr[-2000:]
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines()[2:]]
    assert [row[:2] for row in rows[:2]] == [
        ["deciding", "killed where files change"],
        ["spoiled", "killed where files change"],
    ]
    assert rows[0][-1] == "0" and int(rows[0][2]) >= 3
    assert rows[1][2] == "2" and rows[1][-1] in "12"
    assert "LOST: other: out" in done.stderr
