"""Who asks, and what that user may do."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class User:
    """An account, as one of its tokens shows it: a token that may not write has `can_write=False`."""

    name: str
    orgs: tuple[str, ...] = ()
    can_write: bool = True

    def owns(self, namespace: str) -> bool:
        """Whether repositories of this namespace are the user's, or of an organization the user is in."""
        return namespace == self.name or namespace in self.orgs

    def described(self) -> dict[str, Any]:
        """What `/api/whoami-v2` says."""
        return {
            "type": "user",
            "id": f"user-{self.name}",
            "name": self.name,
            "fullname": self.name.title(),
            "email": f"{self.name}@example.org",
            "emailVerified": True,
            "isPro": False,
            "orgs": [
                {"type": "org", "id": f"org-{org}", "name": org, "fullname": org.title(), "roleInOrg": "write"}
                for org in self.orgs
            ],
            "auth": {
                "type": "access_token",
                "accessToken": {"displayName": "tests", "role": "write" if self.can_write else "read"},
            },
        }
