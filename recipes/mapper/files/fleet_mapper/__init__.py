# SPDX-License-Identifier: Apache-2.0
"""The object mapper: which service has which object with which interfaces."""
