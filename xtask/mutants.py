#!/usr/bin/env python3
"""Tries the mutants of `cargo mutants` without a build for each: all of them are compiled into one copy of the library,
in which an environment variable says which one is alive.

    xtask/mutants.py build COPY              # makes a copy of the repository at COPY, puts the mutants in, builds it
    xtask/mutants.py run COPY TESTS [...]    # tries them; see `--help`

A function with mutants becomes a `match` over the number of the one that is alive, with one copy of its body for each.
Which mutants there are is asked of `cargo mutants`, so that `.cargo/mutants.toml` has its say. Those that do not compile
are found by the compiler and left out. Mutants of constants, and of functions that return an `impl` of something, are left for
`cargo mutants` itself.

A mutant is *caught* when a test fails, *slow* when one takes far longer than it does without a mutant, else *missed*.
"""

import argparse
import collections
import concurrent.futures
import json
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
VARIABLE = "CASKLOG_MUTANT"
# Seconds that a test may take by the clock, beside what it is given for its work.
WAITS = 120
SELECTOR = f"""

/// The number of the mutant that is alive; 0 is none.
pub(crate) fn mutant_alive() -> u32 {{
    static ALIVE: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    *ALIVE.get_or_init(|| std::env::var("{VARIABLE}").map_or(0, |text| text.parse().expect("a number")))
}}
"""


# Making the copy


def mutants():
    """All of them, numbered from 1 in the order of `cargo mutants --list`."""
    listed = subprocess.run(["cargo", "mutants", "--list", "--json"], cwd=ROOT, check=True, capture_output=True).stdout
    found = json.loads(listed)
    for number, mutant in enumerate(found, 1):
        mutant["number"] = number
    return found


def place(starts, at):
    return starts[at["line"] - 1] + at["column"] - 1


def body_start(text, start):
    """Where the body's `{` of the function that starts at `start` stands."""
    depth = 0
    for at in range(start, len(text)):
        letter = text[at]
        depth += (letter in "([") - (letter in ")]")
        if letter == "{" and depth == 0:
            return at
    raise ValueError("a function without a body")


def with_mutants(text, found):
    """The text of a file with its mutants in it, and those that were left out."""
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    functions, left = collections.defaultdict(list), []
    for mutant in found:
        # The arms of a `match` have one type, and each copy of a closure has its own.
        if mutant["function"] is None or "impl " in mutant["function"]["return_type"]:
            left.append(mutant)
            continue
        span = mutant["function"]["span"]
        functions[place(starts, span["start"]), place(starts, span["end"])].append(mutant)
    for inner in list(functions):
        # A function in a function is copied with the one that it stands in.
        holding = [other for other in functions if other != inner and other[0] <= inner[0] and inner[1] <= other[1]]
        if holding:
            functions[min(holding)] += functions.pop(inner)
    spans = sorted(functions)
    parts, done = [], 0
    for start, end in spans:
        body = body_start(text, start)
        head = text[start:body]
        parts += [text[done:start], re.sub(r"\bconst fn\b", "fn", head), "{ match crate::mutant_alive() {\n"]
        for mutant in functions[start, end]:
            low, high = (place(starts, mutant["span"][side]) for side in ("start", "end"))
            inside = text[body:low] + mutant["replacement"] + " " + text[high:end]
            parts.append(f"/*<{mutant['number']}>*/ {mutant['number']} => {inside}\n")
        parts += ["/*<0>*/ _ => ", text[body:end], "\n} }"]
        done = end
    return "".join(parts) + text[done:], left


def put_in(copy, found):
    """Writes the sources with these mutants; returns those that stand outside functions."""
    by_file, left = collections.defaultdict(list), []
    for mutant in found:
        by_file[mutant["file"]].append(mutant)
    for file, there in by_file.items():
        text, outside = with_mutants((ROOT / file).read_text(), there)
        write(copy / file, text)
        left += outside
    write(copy / "src/lib.rs", (ROOT / "src/lib.rs").read_text() + SELECTOR)
    return left


