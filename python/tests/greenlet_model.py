# SPDX-License-Identifier: MIT
"""Random programs of greenlets, carried out twice: by a model that has nothing but generators, and for real.

A program is a set of bodies. A body is a generator: it yields what it wants done and gets back what came of it. The
model runs the bodies on a trampoline and keeps its own account of who is new, active and dead, and of parents; the
other way each body is driven inside a greenlet and its wishes become calls. Both write down every event, and the two
logs must be the same. What a body does next is drawn from its own seed and from who is there, so a difference shows
at once and stays.
"""

import random

MAIN = 0
LIMIT = 400  # wishes of a program in all


class Exit(BaseException):
    """What the model's bodies see as GreenletExit."""


class Boom(Exception):
    pass


class Program:
    """What both ways share: the log, who is there, and the bodies."""

    def __init__(self, seed):
        self.seed, self.log, self.wishes = seed, [], 0
        self.known, self.leaf, self.next_id = [MAIN], set(), 1
        self.calling = {}  # who is suspended in a call of whose method: that call holds a reference

    def body(self, me, value):
        rng = random.Random(self.seed * 1000 + me)
        self.log.append((me, "begins", self.show(value)))
        for _ in range(rng.randrange(1, 9) if me else 10 ** 9):
            if self.wishes >= LIMIT:
                break
            self.wishes += 1
            wish = self.draw(rng, me)
            try:
                try:
                    self.calling[me] = wish[1] if wish[0] in ("switch", "throw") else None
                    came = yield wish
                finally:
                    del self.calling[me]
            except Exit:
                self.log.append((me, "exit"))
                raise
            except Boom as boom:
                self.log.append((me, "boom", boom.args[0]))
                if me and rng.random() < 0.5:
                    raise
            else:
                self.log.append((me, wish[0], self.show(came)))
        if me and rng.random() < 0.2:
            self.log.append((me, "raises"))
            raise Boom(me)
        self.log.append((me, "returns"))
        return me * 100

    def show(self, value):
        return "exit" if isinstance(value, Exit) else value

    def draw(self, rng, me):
        what = rng.random()
        if what < 0.3 and self.next_id < 60:
            new, self.next_id = self.next_id, self.next_id + 1
            leaf = rng.random() < 0.5
            if leaf:
                self.leaf.add(new)
            self.known.append(new)
            return "spawn", new, MAIN if leaf else rng.choice([p for p in self.known if p not in self.leaf and p != new])
        target = rng.choice(self.known)
        if what < 0.75:
            return "switch", target, rng.randrange(1000)
        if what < 0.83:
            return "throw", target, rng.choice(["boom", "exit"] if target else ["boom"])
        if target in self.leaf and target != me and target not in self.calling.values():
            self.known.remove(target)
            return "drop", target
        return "switch", target, rng.randrange(1000)


class Model:
    """The account in generators."""

    def __init__(self, seed):
        self.program = Program(seed)
        self.gens, self.state, self.parent = {}, {MAIN: "active"}, {MAIN: None}

    def find(self, target, value, error):
        """Who goes on, and with what."""
        if self.state[target] == "dead" and isinstance(error, Exit):
            value, error = error, None
        while self.state[target] == "dead":
            target = self.parent[target]
        return target, value, error

    def finish(self, me, value, error):
        self.state[me] = "dead"
        if isinstance(error, Exit):
            value, error = error, None
        return self.find(self.parent[me], value, error)

    def step(self, me, value, error):
        """Lets me go on until its next wish: ("wish", w), or ("end", value, error)."""
        try:
            if self.state[me] == "new":
                self.state[me] = "active"
                if error:
                    return "end", None, error
                self.gens[me] = self.program.body(me, value)
                return "wish", next(self.gens[me])
            if error:
                return "wish", self.gens[me].throw(error)
            return "wish", self.gens[me].send(value)
        except StopIteration as stop:
            return "end", stop.value, None
        except (Boom, Exit) as raised:
            return "end", None, raised

    def run(self):
        self.gens[MAIN] = self.program.body(MAIN, None)
        me, result = MAIN, ("wish", next(self.gens[MAIN]))
        while True:
            if result[0] == "end":
                if me == MAIN:
                    return self.program.log
                me, value, error = self.finish(me, result[1], result[2])
            else:
                me, value, error = self.grant(me, result[1])
            result = self.step(me, value, error)

    def grant(self, me, wish):
        if wish[0] == "spawn":
            self.state[wish[1]], self.parent[wish[1]] = "new", wish[2]
            return me, "spawned", None
        if wish[0] == "switch":
            return self.find(wish[1], wish[2], None)
        if wish[0] == "throw":
            return self.find(wish[1], None, Boom("thrown") if wish[2] == "boom" else Exit())
        if self.state[wish[1]] == "active":
            self.step(wish[1], None, Exit())
        self.state[wish[1]] = "dead"
        return me, "dropped", None


class Real:
    """The same with greenlets. `through` is how a wish is carried out: directly, or from inside some C function."""

    def __init__(self, seed, module, stack, through):
        self.program, self.module, self.stack, self.through = Program(seed), module, stack, through
        self.greenlets = {MAIN: module.getcurrent()}

    def drive(self, me, value):
        if isinstance(value, self.module.GreenletExit):
            value = Exit()
        gen, came, error = self.program.body(me, value), None, None
        try:
            while True:
                try:
                    wish = gen.throw(error) if error else gen.send(came)
                except StopIteration as stop:
                    return stop.value
                error = None
                try:
                    came = self.through(self.grant, wish)
                except self.module.GreenletExit:
                    error = Exit()
                except Boom as boom:
                    error = boom
        except Exit:
            raise self.module.GreenletExit from None
        finally:
            error = None

    def grant(self, wish):
        if wish[0] == "spawn":
            made = self.module.greenlet(lambda value: self.drive(wish[1], value), self.greenlets[wish[2]])
            made.gr_stack = self.stack
            self.greenlets[wish[1]] = made
            return "spawned"
        if wish[0] == "drop":
            del self.greenlets[wish[1]]
            return "dropped"
        # No variable holds the greenlet: tracebacks keep variables.
        if wish[0] == "switch":
            came = self.greenlets[wish[1]].switch(wish[2])
        else:
            came = self.greenlets[wish[1]].throw(Boom("thrown") if wish[2] == "boom" else self.module.GreenletExit())
        return Exit() if isinstance(came, self.module.GreenletExit) else came

    def run(self):
        self.drive(MAIN, None)
        return self.program.log
