# SPDX-License-Identifier: Apache-2.0
SUMMARY = "What the BMC is, on D-Bus"
DESCRIPTION = "Owns xyz.openbmc_project.Inventory.Manager and shows the board that the device tree describes; the bus starts it when somebody asks."
LICENSE = "Apache-2.0"
LIC_FILES_CHKSUM = "file://LICENSE;md5=3b83ef96387f14655fc854ddc3c6bd57"

SRC_URI = " \
    file://LICENSE \
    file://pyproject.toml \
    file://fleet_inventory \
    file://inventory.service \
    file://xyz.openbmc_project.Inventory.Manager.conf \
    file://xyz.openbmc_project.Inventory.Manager.service \
"
S = "${UNPACKDIR}"

inherit python_setuptools_build_meta systemd useradd

SYSTEMD_SERVICE:${PN} = "inventory.service"
SYSTEMD_AUTO_ENABLE:${PN} = "disable"

USERADD_PACKAGES = "${PN}"
USERADD_PARAM:${PN} = "--system --no-create-home --home-dir / --shell ${base_sbindir}/nologin --user-group fleet-inventory"

do_install:append() {
    install -D -m 0644 ${S}/inventory.service ${D}${systemd_system_unitdir}/inventory.service
    install -D -m 0644 ${S}/xyz.openbmc_project.Inventory.Manager.conf \
        ${D}${datadir}/dbus-1/system.d/xyz.openbmc_project.Inventory.Manager.conf
    install -D -m 0644 ${S}/xyz.openbmc_project.Inventory.Manager.service \
        ${D}${datadir}/dbus-1/system-services/xyz.openbmc_project.Inventory.Manager.service
}

FILES:${PN} += "${datadir}/dbus-1"
RDEPENDS:${PN} = "bmc-common dbus python3-core"