def write(path, text):
    """Only where it is another text: cargo goes by the time of a file."""
    if not path.exists() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def messages(copy, *command, flags=""):
    """What the compiler says: errors with the places they name, and the test programs."""
    environment = dict(os.environ, RUSTFLAGS=f"--cap-lints allow -A warnings {flags}")
    run = subprocess.run(
        ["cargo", *command, "--message-format=json"], cwd=copy, env=environment, stdout=subprocess.PIPE, text=True
    )
    return run.returncode == 0, [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]


def blamed(copy, spoken, sources):
    """The numbers of the mutants in which errors stand."""
    numbers, unknown = set(), []
    for message in spoken:
        if message["reason"] != "compiler-message" or message["message"]["level"] != "error":
            continue
        spans = [span for span in message["message"]["spans"] if span["is_primary"]]
        for span in spans:
            file = span["file_name"]
            if file not in sources:
                sources[file] = (copy / file).read_bytes()
            before = sources[file][: span["byte_end"]]
            marks = re.findall(rb"/\*<(\d+)>\*/", before)
            if marks and marks[-1] != b"0":
                numbers.add(int(marks[-1]))
            else:
                unknown.append(message["message"]["rendered"])
    return numbers, unknown


def build(arguments):
    copy = arguments.copy
    found = [mutant for mutant in mutants() if mutant["file"] != "src/lib.rs"]
    changed = {mutant["file"] for mutant in found} | {"src/lib.rs"}
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for file in set(files.splitlines()) - changed:
        (copy / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / file, copy / file)
    unviable, alive = [], found
    while True:
        outside = put_in(copy, alive)
        done, spoken = messages(copy, "check", "--lib", "--features", "testing", *arguments.profile)
        if done:
            break
        numbers, unknown = blamed(copy, spoken, {})
        if not numbers:
            sys.exit("the copy does not compile\n" + "\n".join(unknown))
        unviable += [mutant for mutant in alive if mutant["number"] in numbers]
        alive = [mutant for mutant in alive if mutant["number"] not in numbers]
        print(f"{len(numbers)} mutants do not compile", flush=True)
    outside = {mutant["number"] for mutant in outside}
    verdicts = [("unviable", mutant) for mutant in unviable]
    verdicts += [("outside" if mutant["number"] in outside else "alive", mutant) for mutant in alive]
    programs = {}

    def compile_tests(*command, flags="", lib="lib"):
        done, spoken = messages(copy, "test", "--no-run", *command, flags=flags)
        if not done:
            sys.exit("the tests do not compile")
        for message in spoken:
            if message["reason"] == "compiler-artifact" and message["executable"] and message["profile"]["test"]:
                name = lib if message["target"]["kind"] == ["lib"] else message["target"]["name"]
                # Another name, so that a later build does not take them from under a run.
                programs[name] = str(copy / "target" / f"mutants-{name}")
                shutil.copy2(message["executable"], programs[name] + ".new")
                os.replace(programs[name] + ".new", programs[name])

    named = {"lib": ["--lib"], "models": []}
    tests = [argument for test in arguments.tests for argument in named.get(test, ["--test", test])]
    compile_tests(*tests, *arguments.profile)
    if "models" in arguments.tests:
        directory = ["--target-dir", str(copy / "target/loom")]
        compile_tests("--release", "--lib", *directory, flags="--cfg casklog_loom", lib="models")
    kept = [dict(mutant, state=state, diff=None) for state, mutant in verdicts]
    (copy / "mutants.json").write_text(json.dumps({"mutants": kept, "programs": programs}))
    print(collections.Counter(state for state, _ in verdicts))


# Running


def try_program(built, tests, number, copy, seconds, environment):
    """How the tests of one program end with a mutant alive: `passed`, `slow`, or the name of a test that fails.

    A test that turns in circles is cut off after so many seconds of processor time, which other work on the machine
    does not make longer; one that waits for ever, after much more time by the clock."""
    name, _, words = tests.partition("@")
    words = [word if word[0] != "-" else f"--skip={word[1:]}" for word in words.split(",") if word]
    scratch = tempfile.mkdtemp(prefix="mutant", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    environment = dict(environment, **{VARIABLE: str(number), "TMPDIR": scratch, "RUST_BACKTRACE": "0"})

    def limit():
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds)))
        resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
        resource.setrlimit(resource.RLIMIT_FSIZE, (256 << 20, 256 << 20))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    process = subprocess.Popen(
        [built["programs"][name], "--test-threads=2", *words], cwd=copy, env=environment, preexec_fn=limit,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors="replace",
    )
    is_late = threading.Event()

    def kill():
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def late():
        is_late.set()
        kill()

    timer = threading.Timer(WAITS + 10 * seconds, late)
    timer.start()
    try:
        failed = None
        for line in process.stdout:
            if match := re.match(r"test (\S+).* FAILED$", line.rstrip()):
                failed = match[1]
                break
        kill() if failed else None
        code = process.wait()
    finally:
        timer.cancel()
        kill()
        process.stdout.close()
        shutil.rmtree(scratch, ignore_errors=True)
    if failed:
        return failed
    if is_late.is_set() or code in (-signal.SIGXCPU, -signal.SIGKILL):
        return "slow"
    return "passed" if code == 0 else f"(ended with {code})"


