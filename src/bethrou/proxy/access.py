"""Who may use the proxy, and what a user name means: the same for everything that applications speak."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from bethrou.errors import DecodeError
from bethrou.proxy.strategies import STRATEGIES
from bethrou.wire.user_name import UserName


@dataclass(frozen=True, repr=False)
class Access:
    """Who may use the proxy: `users` (name to password), or everybody when it is empty."""

    users: Mapping[str, str]

    @property
    def anonymous(self) -> bool:
        """Whether no user name is needed."""
        return not self.users

    def judge(self, user: bytes, password: bytes) -> UserName | str:
        """The user name taken apart, or why whoever sent it is not let in."""
        try:
            name = UserName.parse(user)
        except DecodeError as error:
            return str(error)
        if name.strategy is not None and name.strategy not in STRATEGIES:
            return "user name asks for an unknown strategy"
        if not self._admits(name.user, password):
            return "wrong user name or password"
        return name

    def _admits(self, user: str, password: bytes) -> bool:
        """Whether the password is right; without users any is."""
        if self.anonymous:
            return True
        expected = self.users.get(user, "")
        return hmac.compare_digest(expected.encode(), password) and user in self.users
