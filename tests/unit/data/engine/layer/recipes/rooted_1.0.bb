# SPDX-License-Identifier: Apache-2.0
# One task as a pretended root, one as oneself.
fakeroot do_install() {
    note_run install
    echo "on=$PRETEND_ON wrapped=$PRETEND_WRAPPED worker=$PRETEND_WORKER" > "${OUT}/rooted.install"
    test -d "${OUT}/pretend-state" && echo state >> "${OUT}/rooted.install"
}

do_compile() {
    note_run compile
    echo "on=$PRETEND_ON wrapped=$PRETEND_WRAPPED" > "${OUT}/rooted.compile"
}
