# SPDX-License-Identifier: Apache-2.0
# What must hold before the first task runs. Each failure is one message with its remedy.

addhandler fleet_sanity
fleet_sanity[eventmask] = "bb.event.ConfigParsed bb.event.BuildStarted"
python fleet_sanity() {
    import shutil
    import fleetbuild.lock
    from fleetbuild import sandbox

    def known(kind):
        found = set()
        for path in (d.getVar('BBPATH') or '').split(':'):
            folder = os.path.join(path, 'conf', kind)
            if os.path.isdir(folder):
                found |= {name[:-5] for name in os.listdir(folder) if name.endswith('.conf')}
        return sorted(found)

    for kind in ('machine', 'distro'):
        name = d.getVar(kind.upper())
        if name not in known(kind):
            bb.fatal("%s '%s' is not known. Set '%s:' in kas.yml to one of: %s."
                     % (kind.upper(), name, kind, ', '.join(known(kind)) or 'none found'))
    if d.getVar('FLEET_BUILD') not in ('development', 'release'):
        bb.fatal("FLEET_BUILD is '%s'; allowed: development, release." % d.getVar('FLEET_BUILD'))
    if isinstance(e, bb.event.ConfigParsed):
        return
    for architecture, what in sorted(fleetbuild.lock.load().security.items()):
        if what.startswith('not used'):
            say = bb.fatal if d.getVar('FLEET_REQUIRE_SECURITY') == '1' else bb.warn
            say("The package lock has no security updates for %s (%s). './fleet lock' makes a new one; "
                "FLEET_REQUIRE_SECURITY=1 forbids to build without." % (architecture, what))
    for program, package in (('bwrap', 'bubblewrap'), ('dpkg-deb', 'dpkg'), ('zstd', 'zstd'), ('tar', 'tar'),
                             ('patch', 'patch')):
        if not shutil.which(program, path=d.getVar('PATH')):
            bb.fatal("'%s' is missing on this machine. Install the package %s, or run ./fleet setup."
                     % (program, package))
    if not sandbox.isolation_works():
        bb.fatal("this machine does not allow user namespaces, so tasks could reach the network unseen. "
                 + sandbox.ALLOW_NAMESPACES)
}
