# SPDX-License-Identifier: Apache-2.0
SUMMARY = "The BMC's event log on D-Bus"
DESCRIPTION = "Owns xyz.openbmc_project.Logging and keeps SEL records and structured events, safe against power cuts."
LICENSE = "Apache-2.0"
LIC_FILES_CHKSUM = "file://LICENSE;md5=3b83ef96387f14655fc854ddc3c6bd57"

SRC_URI = " \
    file://LICENSE \
    file://pyproject.toml \
    file://fleet_event_log \
    file://event-log.service \
    file://xyz.openbmc_project.Logging.conf \
"
S = "${UNPACKDIR}"

inherit python_setuptools_build_meta systemd useradd

SYSTEMD_SERVICE:${PN} = "event-log.service"

USERADD_PACKAGES = "${PN}"
USERADD_PARAM:${PN} = "--system --no-create-home --home-dir / --shell ${base_sbindir}/nologin --user-group fleet-event-log"

do_install:append() {
    install -D -m 0644 ${S}/event-log.service ${D}${systemd_system_unitdir}/event-log.service
    install -D -m 0644 ${S}/xyz.openbmc_project.Logging.conf \
        ${D}${datadir}/dbus-1/system.d/xyz.openbmc_project.Logging.conf
}

FILES:${PN} += "${datadir}/dbus-1/system.d"
RDEPENDS:${PN} = "bmc-common dbus python3-core python3-json"
