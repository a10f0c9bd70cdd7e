# SPDX-License-Identifier: Apache-2.0
# Shared state: the result of a task, kept under its signature, so that no machine and no clone does it twice.
#
# A task takes part by:
#   SSTATETASKS += "do_deploy"
#   do_deploy[sstate-inputdirs] = "${DEPLOYDIR}"          what the task fills (emptied before it runs)
#   do_deploy[sstate-outputdirs] = "${DEPLOY_DIR_IMAGE}"  where it is put for others
#   python do_deploy_setscene() {
#       sstate_setscene(d)
#   }
#   addtask do_deploy_setscene
# Input and output folders pair up by position. What an earlier run of the same task put there and this one no
# longer makes is removed. Archives are written beside their name and renamed: an interrupted build leaves none.

SSTATETASKS ?= ""
SSTATE_MANIFESTS = "${TMPDIR}/sstate-manifests"
BB_HASHCHECK_FUNCTION = "sstate_hash_check"
BB_SETSCENE_DEPVALID = "sstate_depvalid"
BB_HASHFILENAME = "${PN}|${PACKAGE_ARCH}"
BB_BASEHASH_IGNORE_VARS:append = " SSTATE_MANIFESTS BB_HASHFILENAME SSTATETASKS"

python () {
    for task in sorted(set((d.getVar('SSTATETASKS') or '').split())):
        d.prependVarFlag(task, 'cleandirs', d.getVarFlag(task, 'sstate-inputdirs', False) + ' ')
        d.appendVarFlag(task, 'postfuncs', ' sstate_task_postfunc')
}

def sstate_archive(directory, name, arch, task, digest):
    return os.path.join(directory, digest[:2], '%s_%s_%s_%s.tar.zst' % (name, arch, task.replace('do_', ''), digest))

def sstate_this_archive(d):
    task = 'do_' + d.getVar('BB_CURRENTTASK').replace('_setscene', '')
    return task, sstate_archive(d.getVar('SSTATE_DIR'), d.getVar('PN'), d.getVar('PACKAGE_ARCH'), task,
                                d.getVar('BB_TASKHASH'))

def sstate_pairs(d, task):
    inputs = d.getVarFlag(task, 'sstate-inputdirs').split()
    outputs = d.getVarFlag(task, 'sstate-outputdirs').split()
    return list(zip(inputs, outputs, strict=True))

def sstate_install(d, task, pairs):
    # Put the results where others read them; hard links where the file system allows.
    import json
    manifest = os.path.join(d.getVar('SSTATE_MANIFESTS'), '%s-%s.%s' % (d.getVar('PACKAGE_ARCH'), d.getVar('PN'), task))
    bb.utils.mkdirhier(os.path.dirname(manifest))
    before = set()
    if os.path.exists(manifest):
        with open(manifest) as stream:
            before = set(json.load(stream))
    now = set()
    for source, target in pairs:
        for folder, _, files in os.walk(source):
            relative = os.path.relpath(folder, source)
            bb.utils.mkdirhier(os.path.normpath(os.path.join(target, relative)))
            for name in files:
                path = os.path.normpath(os.path.join(target, relative, name))
                partial = path + '.partial'
                bb.utils.remove(partial)
                origin = os.path.join(folder, name)
                if os.path.islink(origin):
                    os.symlink(os.readlink(origin), partial)
                else:
                    try:
                        os.link(origin, partial)
                    except OSError:
                        bb.utils.copyfile(origin, partial)
                # rename(2) of two hard links to one file does nothing and leaves both
                bb.utils.remove(path)
                os.rename(partial, path)
                now.add(path)
    for stale in before - now:
        bb.utils.remove(stale)
    with open(manifest + '.partial', 'w') as stream:
        json.dump(sorted(now), stream)
    os.rename(manifest + '.partial', manifest)

python sstate_task_postfunc() {
    import subprocess
    task, archive = sstate_this_archive(d)
    pairs = sstate_pairs(d, task)
    bb.utils.mkdirhier(os.path.dirname(archive))
    partial = '%s.%d.partial' % (archive, os.getpid())
    command = ['tar', '-C', '/', '--numeric-owner', '--sparse', '-cf', partial, '-I', 'zstd -3 -T2']
    for number, (source, _) in enumerate(pairs):
        bb.utils.mkdirhier(source)
        command += ['--transform', 'flags=rSH;s,^%s,%d,' % (source.lstrip('/'), number), source.lstrip('/')]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        bb.utils.remove(partial)
        bb.fatal("cannot write shared state %s: %s Is the disk full?" % (archive, result.stderr))
    os.rename(partial, archive)
    sstate_install(d, task, pairs)
}

def sstate_setscene(d):
    import subprocess
    task, archive = sstate_this_archive(d)
    folder = os.path.join(d.getVar('WORKDIR'), 'sstate-' + task)
    bb.utils.remove(folder, recurse=True)
    bb.utils.mkdirhier(folder)
    result = subprocess.run(['tar', '--no-same-owner', '--no-same-permissions', '-C', folder, '-I', 'zstd', '-xf', archive],
                            capture_output=True, text=True)
    if result.returncode:
        bb.utils.remove(archive)
        bb.fatal("shared state %s was damaged and is removed: %s" % (archive, result.stderr))
    pairs = [(os.path.join(folder, str(number)), target)
             for number, (_, target) in enumerate(sstate_pairs(d, task))]
    sstate_install(d, task, pairs)
    bb.utils.remove(folder, recurse=True)
    # Keeps what is used young, so that a cache can be pruned by age.
    os.utime(archive)

def sstate_hash_check(sq_data, d, siginfo=False, currentcount=0, summary=True, **kwargs):
    found = set()
    for tid in sq_data['hash']:
        name, _, arch = sq_data['hashfn'][tid].partition('|')
        task = bb.runqueue.taskname_from_tid(tid).replace('_setscene', '')
        if os.path.exists(sstate_archive(d.getVar('SSTATE_DIR'), name, arch, task, sq_data['hash'][tid])):
            found.add(tid)
    if summary and sq_data['hash']:
        bb.plain("Shared state: %d of %d results are there" % (len(found) + currentcount, len(sq_data['hash']) + currentcount))
    return found

def sstate_depvalid(task, taskdependees, notneeded, d, log=None):
    # The result of a task is complete in itself: nothing that went into it is needed beside it.
    return True

def sstate_delete_all(d):
    import glob
    pattern = os.path.join(d.getVar('SSTATE_DIR'), '*', '%s_%s_*' % (d.getVar('PN'), d.getVar('PACKAGE_ARCH')))
    for path in glob.glob(pattern):
        os.remove(path)
