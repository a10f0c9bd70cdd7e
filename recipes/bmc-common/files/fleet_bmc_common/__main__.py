# SPDX-License-Identifier: Apache-2.0
"""Start a component without OpenSSL: ``python3 -I -m fleet_bmc_common fleet_inventory``.

asyncio imports ssl where it can, and with it OpenSSL: a tenth of a service's start-up time and 3 MiB of
memory. A component that speaks TLS is started under its own name instead; in one that is started from here,
importing ssl raises ModuleNotFoundError.
"""

import runpy
import sys

if len(sys.argv) < 2:
    sys.exit("usage: python3 -m fleet_bmc_common COMPONENT [ARGUMENT...]")
sys.modules["ssl"] = None  # type: ignore[assignment]
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
