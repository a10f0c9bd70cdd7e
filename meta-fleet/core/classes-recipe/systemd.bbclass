# SPDX-License-Identifier: Apache-2.0
# Units that a recipe wants enabled.
#
#   SYSTEMD_SERVICE:${PN} = "hello.service"     units that D must hold
#   SYSTEMD_AUTO_ENABLE:${PN} = "enable"        or "disable"
#
# The choice becomes a preset file; the image applies presets once, at build time.

SYSTEMD_PACKAGES ?= "${PN}"
SYSTEMD_AUTO_ENABLE ??= "enable"

do_install[postfuncs] += "systemd_install_preset"
systemd_install_preset[vardeps] += "SYSTEMD_SERVICE:${PN} SYSTEMD_AUTO_ENABLE SYSTEMD_AUTO_ENABLE:${PN}"
python systemd_install_preset() {
    package = d.getVar('PN')
    units = (d.getVar('SYSTEMD_SERVICE:' + package) or '').split()
    action = d.getVar('SYSTEMD_AUTO_ENABLE:' + package) or d.getVar('SYSTEMD_AUTO_ENABLE')
    if action not in ('enable', 'disable'):
        bb.fatal("SYSTEMD_AUTO_ENABLE of %s is '%s'; allowed: enable, disable" % (package, action))
    root = d.getVar('D')
    for unit in units:
        folders = ('/usr/lib/systemd/system/', '/etc/systemd/system/')
        name = unit if '@.' in unit or '@' not in unit else unit[:unit.index('@') + 1] + unit[unit.rindex('.'):]
        if not any(os.path.exists(root + folder + name) for folder in folders):
            bb.fatal("SYSTEMD_SERVICE of %s names %s, but do_install installs no such unit" % (package, unit))
    if units:
        folder = root + '/usr/lib/systemd/system-preset'
        bb.utils.mkdirhier(folder)
        with open('%s/50-%s.preset' % (folder, package), 'w') as stream:
            stream.write(''.join('%s %s\n' % (action, unit) for unit in units))
}
