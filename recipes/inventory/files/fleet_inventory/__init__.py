# SPDX-License-Identifier: Apache-2.0
"""The inventory service: what the BMC is, on D-Bus under OpenBMC's interface names."""
