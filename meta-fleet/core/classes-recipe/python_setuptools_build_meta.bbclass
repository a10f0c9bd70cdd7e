# SPDX-License-Identifier: Apache-2.0
# Pure Python components with a pyproject.toml (PEP 517, setuptools backend): a wheel is built and installed by
# the board's Python version, inside the sandbox. Byte-code is made when the image is assembled.

inherit python_pep517
