# SPDX-License-Identifier: Apache-2.0
"""What is known, kept in flash: over restarts of the service and of the BMC, and over loss of power."""

import contextlib
import json
import os

from fleet_acpi_state.states import STATES
from fleet_acpi_state.tracker import Known

FORMAT = 1


class StoreError(Exception):
    """The file cannot be used; the text says why, in one line."""


class Store:
    """A file that is replaced as a whole: after a power cut there is the old one or the new one."""

    def __init__(self, folder: str) -> None:
        self.path = folder + "/state.json"
        self._folder = folder

    def load(self) -> Known:
        """Return what was saved; nothing known when there is no file. Raises StoreError."""
        try:
            with open(self.path, encoding="utf-8") as stream:  # noqa: PTH123 (pathlib costs start-up time)
                return _decode(json.load(stream))
        except FileNotFoundError:
            return Known()
        except OSError as error:
            raise StoreError(f"{self.path} cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(f"{self.path} is damaged: {error!r}") from None

    def save(self, known: Known) -> None:
        """Write what is known; it is in flash when this returns. Raises StoreError."""
        new = self.path + ".new"
        text = json.dumps({"format": FORMAT, **known._asdict()})
        try:
            with open(new, "w", encoding="utf-8") as stream:  # noqa: PTH123
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(new, self.path)  # noqa: PTH105
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(new)  # noqa: PTH108
            raise StoreError(f"{self.path} cannot be written: {error.strerror}") from None


def _decode(data: dict[str, object]) -> Known:
    if data.pop("format") != FORMAT:
        raise ValueError("not a format that this version knows")
    fields = Known()._asdict()
    for name, default in fields.items():
        value = data[name]
        if type(value) is not type(default):
            raise ValueError(f"{name} is {value!r}")
        fields[name] = value
    known = Known(**fields)
    for state in (known.system, known.device, known.previous):
        if state not in STATES:
            raise ValueError(f"'{state}' is no ACPI state")
    return known
