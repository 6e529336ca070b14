# SPDX-License-Identifier: MIT
"""State machines and pools against models: random scripts from seeds. FIBRIL_SEEDS=N runs N seeds instead of 200."""

import heapq
import logging
import os
import random

import pytest

import fibril
from fibril import _actor_events as events
from fibril import actors
from fibril.actors import Pool, StateMachine, WrongState, state

ISOLATED = True
SEEDS = int(os.environ.get("FIBRIL_SEEDS", "200"))
BLOCKS = 4  # processes that share them

logging.getLogger("fibril.actors").addHandler(logging.NullHandler())
logging.getLogger("fibril.actors").propagate = False


def seeds_of(block):
    return range(block, SEEDS, BLOCKS)


def settle(times=60):
    for _ in range(times):
        fibril.yield_()


# ---- state machines ----------------------------------------------------------------------------------

STATES = ("a", "b", "c")
EVENTS = ("e0", "e1", "e2", "e3", "e4")


def random_program(rng):
    """What each state does with each event: None is nothing, a list of steps otherwise."""
    steps = (lambda: ("go", rng.choice(STATES)), lambda: ("go", rng.choice(STATES)),
             lambda: ("happen", rng.choice(EVENTS)), lambda: ("enter_again",),
             lambda: ("state_timeout", rng.choice((None, 0, 1, 2, 3)), rng.choice(EVENTS)),
             lambda: ("event_timeout", rng.choice((None, 0, 1, 2)), rng.choice(EVENTS)),
             lambda: ("named_timeout", rng.randrange(3), rng.choice((None, 0, 1, 2, 4)), rng.choice(EVENTS)))
    program = {}
    for event in EVENTS:
        for each in (*STATES, None):
            if rng.random() < 0.7:
                program[each, event] = [rng.choice(steps)() for _ in range(rng.randrange(4))]
                if each is not None and rng.random() < 0.3:  # and stays: else it might go round for ever
                    program[each, event] = [step for step in program[each, event] if step[0] != "go"]
                    program[each, event].append(("postpone",))
    return program


class Happening:
    """An event of the model. fuel: how many more it may lead to."""

    def __init__(self, name, fuel, tag, timeout=False, call=None):
        self.name, self.fuel, self.tag, self.timeout, self.call = name, fuel, tag, timeout, call


class Model:
    """A state machine as its documentation says, with lists."""

    def __init__(self, program):
        self.program = program
        self.state = "a"
        self.now = 0
        self.log = [("enter", "a", "a")]
        self.answers = {}
        self.coming, self.postponed = [], []
        self.timeouts, self.serial = {}, 0
        self.quiet = None

    def message(self, happening):
        self.settle()
        self.handle(happening)
        self.settle()

    def wake(self):
        self.settle()
        if self.quiet and self.quiet[0] <= self.now:
            quiet, self.quiet = self.quiet, None
            self.handle(quiet[1])
            self.settle()

    def settle(self):
        while True:
            due = sorted((at, serial, key) for key, (at, serial, _) in self.timeouts.items() if at <= self.now)
            if self.coming:
                happening = self.coming.pop(0)
            elif due:
                happening = self.timeouts.pop(due[0][2])[2]
            elif self.quiet and self.quiet[2]:
                happening = self.quiet[1]
            else:
                return
            self.handle(happening)

    def handle(self, happening):
        self.quiet = None
        steps = self.program.get((self.state, happening.name), self.program.get((None, happening.name)))
        if steps is None:
            if happening.call is not None:
                self.answers[happening.call] = ("wrong", self.state, happening.name)
            return
        self.log.append((self.state, happening.name, happening.tag))
        old, target, own, postponed, kept, again = self.state, self.state, [], False, False, False
        for number, (what, *args) in enumerate(steps):
            name = args[-1] if args else None
            new = Happening(name, happening.fuel - 1, f"{happening.tag}.{number}")
            if what == "go":
                target = args[0]
            elif what == "enter_again":
                again = True
            elif what == "postpone":
                postponed = not happening.timeout
            elif happening.fuel > 0 and what == "happen":
                own.append(new)
            elif happening.fuel > 0:
                new.timeout = True
                kept = kept or what == "state_timeout"
                self.set(what, args, new)
        if postponed:
            self.postponed.append(happening)
        elif happening.call is not None:
            self.answers[happening.call] = (old, happening.tag)
        if target != old:
            self.log.append(("leave", old, target))
            self.state = target
            if not kept:
                self.timeouts.pop("state", None)
            self.coming[:0] = self.postponed
            self.postponed = []
        self.coming[:0] = own
        if target != old or again:
            self.log.append(("enter", self.state, old))

    def set(self, what, args, new):
        seconds = args[-2]
        key = "state" if what == "state_timeout" else args[0]
        if what == "event_timeout":
            self.quiet = None if seconds is None else (self.now + seconds, new, seconds == 0)
        elif seconds is None:
            self.timeouts.pop(key, None)
        else:
            self.serial += 1
            self.timeouts[key] = (self.now + seconds, self.serial, new)


