# SPDX-License-Identifier: MIT
"""Python stacks for gdb_fibril.py: follows the interpreter's frames in memory.

Where everything lies says a table in fibril's extension (python/ext/pystate_layout.c), so CPython's debug
information is not needed. Nothing in the program is called, and nothing it says is trusted: a stack that does
not end, or leads to memory that is not there, is shown as far as it goes.
"""

import collections

MOST_FRAMES = 100000
MOST_CHARACTERS = 1000
CODE_UNIT = 2
PYTHONS_OWNERS = (0, 1)  # a thread, a generator; other frames are the interpreter's own
CODE_TAG = 3  # bits that 3.14 adds to the pointer to a code object

Frame = collections.namedtuple("Frame", "name file line")


def varint(table, at):
    """A number of six bits a byte, the lowest first; returns it and where it ends."""
    value = shift = 0
    while True:
        byte = table[at]
        value |= (byte & 63) << shift
        shift, at = shift + 6, at + 1
        if not byte & 64:
            return value, at


def signed_varint(table, at):
    value, at = varint(table, at)
    return (-(value >> 1) if value & 1 else value >> 1), at


def line_at(table, first_line, offset):
    """The line of the instruction at an offset; None where it has none (Objects/locations.md of CPython)."""
    line, end, at = first_line, 0, 0
    while at < len(table):
        kind = table[at] >> 3 & 15
        end += ((table[at] & 7) + 1) * CODE_UNIT
        at += 1
        if kind in (13, 14):
            delta, at = signed_varint(table, at)
            line += delta
        elif 10 <= kind <= 12:
            line += kind - 10
        if offset < end:
            return None if kind == 15 else line
        while at < len(table) and not table[at] & 128:  # columns
            at += 1
    return None


class Interpreter:
    """A CPython in the memory of a program; read(address, bytes) gets at that."""

    def __init__(self, layout, read):
        self.at = layout
        self.read = read

    def number(self, address, size=8, signed=False):
        return int.from_bytes(self.read(address, size), "little", signed=signed)

    def string(self, address):
        bits = self.number(address + self.at.str_bits, 4)
        length = min(self.number(address + self.at.str_len), MOST_CHARACTERS)
        if bits >> self.at.str_ascii_shift & 1:
            return self.read(address + self.at.str_ascii, length).decode("ascii", "replace")
        size = bits >> self.at.str_kind_shift & 7
        encoding = {1: "latin-1", 2: "utf-16-le", 4: "utf-32-le"}.get(size)
        if not encoding:
            return "?"
        return self.read(address + self.at.str, length * size).decode(encoding, "replace")

    def table_of(self, code):
        table = self.number(code + self.at.code_table)
        return self.read(table + self.at.bytes, self.number(table + self.at.bytes_len))

    def frame(self, address):
        """What is known of a frame; None: it has just been made, its function has not begun."""
        code = self.number(address + self.at.frame_code) & ~CODE_TAG
        offset = self.number(address + self.at.frame_instr) - (code + self.at.code_instr)
        owner = self.number(address + self.at.frame_owner, 1)
        traceable = self.number(code + self.at.code_traceable, 4, signed=True)
        if owner == 0 and offset < traceable * CODE_UNIT:
            return None
        first = self.number(code + self.at.code_line, 4, signed=True)
        line = first if offset < 0 else line_at(self.table_of(code), first, offset)
        return Frame(self.string(self.number(code + self.at.code_name)),
                     self.string(self.number(code + self.at.code_file)), line)

    def innermost(self, state):
        """The frame that a thread state stands in, 0: none."""
        frame = self.number(state + self.at.ts_frame)
        return self.number(frame + self.at.cframe_frame) if self.at.cframe_frame >= 0 and frame else frame

    def frames(self, address, moved=lambda address: address):
        """From the frame at an address outwards; moved says where the bytes of a stack are now."""
        for _ in range(MOST_FRAMES):
            if not address:
                return
            here = moved(address)
            if self.number(here + self.at.frame_owner, 1) in PYTHONS_OWNERS:
                frame = self.frame(here)
                if frame:
                    yield frame
            address = self.number(here + self.at.frame_previous)

    def states(self, state):
        """All thread states, from any one of them."""
        for link in (self.at.ts_prev, self.at.ts_next):
            other = state if link == self.at.ts_next else self.number(state + link)
            for _ in range(MOST_FRAMES):
                if not other:
                    break
                yield other
                other = self.number(other + link)

    def state_of_thread(self, state, identity):
        """The thread state of that identity, from any one; 0: there is none."""
        for other in self.states(state):
            if self.number(other + self.at.ts_thread_id) == identity:
                return other
        return 0
