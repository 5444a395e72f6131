"""What of a folder goes to the Hub, and how it gets there: one commit, or none."""

from .attempt import Commit
from .files import shipped_files
from .names import check_message, check_ref, check_repository
from .pushing import commit

__all__ = ["Commit", "check_message", "check_ref", "check_repository", "commit", "shipped_files"]
