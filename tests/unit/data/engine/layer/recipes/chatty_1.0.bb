# SPDX-License-Identifier: Apache-2.0
# More events than any pipe or queue holds, from several tasks at once, with the protocol's own
# words in them.
CHATTY_EVENTS ?= "3000"

def chatter(d):
    for number in range(int(d.getVar("CHATTY_EVENTS"))):
        bb.debug(2, "%d </event><exitcode> %s" % (number, "x" * 10000))
    bb.warn("%s said it all" % d.getVar("BB_CURRENTTASK"))

python do_one() {
    chatter(d)
}
addtask one

python do_two() {
    chatter(d)
}
addtask two

do_build[depends] = "chatty:do_one chatty:do_two"