def machine_of(program, log):
    """A class that does the same."""
    def run(self, steps, name, fuel, tag, timeout):
        log.append((self.state, name, tag))
        result = self.state, tag
        for number, (what, *args) in enumerate(steps):
            if what == "postpone" and timeout:
                continue
            if what in ("go", "enter_again", "postpone"):
                getattr(self, what)(*args)
            elif fuel > 0:
                getattr(self, what)(*args, fuel - 1, f"{tag}.{number}", what != "happen")
        return result

    def handler(steps, name):
        return lambda self, fuel, tag, timeout=False: run(self, steps, name, fuel, tag, timeout)

    body = {"states": STATES}
    for (each, name), steps in program.items():
        if each is None:
            body["on_" + name] = handler(steps, name)
        else:
            body[f"{name}_in_{each}"] = state(each).on(name)(handler(steps, name))
    body["entered"] = state().enter(lambda self, old: log.append(("enter", self.state, old)))
    body["left"] = state().leave(lambda self, new: log.append(("leave", self.state, new)))
    for name in EVENTS:  # so that timeouts may name each
        body.setdefault(f"{name}_in_none", state("nowhere").on(name)(lambda self, *args: None))
    body["states"] = (*STATES, "nowhere")
    return type("Random", (StateMachine,), body)


def run_machine(seed):
    rng = random.Random(seed)
    program, log, answers = random_program(rng), [], {}
    model, clock = Model(program), [0.0]
    events.now = lambda: clock[0]
    machine = machine_of(program, log).start()

    def call(number, name, fuel):
        try:
            answers[number] = machine.call(name, fuel, str(number))
        except WrongState as error:
            answers[number] = ("wrong", error.state, error.event)
        except fibril.ActorEnded:
            answers[number] = "ended"

    asking = []
    for number in range(40):
        kind, name, fuel = rng.choice(("call", "call", "cast", "pass", "jump")), rng.choice(EVENTS), rng.randrange(6)
        if kind == "cast":
            machine.cast(name, fuel, str(number))
            model.message(Happening(name, fuel, str(number)))
        elif kind == "call":
            asking.append(fibril.spawn(call, number, name, fuel))
            settle(8)
            model.message(Happening(name, fuel, str(number), call=number))
        else:
            clock[0] += rng.randrange(4)
            model.now = clock[0]
            if kind == "pass":
                machine.send(events.WAKE)
                model.wake()
        machine.status()
        settle(4)
        assert log == model.log, (seed, number, log[-8:], model.log[-8:])
        assert answers == model.answers, (seed, number)
    machine.stop()
    for each in asking:
        each.join()
    assert {number for number, answer in answers.items() if answer == "ended"} == {
        happening.call for happening in model.postponed if happening.call is not None}


@pytest.mark.parametrize("block", range(BLOCKS))
def test_machines_do_what_the_model_does(block):
    events.Waiting.arm = lambda waiting, actor_id: None  # woken by hand
    for seed in seeds_of(block):
        run_machine(seed)


