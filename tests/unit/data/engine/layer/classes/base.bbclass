# SPDX-License-Identifier: Apache-2.0
# fetch -> compile -> install -> build; each writes a line into ${LOG} so that a test sees the order.
BB_DEFAULT_TASK = "build"

note_run() {
    mkdir -p "${OUT}"
    echo "${PN} $1" >> "${LOG}"
}

do_fetch[network] = "1"
do_fetch() {
    note_run fetch
}
addtask fetch

do_compile[dirs] = "${B}"
do_compile() {
    note_run compile
}
addtask compile after do_fetch

do_install[deptask] = "do_install"
do_install() {
    note_run install
}
addtask install after do_compile

do_build[noexec] = "1"
do_build() {
    :
}
addtask build after do_install
