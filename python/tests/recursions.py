# SPDX-License-Identifier: MIT
"""Recursions without end, most of them through C, which takes stack."""

import copy
import functools
import itertools
import json
import operator
import pickle
import re


class Endless:
    """Whose special methods call themselves."""

    def __getattr__(self, name):
        return getattr(self, name + "x")

    def __repr__(self):
        return repr(self)

    def __str__(self):
        return f"{self}"

    def __add__(self, other):
        return self + other

    def __eq__(self, other):
        return self == other

    def __hash__(self):
        return hash((self,))

    def __iter__(self):
        return iter(list(self))

    def __getitem__(self, key):
        return self[key]

    def __contains__(self, item):
        return item in self

    def __len__(self):
        return len(self)

    def __call__(self):
        return functools.partial(self)()

    def __reduce__(self):
        return (Endless, (pickle.dumps(self),))

    @property
    def deep(self):
        return self.deep


def nested(make):
    value = make(())
    for _ in range(20000):
        value = make((value,))
    return value


def plain():
    return plain()


def by_sort(item):
    return sorted([item], key=by_sort)


def by_map(item):
    return list(map(by_map, [item]))


def by_reduce(left, right):
    return functools.reduce(by_reduce, [left, right])


def by_eval():
    return eval("by_eval()")  # pylint: disable=eval-used


def by_sub(match):
    return re.sub("a", by_sub, match if isinstance(match, str) else "a")


def by_default(item):
    return json.loads(json.dumps(item, default=by_default))


def by_chain():
    return list(itertools.chain.from_iterable(by_chain() for _ in "a"))


KINDS = {
    "getattr": lambda: Endless().name, "repr": lambda: repr(Endless()), "format": lambda: str(Endless()),
    "add": lambda: Endless() + 1, "eq": lambda: Endless() == 1, "hash": lambda: hash(Endless()),
    "iter": lambda: list(Endless()), "getitem": lambda: Endless()[1], "contains": lambda: 1 in Endless(),
    "len": lambda: len(Endless()), "call": lambda: Endless()(), "reduce_ex": lambda: pickle.dumps(Endless()),
    "property": lambda: Endless().deep, "plain": plain, "sort": lambda: by_sort(1), "map": lambda: by_map(1),
    "reduce": lambda: by_reduce(1, 2), "eval": by_eval, "sub": lambda: by_sub("a"),
    "json default": lambda: by_default({1j}), "json": lambda: json.dumps(nested(list)),
    "json read": lambda: json.loads("[" * 100000), "pickle": lambda: pickle.dumps(nested(list)),
    "deepcopy": lambda: copy.deepcopy(nested(list)), "list repr": lambda: repr(nested(list)),
    "list eq": lambda: nested(list) == nested(list),
    "chain": by_chain, "attrgetter": lambda: operator.attrgetter("deep")(Endless()),
    "isinstance": lambda: isinstance(1, nested(tuple)),
}
