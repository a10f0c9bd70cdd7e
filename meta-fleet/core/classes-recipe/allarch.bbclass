# SPDX-License-Identifier: Apache-2.0
# For recipes whose bytes do not depend on processor or board: built once, shared by all machines.
PACKAGE_ARCH = "all"
