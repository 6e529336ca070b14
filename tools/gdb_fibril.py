# SPDX-License-Identifier: MIT
"""Commands for gdb that show the fibrils of a program, live or in a core file.

    (gdb) source gdb_fibril.py
    (gdb) fibril list          every fibril: number, loop, state, how long, name, what it waits for
    (gdb) fibril bt 12         the backtrace of one
    (gdb) fibril bt all        of all
    (gdb) fibril py 12         its Python stack only; fibril py all
    (gdb) fibril select 12     up, down, frame and info locals go through that one; select none ends it

Fibrils are found as the library finds them itself: a main one in each loop, the others in the slots of the
regions. A core file's registers cannot be set, so a stopped fibril is shown by an unwinder that answers,
asked for the caller of the innermost frame, with the state that the switch has saved. It needs the library's
debug information; nothing in the program is called or changed.

A copied stack whose bytes are not in place cannot be unwound where it is: for those the place where it stopped is
shown, and the addresses in the copy that look like return addresses.

In a program in Python the backtrace of a fibril ends with its Python stack; gdb_fibril_python.py, beside this
file, reads that.
"""

import collections
import os
import re
import sys
import time

import gdb
import gdb.unwinder

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import gdb_fibril_python  # noqa: E402

STATES = ("free", "ready", "parked", "exiting", "ended")
FREE, READY, PARKED, EXITING, DONE = range(5)
THREAD, COPIED = 1, 2
AARCH64_STATE_BYTES = 176


class Trouble(gdb.GdbError):
    """What the user is told in one line."""


# ---- reading the program ----


def static(unit, name):
    """A variable of one source file of the library."""
    try:
        return gdb.parse_and_eval("'%s'::%s" % (unit, name))
    except gdb.error:
        raise Trouble("no debug information of libfibril (%s of %s is not known)" % (name, unit))


def constant(name, otherwise):
    """An enumerator; unused ones may be missing from the debug information."""
    try:
        return int(gdb.parse_and_eval(name))
    except gdb.error:
        return otherwise


def type_of(name):
    try:
        return gdb.lookup_type(name)
    except gdb.error:
        raise Trouble("no debug information of libfibril (%s is not known)" % name)


def bytes_at(address, size):
    return gdb.selected_inferior().read_memory(address, size).tobytes() if size else b""


def word_at(address, size=8):
    return int.from_bytes(bytes_at(address, size), "little")


def pointer_to(name, address):
    return gdb.Value(address).cast(type_of(name).pointer())


def loops():
    table = static("runtime.c", "loops")
    low, high = table.type.range()
    for i in range(low, high + 1):
        address = int(table[i])
        if address:
            yield pointer_to("struct fibril_loop", address).dereference()


def records_of(region):
    """Where the records in the used slots of a region lie: see fibril__record_in."""
    log2, base = int(region["log2"]), int(region["base"])
    align = constant("FIBRIL__RECORD_ALIGN", 64)
    size = (type_of("struct fibril").sizeof + align - 1) & ~(align - 1)
    colours, turn = constant("FIBRIL__COLOURS", 12), constant("FIBRIL__COLOUR_TURN", 16)
    step = constant("FIBRIL__COLOUR_BYTES", 64)
    for i in range(int(region["used"])):
        slot = base + (i << log2)
        if not region["stacks"]:
            yield slot
        else:
            yield slot + (1 << log2) - size - (slot >> log2) % turn * colours // turn * step


def fibrils():
    """All fibrils, as values of struct fibril, in the order of their numbers."""
    found = [loop["main"] for loop in loops()]
    count, table = int(static("slots.c", "region_count")), static("slots.c", "regions")
    for i in range(count):
        for address in records_of(table[i].dereference()):
            f = pointer_to("struct fibril", address).dereference()
            if int(f["state"]) != FREE:
                found.append(f)
    return sorted(found, key=lambda f: int(f["id"]))


def kept_for(f, owner):
    """The address of what the embedder of that name keeps for a fibril, 0: nothing."""
    try:
        mark, node = int(gdb.parse_and_eval("&" + owner)), f["embed"]
    except gdb.error:
        return 0
    while int(node) and int(node["owner"]) != mark:
        node = node["next"]
    return int(node)


