# SPDX-License-Identifier: Apache-2.0
"""Bytes of IPMI messages to values and back, as the annotations of a command's function say.

The first field is in the lowest bits of the first byte and numbers are little-endian, so a whole message is
one number from which each field is cut out. Fields may follow each other as `U4, U4` or `U6, Flag, Flag`;
together they fill whole bytes. `U8 | None` is a field that may be missing at the end, `Rest` is all that is
left. The type of a function's result is None, one field, a tuple of fields, or a NamedTuple of fields.
"""

from collections.abc import Sequence
from types import NoneType
from typing import Annotated, Any, NamedTuple, get_args, get_origin


class CodecError(ValueError):
    """A message of another length than its fields have, or a value that does not fit into its field."""


class Bits:
    """Marks a number, or a truth value, of so many bits."""

    __slots__ = ("width",)

    def __init__(self, width: int) -> None:
        self.width = width


class Fixed:
    """Marks so many bytes, at a byte's boundary."""

    __slots__ = ("size",)

    def __init__(self, size: int) -> None:
        self.size = size


class Tail:
    """Marks all bytes that are left."""

    __slots__ = ()


Flag = Annotated[bool, Bits(1)]
U1 = Annotated[int, Bits(1)]
U2 = Annotated[int, Bits(2)]
U3 = Annotated[int, Bits(3)]
U4 = Annotated[int, Bits(4)]
U5 = Annotated[int, Bits(5)]
U6 = Annotated[int, Bits(6)]
U7 = Annotated[int, Bits(7)]
U8 = Annotated[int, Bits(8)]
U16 = Annotated[int, Bits(16)]
U24 = Annotated[int, Bits(24)]
U32 = Annotated[int, Bits(32)]
U64 = Annotated[int, Bits(64)]
Bytes3 = Annotated[bytes, Fixed(3)]
Bytes16 = Annotated[bytes, Fixed(16)]
Rest = Annotated[bytes, Tail()]

_NUMBER, _TRUTH, _BYTES, _REST = range(4)


class _Field(NamedTuple):
    kind: int
    start: int  # of a number in bits, of bytes in bytes
    most: int  # a number's highest value; where bytes end
    end: int  # how many bytes a message must have for this field to be in it


