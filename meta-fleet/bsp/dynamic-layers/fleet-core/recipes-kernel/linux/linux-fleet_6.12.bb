# SPDX-License-Identifier: Apache-2.0
SUMMARY = "Linux kernel of meta-fleet's boards"
DESCRIPTION = "Debian's 6.12 kernel source with one small configuration for all AST2600 boards. Device trees are \
made by the image from the board file; the kernel's own includes for them are handed on in the sysroot."
HOMEPAGE = "https://www.kernel.org/"
SECTION = "kernel"
LICENSE = "GPL-2.0-only WITH Linux-syscall-note"

DEBIAN_SOURCE = "linux"
# A sixth of the files, none of which is compiled.
DEBIAN_SOURCE_EXCLUDE = "*/Documentation/*/* */tools/testing/*"
SRC_URI = "file://fleet_defconfig"

inherit debian-source staging nopackages

PROVIDES += "virtual/kernel"
B = "${WORKDIR}/build"

KERNEL_MAKE = "${FLEET_TOOLCHAIN_SANDBOX} make -C /build/sources/linux O=/build/build ARCH=arm \
    CROSS_COMPILE=${TARGET_PREFIX} LOCALVERSION= KBUILD_BUILD_USER=fleet KBUILD_BUILD_HOST=fleet \
    KBUILD_BUILD_TIMESTAMP=@${SOURCE_DATE_EPOCH} KBUILD_BUILD_VERSION=1"

do_configure[depends] += "native-toolchain:do_populate_sysroot"
do_configure[cleandirs] = "${B}"
do_configure() {
    cp ${UNPACKDIR}/fleet_defconfig ${B}/.config
    ${KERNEL_MAKE} olddefconfig
    # A symbol that the defconfig sets and Kconfig dropped is a mistake that would only show on the board.
    grep -E '^CONFIG_[A-Z0-9_]+=' ${UNPACKDIR}/fleet_defconfig | while read -r line; do
        grep -qxF "$line" ${B}/.config || bbfatal "fleet_defconfig: $line did not survive; its dependencies are not met"
    done
}

do_compile() {
    ${KERNEL_MAKE} ${PARALLEL_MAKE} zImage
}

do_populate_sysroot() {
    install -D -m 0644 ${B}/arch/arm/boot/zImage ${SYSROOT_DESTDIR}/zImage
    install -m 0644 ${B}/System.map ${SYSROOT_DESTDIR}/System.map
    install -m 0644 ${B}/.config ${SYSROOT_DESTDIR}/config
    install -m 0644 ${B}/include/config/kernel.release ${SYSROOT_DESTDIR}/kernel.release
    install -d ${SYSROOT_DESTDIR}/dts ${SYSROOT_DESTDIR}/dts/include
    cp ${S}/arch/arm/boot/dts/aspeed/*.dtsi ${SYSROOT_DESTDIR}/dts/
    cp -rL ${S}/include/dt-bindings ${SYSROOT_DESTDIR}/dts/include/
}