def run(arguments):
    copy = arguments.copy
    built = json.loads((copy / "mutants.json").read_text())
    environment = dict(os.environ, **dict(pair.split("=", 1) for pair in arguments.set))
    usual = {}
    for name in arguments.tests:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        outcome = try_program(built, name, 0, copy, 3600, environment)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        usual[name] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        print(f"without a mutant: {name} {outcome}, {usual[name]:.1f} s of processor time", flush=True)
        if outcome != "passed":
            sys.exit(1)
    results = pathlib.Path(arguments.results)
    known = {}
    if results.exists():
        known = {line["name"]: line for line in map(json.loads, results.read_text().splitlines())}
    wanted = [mutant for mutant in built["mutants"] if mutant["state"] == "alive"]
    wanted = [mutant for mutant in wanted if not arguments.match or re.search(arguments.match, mutant["name"])]
    if arguments.again:
        wanted = [mutant for mutant in wanted if known.get(mutant["name"], {}).get("verdict") in arguments.again]
    else:
        wanted = [mutant for mutant in wanted if mutant["name"] not in known]
    random.Random(arguments.seed).shuffle(wanted)
    until = time.monotonic() + arguments.minutes * 60
    lock, counts = threading.Lock(), collections.Counter()

    def judge(mutant):
        if time.monotonic() > until:
            return
        verdict, by, started = "missed", None, time.monotonic()
        for name in arguments.tests:
            outcome = try_program(
                built, name, mutant["number"], copy, 10 + arguments.patience * usual[name], environment
            )
            if outcome != "passed":
                verdict, by = ("slow" if outcome == "slow" else "caught"), f"{name}: {outcome}"
                break
        line = {"number": mutant["number"], "name": mutant["name"], "verdict": verdict, "by": by}
        line["seconds"] = round(time.monotonic() - started, 1)
        with lock, results.open("a") as file:
            file.write(json.dumps(line) + "\n")
            counts[verdict] += 1
            if verdict != "caught" or sum(counts.values()) % 50 == 0:
                print(f"{sum(counts.values())} of {len(wanted)} {verdict}: {mutant['name']} {by or ''}", flush=True)

    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(judge, wanted))
    print(counts)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("build")
    command.add_argument("copy", type=pathlib.Path)
    command.add_argument("tests", nargs="+", help="files of tests, `lib`, or `models`, which are those under loom")
    command.add_argument("--profile", type=lambda name: ["--profile", name], default=[])
    command.set_defaults(command=build)
    command = commands.add_parser("run")
    command.add_argument("copy", type=pathlib.Path)
    command.add_argument("tests", nargs="+", help="in this order; `crash@named::,-slow` are those of `crash` so called")
    command.add_argument("--results", required=True, help="a file of JSON lines that is added to")
    command.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="in the environment of tests")
    command.add_argument("--match", help="only mutants whose names match this expression")
    command.add_argument("--again", action="append", help="only those with this verdict in the results")
    command.add_argument("--minutes", type=float, default=1e6, help="begin none after so long")
    command.add_argument("--patience", type=float, default=6, help="times as long as without a mutant is slow")
    command.add_argument("--jobs", type=int, default=2)
    command.add_argument("--seed", type=int, default=1)
    command.set_defaults(command=run)
    arguments = parser.parse_args()
    if hasattr(arguments, "copy"):
        arguments.copy = arguments.copy.resolve()
    arguments.command(arguments)


if __name__ == "__main__":
    main()
