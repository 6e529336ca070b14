# SPDX-License-Identifier: MIT
"""Options of actors as C takes them."""

_POLICIES = {"park": 0, "fail": 1, "drop_oldest": 2, "drop_newest": 3}


def policy_of(policy):
    """The number of a mailbox's policy. Raises ValueError."""
    try:
        return _POLICIES[policy]
    except KeyError:
        raise ValueError(f"a policy is one of {', '.join(map(repr, _POLICIES))}, not {policy!r}") from None


def bound(value, what):
    """Checks a bound of a mailbox. Raises ValueError."""
    if not isinstance(value, int) or not 0 <= value < 1 << 31:
        raise ValueError(f"{what} is a number from 0 (the default) to 2**31 - 1, not {value!r}")
    return value
