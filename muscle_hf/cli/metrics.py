"""Push the metric modules to the Hub as Spaces, for `evaluate.load("org/negative_flips")`."""

import argparse

from .lines import print_line

_MORE = (
    "One commit for each Space; the same command again finishes what a failure has left. A Space installs muscle_hf "
    "by its requirements.txt, or as --requirement says; whoever loads the metric needs muscle_hf too. The token is "
    "the one that `hf auth login` saved, or HF_TOKEN. Exit codes: 0 done, 2 bad input or the Hub refuses, "
    "130 interrupted."
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.epilog = _MORE
    parser.add_argument("action", choices=["push"], help="what to do")
    parser.add_argument(
        "--namespace", required=True, metavar="OWNER", help="user or organization that gets the Spaces"
    )
    parser.add_argument("--name", action="append", metavar="METRIC", help="push this one only; repeatable")
    parser.add_argument(
        "--private", action="store_true", help="make new Spaces private (default: as the owner's settings say)"
    )
    parser.add_argument(
        "--requirement",
        metavar="WHAT",
        help="from where the Spaces install muscle_hf: a requirement, or a wheel's path, which is pushed along "
        "(default: as in each requirements.txt)",
    )
    parser.add_argument("--dry-run", action="store_true", help="show what would go, and send nothing")


def run(arguments: argparse.Namespace) -> int:
    """Show what goes, send it, and say how it is loaded."""
    from ..spaces.push import chosen_metrics, push_metrics, space_files, space_name

    for name in chosen_metrics(arguments.name):
        repository = space_name(arguments.namespace, name)
        print_line(f"{repository}: {', '.join(space_files(name, repository, arguments.requirement))}")
    if arguments.dry_run:
        print_line("Nothing was sent (--dry-run).")
        return 0
    private = True if arguments.private else None
    how = {"names": arguments.name, "private": private, "requirement": arguments.requirement}
    for space in push_metrics(arguments.namespace, **how):
        print_line(space.url)
        print_line(f"  commit {space.commit}" + ("" if space.changed else ", which had the same files already"))
        print_line(f'  evaluate.load("{space.repository}")')
    return 0
