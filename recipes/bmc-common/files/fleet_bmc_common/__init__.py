# SPDX-License-Identifier: Apache-2.0
"""What every service of the BMC needs: readiness and watchdog, objects on D-Bus, a main program."""


class ServiceError(Exception):
    """What the operator has to mend, in one line; the service ends with it and exit status 1."""
