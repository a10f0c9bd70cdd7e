# SPDX-License-Identifier: Apache-2.0
SUMMARY = "Compilers and tools that build kernel, boot loader and compiled components"
LICENSE = "GPL-3.0-or-later WITH GCC-exception-3.1"

NATIVE_SET = "toolchain"
NATIVE_LINKS = "sh:dash awk:gawk cc:gcc"

inherit native-sysroot
