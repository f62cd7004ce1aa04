#!/usr/bin/python3
"""A folder includes itself and those before it; fails on an include that points up.

    layers.py [TOP]

Quoted includes are written from the top ("core/list.h"), and name files that exist;
system headers stand in angle brackets. Tests and benchmarks may include everything;
nothing includes them, except a test what lies beside it or in tests/lib/.
"""

import pathlib
import re
import sys

ORDER = ["core", "wire", "config", "health", "pool", "router"]
ABOVE_ALL = ["tests", "bench"]
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(["<])([^">]+)[">]', re.MULTILINE)


def wrong(top, source, bracket, included):
    """What is wrong with an include, in words; None when nothing is."""
    folder, included_folder = source.parts[0], included.split("/")[0]
    exists = (top / included).is_file()
    if bracket == "<":
        if exists and included_folder in ORDER:
            return "is ours, and belongs in quotes"
        return None
    if folder in ABOVE_ALL:
        if exists or (top / source.parent / included).is_file() or (top / "tests" / included).is_file():
            return None
        return "does not exist"
    if included_folder not in ORDER:
        return "is not written from the top, as one of " + ", ".join(ORDER)
    if not exists:
        return "does not exist"
    if ORDER.index(included_folder) > ORDER.index(folder):
        return f"points up: {folder}/ includes itself and what comes before it in {', '.join(ORDER)}"
    return None


def main():
    top = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[2])
    n_files, n_wrong = 0, 0
    for folder in ORDER + ABOVE_ALL:
        for path in sorted((top / folder).rglob("*")):
            if path.suffix not in (".c", ".h", ".def"):
                continue
            n_files += 1
            text = path.read_text(encoding="utf-8")
            for found in INCLUDE.finditer(text):
                why = wrong(top, path.relative_to(top), *found.groups())
                if why is not None:
                    n_wrong += 1
                    line = text.count("\n", 0, found.start()) + 1
                    print(f"{path.relative_to(top)}:{line}: {found.group(2)} {why}")
    print(f"includes: {n_files} files, {n_wrong} wrong")
    return 1 if n_wrong or not n_files else 0


if __name__ == "__main__":
    sys.exit(main())
