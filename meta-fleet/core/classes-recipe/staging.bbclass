# SPDX-License-Identifier: Apache-2.0
# do_populate_sysroot: hand results to other recipes. Fill SYSROOT_DESTDIR in do_populate_sysroot; others read
# them from ${STAGING_DIR}/<package arch>/<recipe> after depending on "<recipe>:do_populate_sysroot".

SYSROOT_DESTDIR = "${WORKDIR}/sysroot-destdir"
BB_BASEHASH_IGNORE_VARS:append = " SYSROOT_DESTDIR"
SSTATETASKS += "do_populate_sysroot"
do_populate_sysroot[sstate-inputdirs] = "${SYSROOT_DESTDIR}"
do_populate_sysroot[sstate-outputdirs] = "${STAGING_DIR_RECIPE}"
addtask populate_sysroot after do_install before do_build
python do_populate_sysroot_setscene() {
    sstate_setscene(d)
}
addtask do_populate_sysroot_setscene
