# SPDX-License-Identifier: Apache-2.0
"""Source of the FIT image that U-Boot boots: one kernel, one device tree and one configuration per slot.

Source: U-Boot's doc/usage/fit/source_file_format.rst.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from fleetboard.model import SLOT_NAMES, Board

COMPRESSIONS = ("none", "gzip", "lz4", "lzma", "lzo", "zstd")


def render(board: Board, kernel: Path, dtbs: Mapping[str, Path], compression: str = "none") -> str:
    """Return the source for mkimage -f.

    `compression` is what U-Boot must undo: "none" for a zImage, which unpacks itself. `dtbs` maps each slot
    to its compiled device tree. Paths are written as given, so mkimage must run where they hold.
    ValueError for an unknown compression, a missing slot or a path that cannot be quoted.
    """
    if compression not in COMPRESSIONS:
        raise ValueError(f"compression {compression!r}; expected one of {', '.join(COMPRESSIONS)}")
    if set(dtbs) != set(SLOT_NAMES):
        raise ValueError(
            f"device trees for {', '.join(sorted(dtbs)) or 'no slot'}; expected {', '.join(SLOT_NAMES)}"
        )
    trees = "".join(
        f"""
		fdt-{slot} {{
			description = "Device tree, slot {slot}";
			data = /incbin/("{_quotable(dtbs[slot])}");
			type = "flat_dt";
			arch = "arm";
			compression = "none";
			load = <{board.boot.fdt_load:#x}>;
			hash-1 {{
				algo = "sha256";
			}};
		}};
"""
        for slot in SLOT_NAMES
    )
    configurations = "".join(
        f"""
		conf-{slot} {{
			description = "Slot {slot}";
			kernel = "kernel";
			fdt = "fdt-{slot}";
		}};
"""
        for slot in SLOT_NAMES
    )
    return f"""/dts-v1/;

/ {{
	description = "{board.name}";
	#address-cells = <1>;

	images {{
		kernel {{
			description = "Linux";
			data = /incbin/("{_quotable(kernel)}");
			type = "kernel";
			arch = "arm";
			os = "linux";
			compression = "{compression}";
			load = <{board.boot.kernel_load:#x}>;
			entry = <{board.boot.kernel_load:#x}>;
			hash-1 {{
				algo = "sha256";
			}};
		}};
{trees}	}};

	configurations {{
		default = "conf-{SLOT_NAMES[0]}";
{configurations}	}};
}};
"""


def _quotable(path: Path) -> str:
    if re.search(r'["\\\x00-\x1f]', str(path)) is not None:
        raise ValueError(f"path {str(path)!r} holds a quote, a backslash or a control character")
    return str(path)
