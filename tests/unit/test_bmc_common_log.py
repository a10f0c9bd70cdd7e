# SPDX-License-Identifier: Apache-2.0
import os
import subprocess
import sys

import pytest

_PROGRAM = (
    "from fleet_bmc_common import log; log.error('cannot\\nstart'); log.warning('odd'); log.info('known')"
)


def _output(environ: dict[str, str]) -> str:
    """Run the program with standard error on a pipe; ``JOURNAL_STREAM=pipe`` becomes that pipe's numbers."""
    reader, writer = os.pipe()
    status = os.fstat(writer)
    environ = {
        key: value.replace("pipe", f"{status.st_dev}:{status.st_ino}") for key, value in environ.items()
    }
    with os.fdopen(reader) as stream:
        try:
            environ["PYTHONPATH"] = os.pathsep.join(sys.path)
            subprocess.run([sys.executable, "-c", _PROGRAM], env=environ, stderr=writer, check=True)
        finally:
            os.close(writer)
        return stream.read()


def test_every_line_has_its_level_for_the_journal() -> None:
    assert _output({"JOURNAL_STREAM": "pipe"}) == "<3>cannot\n<3>start\n<4>odd\n<6>known\n"


@pytest.mark.parametrize("environ", [{}, {"JOURNAL_STREAM": ""}, {"JOURNAL_STREAM": "1:1"}])
def test_people_see_no_levels(environ: dict[str, str]) -> None:
    assert _output(environ) == "cannot\nstart\nodd\nknown\n"
