# SPDX-License-Identifier: Apache-2.0
SUMMARY = "What the services must know of the board they run on"
DESCRIPTION = "The board file's GPIO lines and KCS channel as /usr/share/fleet/board.json."
SECTION = "base"
LICENSE = "Apache-2.0"
LIC_FILES_CHKSUM = "file://${COMMON_LICENSE_DIR}/Apache-2.0;md5=89aea4e17d99a7cacdbeed46a0096b10"

PACKAGE_ARCH = "${MACHINE_ARCH}"

python () {
    if not d.getVar('FLEET_BOARD'):
        raise bb.parse.SkipRecipe('the machine has no board file (FLEET_BOARD)')
}

do_install() {
    install -d ${D}${datadir}/fleet
    PYTHONPATH=${BSPDIR}/lib python3 -m fleetboard services ${FLEET_BOARD} -o ${D}${datadir}/fleet/board.json
}
do_install[file-checksums] += "${FLEET_BOARD}:True ${BSPDIR}/lib/fleetboard:True"

FILES:${PN} = "${datadir}/fleet"