@pytest.mark.parametrize("block", range(BLOCKS))
def test_timeouts_are_a_sorted_list(block):
    for seed in seeds_of(block):
        rng, timeouts, model = random.Random(seed), events.Timeouts(), {}
        for serial in range(300):
            key, now = rng.randrange(12), rng.randrange(50)
            if rng.random() < 0.6:
                timeouts.set(key, now, serial)
                model[key] = (now, serial)
            elif rng.random() < 0.5:
                assert timeouts.cancel(key) == (model.pop(key, None) is not None)
            else:
                first = heapq.nsmallest(1, ((*value, key) for key, value in model.items()))
                due = first and first[0][0] <= now
                assert timeouts.take(now) == (first[0][1] if due else None)
                if due:
                    del model[first[0][2]]
            assert len(timeouts._heap) <= 2 * 12 + 17


# ---- pools -----------------------------------------------------------------------------------------------


class Lendable(fibril.Actor):
    """Knows who has it."""

    def __init__(self, rng, alive):
        if rng.random() < 0.2:
            fibril.sleep(0.001 * rng.randrange(3))
        if rng.random() < 0.1:
            raise OSError("does not begin")
        self.alive = alive
        alive.add(self.me)

    def on_work(self, turns):
        for _ in range(turns):
            fibril.yield_()

    def on_fail(self):
        raise ValueError("fails")

    def terminate(self, reason):
        self.alive.discard(self.me)


def run_pool(seed):
    rng, alive, owner, borrowers = random.Random(seed), set(), {}, []
    size, overflow = rng.randrange(1, 4), rng.randrange(3)
    pool = None
    for _ in range(100):
        try:
            pool = Pool(Lendable, rng, alive, size=size, overflow=overflow, pause=0.0005, pause_max=0.002,
                        shutdown=0.5, newest_first=rng.random() < 0.5, waiting=rng.choice((3, 1000))).start()
            break
        except OSError:
            continue

    def borrow(number):
        for _ in range(rng.randrange(1, 4)):
            try:
                with pool.worker(timeout=rng.choice((None, 0.0005, 0.01))) as handle:
                    who = owner.get(handle)
                    assert who is None or not who.alive, (seed, "lent twice")
                    owner[handle] = actors.me()
                    try:
                        use(handle)
                    finally:
                        del owner[handle]
            except (TimeoutError, actors.MailboxFull, fibril.ActorEnded, fibril.ActorFailed):
                pass

    def use(handle):
        what = rng.randrange(6)
        if what < 3:
            handle.call("work", rng.randrange(8))
        elif what == 3:
            handle.call("fail")
        elif what == 4:
            handle.kill()
        else:
            pool.discard(handle)

    for number in range(30):
        borrowers.append(actors.spawn(borrow, number))
        if rng.random() < 0.3:
            rng.choice(borrowers).exit(rng.choice(("shutdown", "kill")))
        if rng.random() < 0.2 and alive:
            rng.choice(sorted(alive)).kill()
        for _ in range(rng.randrange(6)):
            fibril.yield_()
        counts = pool.counts()
        assert counts.idle + counts.lent + counts.starting <= size + overflow, (seed, counts)
    for each in borrowers:
        each.join(30)
    for _ in range(5000):
        counts = pool.counts()
        if (counts.idle, counts.lent, counts.starting, counts.ending, counts.waiting) == (size, 0, 0, 0, 0):
            break
        fibril.sleep(0.001)
    assert (counts.idle, counts.lent, counts.starting, counts.ending, counts.waiting) == (size, 0, 0, 0, 0), (
        seed, counts)
    assert len(alive) == size, (seed, len(alive), size)
    for _ in range(2 * size):  # all that is idle can be had
        pool.call("work", 1, timeout=30)
    pool.stop()
    assert not alive, (seed, alive)


@pytest.mark.parametrize("block", range(BLOCKS))
def test_pools_lend_nobody_twice_and_lose_nothing(block):
    for seed in seeds_of(block):
        run_pool(seed)
