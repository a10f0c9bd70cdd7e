# SPDX-License-Identifier: Apache-2.0
"""Host and chassis power: the server's power lines, shown and changed on D-Bus."""
