# SPDX-License-Identifier: Apache-2.0
# Sources from the Debian archive, pinned by the package lock.
#
#   DEBIAN_SOURCE = "linux"        entry of [sources] in seeds.toml
#
# Both forms are unpacked into S: a binary package that carries a source archive (linux-source-*), and a source
# package (upstream archive, then Debian's patch series in order). SRC_URI adds our own files and patches.

S = "${UNPACKDIR}/${DEBIAN_SOURCE}"
DEBIAN_SOURCE_LOCKED = "${@' '.join(f.sha256 for f in debian_source(d).files)}"
DEBIAN_SOURCE_LOCKED[vardepvalue] = "${DEBIAN_SOURCE_LOCKED}"
PV = "${@debian_source(d).version.split('-')[0]}"

def debian_source(d):
    from fleetbuild import lock
    return lock.load().sources[d.getVar('DEBIAN_SOURCE')]

do_fetch[vardeps] += "DEBIAN_SOURCE_LOCKED"
do_fetch[postfuncs] += "debian_source_fetch"
python debian_source_fetch() {
    from pathlib import Path
    from fleetbuild import BuildError, archive
    try:
        archive.download(Path(d.getVar('DL_DIR')) / 'debian', debian_source(d).files)
    except BuildError as error:
        bb.fatal(str(error))
}

do_unpack[postfuncs] += "debian_source_unpack"
python debian_source_unpack() {
    from pathlib import Path
    from fleetbuild import BuildError, sources
    try:
        sources.unpack(Path(d.getVar('DL_DIR')) / 'debian', debian_source(d).files, Path(d.getVar('S')),
                       (d.getVar('DEBIAN_SOURCE_EXCLUDE') or '').split())
    except BuildError as error:
        refuse_fetched(d, error)
}
do_unpack[vardeps] += "DEBIAN_SOURCE_EXCLUDE"
