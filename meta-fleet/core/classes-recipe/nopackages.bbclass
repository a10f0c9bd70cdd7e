# SPDX-License-Identifier: Apache-2.0
# For recipes that install nothing on the board.
deltask do_package
deltask do_package_setscene
