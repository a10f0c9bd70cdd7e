# SPDX-License-Identifier: Apache-2.0
SUMMARY = "IPMI for the host"
DESCRIPTION = "Owns xyz.openbmc_project.Ipmi.Host and answers the host's IPMI requests on the board's KCS channel."
LICENSE = "Apache-2.0"
LIC_FILES_CHKSUM = "file://LICENSE;md5=3b83ef96387f14655fc854ddc3c6bd57"

SRC_URI = " \
    file://LICENSE \
    file://pyproject.toml \
    file://fleet_ipmi \
    file://ipmi.service \
    file://xyz.openbmc_project.Ipmi.Host.conf \
"
S = "${UNPACKDIR}"

inherit python_setuptools_build_meta systemd useradd

SYSTEMD_SERVICE:${PN} = "ipmi.service"

USERADD_PACKAGES = "${PN}"
# The unit joins the two others.
GROUPADD_PARAM:${PN} = "--system fleet-power; --system fleet-events"
USERADD_PARAM:${PN} = "--system --no-create-home --home-dir / --shell ${base_sbindir}/nologin --user-group fleet-ipmi"

do_install:append() {
    install -D -m 0644 ${S}/ipmi.service ${D}${systemd_system_unitdir}/ipmi.service
    install -D -m 0644 ${S}/xyz.openbmc_project.Ipmi.Host.conf \
        ${D}${datadir}/dbus-1/system.d/xyz.openbmc_project.Ipmi.Host.conf
}

FILES:${PN} += "${datadir}/dbus-1/system.d"
RDEPENDS:${PN} = "bmc-common dbus python3-core python3-json"
