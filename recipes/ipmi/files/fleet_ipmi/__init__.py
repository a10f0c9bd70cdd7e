# SPDX-License-Identifier: Apache-2.0
"""IPMI 2.0: one command layer, made of typed functions, under several transports."""
