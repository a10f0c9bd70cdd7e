# SPDX-License-Identifier: Apache-2.0
# System users of a component.
#
#   USERADD_PACKAGES = "${PN}"
#   USERADD_PARAM:${PN} = "--system --no-create-home --user-group fleet-hello"
#
# Numbers, shells and further groups come from the distribution's table (users.toml).

PACKAGE_USERS = "${@' '.join(useradd_names(d))}"
PACKAGE_USERS[vardepvalue] = "${PACKAGE_USERS}"

def useradd_names(d):
    from fleetbuild import BuildError, users
    found = []
    for package in (d.getVar('USERADD_PACKAGES') or '').split():
        try:
            found += users.parse_useradd(d.getVar('USERADD_PARAM:' + package) or '')
        except BuildError as error:
            bb.fatal('%s: %s' % (package, error))
    return found
