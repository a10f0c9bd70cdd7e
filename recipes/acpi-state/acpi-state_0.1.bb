# SPDX-License-Identifier: Apache-2.0
SUMMARY = "The host's ACPI power state on D-Bus"
DESCRIPTION = "Owns xyz.openbmc_project.Control.Power.ACPIPowerState and starts host-s0-, host-s2- and host-s5-state.target."
LICENSE = "Apache-2.0"
LIC_FILES_CHKSUM = "file://LICENSE;md5=3b83ef96387f14655fc854ddc3c6bd57"

SRC_URI = " \
    file://LICENSE \
    file://pyproject.toml \
    file://fleet_acpi_state \
    file://acpi-state.service \
    file://host-s0-state.target \
    file://host-s2-state.target \
    file://host-s5-state.target \
    file://xyz.openbmc_project.Control.Power.ACPIPowerState.conf \
"
S = "${UNPACKDIR}"

inherit python_setuptools_build_meta systemd

SYSTEMD_SERVICE:${PN} = "acpi-state.service"

do_install:append() {
    install -d ${D}${systemd_system_unitdir}
    install -m 0644 ${S}/acpi-state.service ${S}/host-s0-state.target ${S}/host-s2-state.target \
        ${S}/host-s5-state.target ${D}${systemd_system_unitdir}/
    install -D -m 0644 ${S}/xyz.openbmc_project.Control.Power.ACPIPowerState.conf \
        ${D}${datadir}/dbus-1/system.d/xyz.openbmc_project.Control.Power.ACPIPowerState.conf
}

FILES:${PN} += "${datadir}/dbus-1/system.d ${systemd_system_unitdir}"
RDEPENDS:${PN} = "bmc-common dbus python3-core python3-json"
