# SPDX-License-Identifier: GPL-2.0-only
"""Empty on purpose: the engine imports this module and uses nothing of it (see the package)."""
