# SPDX-License-Identifier: Apache-2.0
SUMMARY = "Tools that make root file system, FIT and flash image"
LICENSE = "GPL-2.0-or-later"

NATIVE_SET = "imagetools"
NATIVE_LINKS = "sh:dash"

inherit native-sysroot