def offset_of(name, member):
    return next(field.bitpos // 8 for field in type_of(name).fields() if field.name == member)


def name_of(f):
    if int(f["extra"]) and int(f["extra"]["name"]):
        return f["extra"]["name"].string(errors="replace")
    return "main" if int(f["flags"]) & constant("FIBRIL__F_MAIN", 8) else ""


def is_current(f):
    return int(f["loop"]["current"]) == int(f.address)


def symbol_at(address):
    """The function at an address, with its place in it."""
    block, outermost = gdb.block_for_pc(address), None
    while block:
        outermost = block if block.function else outermost  # not what was inlined into it
        block = block.superblock
    if outermost:
        return "%s+%d" % (outermost.function.print_name, address - outermost.start)
    found = re.search(r"<(.*)>", gdb.execute("info symbol %d" % address, to_string=True))
    return found.group(1) if found else hex(address)


def waits_for(f):
    """What a parked fibril waits for, as a dump of the library says it."""
    kind, on = f["wait"], int(f["wait_on"])
    text = kind["name"].string()
    try:
        if text == "join":
            return text + " of fibril %d" % int(pointer_to("struct fibril", on)["id"])
        if text == "mutex":
            owner = pointer_to("struct fibril_mutex", on)["owner"]
            return text + " held by fibril %d" % int(owner["id"])
        if "fd_of" in str(kind["fd"]):
            return text + " on descriptor %d" % int(pointer_to("struct fibril__io", on)["op"]["fd"])
    except gdb.error:
        pass
    return text + (" %#x" % on if on else "")


def state_of(f):
    state = int(f["state"])
    if state == PARKED:
        return "parked"
    return "running" if is_current(f) else STATES[state] if state < len(STATES) else "broken"


def now_of(loop):
    """The loop's own time, or that of a living program: a loop that sleeps has not looked at the clock."""
    kind = getattr(gdb.selected_inferior().connection, "type", "")
    return time.monotonic_ns() if kind == "native" and not loop["poller"]["virtual_time"] else int(loop["now_ns"])


def age_of(f):
    return max(now_of(f["loop"]) - int(f["since_ns"]), 0) / 1e9


def by_number(text):
    for f in fibrils():
        if str(int(f["id"])) == text:
            return f
    raise Trouble("there is no fibril %s; fibril list shows all" % text)


# ---- where a fibril stopped ----


def architecture():
    return gdb.selected_inferior().architecture().name()


def saved_registers(sp):
    """What the switch has saved at sp, with the program counter and the stack pointer to go on at."""
    if architecture().startswith("aarch64"):
        return {"x29": word_at(sp + 80), "pc": word_at(sp + 88), "sp": sp + AARCH64_STATE_BYTES}
    if architecture() != "i386:x86-64":
        raise Trouble("stopped fibrils cannot be shown on " + architecture())
    return {"rip": word_at(sp), "rsp": sp + 8, "rbp": word_at(sp + 8)}


def resident_of(f):
    return int(f["loop"]["machine"]["runs"]["at"][int(f["ctx"]["log2"])]["resident"])


def in_place(f):
    """Whether the bytes of its stack are where they were when it ran."""
    return int(f["ctx"]["policy"]) != COPIED or resident_of(f) == int(f["ctx"].address)


class FrameId:
    """How gdb tells frames apart."""

    def __init__(self, sp, pc):
        self.sp = sp
        self.pc = pc


class StoppedFibril(gdb.unwinder.Unwinder):
    """Answers, for the innermost frame of the selected thread, that a stopped fibril has called it."""

    def __init__(self):
        super().__init__("fibril")
        self.enabled = False
        self.innermost = None
        self.registers = None

    def show(self, registers):
        frame = gdb.newest_frame()
        self.innermost = (int(frame.read_register("sp")), int(frame.read_register("pc")))
        self.registers = registers
        self.enabled = True
        gdb.invalidate_cached_frames()

    def hide(self):
        if self.enabled:
            self.enabled = False
            gdb.invalidate_cached_frames()

    def __call__(self, pending_frame):
        sp, pc = pending_frame.read_register("sp"), pending_frame.read_register("pc")
        if (int(sp), int(pc)) != self.innermost:
            return None
        # The number of a frame must lie below that of its caller, or gdb takes the stack for a broken one.
        below = gdb.Value(self.registers.get("rsp", self.registers.get("sp")) - 16)
        info = pending_frame.create_unwind_info(FrameId(below.cast(sp.type), pc))
        for name, value in self.registers.items():
            like = pending_frame.read_register(name).type
            info.add_saved_register(name, gdb.Value(value).cast(like))
        return info


stopped = StoppedFibril()
gdb.unwinder.register_unwinder(None, stopped, replace=True)
gdb.events.cont.connect(lambda event: stopped.hide())


# ---- backtraces ----


def thread_of(loop):
    """The thread that runs a loop: its thread pointer is what pthread_self() says."""
    for thread in gdb.selected_inferior().threads():
        thread.switch()
        for register in ("fs_base", "tpidr"):
            try:
                if int(gdb.newest_frame().read_register(register)) == int(loop["thread"]):
                    return thread
            except (ValueError, gdb.error):
                continue
    return None


def backtrace_of_current(f):
    before = gdb.selected_thread()
    try:
        if not thread_of(f["loop"]):
            return "    runs on a thread that gdb cannot tell from the others: thread apply all bt\n"
        return gdb.execute("backtrace", to_string=True)
    finally:
        before.switch()


def renumber(text):
    """gdb's backtrace without frame 0, which is the thread's and not the fibril's."""
    lines = text.splitlines()
    first = next((i for i, line in enumerate(lines) if re.match(r"#1\s", line)), len(lines))
    return "".join(
        re.sub(r"^#(\d+)(\s*)", lambda m: "#%-3d" % (int(m.group(1)) - 1), line) + "\n"
        for line in lines[first:])


def backtrace_of_stopped(f):
    stopped.show(saved_registers(int(f["ctx"]["sp"])))
    try:
        return renumber(gdb.execute("backtrace", to_string=True))
    finally:
        stopped.hide()


def backtrace_of_copy(f):
    """Of a stack whose bytes are elsewhere."""
    ctx = f["ctx"]
    sp, saved = int(ctx["sp"]), int(ctx["saved"])
    start = saved + (sp & 15)
    counter = 88 if architecture().startswith("aarch64") else 0
    text = "    copied stack, its bytes are not in place; it stopped in %s\n" % symbol_at(
        word_at(start + counter))
    for address in range(start + counter + 8, saved + int(ctx["saved_bytes"]) - 7, 8):
        word = word_at(address)
        if gdb.block_for_pc(word):
            text += "    perhaps called from %s\n" % symbol_at(word)
    return text


def backtrace_of(f):
    if is_current(f):
        return backtrace_of_current(f)
    if int(f["state"]) >= EXITING:
        return "    it has ended\n"
    if not int(f["ctx"]["sp"]):
        return "    it has not begun: %s\n" % symbol_at(int(f["wait_on"]))
    return backtrace_of_stopped(f) if in_place(f) else backtrace_of_copy(f)


# ---- Python ----


def interpreter():
    """What reads Python's frames; None: there is no Python here, or none that is known."""
    try:
        layout = gdb.parse_and_eval("fibril__pystate_layout")
    except gdb.error:
        return None
    names = [field.name for field in layout.type.fields()]
    known = collections.namedtuple("Layout", names)(*(int(layout[name]) for name in names))
    return gdb_fibril_python.Interpreter(known, bytes_at) if known.version else None


def record_of(f):
    """What the extension keeps for a fibril, None: nothing."""
    address = kept_for(f, "fibril__py_owner")
    return pointer_to("struct pyfibril", address).dereference() if address else None


def state_of_thread(python, f):
    """The thread state of a fibril that has not called the extension: the main one's, or by its identity."""
    ours = gdb.parse_and_eval("fibril__py")
    main, thread = int(ours["main_state"]), kept_for(f, "fibril__thread_owner")
    if int(ours["main"]) == int(f.address):
        return main
    return python.state_of_thread(main, thread | 1) if thread and main else 0


def tasklet_of(f):
    address = kept_for(f, "fibril_turn_owner")
    if not address:
        return None
    start = address - offset_of("struct tasklet", "turn")
    return pointer_to("struct tasklet", start).dereference()


def innermost_of(python, f):
    """The innermost Python frame of a fibril, 0: none."""
    tasklet, record = tasklet_of(f), record_of(f)
    if tasklet and int(tasklet["world"]["turn"]) != int(tasklet.address):
        return int(tasklet["slice"]["frame"])
    if tasklet:
        return python.innermost(int(tasklet["world"]["ts"]))
    state = int(record["tstate"]) if record else state_of_thread(python, f)
    return python.innermost(state) if state else 0


def moved_of(f):
    """Where the bytes of the stack of a fibril are now, as a function of where they were."""
    ctx, size = f["ctx"], 0
    sp, saved = int(ctx["sp"]), int(ctx["saved"])
    if not is_current(f) and not in_place(f) and saved:
        size = int(ctx["saved_bytes"])
    low = sp & ~15  # the copy begins there
    return lambda address: saved + address - low if sp <= address < low + size else address


def python_of(f):
    """The Python stack of a fibril as text, "" if it has none."""
    python, text = interpreter(), ""
    if not python or int(f["state"]) >= EXITING:
        return text
    try:
        for frame in python.frames(innermost_of(python, f), moved_of(f)):
            text += '      File "%s", line %s in %s\n' % (frame.file, frame.line or "?", frame.name)
    except (gdb.error, OverflowError, IndexError):
        text += "      its memory cannot be read further\n"
    return text and "    Python stack, most recent call first:\n" + text


def headline(f):
    name, waits = name_of(f), waits_for(f) if int(f["state"]) == PARKED else ""
    return "%6d  %4d  %-8s %10.3f s  %-16s %s" % (
        int(f["id"]), int(f["loop"]["index"]), state_of(f), age_of(f), name or "-", waits)


# ---- commands ----


class Fibril(gdb.Command):
    """Show the fibrils of the program: fibril list, fibril bt ID|all, fibril py ID|all, fibril select ID."""

    def __init__(self):
        super().__init__("fibril", gdb.COMMAND_STACK, prefix=True)


class FibrilList(gdb.Command):
    """List all fibrils: number, loop, state, how long, name, what it waits for."""

    def __init__(self):
        super().__init__("fibril list", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        print("    id  loop  state           since    name             waits for")
        for f in fibrils():
            print(headline(f).rstrip())


def show(command, argument, text_of):
    """What the commands below have in common."""
    stopped.hide()
    if not argument:
        raise Trouble("which one? %s ID, or %s all" % (command, command))
    for f in fibrils() if argument == "all" else [by_number(argument)]:
        print(headline(f).rstrip())
        print(text_of(f), end="")


class FibrilBt(gdb.Command):
    """Show the backtrace of one fibril, or of all, with its Python stack: fibril bt ID, fibril bt all."""

    def __init__(self):
        super().__init__("fibril bt", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        show("fibril bt", argument, lambda f: backtrace_of(f) + python_of(f))


class FibrilPy(gdb.Command):
    """Show the Python stack of one fibril, or of all: fibril py ID, fibril py all."""

    def __init__(self):
        super().__init__("fibril py", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        show("fibril py", argument, python_of)


class FibrilSelect(gdb.Command):
    """Let up, down, frame and info locals go through a stopped fibril: fibril select ID, fibril select none."""

    def __init__(self):
        super().__init__("fibril select", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        stopped.hide()
        if argument == "none":
            return
        f = by_number(argument)
        if is_current(f) or int(f["state"]) >= EXITING or not int(f["ctx"]["sp"]) or not in_place(f):
            raise Trouble("fibril %s does not stand in frames of its own; try fibril bt" % argument)
        stopped.show(saved_registers(int(f["ctx"]["sp"])))
        gdb.execute("frame 1")


Fibril()
FibrilList()
FibrilBt()
FibrilPy()
FibrilSelect()
