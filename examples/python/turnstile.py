# SPDX-License-Identifier: MIT
"""A state machine: a turnstile that opens for a coin, and closes behind whoever walks through, or after a while.

    python3 examples/python/turnstile.py
"""

import fibril
from fibril.actors import StateMachine, WrongState, state


class Turnstile(StateMachine):
    states = ("closed", "open")  # it begins in the first one

    def __init__(self):
        self.takings = 0

    @state("closed").on("coin")
    def pay(self, cents):
        self.takings += cents
        self.go("open")
        return "go through"

    @state("closed").on("walk")
    def stop_short(self, who):
        self.postpone()  # the caller waits until it is open

    @state("open").on("walk")
    def let_through(self, who):
        self.go("closed")
        return f"{who} is through"

    @state("open").enter
    def unlock(self, old):
        self.state_timeout(0.05, "close")  # unless somebody walks before

    @state("open").on("close")
    def lock(self):
        self.go("closed")

    def on_look(self):  # in any state
        return self.state, self.takings


def main():
    fibril.enable()
    turnstile = Turnstile.start()
    early = fibril.spawn(turnstile.call, "walk", "Ada")
    fibril.yield_()
    print(turnstile.call("look"))
    print(turnstile.call(Turnstile.pay, 50))
    print(early.join())
    turnstile.call("coin", 50)
    while turnstile.call("look")[0] == "open":  # nobody walks
        fibril.sleep(0.01)
    print(turnstile.call("look"))
    try:
        turnstile.call("close")
    except WrongState as error:
        print(error)


if __name__ == "__main__":
    main()
