"""What a change of the primary did to clients, out of their own lists and what the new primary has.

    attempt: [number, begin, end, wait, state, code, text]      of a client, in order
    connect: [begin, end, state, code, text]

Times are seconds since the epoch, `wait` is how long its slowest statement took. State is "ok"
(acknowledged by the driver), "failed" (the driver raised an error) or "hung" (no answer until the
client was ended). Numbers are 1, 2, 3, ... for each client and none is tried twice: whoever has a
row twice has it from a proxy.

`python3 bench/tally.py` checks the counting itself; switchover.py does so before it measures.
"""

import collections

NUMBER, BEGIN, END, WAIT, STATE, CODE, TEXT = range(7)
OK, FAILED, HUNG = "ok", "failed", "hung"
IN_FLIGHT_S = 0.05  # a statement that began so shortly before may have been running
SLOW_S = 0.1


class Miscount(Exception):
    """The lists contradict themselves: nothing that was measured counts."""


def ranges(numbers):
    """[1, 2, 3, 7] as [[1, 3], [7, 7]], to be kept."""
    found = []
    for number in sorted(numbers):
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found


def check_lists(writer):
    """Every number once, from 1 on, and each attempt ended in one of the three ways."""
    attempts = writer["attempts"]
    if [attempt[NUMBER] for attempt in attempts] != list(range(1, len(attempts) + 1)):
        raise Miscount(f"client {writer['client']} ({writer['kind']}): its numbers are not 1 to {len(attempts)}")
    states = collections.Counter(attempt[STATE] for attempt in attempts)
    if states[OK] + states[FAILED] + states[HUNG] != len(attempts):
        raise Miscount(f"client {writer['client']}: acknowledged + errors is not attempts: {states}")
    for attempt in attempts:
        if attempt[END] < attempt[BEGIN]:
            raise Miscount(f"client {writer['client']}: {attempt} ends before it begins")


def rows_found(attempts, rows, parts):
    """What is there of each attempt: `rows` is {(number, part): how often}."""
    whole, torn, doubled = set(), set(), set()
    for attempt in attempts:
        counts = [rows.get((attempt[NUMBER], part), 0) for part in range(1, parts + 1)]
        if all(counts):
            whole.add(attempt[NUMBER])
        elif any(counts):
            torn.add(attempt[NUMBER])
        if max(counts) > 1:
            doubled.add(attempt[NUMBER])
    return whole, torn, doubled


def tally_writer(writer, rows, parts):
    check_lists(writer)
    attempts = writer["attempts"]
    whole, torn, doubled = rows_found(attempts, rows, parts)
    by_state = {state: {a[NUMBER] for a in attempts if a[STATE] == state} for state in (OK, FAILED, HUNG)}
    unsure = by_state[FAILED] | by_state[HUNG]
    found = {
        "attempts": len(attempts), "acknowledged": len(by_state[OK]),
        "failed": len(by_state[FAILED]), "hung": len(by_state[HUNG]),
        "missing": sorted(by_state[OK] - whole),
        "doubled": sorted(doubled),
        "unknown": sorted(unsure & whole),  # an error for the client, and yet it is there
        "torn": sorted(unsure & torn),  # of a transaction that failed a part is there
        "strays": sorted({number for number, _ in rows} - {a[NUMBER] for a in attempts}),
    }
    if len(whole) != found["acknowledged"] - len(found["missing"]) + len(found["unknown"]):
        raise Miscount(f"client {writer['client']}: rows there are not acknowledged - missing + unknown")
    return found


LISTS = ("missing", "doubled", "unknown", "torn", "strays")
COUNTS = ("attempts", "acknowledged", "failed", "hung")


def tally(writers, rows, parts, times):
    """`rows`: {client: {(number, part): how often}}. `times`: "trigger", "stopped" (the old
    primary), "accepts" (the new one), the last two None where they were not seen."""
    each = {writer["client"]: tally_writer(writer, rows.get(writer["client"], {}), parts) for writer in writers}
    found = {name: sum(one[name] for one in each.values()) for name in COUNTS}
    for name in LISTS:
        found[name] = [[client, number] for client, one in each.items() for number in one[name]]
    found["strays"] += [[client, number] for client in rows if client not in each for number, _ in rows[client]]
    found.update(errors(writers, times))
    found.update(waits(writers, times))
    found["own"] = difference(times["accepts"], times["stopped"])
    for name in ("wait", "gap"):
        found[f"{name}_own"] = difference(found[name], found["own"])
    found["first"] = difference(found.pop("first_at"), times["accepts"])
    found["all"] = difference(all_back(writers, times), times["accepts"])
    return found


def difference(one, other):
    return None if one is None or other is None else one - other


def all_errors(writers):
    """(writer, begin, end, state, code, text) of statements and of connections."""
    for writer in writers:
        for attempt in writer["attempts"]:
            if attempt[STATE] != OK:
                yield (writer, attempt[BEGIN], attempt[END], *attempt[STATE:])
        for connect in writer["connects"]:
            if connect[2] != OK:
                yield (writer, *connect)


# What drivers that tell no SQLSTATE say, and one word for what is the same.
WORDS = {
    "terminating connection due to administrator command": "57P01",
    "the database system is": "57P03",
    "read-only transaction": "25006",
    "could not serialize": "40001",
    "server login has been failing": "login failing",
    "connection has been closed": "connection closed",
    "server closed the connection": "connection closed",
    "server conn crashed": "connection closed",
    "perhaps the backend died": "connection closed",
    "eof detected": "connection closed",
    "connection terminated": "connection closed",
    "connection reset": "connection closed",
    "not queryable": "connection closed",
}


