"""Watch an update break answers and an adapter win some back: about three minutes, no network."""

import argparse
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "--output-dir", type=Path, default=Path("demo_output"), help="folder for adapter, card and evidence"
    )
    parser.add_argument("--seed", type=_seed, default=0, help="seed of the live trainings (default: 0)")
    parser.add_argument(
        "--full", action="store_true", help="every row, also the paper's method on the labelled set alone"
    )
    parser.add_argument(
        "--fast", action="store_true", help="every stage on a few rows, under a minute; its figures mean nothing"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the demo and print what happened."""
    from ..demo.contenders import FULL, STORY, DemoSettings
    from ..demo.run import processes_here, run_demo
    from ..demo.show import announce, show
    from ..demo.watching import Watching

    settings = DemoSettings.fast(arguments.seed) if arguments.fast else DemoSettings(seed=arguments.seed)
    cast = FULL if arguments.full else STORY
    if not arguments.fast:
        announce(arguments.output_dir, cast, processes_here())
    try:
        with Watching() as watching:
            result = run_demo(arguments.output_dir, settings, cast, watcher=watching)
    except KeyboardInterrupt:
        from ..update.kept import what_is_kept  # it loads the libraries, which nothing else here needs

        raise KeyboardInterrupt(what_is_kept(arguments.output_dir)) from None
    show(result, arguments.output_dir, fast=arguments.fast)
    return 0


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a seed: a whole number from 0 to {2**32 - 1} is needed")
    return int(text)
