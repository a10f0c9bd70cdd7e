# SPDX-License-Identifier: Apache-2.0
# Tasks that run until somebody stops them; each leaves the number of its shell in ${OUT}.
do_compile() {
    mkdir -p "${OUT}"
    echo $$ > "${OUT}/sleeper.tmp"
    mv "${OUT}/sleeper.tmp" "${OUT}/sleeper.pid"
    while true; do
        sleep 1000
    done
}

do_linger() {
    trap '' TERM
    mkdir -p "${OUT}"
    echo $$ > "${OUT}/linger.tmp"
    mv "${OUT}/linger.tmp" "${OUT}/linger.pid"
    sleep 1000
}
addtask linger
