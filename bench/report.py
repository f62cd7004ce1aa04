"""What is kept of each change of the primary, and the table of all."""

import collections
import json
import os
import statistics

import tally


def keep(folder, name, change, lists, result, events, leader, log_began):
    """The raw log of one change: each error and each long wait, and which numbers were
    acknowledged and are there as ranges. Times are seconds after the trigger."""
    trigger = change.times["trigger"]

    def relative(at):
        return None if at is None else round(at - trigger, 4)

    with open(change.target.log(), encoding="utf-8", errors="replace") as file:
        file.seek(log_began)
        log = file.read().splitlines()[-200:]
    writers = []
    for writer in lists:
        attempts = writer["attempts"]
        rows = change.rows.get(writer["client"], {})
        writers.append({
            "client": writer["client"], "kind": writer["kind"], "attempts": len(attempts),
            "acknowledged": tally.ranges(a[tally.NUMBER] for a in attempts if a[tally.STATE] == tally.OK),
            "there": {part: tally.ranges(n for n, of in rows if of == part) for part in sorted({p for _, p in rows})},
            "errors_and_waits": [[a[0], relative(a[1]), relative(a[2]), round(a[3], 4), *a[4:]] for a in attempts
                                 if a[tally.STATE] != tally.OK or a[tally.WAIT] > tally.SLOW_S],
            "connects": [[relative(c[0]), relative(c[1]), *c[2:]] for c in writer["connects"]
                         if c[2] != tally.OK or c[1] - c[0] > tally.SLOW_S]})
    found = {"case": change.name, "target": change.target.name, "round": change.number,
             "trigger": trigger, "stopped": relative(change.times["stopped"]),
             "accepts": relative(change.times["accepts"]), "old": change.old.name, "new": leader.name,
             "command": change.said, "result": result, "observer": events, "writers": writers, "log": log}
    with open(os.path.join(folder, name + ".json"), "w", encoding="utf-8") as file:
        json.dump(found, file, separators=(",", ":"))


# The table

SUMS = ("rows", "missing", "doubled", "unknown", "hung")
COLUMNS = {"errors": "errors", "late_errors": "late", "own": "own s", "wait": "wait s", "wait_own": "wait-own s",
           "gap": "gap s", "gap_own": "gap-own s", "first": "first s", "all": "all s"}
IN_SECONDS = ("own", "wait", "wait_own", "gap", "gap_own", "first", "all")
OURS = ("pool", "tcp")  # targets that have goals


def in_words(result):
    return (f"{result['errors']} errors, {len(result['missing'])} missing, {len(result['doubled'])} doubled, "
            f"{len(result['unknown'])} unknown, longest wait {number(result['wait'])} s, gap {number(result['gap'])} s, "
            f"PostgreSQL's {number(result['own'])} s")


def number(value):
    return "-" if value is None else str(value) if isinstance(value, int) else f"{value:.2f}"


def median_and_max(results, name):
    """What never came is longer than all else."""
    values = [result[name] for result in results]
    if None in values:
        finite = sorted(value for value in values if value is not None)
        middle = finite[len(values) // 2] if len(values) // 2 < len(finite) else None
        return f"{number(middle)} -"
    median = statistics.median(values)
    if isinstance(values[0], int):
        return f"{median:g} {max(values)}"
    return f"{median:.2f} {max(values):.2f}"


def missed(results, goals):
    """Those of a case that are not reached, in words."""
    found = []
    for name, most in goals.items():
        values = [len(r[name]) if isinstance(r[name], list) else r[name] for r in results]
        if name in IN_SECONDS:
            # what was never reached is no figure
            worst = None if None in values else max(values)
        else:
            worst = sum(values) / len(values)
        if worst is None or worst > most:
            found.append(f"{name.replace('_', '-')} {'never' if worst is None else format(worst, '.2f')} (goal {most})")
    return found


def print_case(case, found, out):
    print("  " + " " * 9 + "".join(f" {head:>7}" for head in SUMS) +
          "".join(f" {head:>12}" for head in COLUMNS.values()), file=out)
    for target, results in found.items():
        totals = [sum(len(r[name]) if isinstance(r[name], list) else r[name] for r in results) for name in SUMS]
        print(f"  {target:<9}" + "".join(f" {total:>7}" for total in totals) +
              "".join(f" {median_and_max(results, name):>12}" for name in COLUMNS), file=out)
    for target, results in found.items():
        print_errors(target, results, out)
        print_oddities(target, results, out)
        if target in OURS:
            wrong = missed(results, case.goals)
            print(f"  {target:<9} {'goals missed: ' + ', '.join(wrong) if wrong else 'goals reached'}", file=out)


def print_errors(target, results, out):
    """The most frequent ones: by SQLSTATE, or what a driver without says."""
    codes = collections.Counter()
    for result in results:
        codes.update(result["by_code"])
    if codes:
        print(f"  {target:<9} errors: " + ", ".join(f"{n} x {code}" for code, n in codes.most_common(4)), file=out)


def print_oddities(target, results, out):
    for name, words in (("strays", "rows that nobody has tried to write: the counting is wrong"), ("torn", "parts of failed transactions")):
        n = sum(len(result[name]) for result in results)
        if n:
            print(f"  {target:<9} {n} {words}", file=out)
    n = sum(result["errors_before"] for result in results)
    if n:
        print(f"  {target:<9} {n} errors before the change, not counted above", file=out)


def print_table(facts, found, left_out, cases, out):
    for key, value in facts.items():
        print(f"{key:<10} {value}", file=out)
    print("\nrows, missing (acknowledged and not there), doubled, unknown (an error, and yet there) and hung are\n"
          "sums; all else is the median and the maximum of one change. own: the old primary's last write to the\n"
          "new one's first, seen by an observer. late: errors of statements that began after the old one's end.\n"
          "first: a row of any writer after the new primary's first; all: of the last writer. - is never. Seconds\n"
          "mean nothing on another machine.", file=out)
    for name, results in found.items():
        if results:
            n_changes = max(map(len, results.values()))
            print(f"\n{name}: {cases[name].what}; {n_changes} each", file=out)
            print_case(cases[name], results, out)
    for text in left_out:
        print(f"\nleft out: {text}", file=out)
