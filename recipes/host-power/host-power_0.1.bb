# SPDX-License-Identifier: Apache-2.0
SUMMARY = "Host and chassis power on D-Bus"
DESCRIPTION = "Owns xyz.openbmc_project.State.Host and State.Chassis: watches and drives the server's power lines."
LICENSE = "Apache-2.0"
LIC_FILES_CHKSUM = "file://LICENSE;md5=3b83ef96387f14655fc854ddc3c6bd57"

SRC_URI = " \
    file://LICENSE \
    file://pyproject.toml \
    file://fleet_host_power \
    file://host-power.service \
    file://host-power.tmpfiles \
    file://xyz.openbmc_project.State.Host.conf \
"
S = "${UNPACKDIR}"

inherit python_setuptools_build_meta systemd useradd

SYSTEMD_SERVICE:${PN} = "host-power.service"

USERADD_PACKAGES = "${PN}"
USERADD_PARAM:${PN} = "--system --no-create-home --home-dir / --shell ${base_sbindir}/nologin --user-group fleet-host-power"

do_install:append() {
    install -D -m 0644 ${S}/host-power.service ${D}${systemd_system_unitdir}/host-power.service
    install -D -m 0644 ${S}/host-power.tmpfiles ${D}${nonarch_libdir}/tmpfiles.d/host-power.conf
    install -D -m 0644 ${S}/xyz.openbmc_project.State.Host.conf \
        ${D}${datadir}/dbus-1/system.d/xyz.openbmc_project.State.Host.conf
}

FILES:${PN} += "${datadir}/dbus-1/system.d ${nonarch_libdir}/tmpfiles.d"
RDEPENDS:${PN} = "bmc-common dbus python3-core python3-gpiod python3-json systemd"
