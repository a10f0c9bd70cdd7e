# SPDX-License-Identifier: Apache-2.0
do_compile() {
    echo "the reason for the failure"
    exit 3
}

python do_crash() {
    raise RuntimeError("python went wrong")
}
addtask crash

do_die() {
    kill -9 $PPID
}
addtask die
