# SPDX-License-Identifier: Apache-2.0
"""The `fleet` command: one file per sub-command in commands/. It needs the standard library only."""
