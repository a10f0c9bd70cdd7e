# SPDX-License-Identifier: GPL-2.0-only
# mypy: disable-error-code="import-not-found"
"""The part of the PR service's interface that the engine calls: "is one wanted?" and "stop it"."""

from typing import Any

import bb


class PRServiceConfigError(Exception):
    """The configuration asks for a PR service that cannot be had."""


def auto_start(d: Any) -> None:
    """Return None (no PR service) when PRSERV_HOST of the datastore `d` is empty; else refuse.

    Raises PRServiceConfigError after logging which setting to remove.
    """
    host = (d.getVar("PRSERV_HOST") or "").strip()
    if host:
        message = (
            f'PRSERV_HOST = "{host}" asks for a PR service, but this BitBake engine has none. Remove '
            "PRSERV_HOST from the configuration."
        )
        bb.error(message)
        raise PRServiceConfigError(message)


def auto_shutdown() -> None:
    """Do nothing: no PR service was started."""
