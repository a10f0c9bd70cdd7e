# SPDX-License-Identifier: Apache-2.0
# A native sysroot: pinned build tools, unpacked (never configured) from locked Debian packages of the build
# architecture. One set of seeds.toml each, so that a new image tool does not rebuild the kernel.
#
#   NATIVE_SET = "toolchain"        the set of [native.sets] in seeds.toml
#   NATIVE_LINKS = "sh:dash …"      links in /usr/bin that maintainer scripts would have made (name:target)

inherit allarch nopackages

INHIBIT_DEFAULT_DEPS = "1"
NATIVE_LINKS ?= ""
NATIVE_SYSROOT = "${STAGING_DIR}/native-${NATIVE_SET}"
BB_BASEHASH_IGNORE_VARS:append = " NATIVE_SYSROOT"

def native_packages(d):
    from fleetbuild import lock
    wanted = lock.load_seeds().sets['native'][d.getVar('NATIVE_SET')]
    return lock.load().closure('native', wanted)

NATIVE_LOCKED = "${@' '.join('%s=%s' % (p.name, p.sha256) for p in native_packages(d))}"
NATIVE_LOCKED[vardepvalue] = "${NATIVE_LOCKED}"

python do_fetch() {
    from pathlib import Path
    from fleetbuild import BuildError, archive
    try:
        archive.download(Path(d.getVar('DL_DIR')) / 'debian', native_packages(d))
    except BuildError as error:
        bb.fatal(str(error))
}
do_fetch[vardeps] += "NATIVE_LOCKED"
do_fetch[progress] = ""

addtask populate_sysroot after do_fetch before do_build
do_populate_sysroot[dirs] = "${WORKDIR}"
do_populate_sysroot[file-checksums] += "${FLEET_CORE}/lib/fleetbuild/debs.py:True"
python do_populate_sysroot() {
    import shutil
    from pathlib import Path
    from fleetbuild import BuildError, debs
    root = Path(d.getVar('NATIVE_SYSROOT'))
    fresh = root.with_name(root.name + '.new')
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        debs.unpack_tools(Path(d.getVar('DL_DIR')) / 'debian', native_packages(d), fresh)
    except BuildError as error:
        refuse_fetched(d, error)
    for link in d.getVar('NATIVE_LINKS').split():
        name, target = link.split(':')
        path = fresh / 'usr/bin' / name
        path.unlink(missing_ok=True)
        path.symlink_to(target)
    shutil.rmtree(root, ignore_errors=True)
    fresh.rename(root)
}

deltask do_unpack
deltask do_patch
deltask do_configure
deltask do_compile
deltask do_install
