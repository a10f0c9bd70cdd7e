# SPDX-License-Identifier: Apache-2.0
# From root partition, kernel and boot loader to the flash image of the board file (FLEET_BOARD).
# do_deploy puts everything that a user of the build needs into DEPLOY_DIR_IMAGE.

inherit deploy

FLASH_KERNEL = "${STAGING_DIR}/${TUNE_PKGARCH}/linux-fleet"
FLASH_UBOOT = "${STAGING_DIR}/${MACHINE_ARCH}/u-boot-fleet"
# For the SBOM; names are those of [sources] in seeds.toml.
FLASH_LICENSE_linux = "GPL-2.0-only WITH Linux-syscall-note"
FLASH_LICENSE_u-boot = "GPL-2.0-or-later"
BB_BASEHASH_IGNORE_VARS:append = " FLASH_KERNEL FLASH_UBOOT FLEET_BOARD"

deltask do_deploy
addtask deploy after do_image before do_build
do_deploy[depends] = "native-imagetools:do_populate_sysroot linux-fleet:do_populate_sysroot u-boot-fleet:do_populate_sysroot"
do_deploy[file-checksums] += "${FLEET_BOARD}:True ${BSPDIR}/lib/fleetboard:True ${FLEET_CORE}/lib/fleetbuild/flash.py:True ${FLEET_CORE}/lib/fleetbuild/sbom.py:True"
python do_deploy() {
    from pathlib import Path
    from fleetbuild import BuildError, flash, lock, sbom
    import fleetboard
    work, out = Path(d.getVar('WORKDIR')), Path(d.getVar('DEPLOYDIR'))
    kernel, uboot = Path(d.getVar('FLASH_KERNEL')), Path(d.getVar('FLASH_UBOOT'))
    epoch = int(d.getVar('SOURCE_DATE_EPOCH'))
    version = '%s+%s' % (d.getVar('DISTRO_VERSION'), d.getVar('FLEET_BUILD_ID'))
    try:
        flash.make(fleetboard.load(Path(d.getVar('FLEET_BOARD'))), Path(d.getVar('FLEET_BOARD')),
                   Path(d.getVar('STAGING_DIR_IMAGETOOLS')), work, kernel, uboot, out, version, epoch)
        sbom.write(work / 'rootfs-record.json', work / 'licenses', out, d.getVar('PN'), version, epoch,
                   {name: (source.version, d.getVar('FLASH_LICENSE_' + name))
                    for name, source in lock.load().sources.items()})
        flash.checksums(out)
    except (BuildError, fleetboard.BoardError, fleetboard.flash.FlashError) as error:
        bb.fatal(str(error))
}
do_deploy[vardeps] += "FLEET_BUILD_ID"
