# SPDX-License-Identifier: Apache-2.0
# Commands that make target bytes run in a sandbox whose root is a native sysroot and whose /build is WORKDIR.
#
#   do_compile() {
#       ${FLEET_TOOLCHAIN_SANDBOX} make -C /build/sources/hello
#   }
#   do_compile[depends] += "native-toolchain:do_populate_sysroot"

FLEET_TOOLCHAIN_SANDBOX = "${@fleet_sandbox(d, 'STAGING_DIR_TOOLCHAIN')}"
FLEET_IMAGETOOLS_SANDBOX = "${@fleet_sandbox(d, 'STAGING_DIR_IMAGETOOLS')}"

def fleet_sandbox(d, sysroot):
    import shlex
    from fleetbuild import sandbox
    environment = {'SOURCE_DATE_EPOCH': d.getVar('SOURCE_DATE_EPOCH')}
    return shlex.join(sandbox.command(d.getVar(sysroot), d.getVar('WORKDIR'), environment=environment))
