# SPDX-License-Identifier: Apache-2.0
SUMMARY = "Settings of the running system: mounts, console, network, SSH, watchdog, journal"
SECTION = "base"
LICENSE = "Apache-2.0"
LIC_FILES_CHKSUM = "file://${COMMON_LICENSE_DIR}/Apache-2.0;md5=89aea4e17d99a7cacdbeed46a0096b10"

SRC_URI = "file://root"

S = "${UNPACKDIR}"

inherit allarch systemd

RDEPENDS:${PN} = "systemd busybox dropbear util-linux-agetty"

SYSTEMD_SERVICE:${PN} = "var.mount tmp.mount etc-shadow.mount dropbear.service"

do_install() {
    cp -r ${UNPACKDIR}/root/. ${D}/
    find ${D} -type d -exec chmod 0755 {} +
    find ${D} -type f -exec chmod 0644 {} +
    find ${D}${libexecdir} -type f -exec chmod 0755 {} +
}

FILES:${PN} = "/"
