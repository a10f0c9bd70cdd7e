# SPDX-License-Identifier: Apache-2.0
# Images: IMAGE_INSTALL (OE names) -> root file system -> read-only, verified root partition.
#
#   IMAGE_INSTALL = "fleet-base inventory"
#   ROOTFS_TABLES = "…"     folder with drop.toml, users.toml, permissions.toml, links.toml of the distribution
#
# do_rootfs_base: Debian packages, trimmed and byte-compiled; changes seldom, shared state
# do_rootfs:      components, users, units on top
# do_image:       squashfs with dm-verity hash tree
# Boards that boot from flash inherit image_flash as well.

inherit nopackages

PACKAGE_ARCH = "${MACHINE_ARCH}"
IMAGE_INSTALL ?= ""
RDEPENDS:${PN} = "${IMAGE_INSTALL}"
IMAGE_TREE = "${WORKDIR}/rootfs"
IMAGE_BASE = "${WORKDIR}/rootfs-base"
IMAGE_PKGDATA = "${PKGDATA_DIR}/${MACHINE_ARCH} ${PKGDATA_DIR}/${TUNE_PKGARCH} ${PKGDATA_DIR}/all"
IMAGE_LIBRARY = "${@' '.join('%s/lib/fleetbuild/%s.py:True' % (d.getVar('FLEET_CORE'), m) for m in ('rootfs', 'tree', 'users', 'debs', 'names', 'sandbox'))}"
BB_BASEHASH_IGNORE_VARS:append = " IMAGE_TREE IMAGE_BASE IMAGE_PKGDATA IMAGE_LIBRARY ROOTFS_TABLES"
PYTHON_FOLDERS = "usr/lib/python3.11 usr/lib/python3"

def image_debian(d):
    # The Debian packages that IMAGE_INSTALL names itself; what only components need is added in do_rootfs.
    from fleetbuild import lock, names
    debian, _ = names.to_debian((d.getVar('IMAGE_INSTALL') or '').split())
    return lock.load().closure('target', debian)

IMAGE_DEBIAN = "${@' '.join('%s=%s' % (p.name, p.sha256) for p in image_debian(d))}"
# The packages count, not the list that names them: a new component must not unpack Debian's again.
image_debian[vardepsexclude] += "IMAGE_INSTALL"
IMAGE_DEBIAN[vardepvalue] = "${IMAGE_DEBIAN}"

python do_fetch() {
    from pathlib import Path
    from fleetbuild import BuildError, archive, lock
    try:
        # All that the lock allows: which part of it components need is known only when they are built.
        archive.download(Path(d.getVar('DL_DIR')) / 'debian', lock.load().groups['target'].values())
    except BuildError as error:
        bb.fatal(str(error))
}
do_fetch[file-checksums] += "${FLEET_CORE}/lock/packages.json:True"

SSTATETASKS += "do_rootfs_base"
do_rootfs_base[sstate-inputdirs] = "${IMAGE_BASE}"
do_rootfs_base[sstate-outputdirs] = "${STAGING_DIR}/${PACKAGE_ARCH}/${PN}-base"
do_rootfs_base[depends] = "native-imagetools:do_populate_sysroot"
do_rootfs_base[vardeps] += "IMAGE_DEBIAN"
do_rootfs_base[file-checksums] += "${ROOTFS_TABLES}/drop.toml:True ${IMAGE_LIBRARY}"
addtask rootfs_base after do_fetch
python do_rootfs_base_setscene() {
    sstate_setscene(d)
}
addtask do_rootfs_base_setscene
python do_rootfs_base() {
    import shutil
    from pathlib import Path
    from fleetbuild import BuildError, lock, rootfs
    from fleetbuild.tree import Tree
    work = Path(d.getVar('WORKDIR'))
    top = work / 'rootfs-base-tree'
    shutil.rmtree(top, ignore_errors=True)
    top.mkdir(parents=True)
    tree = Tree(top)
    try:
        rootfs.unpack(tree, Path(d.getVar('DL_DIR')) / 'debian', image_debian(d))
        rootfs.take_licences(tree, Path(d.getVar('IMAGE_BASE')) / 'licenses')
        unused = rootfs.drop(tree, Path(d.getVar('ROOTFS_TABLES')) / 'drop.toml')
        rootfs.byte_compile(Path(d.getVar('STAGING_DIR_IMAGETOOLS')), work, tree, d.getVar('PYTHON_FOLDERS').split())
    except BuildError as error:
        refuse_fetched(d, error)
    if unused:
        bb.warn('drop.toml lists what no package brings any more: %s' % ', '.join(unused))
    with open(d.getVar('IMAGE_BASE') + '/rootfs.tar', 'wb') as stream:
        tree.write_tar(stream, int(d.getVar('SOURCE_DATE_EPOCH')))
    shutil.rmtree(top)
}

