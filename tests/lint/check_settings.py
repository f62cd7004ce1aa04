#!/usr/bin/env python3
"""Holds config/keys.def to its word.

    check_settings.py [--root FOLDER] [--settings FILE]

Fails, with one line per finding, when
- the proof of a setting names a test that does not exist below tests/
- a setting is read by no C code outside config/ (and tests/); of a setting that config/
  itself makes something else of, that is what must be read: see BECOMES
- docs/settings.md differs from FILE, which holds what
  `pgrouter --settings --markdown` prints ('-': standard input)

A row with NO_EFFECT("why") in place of a proof is left out of the first two.
"""
import argparse
import difflib
import pathlib
import re
import sys

# (section, name): the member or function of config.h that brings it to the other folders.
BECOMES = {
    ('main', 'listen_addr'): 'bind',
    ('main', 'listen_port'): 'bind',
    ('main', 'unix_socket_dir'): 'bind',
    ('main', 'auth_file'): 'config_secret',
    ('main', 'auth_type'): 'config_auth_type',
    ('listener', 'auth_type'): 'config_auth_type',
    ('main', 'pool_mode'): 'config_pool_mode',
    ('listener', 'pool_mode'): 'config_pool_mode',
    ('database', 'pool_mode'): 'config_pool_mode',
    ('user', 'pool_mode'): 'config_pool_mode',
    ('main', 'replay'): 'config_replay',
    ('database', 'replay'): 'config_replay',
    ('user', 'replay'): 'config_replay',
    ('main', 'follow_hosts'): 'follows_host',
    ('main', 'auth_ident_file'): 'config_allows_certificate',
    ('main', 'auth_ident_map'): 'config_allows_certificate',
    ('main', 'server_tls_sslnegotiation'): 'sslnegotiation',
    ('cluster', 'aliases'): 'follows_host',
}

# A comment, a string or a character: in this order, so that none is sought in another.
NOT_CODE = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def strip(c_text, keep_strings):
    """C without comments; strings stay or become empty ones."""
    def replace(match):
        token = match.group()
        if token[0] == '/':
            return ' '
        return token if keep_strings else token[0] * 2
    return NOT_CODE.sub(replace, c_text)


def split_arguments(text):
    """The arguments of a macro's call, from behind its '(', and where it ends."""
    arguments, depth, start, at = [], 0, 0, 0
    while at < len(text):
        if text[at] == '"':
            at = re.compile(r'"(?:\\.|[^"\\])*"').match(text, at).end()
            continue
        if text[at] == '(':
            depth += 1
        elif text[at] == ')' and depth > 0:
            depth -= 1
        elif text[at] in ',)' and depth == 0:
            arguments.append(text[start:at].strip())
            start = at + 1
            if text[at] == ')':
                return arguments
        at += 1
    raise ValueError('a row of keys.def has no end')


def read_settings(root):
    """[(section, name, proof)]; the proof is None for NO_EFFECT."""
    text = strip((root / 'config/keys.def').read_text(), keep_strings=True)
    text = re.sub(r'^\s*#.*$', '', text, flags=re.M)
    rows = []
    for match in re.finditer(r'\bKEY_(\w+)\(', text):
        arguments = split_arguments(text[match.end():])
        if len(arguments) != 8:
            raise ValueError(f'{match.group()}{arguments[1]}: expected 8 columns')
        proof = arguments[7]
        rows.append((match.group(1).lower(), arguments[1],
                     None if proof.startswith('NO_EFFECT(') else
                     ''.join(re.findall(r'"([^"]*)"', proof))))
    if not rows:
        raise ValueError('keys.def has no rows')
    return rows


def missing_proof(root, proof):
    """What is wrong with "file::name", or None."""
    file_name, separator, test = proof.partition('::')
    path = root / 'tests' / file_name
    if not separator or not re.fullmatch(r'\w+', test):
        return f"its proof '{proof}' is not of the form file::name"
    if not path.is_file():
        return f"its proof names tests/{file_name}, which does not exist"
    text = path.read_text()
    if path.suffix == '.c':
        text = strip(text, keep_strings=False)
        pattern = rf'\b(?:Parameterized)?Test\s*\([^()]*,\s*{test}\b'
    else:
        pattern = rf'^\s*(?:async\s+)?def\s+{test}\s*\('
    if not re.search(pattern, text, re.M):
        return f"its proof names a test that tests/{file_name} does not have: {test}"
    return None


def code_outside_config(root):
    texts = []
    for path in sorted(root.rglob('*')):
        top = path.relative_to(root).parts[0]
        if (path.suffix in ('.c', '.h') and path.is_file() and not top.startswith('.')
                and top not in ('config', 'tests', 'bench') and not top.startswith('build')):
            texts.append(strip(path.read_text(), keep_strings=False))
    return '\n'.join(texts)


def is_read(section, name, code):
    """As a member, neither called nor set by a designated initialiser or assignment."""
    becomes = BECOMES.get((section, name), name)
    if becomes.startswith('config_'):
        return re.search(rf'\b{becomes}\s*\(', code) is not None
    return re.search(rf'(?:->|\.)\s*{becomes}\b(?!\s*(?:\(|=(?!=)))', code) is not None


def differences(root, settings):
    path = root / 'docs/settings.md'
    if not path.is_file():
        return ['docs/settings.md does not exist']
    lines = list(difflib.unified_diff(
        path.read_text().splitlines(), settings.splitlines(),
        'docs/settings.md', 'pgrouter --settings --markdown', lineterm='', n=0))
    return ['docs/settings.md is not what pgrouter prints:'] + lines if lines else []


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--root', type=pathlib.Path,
                        default=pathlib.Path(__file__).resolve().parents[2])
    parser.add_argument('--settings', metavar='FILE')
    options = parser.parse_args()

    findings = []
    code = code_outside_config(options.root)
    for section, name, proof in read_settings(options.root):
        if proof is None:
            continue
        problem = missing_proof(options.root, proof)
        if problem:
            findings.append(f'{section} {name}: {problem}')
        if not is_read(section, name, code):
            findings.append(f'{section} {name}: no code outside config/ reads it')
    if options.settings == '-':
        findings += differences(options.root, sys.stdin.read())
    elif options.settings:
        findings += differences(options.root,
                                pathlib.Path(options.settings).read_text())
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == '__main__':
    sys.exit(main())
