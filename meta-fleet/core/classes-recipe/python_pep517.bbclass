# SPDX-License-Identifier: Apache-2.0
# Build a wheel with the project's own backend and install it into D, as PEP 517 and PEP 427 say.

PEP517_SOURCE_PATH ?= "${S}"
B = "${WORKDIR}/build"
do_compile[depends] += "native-imagetools:do_populate_sysroot"
do_install[depends] += "native-imagetools:do_populate_sysroot"
do_compile[cleandirs] = "${B}"

python_pep517_do_compile() {
    source=/build/$(realpath --relative-to=${WORKDIR} ${PEP517_SOURCE_PATH})
    ${FLEET_IMAGETOOLS_SANDBOX} sh -ec "cp -r $source /build/build/source && \
        python3 -m build --no-isolation --wheel --outdir /build/build/dist /build/build/source"
}

python_pep517_do_install() {
    ${FLEET_IMAGETOOLS_SANDBOX} sh -ec 'DEB_PYTHON_INSTALL_LAYOUT=deb python3 -m installer --no-compile-bytecode \
        --destdir /build/image /build/build/dist/*.whl'
    # Records of the installation tool name paths and times of it; nobody uninstalls on the board.
    find ${D} -path '*.dist-info/RECORD' -delete
    find ${D} -path '*.dist-info/direct_url.json' -delete
}

EXPORT_FUNCTIONS do_compile do_install
