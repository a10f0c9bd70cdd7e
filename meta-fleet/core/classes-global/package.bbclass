# SPDX-License-Identifier: Apache-2.0
# do_package: what a recipe installed in D becomes package.tar (root's files, D's modes, one date) and
# package.json (version, licence, run-time needs, users). Image recipes read both.

PACKAGE_DESTDIR = "${WORKDIR}/package"
BB_BASEHASH_IGNORE_VARS:append = " PACKAGE_DESTDIR"
SSTATETASKS += "do_package"
do_package[sstate-inputdirs] = "${PACKAGE_DESTDIR}"
do_package[sstate-outputdirs] = "${PKGDATA_DIR}/${PACKAGE_ARCH}/${PN}"
do_package[vardeps] += "PACKAGE_RDEPENDS PACKAGE_USERS"
do_package[file-checksums] += "${FLEET_CORE}/lib/fleetbuild/tree.py:True"
PACKAGE_RDEPENDS = "${@' '.join(sorted(bb.utils.explode_deps(d.getVar('RDEPENDS:' + d.getVar('PN')) or '')))}"
PACKAGE_RDEPENDS[vardepvalue] = "${PACKAGE_RDEPENDS}"
PACKAGE_USERS ?= ""
# Whoever packages something sees that what it needs at run time is packaged, too; the image follows this chain.
do_package[rdeptask] = "do_package"
addtask package after do_install before do_build
python do_package_setscene() {
    sstate_setscene(d)
}
addtask do_package_setscene
python do_package() {
    import json
    from pathlib import Path
    from fleetbuild.tree import Attributes, Tree
    root = Path(d.getVar('D'))
    target = Path(d.getVar('PACKAGE_DESTDIR'))
    tree = Tree(root)
    for name in tree.paths():
        if not (root / name).is_symlink():
            tree.attributes[name] = Attributes(mode=(root / name).stat().st_mode & 0o7777)
    with open(target / 'package.tar', 'wb') as stream:
        tree.write_tar(stream, int(d.getVar('SOURCE_DATE_EPOCH')))
    record = {
        'name': d.getVar('PN'),
        'version': d.getVar('PV'),
        'license': d.getVar('LICENSE'),
        'summary': d.getVar('SUMMARY'),
        'rdepends': d.getVar('PACKAGE_RDEPENDS').split(),
        'users': d.getVar('PACKAGE_USERS').split(),
    }
    (target / 'package.json').write_text(json.dumps(record, indent=1) + '\n')
}