class Layout:
    """The fields of a message, compiled once."""

    __slots__ = ("_fields", "_has_rest", "_lengths", "_size")

    def __init__(self, types: Sequence[Any]) -> None:
        """Raise TypeError when these types cannot be the fields of a message."""
        self._fields: list[_Field] = []
        self._has_rest = False
        lengths: list[int] = []
        optional_before = False
        open_bits: list[
            tuple[int, int, int]
        ] = []  # numbers of the group of bits that has not come to its end
        offset = 0  # in bits
        for given in types:
            kind, size, optional = _read(given)
            if self._has_rest:
                raise TypeError("nothing can follow the rest of a message")
            if optional_before and not optional and kind is not _REST:
                raise TypeError(
                    "only fields that may be missing, and the rest, can follow one that may be missing"
                )
            if optional and not optional_before:
                if open_bits:
                    raise TypeError("a field that may be missing begins inside a byte")
                lengths.append(offset // 8)
            optional_before = optional
            if kind in (_NUMBER, _TRUTH):
                open_bits.append((kind, offset, (1 << size) - 1))
                offset += size
                if offset % 8:
                    continue
                self._fields += [_Field(*one, offset // 8) for one in open_bits]
                open_bits = []
            else:
                if open_bits:
                    raise TypeError("bytes begin inside a byte")
                start = offset // 8
                self._has_rest = kind is _REST
                self._fields.append(_Field(kind, start, start + size, start + size))
                offset += 8 * size
            if optional:
                lengths.append(offset // 8)
        if open_bits:
            raise TypeError(f"the fields have {offset} bits, which is no whole number of bytes")
        self._size = offset // 8
        self._lengths = frozenset(lengths or [self._size])

    def unpack(self, data: bytes) -> list[Any]:
        """Return the value of each field, None for one that is missing. Raises CodecError."""
        length = len(data)
        if length not in self._lengths and not (self._has_rest and length > self._size):
            raise CodecError(f"{length} bytes instead of {self._wanted()}")
        number = int.from_bytes(data, "little")
        values: list[Any] = []
        for kind, start, most, end in self._fields:
            if end > length:
                values.append(b"" if kind == _REST else None)
            elif kind == _NUMBER:
                values.append(number >> start & most)
            elif kind == _TRUTH:
                values.append(bool(number >> start & 1))
            else:
                values.append(data[start:] if kind == _REST else data[start:most])
        return values

    def pack(self, values: Sequence[Any]) -> bytes:
        """Return the message with these values. Raises CodecError."""
        if len(values) != len(self._fields):
            raise CodecError(f"{len(values)} values for {len(self._fields)} fields")
        number = length = 0
        rest = b""
        for value, (kind, start, most, end) in zip(values, self._fields, strict=True):
            if value is None:
                continue
            if kind in (_NUMBER, _TRUTH):
                if not isinstance(value, int) or not 0 <= value <= most:
                    raise CodecError(f"{value!r} is no number from 0 to {most}")
                number |= value << start
            elif not isinstance(value, bytes | bytearray):
                raise CodecError(f"{value!r} is not bytes")
            elif kind == _REST:
                rest = bytes(value)
                if not rest:
                    continue
            elif len(value) != most - start:
                raise CodecError(f"{len(value)} bytes instead of {most - start}")
            else:
                number |= int.from_bytes(value, "little") << 8 * start
            length = end
        for value, field in zip(values, self._fields, strict=True):
            if value is None and field.end <= length:
                raise CodecError("a field is missing before one that is there")
        if length not in self._lengths:
            raise CodecError(f"{length} bytes instead of {self._wanted()}")
        return number.to_bytes(length, "little") + rest

    def _wanted(self) -> str:
        return " or ".join(map(str, sorted(self._lengths))) + (" or more" if self._has_rest else "")


class Results:
    """Packs what a function returns."""

    __slots__ = ("_is_one", "_layout")

    def __init__(self, annotation: Any) -> None:
        """Raise TypeError when this type cannot be the fields of a message."""
        self._is_one = False
        fields: Sequence[Any]
        if annotation is None or annotation is NoneType:
            fields = ()
        elif get_origin(annotation) is tuple:
            fields = get_args(annotation)
        elif hasattr(annotation, "_fields"):
            fields = tuple(annotation.__annotations__.values())
        else:
            fields = (annotation,)
            self._is_one = True
        self._layout = Layout(fields)

    def pack(self, result: Any) -> bytes:
        """Return the bytes of a result. Raises CodecError when it is not of the type that was declared."""
        if self._is_one:
            return self._layout.pack((result,))
        if result is None:
            result = ()
        if not isinstance(result, tuple):
            raise CodecError(f"{result!r} is no tuple")
        return self._layout.pack(result)


def _read(given: Any) -> tuple[int, int, bool]:
    """Return the kind of a field, its size (numbers: bits, others: bytes) and whether it may be missing."""
    optional = False
    parts: tuple[Any, ...] = get_args(given)
    if not hasattr(given, "__metadata__") and len(parts) == 2 and parts[1] is NoneType:
        optional = True
        given = parts[0]
    marks: tuple[Any, ...] = getattr(given, "__metadata__", ())
    mark = marks[0] if len(marks) == 1 else None
    if isinstance(mark, Bits):
        return _TRUTH if given.__origin__ is bool else _NUMBER, mark.width, optional
    if isinstance(mark, Fixed):
        return _BYTES, mark.size, optional
    if isinstance(mark, Tail) and not optional:
        return _REST, 0, False
    raise TypeError(f"{given!r} is no field of a message; take one of the codec's types")
