# SPDX-License-Identifier: Apache-2.0
SUMMARY = "Who has which object on D-Bus"
DESCRIPTION = "Owns xyz.openbmc_project.ObjectMapper; the bus starts it when somebody asks."
LICENSE = "Apache-2.0"
LIC_FILES_CHKSUM = "file://LICENSE;md5=3b83ef96387f14655fc854ddc3c6bd57"

SRC_URI = " \
    file://LICENSE \
    file://pyproject.toml \
    file://fleet_mapper \
    file://mapper.service \
    file://xyz.openbmc_project.ObjectMapper.conf \
    file://xyz.openbmc_project.ObjectMapper.service \
"
S = "${UNPACKDIR}"

inherit python_setuptools_build_meta systemd useradd

SYSTEMD_SERVICE:${PN} = "mapper.service"
SYSTEMD_AUTO_ENABLE:${PN} = "disable"

USERADD_PACKAGES = "${PN}"
USERADD_PARAM:${PN} = "--system --no-create-home --home-dir / --shell ${base_sbindir}/nologin --user-group fleet-mapper"

do_install:append() {
    install -D -m 0644 ${S}/mapper.service ${D}${systemd_system_unitdir}/mapper.service
    install -D -m 0644 ${S}/xyz.openbmc_project.ObjectMapper.conf \
        ${D}${datadir}/dbus-1/system.d/xyz.openbmc_project.ObjectMapper.conf
    install -D -m 0644 ${S}/xyz.openbmc_project.ObjectMapper.service \
        ${D}${datadir}/dbus-1/system-services/xyz.openbmc_project.ObjectMapper.service
}

FILES:${PN} += "${datadir}/dbus-1"
RDEPENDS:${PN} = "bmc-common dbus python3-core python3-xml"
