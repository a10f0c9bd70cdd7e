# SPDX-License-Identifier: Apache-2.0
"""The host's ACPI power state: what is known of it, who said so, and what hangs on it."""
