# SPDX-License-Identifier: MIT
"""A factory: machines turn parts into cars as soon as the parts they need have arrived."""

from fibril import stackless


def supplier(name, store, count):
    for i in range(count):
        store.send(f"{name} {i}")


def machine(stores, out):
    while True:
        out.send(" + ".join(store.receive() for store in stores))


def main(count=3):
    bodies, wheels, cars = (stackless.channel() for _ in range(3))
    stackless.tasklet(supplier)("body", bodies, count)
    stackless.tasklet(supplier)("wheel", wheels, 4 * count)
    works = stackless.tasklet(machine)([bodies] + 4 * [wheels], cars)
    for _ in range(count):
        print(cars.receive())
    works.kill()


if __name__ == "__main__":
    main()
