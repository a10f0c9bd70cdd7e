# SPDX-License-Identifier: Apache-2.0
"""The one exception of the launcher."""


class QemuError(Exception):
    """A board cannot be started, reached or driven, for a reason that the user can do something about.

    `message` is one line that says what is wrong; `remedy` is one line that says what to do, or empty.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(f"{message}: {remedy}" if remedy else message)
        self.message = message
        self.remedy = remedy