def label(code, text):
    """SQLSTATE, or what stands in its place."""
    if code is None:
        code = next((word for words, word in WORDS.items() if words in text.lower()), None)
    if code is None:
        for begin in ("failed: ", "FATAL:  ", "ERROR:  "):
            text = text.rpartition(begin)[2]
        code = text[:60]
    return code


def errors(writers, times):
    everyone = list(all_errors(writers))
    n_failed = sum(a[STATE] != OK for w in writers for a in w["attempts"])
    n_refused = sum(c[2] != OK for w in writers for c in w["connects"])
    if len(everyone) != n_failed + n_refused:
        raise Miscount("errors are not those of statements and those of connections")
    since = [error for error in everyone if error[2] >= times["trigger"]]
    gone = times["stopped"] or times["trigger"]
    return {
        "errors": len(since), "errors_before": len(everyone) - len(since), "refused": n_refused,
        "late_errors": sum(error[1] > gone + IN_FLIGHT_S for error in since),
        "by_code": dict(collections.Counter(label(*error[4:]) for error in since).most_common()),
        "by_kind": dict(collections.Counter(error[0]["kind"] for error in since).most_common()),
    }


def waits(writers, times):
    """The longest wait of one statement or connection, and the longest time in which no row at
    all was acknowledged; where nobody ever came back it lasts to the end."""
    longest, acknowledged, ends = 0, [], []
    for writer in writers:
        for attempt in writer["attempts"]:
            ends.append(attempt[END])
            if attempt[STATE] == OK:
                acknowledged.append(attempt[END])
            if attempt[END] >= times["trigger"]:
                longest = max(longest, attempt[WAIT])
        for connect in writer["connects"]:
            ends.append(connect[1])
            if connect[1] >= times["trigger"]:
                longest = max(longest, connect[1] - connect[0])
    acknowledged = sorted(acknowledged)
    points = [*acknowledged, max(ends)] if ends else [times["trigger"]]
    gaps = [(after - before, after) for before, after in zip(points, points[1:]) if after >= times["trigger"]]
    gap, gap_end = max(gaps, default=(0, None))
    is_served = gap_end is not None and bool(acknowledged) and gap_end <= acknowledged[-1]
    return {"wait": longest, "gap": gap, "first_at": gap_end if is_served else None}


def all_back(writers, times):
    """When the last of the writers had a row acknowledged that was not before the new primary;
    None when one never had."""
    since = times["accepts"]
    if since is None:
        return None
    firsts = [next((a[END] for a in writer["attempts"] if a[STATE] == OK and a[END] >= since), None)
              for writer in writers]
    return None if None in firsts else max(firsts, default=None)


# Its own check

def check():
    """Lists of which is known what they hold."""
    at = 1000.0

    def attempt(number, state=OK, begin=None, wait=0.01):
        begin = at + number if begin is None else begin
        return [number, begin, begin + wait, wait, state, None if state == OK else "57P01",
                None if state == OK else "gone"]

    attempts = [attempt(1), attempt(2), attempt(3, FAILED), attempt(4, HUNG, wait=1.5),
                attempt(5, FAILED), attempt(6), attempt(7)]
    rows = {0: {(n, part): 1 for n in (1, 3, 6) for part in (1, 2)}}
    rows[0].update({(2, 1): 1, (7, 1): 2, (7, 2): 1, (5, 2): 1, (9, 1): 1})
    rows[4] = {(1, 1): 1}
    writers = [{"client": 0, "kind": "x", "attempts": attempts,
                "connects": [[at, at + 0.1, OK, None, None], [at + 5, at + 5.2, FAILED, None,
                              "connection failed: FATAL:  the database system is starting up"]]}]
    times = {"trigger": at + 2.5, "stopped": at + 3, "accepts": at + 5.5}
    found = tally(writers, rows, 2, times)
    expected = {"attempts": 7, "acknowledged": 4, "failed": 2, "hung": 1, "missing": [[0, 2]],
                "doubled": [[0, 7]], "unknown": [[0, 3]], "torn": [[0, 5]], "strays": [[0, 9], [4, 1]],
                "errors": 4, "errors_before": 0, "late_errors": 3, "refused": 1, "wait": 1.5,
                "by_code": {"57P01": 3, "57P03": 1}}
    for name, value in expected.items():
        if found[name] != value:
            raise Miscount(f"{name} is {found[name]}, not {value}")
    for name, value in {"gap": 4, "own": 2.5, "gap_own": 1.5, "wait_own": -1, "first": 0.51, "all": 0.51}.items():
        if abs(found[name] - value) > 1e-6:
            raise Miscount(f"{name} is {found[name]}, not {value}")
    for spoiled in (attempts[1:], attempts + [attempt(7)], attempts[:-1] + [attempt(7, "lost")]):
        try:
            tally([{**writers[0], "attempts": spoiled}], rows, 2, times)
        except Miscount:
            continue
        raise Miscount(f"nobody minds {[a[NUMBER] for a in spoiled]}")
    if ranges([3, 1, 2, 7]) != [[1, 3], [7, 7]]:
        raise Miscount("ranges")


if __name__ == "__main__":
    check()
    print("the counting is right")
