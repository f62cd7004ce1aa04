#!/usr/bin/env python3
"""Files as a C table (see assets.h): embed.py OUTPUT FILE..."""

import os
import sys

TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


def main(output, *paths):
    with open(output, "w", encoding="ascii") as out:
        out.write('#include "router/console/assets.h"\n\n')
        for number, path in enumerate(paths):
            with open(path, "rb") as file:
                numbers = ",".join(map(str, file.read()))
            out.write(f"static const unsigned char file_{number}[] = {{{numbers}}};\n")
        out.write("\nconst struct asset assets[] = {\n")
        for number, path in enumerate(paths):
            name = os.path.basename(path)
            out.write(f'    {{"/{name}", "{TYPES[os.path.splitext(name)[1]]}", file_{number}, '
                      f'sizeof file_{number}}},\n')
        out.write("};\n\nconst unsigned n_assets = sizeof assets / sizeof assets[0];\n")


main(*sys.argv[1:])
