# SPDX-License-Identifier: Apache-2.0
SUMMARY = "The firmware image of meta-fleet"
LICENSE = "Apache-2.0"

IMAGE_INSTALL = "base-files base-passwd busybox glibc-utils systemd udev dbus netbase dropbear util-linux-agetty \
    python3-core python3-asyncio python3-dbus-fast \
    fleet-base fleet-board accounts acpi-state event-log host-power inventory ipmi mapper \
    "

inherit image

# The flash image exists on the standalone core; OE-core makes its own image types.
ROOTFS_TABLES = "${DISTRODIR}/rootfs"
inherit ${@bb.utils.contains('BBFILE_COLLECTIONS', 'fleet-core', 'image_flash', '', d)}
