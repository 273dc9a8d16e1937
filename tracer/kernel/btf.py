"""A reader of BTF, the type information that the kernel carries at /sys/kernel/btf/vmlinux.

The format is Documentation/bpf/btf.rst: a header, type records one behind the other, names. A kernel has over 100,000
types and we need some hundred of them, so one pass notes only where each record begins, and records are read when asked for.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

VMLINUX: Final = Path("/sys/kernel/btf/vmlinux")

_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM, _FWD, _TYPEDEF, _VOLATILE, _CONST = range(1, 11)
_RESTRICT, _FUNC, _FUNC_PROTO, _VAR, _DATASEC, _FLOAT, _DECL_TAG, _TYPE_TAG, _ENUM64 = range(11, 20)
_WITH_MEMBERS: Final = frozenset({_STRUCT, _UNION, _ENUM, _ENUM64})
_MODIFIERS: Final = frozenset({_TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _TYPE_TAG})

# words of a record: those that every one of the kind has, and those for each of its members
_WORDS: Final = (0, 4, 3, 6, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 4, 3, 3, 4, 3, 3)
_WORDS_EACH: Final = (0, 0, 0, 0, 3, 3, 2, 0, 0, 0, 0, 0, 0, 2, 0, 3, 0, 0, 0, 3)


class BtfError(ValueError):
    """The bytes are no BTF, or end too soon."""


class Field(NamedTuple):
    """A member of a struct: `offset` and `size` in bytes; of a bitfield what to read, and `bit` and `bits` what to keep."""

    offset: int
    size: int
    bit: int | None = None
    bits: int | None = None


class Btf:
    """The types of one kernel."""

    def __init__(self, data: bytes) -> None:
        """Raises BtfError."""
        try:
            magic, version, _flags, header = struct.unpack_from("=HBBI", data)
            offsets = struct.unpack_from("=4I", data, 8)
        except struct.error as error:
            raise BtfError("too short for a BTF header") from error
        if magic != 0xEB9F:
            raise BtfError("no BTF of this machine's byte order")
        if version != 1:
            raise BtfError(f"BTF version {version} is unknown")
        types, types_length, names, names_length = offsets
        if types_length % 4 or header + max(types + types_length, names + names_length) > len(data):
            raise BtfError("the types or the names end too soon")
        self._names = data[header + names : header + names + names_length]
        if not self._names.endswith(b"\0"):
            raise BtfError("the names have no end")
        # type 0, void, has no record; the three words behind the last one are its
        self._words = memoryview(data[header + types : header + types + types_length] + bytes(12)).cast("I")
        self._at = self._index()
        self._by_name: dict[str, dict[int, int]] = {}

    @classmethod
    def load(cls, path: Path = VMLINUX) -> Btf:
        """Raises OSError, BtfError."""
        return cls(path.read_bytes())

    def member(self, path: str) -> Field | None:
        """Where "struct.member.member" is, through anonymous structs and unions; None if this kernel has no such member."""
        first, *rest = path.split(".")
        type_id = self._named(first, _STRUCT)
        if type_id is None or not rest:
            return None
        offset = 0
        bits: int | None = None
        for name in rest:
            found = self._find(type_id, name)
            if found is None or bits is not None:
                return None
            at, type_id, bits = found
            offset += at
        if bits is None:
            return Field(offset // 8, self.size(type_id))
        first_byte, bit = divmod(offset, 8)
        return Field(first_byte, (bit + bits + 7) // 8, bit, bits)

    def struct_id(self, name: str) -> int | None:
        """The id of `struct name` with members; None if there is none."""
        return self._named(name, _STRUCT)

    def function_id(self, name: str) -> int | None:
        """The id of the kernel's function of that name; None if there is none."""
        return self._named(name, _FUNC)

    def enum(self, name: str) -> dict[int, str]:
        """The enumerators of `enum name` by value; empty if there is no such enum."""
        for kind, each in ((_ENUM, 2), (_ENUM64, 3)):
            type_id = self._named(name, kind)
            if type_id is None:
                continue
            at = self._at[type_id]
            words = self._words
            return {
                words[i + 1] | (words[i + 2] << 32 if each == 3 else 0): self._name(words[i])
                for i in range(at + 3, at + 3 + each * self._length(at), each)
            }
        return {}

    def tracepoint_arguments(self, name: str) -> list[str] | None:
        """The types of a raw tracepoint's arguments, as in ["sock *", "int"]; None if there is no such tracepoint."""
        type_id = self._named(f"btf_trace_{name}", _TYPEDEF)
        if type_id is None:
            return None
        pointer = self._at[self._resolve(self._words[self._at[type_id] + 2])]
        function = self._at[self._resolve(self._words[pointer + 2])]
        if self._kind(function) != _FUNC_PROTO:
            raise BtfError(f"btf_trace_{name} is no function")
        arguments = [self._words[function + 4 + 2 * i] for i in range(self._length(function))]
        return [self._spell(argument) for argument in arguments[1:]]  # the first is the tracepoint's own data

    def tracepoint_id(self, name: str) -> int | None:
        """The id by which a program for the typed tracepoint is loaded; None if there is no such tracepoint."""
        return self._named(f"btf_trace_{name}", _TYPEDEF)

    def size(self, type_id: int) -> int:
        """The size of a type in bytes. Raises BtfError for one that has none."""
        count = 1
        for _ in range(32):
            at = self._at[self._resolve(type_id)]
            kind = self._kind(at)
            if kind == _PTR:
                return 8 * count
            if kind == _ARRAY:
                type_id = self._words[at + 3]
                count *= self._words[at + 5]
                continue
            if kind in (_INT, _STRUCT, _UNION, _ENUM, _ENUM64, _FLOAT, _DATASEC):
                return self._words[at + 2] * count
            break
        raise BtfError(f"type {type_id} has no size")

    def _index(self) -> list[int]:
        words, end = self._words, len(self._words) - 3
        each_of, fixed_of = _WORDS_EACH, _WORDS
        index = [end]
        note = index.append
        at = 0
        try:
            while at < end:
                note(at)
                info = words[at + 1]
                kind = info >> 24 & 31
                at += fixed_of[kind] + each_of[kind] * (info & 0xFFFF)
                if not kind:
                    raise BtfError("a type of kind 0")
        except IndexError as error:
            raise BtfError(f"type {len(index) - 1} is of an unknown kind or ends too soon") from error
        if at != end:
            raise BtfError("the last type ends too soon")
        return index

    def _kind(self, at: int) -> int:
        return self._words[at + 1] >> 24 & 31

    def _length(self, at: int) -> int:
        return self._words[at + 1] & 0xFFFF

    def _name(self, offset: int) -> str:
        end = self._names.find(b"\0", offset)
        if end < 0:
            raise BtfError("a name lies outside")
        return self._names[offset:end].decode("ascii", "replace")

    def _named(self, name: str, kind: int) -> int | None:
        """The id of the type of that name and kind."""
        if name not in self._by_name:
            self._note_names({name})
        return self._by_name[name].get(kind)

    def expect(self, names: set[str]) -> None:
        """Finds types of these names in one pass: asking for them one by one costs a pass each."""
        self._note_names(names - self._by_name.keys())

    def _note_names(self, names: set[str]) -> None:
        if not names:
            return
        self._by_name |= {name: {} for name in names}
        any_of = b"|".join(re.escape(name.encode()) for name in names)
        offsets = {found.start(1): found[1].decode() for found in re.finditer(rb"\0(" + any_of + rb")(?=\0)", self._names)}
        if not offsets:
            return
        words = self._words
        for type_id, at in enumerate(self._at):
            if words[at] in offsets:
                kind = words[at + 1] >> 24 & 31
                if kind in _WITH_MEMBERS and not words[at + 1] & 0xFFFF:
                    continue  # an empty one of the same name tells nothing
                self._by_name[offsets[words[at]]].setdefault(kind, type_id)

    def _resolve(self, type_id: int) -> int:
        """The type behind typedefs and qualifiers."""
        for _ in range(32):
            if not 0 <= type_id < len(self._at):
                break
            at = self._at[type_id]
            if self._kind(at) not in _MODIFIERS:
                return type_id
            type_id = self._words[at + 2]
        raise BtfError(f"type {type_id} leads nowhere")

    def _members(self, type_id: int) -> Iterator[tuple[int, int, int, int | None]]:
        """Name offset, bit offset, type and bits (None: no bitfield) of each member."""
        type_id = self._resolve(type_id)
        at = self._at[type_id]
        if self._kind(at) not in (_STRUCT, _UNION):
            return
        packed = self._words[at + 1] >> 31
        for i in range(at + 3, at + 3 + 3 * self._length(at), 3):
            name, member_type, offset = self._words[i : i + 3]
            if packed:
                yield name, offset & 0xFFFFFF, member_type, offset >> 24 or None
            else:
                shift, bits = self._int_bits(member_type)
                yield name, offset + shift, member_type, bits

    def _int_bits(self, type_id: int) -> tuple[int, int | None]:
        """The older way to say bitfield: an int type of fewer bits than its bytes have."""
        at = self._at[self._resolve(type_id)]
        if self._kind(at) != _INT:
            return 0, None
        encoding, size = self._words[at + 3], self._words[at + 2]
        bits = encoding & 0xFF
        return encoding >> 16 & 0xFF, bits if bits != size * 8 else None

    def _find(self, type_id: int, name: str, seen: set[int] | None = None) -> tuple[int, int, int | None] | None:
        """Bit offset, type and bits of a member, looked for in anonymous members too, in each type once."""
        seen = seen or set()
        wanted = name.encode() + b"\0"
        for name_offset, offset, member_type, bits in self._members(type_id):
            if name_offset:
                if self._names.startswith(wanted, name_offset):
                    return offset, member_type, bits
            elif member_type not in seen:
                seen.add(member_type)
                inner = self._find(member_type, name, seen)
                if inner is not None:
                    return offset + inner[0], inner[1], inner[2]
        return None

    def _spell(self, type_id: int) -> str:
        """A type as C would write it, without qualifiers and without the words struct and enum."""
        stars = ""
        for _ in range(32):
            type_id = self._resolve(type_id)
            if not type_id:
                return f"void {stars}".strip()
            at = self._at[type_id]
            if self._kind(at) != _PTR:
                return f"{self._name(self._words[at])} {stars}".strip()
            stars += "*"
            type_id = self._words[at + 2]
        raise BtfError("a pointer that never ends")
