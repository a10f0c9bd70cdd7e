# SPDX-License-Identifier: GPL-2.0-only
"""Stand-in for BitBake's PR service, which is not part of the engine's wheel; see `prserv.serv`."""
