# SPDX-License-Identifier: Apache-2.0
"""Which object and interfaces show an identity, by OpenBMC's names (phosphor-dbus-interfaces, Inventory)."""

from dbus_fast import Variant

from fleet_bmc_common.objects import Interface
from fleet_inventory.device_tree import Identity

BUS_NAME = "xyz.openbmc_project.Inventory.Manager"
ROOT = "/xyz/openbmc_project/inventory"
BMC = ROOT + "/system/board/bmc"

_INVENTORY = "xyz.openbmc_project.Inventory."


def bmc(identity: Identity) -> list[Interface]:
    """Return the interfaces of the BMC's object; all properties are read-only."""
    return [
        Interface(
            _INVENTORY + "Item",
            {"Present": Variant("b", True), "PrettyName": Variant("s", identity.model)},
        ),
        Interface(_INVENTORY + "Item.Bmc"),
        Interface(
            _INVENTORY + "Decorator.Asset",
            {
                "Manufacturer": Variant("s", identity.manufacturer),
                "Model": Variant("s", identity.model),
                "SerialNumber": Variant("s", identity.serial_number),
                # The device tree does not know these.
                "PartNumber": Variant("s", ""),
                "SparePartNumber": Variant("s", ""),
                "SubModel": Variant("s", ""),
                "BuildDate": Variant("s", ""),
            },
        ),
        Interface(_INVENTORY + "Decorator.Compatible", {"Names": Variant("as", list(identity.compatible))}),
    ]