do_rootfs[depends] = "native-imagetools:do_populate_sysroot"
do_rootfs[recrdeptask] = "do_package"
do_rootfs[file-checksums] += "${@' '.join('%s/%s.toml:True' % (d.getVar('ROOTFS_TABLES'), t) for t in ('drop', 'users', 'permissions', 'links'))} ${IMAGE_LIBRARY}"
do_rootfs[cleandirs] = "${IMAGE_TREE}"
do_rootfs[vardeps] += "FLEET_BUILD_ID"
addtask rootfs after do_rootfs_base
python do_rootfs() {
    import json, tarfile, tomllib
    from pathlib import Path
    from fleetbuild import BuildError, lock, rootfs, sandbox, users
    from fleetbuild.tree import Tree
    work = Path(d.getVar('WORKDIR'))
    base = Path(d.getVar('STAGING_DIR')) / d.getVar('PACKAGE_ARCH') / (d.getVar('PN') + '-base')
    tables = Path(d.getVar('ROOTFS_TABLES'))
    sysroot = Path(d.getVar('STAGING_DIR_IMAGETOOLS'))
    tree = Tree(Path(d.getVar('IMAGE_TREE')))
    epoch = int(d.getVar('SOURCE_DATE_EPOCH'))
    compiled = d.getVar('PYTHON_FOLDERS').split()
    try:
        plan = rootfs.plan(lock.load(), d.getVar('IMAGE_INSTALL').split(), [Path(p) for p in d.getVar('IMAGE_PKGDATA').split()])
        with tarfile.open(base / 'rootfs.tar') as tar:
            tree.add_tar(tar)
        have = {package.name for package in image_debian(d)}
        rootfs.unpack(tree, Path(d.getVar('DL_DIR')) / 'debian', [p for p in plan.debian if p.name not in have])
        licences = work / 'licenses'
        rootfs.take_licences(tree, licences)
        for path in (base / 'licenses').iterdir():
            bb.utils.copyfile(str(path), str(licences / path.name))
        rootfs.drop(tree, tables / 'drop.toml')
        owned = {component.name: rootfs.add_component(tree, component) for component in plan.components}
        links = tomllib.loads((tables / 'links.toml').read_text())
        rootfs.links(tree, links['links'])
        rootfs.applets(tree, links['busybox']['applets'].split())
        wanted = [name for component in plan.components for name in component.users]
        numbers = rootfs.make_users(tree, users.load(tables / 'users.toml'), wanted)
        rootfs.byte_compile(sysroot, work, tree, compiled)
        sandbox.run(sysroot, work, ['systemctl', '--root=/build/rootfs', 'preset-all'])
        sandbox.run(sysroot, work, ['ldconfig', '-r', '/build/rootfs'], root=True)
        bb.build.exec_func('image_release', d)
        rootfs.set_permissions(tree, tables / 'permissions.toml', numbers)
    except BuildError as error:
        refuse_fetched(d, error)
    with open(work / 'rootfs.tar', 'wb') as stream:
        tree.write_tar(stream, epoch)
    record = {
        'debian': [{'name': p.name, 'version': p.version, 'source': p.source, 'sha256': p.sha256,
                    'filename': p.filename} for p in plan.debian],
        'components': [{'name': c.name, 'version': c.version, 'license': c.license, 'summary': c.summary,
                        'files': sorted(owned[c.name])} for c in plan.components],
        'security': dict(lock.load().security),
    }
    (work / 'rootfs-record.json').write_text(json.dumps(record, indent=1) + '\n')
}

# Which build this is: BUILD_ID of /etc/os-release, see FLEET_BUILD_ID in bitbake.conf.
python image_release() {
    from pathlib import Path
    version = d.getVar('DISTRO_VERSION')
    fields = {
        'ID': 'meta-fleet',
        'ID_LIKE': 'debian',
        'NAME': d.getVar('DISTRO_NAME'),
        'PRETTY_NAME': '%s %s (%s)' % (d.getVar('DISTRO_NAME'), version, d.getVar('MACHINE')),
        'VERSION_ID': version,
        'BUILD_ID': d.getVar('FLEET_BUILD_ID'),
        'VARIANT_ID': d.getVar('MACHINE'),
    }
    root = Path(d.getVar('IMAGE_TREE'))
    # Empty, not absent: systemd then makes a fresh id in memory and does not take each boot for the first one.
    (root / 'etc/machine-id').write_text('')
    # Its date is that of all files: systemd starts the clock there when the board has none (systemd(1), Files).
    (root / 'usr/lib/clock-epoch').write_text('')
    (root / 'etc/hostname').write_text(d.getVar('MACHINE') + '\n')
    (root / 'usr/lib/os-release').write_text(''.join('%s="%s"\n' % item for item in fields.items()))
}

do_image[depends] = "native-imagetools:do_populate_sysroot"
addtask image after do_rootfs before do_build
python do_image() {
    from pathlib import Path
    from fleetbuild import BuildError, verity
    try:
        verity.make(Path(d.getVar('STAGING_DIR_IMAGETOOLS')), Path(d.getVar('WORKDIR')), int(d.getVar('SOURCE_DATE_EPOCH')))
    except BuildError as error:
        bb.fatal(str(error))
}
do_image[file-checksums] += "${FLEET_CORE}/lib/fleetbuild/verity.py:True ${FLEET_CORE}/lib/fleetbuild/sandbox.py:True"

deltask do_unpack
deltask do_patch
deltask do_configure
deltask do_compile
deltask do_install
