# SPDX-License-Identifier: Apache-2.0
"""The event log: SEL records and structured events on the writable partition, shown on D-Bus."""
