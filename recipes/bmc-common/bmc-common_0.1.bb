# SPDX-License-Identifier: Apache-2.0
SUMMARY = "What every meta-fleet service needs to live on D-Bus under systemd"
LICENSE = "Apache-2.0"
LIC_FILES_CHKSUM = "file://LICENSE;md5=3b83ef96387f14655fc854ddc3c6bd57"

SRC_URI = " \
    file://LICENSE \
    file://pyproject.toml \
    file://fleet_bmc_common \
"
S = "${UNPACKDIR}"

inherit python_setuptools_build_meta

RDEPENDS:${PN} = "python3-asyncio python3-core python3-dbus-fast"
