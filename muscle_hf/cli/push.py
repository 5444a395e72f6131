"""Push an adapter to the Hub with its card and evidence, in one commit."""

import argparse
from pathlib import Path

from .lines import print_line

_MORE = (
    "Weights go as safetensors only; optimizer states, checkpoints and caches stay here, and so do answers unless "
    "--predictions names them. A failure leaves the repository as it was, and the same command again finishes. The "
    "token is the one that `hf auth login` saved, or HF_TOKEN. Exit codes: 0 done, 2 bad input or the Hub refuses, "
    "130 interrupted."
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.epilog = _MORE
    parser.add_argument("folder", metavar="DIR", help="folder of the adapter, such as OUT/adapter of muscle-hf update")
    parser.add_argument("repository", metavar="OWNER/NAME", help="where it goes; made if it is not there")

    where = parser.add_argument_group("how it goes there")
    where.add_argument(
        "--private", action="store_true", help="make the repository private (default: as the owner's settings say)"
    )
    where.add_argument("--revision", metavar="BRANCH", help="branch, made from main if new (default: main)")
    where.add_argument("--tag", metavar="TAG", help="name for the commit")
    where.add_argument("--create-pr", action="store_true", help="open a pull request instead of changing main")
    where.add_argument("--message", metavar="TEXT", help="message of the commit (default: Upload adapter)")
    where.add_argument(
        "--link-old",
        action="store_true",
        help="name this adapter as the new version on the old adapter's card, by a pull request if that is not yours",
    )
    where.add_argument("--dry-run", action="store_true", help="check and show what would go, and send nothing")

    card = parser.add_argument_group("what goes")
    card.add_argument("--predictions", metavar="PATH", help="file or folder of answers to send along")
    card.add_argument("--base-model", metavar="ID", help="the base's id on the Hub, if it was trained on a local path")
    card.add_argument("--license", metavar="ID", help="licence as the Hub names it, such as apache-2.0")
    card.add_argument(
        "--language", action="append", default=[], metavar="CODE", help="language, such as en; repeatable"
    )
    card.add_argument("--dataset", metavar="ID", help="id of the data set on the Hub")


def run(arguments: argparse.Namespace) -> int:
    """Pack, show, send, link."""
    from ..hub.names import check_repository, check_target

    # Before the slow imports: these need nothing.
    check_repository(arguments.repository)
    check_target(arguments.revision, arguments.tag, arguments.create_pr)
    from ..publishing.packing import pack_adapter
    from ..publishing.push import check_options, link_pushed, send_adapter

    check_options(
        revision=arguments.revision, tag=arguments.tag, create_pr=arguments.create_pr, link_old=arguments.link_old
    )
    packed = pack_adapter(
        Path(arguments.folder),
        arguments.repository,
        predictions=arguments.predictions,
        base_model=arguments.base_model,
        license=arguments.license,
        language=arguments.language,
        dataset=arguments.dataset,
    )
    width = max(map(len, packed.sizes))
    for name, size in packed.sizes.items():
        _print(f"{name:{width}}  {_size(size):>9}")
    count = len(packed.files)
    _print(f"{count} file{'' if count == 1 else 's'}, {_size(sum(packed.sizes.values()))}")
    for notice in packed.notices:
        _print(f"Note: {notice}")
    if arguments.dry_run:
        _print(f"Nothing was sent to {packed.repository} (--dry-run).")
        return 0
    pushed = send_adapter(
        packed,
        private=True if arguments.private else None,
        revision=arguments.revision,
        tag=arguments.tag,
        create_pr=arguments.create_pr,
        dataset=arguments.dataset,
        link_old=arguments.link_old,
        message=arguments.message,
    )
    for notice in pushed.notices[len(packed.notices) :]:
        _print(f"Note: {notice}")
    _print(pushed.pull_request or pushed.url)
    if pushed.changed:
        _print(f"commit {pushed.commit}")
    elif pushed.created:
        _print(f"The branch is new, with the same files as commit {pushed.commit}.")
    elif pushed.pull_request:
        _print("That pull request has the same files already; nothing was sent.")
    else:
        _print(f"Nothing has changed since commit {pushed.commit}; nothing was sent.")
    if arguments.tag:
        _print(f"tag {arguments.tag}")
    if arguments.link_old:
        link = link_pushed(packed, pushed).link
        if link is not None and not link.changed:
            waits = "An open pull request already says so: " if link.pull_request else "The old card says so already: "
            _print(f"{waits}{link.url}")
        elif link is not None:
            done = "Pull request to the old adapter" if link.pull_request else "Old adapter linked"
            before = f" (it named {link.before} before)" if link.before else ""
            _print(f"{done}: {link.url}{before}")
    return 0


def _print(text: str) -> None:
    # Names of files may hold what a terminal would take for a command.
    print_line("".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text))


def _size(size: int) -> str:
    """Give a number of bytes as people read it."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            break
        value /= 1000
    return f"{size} B" if unit == "B" else f"{value:.1f} {unit}"
