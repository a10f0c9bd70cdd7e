# SPDX-License-Identifier: Apache-2.0
inherit restorable
DEPENDS = "library"
MINI_FLAGGED ?= "handed over by the exports flag"
MINI_HIDDEN = "never in the environment"

do_compile[exports] = "MINI_FLAGGED"
do_compile[umask] = "077"
do_compile() {
    note_run compile
    env > "${OUT}/hello.env"
    umask > "${OUT}/hello.umask"
    echo "${BB_CURRENTTASK} ${BB_TASKHASH}" > "${OUT}/hello.task"
}

python do_report() {
    import os
    with open(d.expand("${OUT}/report"), "w") as report:
        print(d.getVar("BB_CURRENTTASK"), len(d.getVar("BB_TASKHASH")), d.getVar("BB_WORKERCONTEXT"), file=report)
        print(os.environ.get("MINI_EXPORTED"), file=report)
    bb.note("%d dependencies" % len(d.getVar("BB_TASKDEPDATA")))
}
addtask report after do_compile
