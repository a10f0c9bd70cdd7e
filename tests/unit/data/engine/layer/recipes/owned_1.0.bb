# SPDX-License-Identifier: Apache-2.0
# Gives a file away, in the task's own process as well as in its shell, and looks at it again.
fakeroot python do_install() {
    import os
    path = d.expand("${B}/file")
    with open(path, "w") as file:
        file.write("content")
    os.chown(path, 1234, 5678)
    status = os.stat(path)
    with open("/proc/net/dev") as table:
        interfaces = [line.split(":")[0].strip() for line in table if ":" in line]
    bb.utils.mkdirhier(d.getVar("OUT"))
    with open(d.expand("${OUT}/owned"), "w") as report:
        print(status.st_uid, status.st_gid, file=report)
        print("no network" if interfaces == ["lo"] else interfaces, file=report)
}
do_install[dirs] = "${B}"
