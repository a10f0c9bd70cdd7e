# SPDX-License-Identifier: Apache-2.0
# Asks the kernel, with and without the network flag.
def look(d, name):
    import os, socket
    with open("/proc/net/dev") as table:
        interfaces = sorted(line.split(":")[0].strip() for line in table if ":" in line)
    with socket.socket() as server, socket.socket() as client:
        server.bind(("127.0.0.1", 0))
        server.listen()
        try:
            client.settimeout(10)
            client.connect(server.getsockname())
            reached = "reached"
        except OSError:
            reached = "refused"
    bb.utils.mkdirhier(d.getVar("OUT"))
    with open(d.expand("${OUT}/" + name), "w") as report:
        print(os.readlink("/proc/self/ns/net"), ",".join(interfaces), reached, os.getuid(), file=report)

python do_fetch() {
    look(d, "with-network")
}

python do_compile() {
    look(d, "without-network")
}
