# SPDX-License-Identifier: Apache-2.0
SUMMARY = "Boot loader (SPL and U-Boot) of meta-fleet's boards"
HOMEPAGE = "https://www.u-boot.org/"
SECTION = "bootloaders"
LICENSE = "GPL-2.0-or-later"

DEBIAN_SOURCE = "u-boot"
SRC_URI = "file://0001-arm-aspeed-ast2600-let-only-the-primary-core-reset-t.patch \
           file://ast2600-fleet.dts \
           file://fleet.cfg \
           file://development.cfg \
           file://release.cfg \
           "

inherit debian-source staging nopackages

PROVIDES += "virtual/bootloader"
# The environment and its place in flash come from the board file.
PACKAGE_ARCH = "${MACHINE_ARCH}"
B = "${WORKDIR}/build"

UBOOT_MACHINE ?= "evb-ast2600_defconfig"
UBOOT_MAKE = "${FLEET_TOOLCHAIN_SANDBOX} make -C /build/sources/u-boot O=/build/build CROSS_COMPILE=${TARGET_PREFIX} \
    KBUILD_BUILD_USER=fleet KBUILD_BUILD_HOST=fleet"

do_configure[depends] += "native-toolchain:do_populate_sysroot"
do_configure[cleandirs] = "${B}"
do_configure[file-checksums] += "${FLEET_BOARD}:True ${BSPDIR}/lib/fleetboard/env.py:True"
do_configure() {
    cp ${UNPACKDIR}/ast2600-fleet.dts ${S}/arch/arm/dts/
    PYTHONPATH=${BSPDIR}/lib python3 -m fleetboard env ${FLEET_BOARD} -o ${B}/fleet.env
    PYTHONPATH=${BSPDIR}/lib python3 -m fleetboard env --config ${FLEET_BOARD} -o ${B}/board.cfg
    # Fragments are merged before Kconfig fills in defaults: a default must not bring back what a fragment took away.
    cp ${UNPACKDIR}/fleet.cfg ${UNPACKDIR}/${FLEET_BUILD}.cfg ${B}/
    ${FLEET_TOOLCHAIN_SANDBOX} sh -ec 'cd /build/sources/u-boot && scripts/kconfig/merge_config.sh -m -O /build/build \
        configs/${UBOOT_MACHINE} /build/build/fleet.cfg /build/build/${FLEET_BUILD}.cfg /build/build/board.cfg'
    ${UBOOT_MAKE} olddefconfig
}

do_compile() {
    ${UBOOT_MAKE} ${PARALLEL_MAKE} u-boot-with-spl.bin
}

do_populate_sysroot() {
    install -D -m 0644 ${B}/u-boot-with-spl.bin ${SYSROOT_DESTDIR}/u-boot-with-spl.bin
    install -m 0644 ${B}/.config ${SYSROOT_DESTDIR}/config
}
