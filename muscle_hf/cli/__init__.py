"""The command `muscle-hf`: one module a command, each with `configure(parser)` and `run(arguments) -> exit code`.

Exit codes: 0 done, 1 a gate broken, 2 bad input or no evidence, 3 a gate that cannot tell, 130 interrupted. Heavy
imports stay inside `run`, so that `--help` answers at once.
"""

import argparse
import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from io import TextIOWrapper
from typing import NoReturn, Protocol

from ..errors import MuscleError
from ..interrupts import terminated_as_interrupted
from ..packages import require_for
from ..text import nearest_choice, nearest_option
from ..version import __version__
from . import cache, compare, demo, disagreements, find, metrics, power, predict, push, several, update


class Command(Protocol):
    """What a module of a command offers; the first line of its docstring is the summary in `--help`."""

    __doc__: str | None

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments of the command."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Do it and return the exit code."""


COMMANDS: Mapping[str, Command] = {
    "demo": demo,
    "compare": compare,
    "power": power,
    "disagreements": disagreements,
    "update": update,
    "cache": cache,
    "find": find,
    "predict": predict,
    "push": push,
    "metrics": metrics,
}


class _UsageError(Exception):
    """Arguments that cannot be understood: the name of the program, and what is wrong."""


class _Parser(argparse.ArgumentParser):
    """A parser whose complaint is one line and comes back as an exit code, as that of any other bad input."""

    def error(self, message: str) -> NoReturn:
        raise _UsageError(self.prog, message)

    def nearest(self, words: Sequence[str]) -> str | None:
        """Give the option that the first misspelt one may have meant."""
        return nearest_option(words, self._option_string_actions)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code, also where argparse itself would leave the process.

    0 done (also for `--help` and `--version`), 1 a gate broken, 2 bad input or no evidence, 3 a gate that cannot tell,
    130 interrupted; 141 where another program, such as `head`, closed the pipe before a command came to its result.
    """
    # A terminal or a pipe that knows no arrows shall get a question mark for them, not end the command.
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors in ("strict", "surrogateescape"):
        sys.stdout.reconfigure(errors="replace")
    code = _run(argv)
    _flush()
    return code


def _run(argv: Sequence[str] | None) -> int:
    words = sys.argv[1:] if argv is None else list(argv)
    parser, commands = _parser()
    try:
        arguments, unknown = parser.parse_known_args(words)
        if hasattr(arguments, "words"):
            # A command whose options are too many, or too slow to load, to be known here: it reads its words itself.
            arguments.words = words[words.index(arguments.command) + 1 :]
        elif unknown:
            commands[arguments.command].error(f"unrecognized arguments: {' '.join(unknown)}")
    except _UsageError as error:
        program, message = error.args
        return _complain(f"{program}: {message}{_did_you_mean(message, words, commands)} (see {program} --help)", 2)
    except SystemExit:  # argparse has printed the help or the version; its complaints come as _UsageError.
        return 0
    program = f"muscle-hf {arguments.command}"
    try:
        require_for(arguments.command, "the command")
        with terminated_as_interrupted(), several.one_is_heard(arguments.command):
            return COMMANDS[arguments.command].run(arguments)
    except BrokenPipeError:
        return 141  # 128 + SIGPIPE: what a shell reports for a program that the signal ends.
    except (MuscleError, OSError) as error:
        is_told = not several.tells(error, arguments.command)
        return 2 if is_told else _complain(f"{program}: {error}", 2)
    except KeyboardInterrupt as interrupt:
        # A command that keeps something on its way says what.
        kept = f". {interrupt}" if str(interrupt) else ""
        _close_bars()
        if not several.tells(interrupt, arguments.command):
            return 130
        beside_a_bar = "\n" if sys.stderr.isatty() else ""
        sys.stderr.write(beside_a_bar)
        return _complain(f"{program}: interrupted{kept}", 130)


def _did_you_mean(complaint: str, words: Sequence[str], commands: Mapping[str, _Parser]) -> str:
    """Propose what a misspelt command, option or choice may have meant."""
    command = next((word for word in words if not word.startswith("-")), "")
    if command not in commands:
        near: str | None = next(iter(get_close_matches(command, commands, n=1)), None)
    elif commands[command].get_default("words") is None:
        near = commands[command].nearest(words)
    else:
        near = None  # it knows more options than its parser here
    if near is None and (choice := nearest_choice(complaint)):
        near = repr(choice)
    return f"; did you mean {near}?" if near else ""


def _parser() -> tuple[_Parser, Mapping[str, _Parser]]:
    # No abbreviations: a script that says --max would break on the day of a second option with that beginning.
    parser = _Parser(
        prog="muscle-hf",
        description="Measure the answers that a model update breaks, and train adapters that break fewer.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"muscle_hf {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        summary = (module.__doc__ or "").splitlines()[0]
        module.configure(commands.add_parser(name, help=summary, description=summary, allow_abbrev=False))
    return parser, commands.choices


def _close_bars() -> None:
    """Let no bar draw itself once more below the last line."""
    tqdm = sys.modules.get("tqdm")
    for bar in list(getattr(getattr(tqdm, "tqdm", None), "_instances", ())):
        bar.close()


def _complain(message: str, code: int) -> int:
    """Print one line, also where a file name in it has a line break, and pass the exit code on."""
    with contextlib.suppress(BrokenPipeError):  # Nobody listens; the exit code still has to say it.
        print(" ".join(message.splitlines()), file=sys.stderr, flush=True)  # noqa: T201
    return code


def _flush() -> None:
    """Write out what is buffered; Python would do it after `main`, and end with code 120 where nobody reads it."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            # Let the rest run into nothing.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
