# SPDX-License-Identifier: Apache-2.0
SUMMARY = "The BMC's users on D-Bus"
DESCRIPTION = "Owns xyz.openbmc_project.User.Manager and keeps the users; the bus starts it when somebody asks."
LICENSE = "Apache-2.0"
LIC_FILES_CHKSUM = "file://LICENSE;md5=3b83ef96387f14655fc854ddc3c6bd57"

SRC_URI = " \
    file://LICENSE \
    file://pyproject.toml \
    file://fleet_accounts \
    file://accounts.path \
    file://accounts.service \
    file://xyz.openbmc_project.User.Manager.conf \
    file://xyz.openbmc_project.User.Manager.service \
"
S = "${UNPACKDIR}"

inherit python_setuptools_build_meta systemd useradd

# The bus starts the service, and so does a file of first users, whose passwords are plain.
SYSTEMD_SERVICE:${PN} = "accounts.path accounts.service"

USERADD_PACKAGES = "${PN}"
USERADD_PARAM:${PN} = "--system --no-create-home --home-dir / --shell ${base_sbindir}/nologin --user-group fleet-accounts"

do_install:append() {
    install -d ${D}${systemd_system_unitdir}
    install -m 0644 ${S}/accounts.path ${S}/accounts.service ${D}${systemd_system_unitdir}/
    install -D -m 0644 ${S}/xyz.openbmc_project.User.Manager.conf \
        ${D}${datadir}/dbus-1/system.d/xyz.openbmc_project.User.Manager.conf
    install -D -m 0644 ${S}/xyz.openbmc_project.User.Manager.service \
        ${D}${datadir}/dbus-1/system-services/xyz.openbmc_project.User.Manager.service
}

FILES:${PN} += "${datadir}/dbus-1"
RDEPENDS:${PN} = "bmc-common dbus python3-core python3-crypt python3-cryptography python3-json"
