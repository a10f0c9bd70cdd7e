# SPDX-License-Identifier: Apache-2.0
"""The board contract: load a board file, and generate what follows from it."""

from fleetboard.loader import load, parse
from fleetboard.model import Board, BoardError

__all__ = ["Board", "BoardError", "load", "parse"]
