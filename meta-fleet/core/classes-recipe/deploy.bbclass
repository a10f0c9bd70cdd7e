# SPDX-License-Identifier: Apache-2.0
# do_deploy: files for the user of the build. Put them into DEPLOYDIR; they appear in DEPLOY_DIR_IMAGE.
DEPLOYDIR = "${WORKDIR}/deploy-${PN}"
BB_BASEHASH_IGNORE_VARS:append = " DEPLOYDIR"
SSTATETASKS += "do_deploy"
do_deploy[sstate-inputdirs] = "${DEPLOYDIR}"
do_deploy[sstate-outputdirs] = "${DEPLOY_DIR_IMAGE}"
addtask deploy after do_install before do_build
python do_deploy_setscene() {
    sstate_setscene(d)
}
addtask do_deploy_setscene
