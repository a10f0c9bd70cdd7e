# SPDX-License-Identifier: Apache-2.0
# Tasks that every recipe has, with OE-core's names and order:
#   do_fetch -> do_unpack -> do_patch -> do_configure -> do_compile -> do_install -> do_build
# Only do_fetch reaches the network. Recipes that make something for others add do_package (package.bbclass),
# do_populate_sysroot (staging.bbclass) or do_deploy (deploy.bbclass); their results are shared state.

inherit sstate
inherit sandbox
inherit sanity
inherit package

die() {
    bbfatal_log "$*"
}

bbnote() {
    echo "NOTE: $*"
}

bbfatal_log() {
    echo "ERROR: $*"
    exit 1
}

bbfatal() {
    bbfatal_log "$*"
}

def refuse_fetched(d, error):
    # What was fetched is absent or damaged: the next build must look again, whatever its stamps say.
    bb.build.del_stamp('do_fetch', d)
    bb.fatal(str(error))

addtask fetch
do_fetch[dirs] = "${DL_DIR}"
do_fetch[network] = "1"
do_fetch[file-checksums] = "${@bb.fetch.get_checksum_file_list(d)}"
do_fetch[vardeps] += "SRCREV"
python base_do_fetch() {
    uris = (d.getVar('SRC_URI') or '').split()
    if not uris:
        return
    try:
        bb.fetch2.Fetch(uris, d).download()
    except bb.fetch2.BBFetchException as error:
        bb.fatal(str(error))
}

addtask unpack after do_fetch
do_unpack[cleandirs] = "${UNPACKDIR}"
python base_do_unpack() {
    uris = (d.getVar('SRC_URI') or '').split()
    if not uris:
        return
    try:
        bb.fetch2.Fetch(uris, d).unpack(d.getVar('UNPACKDIR'))
    except bb.fetch2.BBFetchException as error:
        bb.fatal(str(error))
}

# Patches are the .patch and .diff files of SRC_URI, applied to S in order; "apply=no" leaves one out.
addtask patch after do_unpack
do_patch[dirs] = "${WORKDIR}"
python base_do_patch() {
    import subprocess
    fetcher = bb.fetch2.Fetch((d.getVar('SRC_URI') or '').split(), d)
    for url in fetcher.urls:
        data = fetcher.ud[url]
        name = os.path.basename(data.path)
        if data.type != 'file' or not name.endswith(('.patch', '.diff')) or data.parm.get('apply') == 'no':
            continue
        command = ['patch', '-p' + data.parm.get('striplevel', '1'), '--batch', '--forward', '--fuzz=0', '--no-backup-if-mismatch',
                   '-d', d.getVar('S'), '-i', fetcher.localpath(url)]
        result = subprocess.run(command, capture_output=True, text=True)
        bb.note(result.stdout)
        if result.returncode:
            bb.fatal("patch %s does not apply to %s:\n%s" % (name, d.getVar('PF'), result.stdout + result.stderr))
}

addtask configure after do_patch
do_configure[dirs] = "${B}"
base_do_configure() {
    :
}

addtask compile after do_configure
do_compile[dirs] = "${B}"
base_do_compile() {
    :
}

addtask install after do_compile
do_install[dirs] = "${B}"
do_install[cleandirs] = "${D}"
base_do_install() {
    :
}

addtask build after do_install
do_build[noexec] = "1"
do_build() {
    :
}

addtask listtasks
do_listtasks[nostamp] = "1"
python do_listtasks() {
    for key in sorted(d.keys()):
        if d.getVarFlag(key, 'task', False):
            bb.plain("%-24s %s" % (key, d.getVarFlag(key, 'doc') or ''))
}

addtask clean
do_clean[nostamp] = "1"
python do_clean() {
    import glob
    bb.utils.remove(d.getVar('WORKDIR'), recurse=True)
    for stamp in glob.glob(d.getVar('STAMP') + '.*'):
        os.remove(stamp)
}

addtask cleansstate after do_clean
do_cleansstate[nostamp] = "1"
python do_cleansstate() {
    sstate_delete_all(d)
}

EXPORT_FUNCTIONS do_fetch do_unpack do_patch do_configure do_compile do_install
