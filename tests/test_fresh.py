"""Forked processes do what an interpreter does; what is there already must not make a test pass."""

import os
import signal
import sys
from pathlib import Path

import fresh
import pytest


@pytest.mark.parametrize(
    ("code", "status"),
    [("", 0), ("raise SystemExit(3)", 3), ("1 / 0", 1), ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL)],
)
def test_the_exit_code_is_lost(code: str, status: int) -> None:
    done = fresh.run([sys.executable, "-c", code])
    assert done.returncode == status
    assert ("ZeroDivisionError" in done.stderr) == (status == 1)


def test_a_process_gets_the_words_input_folder_or_environment_of_another(tmp_path: Path) -> None:
    code = (
        "import os, sys; from huggingface_hub import constants\n"
        "print(sys.argv, sys.stdin.read(), os.getcwd(), os.environ['HF_HOME'], constants.ENDPOINT)"
    )
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        environment = os.environ | {"HF_HOME": name, "HF_ENDPOINT": f"http://{name}"}
        done = fresh.run([sys.executable, "-c", code, name], text=name, env=environment, cwd=tmp_path / name)
        assert done.stdout == f"['-c', '{name}'] {name} {tmp_path / name} {name} http://{name}\n", done.stderr


def test_a_script_does_not_find_what_lies_beside_it(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("HERE = 1\n", encoding="utf-8")
    script = tmp_path / "script.py"
    script.write_text("import beside; print(beside.HERE, __file__)\n", encoding="utf-8")
    assert fresh.run([sys.executable, str(script)]).stdout == f"1 {script}\n"


def test_a_warm_process_takes_another_environment_for_its_own_or_has_imported_what_it_did_not() -> None:
    code = (
        "import os, sys; before = {'torch', 'huggingface_hub', 'muscle_hf'} & set(sys.modules)\n"
        "from huggingface_hub import constants; import huggingface_hub.utils\n"
        "print(before, os.environ['HF_HOME'], constants.HF_HOME, 'huggingface_hub.utils' in sys.modules)"
    )
    home = os.environ["HF_HOME"]
    for other in ("a", "b"):
        done = fresh.run([sys.executable, "-W", "error", "-c", code], env=os.environ | {"HF_HOME": other}, warm=True)
        assert done.stdout == f"set() {other} {home} True\n", done.stderr
    failed = fresh.run([sys.executable, "-W", "error", "-c", "import warnings; warnings.warn('')"], warm=True)
    assert failed.returncode == 1


def test_what_a_process_did_not_import_is_in_its_modules() -> None:
    code = (
        "import sys; before = {'numpy', 'torch', 'huggingface_hub', 'muscle_hf'} & set(sys.modules)\n"
        "from importlib.util import find_spec; import numpy.linalg, pickle\n"
        "print(before, find_spec('numpy').origin == numpy.__file__, 'numpy.linalg' in sys.modules,\n"
        "      pickle.loads(pickle.dumps(numpy.arange(2))).sum())"
    )
    assert fresh.run([sys.executable, "-c", code], check=True).stdout == "set() True True 1\n"


def test_warnings_are_those_of_the_command_line() -> None:
    code = "import warnings; warnings.warn('a warning')"
    assert fresh.run([sys.executable, "-W", "error", "-c", code]).returncode == 1
    assert fresh.run([sys.executable, "-W", "ignore", "-c", code]).stderr == ""
    assert "UserWarning: a warning" in fresh.run([sys.executable, "-c", code]).stderr


def test_a_process_that_runs_beside_this_one_is_watched_and_interrupted() -> None:
    code = "import signal; print('here', flush=True); signal.pause()"
    process = fresh.Process([sys.executable, "-c", code])
    assert process.stdout.readline() == "here\n"
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate()[1]
    assert process.poll() == process.returncode != 0
