# SPDX-License-Identifier: GPL-2.0-only
"""The three programs that the BitBake engine consists of, on top of its Python package `bb`.

ui.py      bitbake: command line, one user interface per build directory
server.py  bitbake-server: parses and schedules
worker.py  bitbake-worker: forks one child per task and carries their events to the server
task.py    what such a child does
framing.py the byte stream between server and worker (pure)
"""

TESTED_VERSION = "2.19.0"
"""The one version of `bb` that these programs were written for and tested with."""
