# SPDX-License-Identifier: Apache-2.0
"""The accounts: the one store of the BMC's users, shown on D-Bus."""
