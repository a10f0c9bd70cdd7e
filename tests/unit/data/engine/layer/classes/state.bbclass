# SPDX-License-Identifier: Apache-2.0
# Global half of the smallest shared state: which results exist, and that they replace what they need.
BB_HASHCHECK_FUNCTION = "state_available"
BB_SETSCENE_DEPVALID = "state_covers"

def state_available(sq_data, d, **kwargs):
    import os
    state = d.getVar("STATE")
    return {tid for tid, unihash in sq_data["unihash"].items() if os.path.exists(os.path.join(state, unihash))}

def state_covers(task, taskdependees, notneeded, d):
    return True
