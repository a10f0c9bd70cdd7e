# SPDX-License-Identifier: Apache-2.0
"""Errors that end a command with one clear message."""


class UserError(Exception):
    """Something the user can put right: `message` says what is wrong, `remedy` what to do. Exit code 2."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class Failed(Exception):
    """The work itself failed (a build, a test, a boot), which is no mistake of the user. Exit code 1."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
