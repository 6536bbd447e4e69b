#!/usr/bin/env python3
"""Measures the finished program from outside: files in, pictures out, in a real pseudo-terminal of 120x40.

    cargo build --release
    python3 benches/whole.py [--podium PATH] [--only frame,start,…] [--quick] [--json FILE]

Every scenario gets its own stage in a temporary folder, with `command` engines that need no key and no network. A
child's first act is to write the time (bash's own EPOCHREALTIME: no further process); times of files are taken from
inotify, times of pictures when the bytes arrive in the terminal. Linux only, standard library only.
"""

import argparse
import ctypes
import datetime
import fcntl
import json
import os
import platform
import pty
import re
import select
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time

COLUMNS, ROWS = 120, 40
AGENTS = ("marie", "anga", "fabien")


# ------------------------------------------------------------------------------------------------ a small terminal
class Terminal:
    """A program in a pseudo-terminal, and enough of a terminal to know which text stands where."""

    PIECE = re.compile(rb"\x1b\[([<-?]*)([0-9;:]*)[ -/]*([@-~])|\x1b[\]P_^X].*?(?:\x07|\x1b\\)|\x1b[()*+].|\x1b[^\[\]P_^X]|[^\x1b]+",
                       re.S)
    ANSWERS = ((b"\x1b[6n", b"\x1b[1;1R"), (b"\x1b[c", b"\x1b[?62;22c"), (b"\x1b[?u", b"\x1b[?0u"))

    def __init__(self, argv, env, cwd):
        self.grid = [[" "] * COLUMNS for _ in range(ROWS)]
        self.x = self.y = 0
        self.rest = b""
        self.bytes = 0
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.began = time.time()

        def take_terminal():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.child = subprocess.Popen(argv, env=env, cwd=cwd, stdin=slave, stdout=slave, stderr=slave,
                                      preexec_fn=take_terminal, close_fds=True)
        os.close(slave)

    def text(self):
        return "\n".join("".join(row) for row in self.grid)

    def row(self, word):
        """The rows that hold a word."""
        return [line for line in self.text().split("\n") if word in line]

    def until(self, seen, seconds):
        """Waits until `seen(self)`; the time when the bytes that made it true arrived, else None."""
        end = time.time() + seconds
        if seen(self):
            return time.time()
        while True:
            left = end - time.time()
            if left <= 0 or not select.select([self.master], [], [], left)[0]:
                return None
            # Everything that is there is read before any of it is understood, so that reading never slows the writer.
            chunk = b""
            while select.select([self.master], [], [], 0)[0]:
                try:
                    more, at = os.read(self.master, 65536), time.time()
                except OSError:
                    break
                chunk += more
            if not chunk:
                return None
            self.feed(chunk)
            if seen(self):
                return at

    def send(self, keys):
        os.write(self.master, keys)

    def feed(self, chunk):
        self.bytes += len(chunk)
        for asked, answer in self.ANSWERS:
            if asked in chunk:
                os.write(self.master, answer)
        data, at = self.rest + chunk, 0
        self.rest = b""
        while at < len(data):
            piece = self.PIECE.match(data, at)
            if not piece:
                self.rest = data[at:]
                return
            if piece.group(3):
                self.control(piece.group(1), piece.group(2), piece.group(3))
            elif data[at] != 0x1B:
                raw = piece.group(0)
                if piece.end() == len(data):
                    # A character may arrive in two halves.
                    for back in range(1, min(4, len(raw)) + 1):
                        if raw[-back] >= 0xC0:
                            need = 2 if raw[-back] < 0xE0 else 3 if raw[-back] < 0xF0 else 4
                            if need > back:
                                self.rest, raw = raw[-back:], raw[:-back]
                            break
                        if raw[-back] < 0x80:
                            break
                self.put(raw.decode("utf-8", "replace"))
            at = piece.end()

    def put(self, text):
        for letter in text:
            if letter == "\n":
                self.y = min(self.y + 1, ROWS - 1)
            elif letter == "\r":
                self.x = 0
            elif letter >= " ":
                if self.x < COLUMNS:
                    self.grid[self.y][self.x] = letter
                self.x += 1

    def control(self, private, numbers, final):
        if private:
            if final == b"h" and b"1049" in numbers:
                self.grid = [[" "] * COLUMNS for _ in range(ROWS)]
            return
        n = [int(part) for part in numbers.split(b";") if part.isdigit()]
        if final in b"Hf":
            self.y = min((n[0] if n else 1), ROWS) - 1
            self.x = min((n[1] if len(n) > 1 else 1), COLUMNS) - 1
        elif final == b"G":
            self.x = min((n[0] if n else 1), COLUMNS) - 1
        elif final == b"J":
            self.grid = [[" "] * COLUMNS for _ in range(ROWS)]
        elif final == b"K":
            self.grid[self.y][self.x:] = [" "] * (COLUMNS - self.x)

    def end(self):
        if self.child.poll() is None:
            self.child.terminate()
            # It writes its farewell into the terminal; somebody has to read it.
            deadline = time.time() + 5
            while self.child.poll() is None and time.time() < deadline:
                self.until(lambda _: False, 0.02)
            if self.child.poll() is None:
                self.child.kill()
        self.child.wait()
        os.close(self.master)


# ------------------------------------------------------------------------------------------------ folders
class Watch:
    """Tells when a name appears in a folder: renamed in, linked in, or closed after writing."""

    APPEARS = 0x80 | 0x8 | 0x100  # moved to, closed after writing, created

    def __init__(self, *folders):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self.libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        self.names = {}
        for folder in folders:
            if self.libc.inotify_add_watch(self.fd, os.fsencode(folder), self.APPEARS) < 0:
                raise OSError(ctypes.get_errno(), f"could not watch {folder}")

    def until(self, name, seconds):
        """When `name` was first seen, else None."""
        end = time.time() + seconds
        while name not in self.names:
            left = end - time.time()
            if left <= 0 or not select.select([self.fd], [], [], left)[0]:
                return None
            data, now, at = os.read(self.fd, 65536), time.time(), 0
            while at < len(data):
                (length,) = struct.unpack_from("I", data, at + 12)
                found = data[at + 16:at + 16 + length].rstrip(b"\0").decode()
                self.names.setdefault(found, now)
                at += 16 + length
        return self.names[name]

    def end(self):
        os.close(self.fd)


class Stage:
    """A stage of its own, its room, and what belongs to both."""

    def __init__(self, podium, script, more=""):
        self.podium = podium
        self.top = tempfile.mkdtemp(prefix="podium-bench-")
        self.folder = os.path.join(self.top, "stage")
        self.stamps = os.path.join(self.top, "stamps")
        os.makedirs(self.folder)
        os.makedirs(self.stamps)
        self.env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": self.top, "TERM": "xterm-256color", "LANG": "C.UTF-8",
                    "COLORTERM": "truecolor"}
        engine = os.path.join(self.top, "engine.sh")
        with open(engine, "w") as file:
            file.write(f'echo "$EPOCHREALTIME" > {self.stamps}/$PODIUM_TASK_ID\n{script}\n'
                       f'echo "$EPOCHREALTIME" >> {self.stamps}/$PODIUM_TASK_ID\n')
        with open(os.path.join(self.folder, "podium.toml"), "w") as file:
            file.write(more)
            for agent in AGENTS:
                command = json.dumps(["bash", "--norc", engine])
                file.write(f'[agents.{agent}]\nengine = "command"\ncommand = {command}\n')

    def call(self, *words):
        done = subprocess.run([self.podium, *words], cwd=self.folder, env=self.env, capture_output=True, text=True,
                              timeout=120)
        if done.returncode:
            sys.exit(f"podium {' '.join(words)}: {done.stderr or done.stdout}")
        return done.stdout

    def open(self):
        """Starts the room and waits until its workers are there."""
        self.call("serve", "--detach")
        end = time.time() + 30
        while time.time() < end:
            slots = [slot for agent in self.status()["agents"] for slot in agent["slots"]]
            if len(slots) == 3 and all(slot["process"] == "up" for slot in slots):
                return self
            time.sleep(0.1)
        sys.exit("the workers did not come")

    def status(self):
        return json.loads(self.call("status", "--json"))

    def screen(self):
        return Terminal([self.podium], self.env, self.folder)

    def drop(self, agent, task, in_place=True, **fields):
        """Puts a task file into an inbox; the time just before it was there."""
        path = os.path.join(self.folder, "tasks", agent, f"{task}.json")
        text = json.dumps({"task_id": task, "description": f"bench {task}", **fields})
        if in_place:
            before = time.time()
            with open(path, "w") as file:
                file.write(text)
            return before
        aside = os.path.join(self.top, "aside.json")
        with open(aside, "w") as file:
            file.write(text)
        before = time.time()
        os.rename(aside, path)
        return before

    def results(self):
        return Watch(*(os.path.join(self.folder, "results", agent) for agent in AGENTS))

    def stamp(self, task, line=0):
        with open(os.path.join(self.stamps, task)) as file:
            return float(file.read().split()[line])

    def pids(self):
        """The room, which is two processes, and its workers."""
        return family(self.status()["pid"])

    def room_pids(self):
        """The room's guardian and its core."""
        status = self.status()
        return [status["pid"], status["core_pid"]]

    def end(self):
        subprocess.run([self.podium, "stop"], cwd=self.folder, env=self.env, capture_output=True, timeout=60)
        shutil.rmtree(self.top, ignore_errors=True)


# ------------------------------------------------------------------------------------------------ figures
def spread(values, target=None, unit="ms"):
    values = sorted(values)
    share = lambda part: values[min(len(values) - 1, int(part * len(values)))]  # noqa: E731
    figure = {"n": len(values), "median": statistics.median(values), "p95": share(0.95), "p99": share(0.99),
              "min": values[0], "max": values[-1], "unit": unit}
    if target is not None:
        figure.update(target=target, met=figure["median"] < target)
    return figure


def single(value, unit, target=None):
    figure = {"n": 1, "median": value, "unit": unit}
    if target is not None:
        figure.update(target=target, met=value < target)
    return figure


def must(value, what):
    if value is None:
        sys.exit(f"gave up waiting: {what}")
    return value


QUICK_SCRIPT = "read -r _line; echo done"


# ------------------------------------------------------------------------------------------------ scenarios
def thousand(podium):
    """A room with 1,000 tasks: 600 ended by its own workers, 400 that wait."""
    stage = Stage(podium, QUICK_SCRIPT).open()
    with stage_guard(stage):
        for i in range(600):
            stage.drop(AGENTS[i % 3], f"ended-{i:04}")
        end = time.time() + 300
        while stage.status()["counts"]["done"] < 600:
            if time.time() > end:
                sys.exit("600 tasks did not end in five minutes")
            time.sleep(0.5)
        for agent in AGENTS:
            stage.call("pause", agent)
        for i in range(400):
            stage.drop(AGENTS[i % 3], f"waits-{i:04}")
        while sum(stage.status()["counts"].values()) < 1000:
            if time.time() > end:
                sys.exit("400 tasks were not taken in")
            time.sleep(0.2)
    return stage


class stage_guard:
    """Ends the stage when the preparation fails."""

    def __init__(self, stage):
        self.stage = stage

    def __enter__(self):
        return self.stage

    def __exit__(self, kind, *_):
        if kind:
            self.stage.end()


def frame(podium, quick):
    """exec of `podium` until agents, tasks and the header's counts stand in the terminal."""
    stage = thousand(podium)
    figures = {}
    try:
        for ready, name, target in ((400, "1,000", 100), (9_400, "10,000", None)):
            for i in range(sum(stage.status()["counts"].values()), 600 + ready):
                stage.drop(AGENTS[i % 3], f"later-{i:05}")
            end = time.time() + 300
            while stage.status()["counts"]["ready"] < ready:
                if time.time() > end:
                    sys.exit(f"{ready} tasks were not taken in")
                time.sleep(0.5)

            def useful(screen):
                text = screen.text()
                return f"{ready} ready" in text and "600 done" in text and "waits-00" in text and "fabien" in text

            times = []
            for _ in range(5 if quick else 30):
                screen = stage.screen()
                at = must(screen.until(useful, 10), f"a useful frame; it shows:\n{screen.text()}")
                times.append((at - screen.began) * 1e3)
                screen.end()
            figures[f"first useful frame, {name} tasks"] = spread(times, target)
        return figures
    finally:
        stage.end()


def key(podium, quick):
    """A key is pressed until the screen shows what it does, while three agents flood their logs."""
    line = "x" * 100
    stage = Stage(podium, f"read -r _line; while :; do for i in {{1..200}}; do echo $i {line}; done; sleep 0.05; done").open()
    screen = None
    try:
        for agent in AGENTS:
            stage.drop(agent, f"flood-{agent}")
        screen = stage.screen()
        must(screen.until(lambda s: "3 running" in s.text() and line[:40] in s.text(), 20), f"a flood:\n{screen.text()}")
        times = []
        for _ in range(20 if quick else 100):
            for pressed, is_open in ((b"?", True), (b"\x1b", False)):
                screen.until(lambda _: False, 0.06)
                before = time.time()
                screen.send(pressed)
                seen = screen.until(lambda s: ("Everywhere" in s.text()) == is_open, 5)
                # A lone escape may be the start of a longer key, so the terminal's reader has to wait for it.
                if is_open:
                    times.append((must(seen, f"the help:\n{screen.text()}") - before) * 1e3)
        return {"key → changed screen while three agents flood": spread(times)}
    finally:
        if screen:
            screen.end()
        stage.end()


def start(podium, quick):
    """A file appears in tasks/marie/ until the attempt's child acts."""
    stage = Stage(podium, QUICK_SCRIPT).open()
    figures = {}
    try:
        for in_place, name in ((True, "written in place"), (False, "renamed in")):
            times, whole = [], []
            for i in range(15 if quick else 60):
                results = stage.results()
                task = f"{'w' if in_place else 'r'}-{i:03}"
                before = stage.drop("marie", task, in_place)
                ended = must(results.until(f"{task}.json", 20), f"the result of {task}")
                results.end()
                times.append((stage.stamp(task) - before) * 1e3)
                whole.append((ended - stage.stamp(task, 1)) * 1e3)
                # Let the worker go idle, as it is when a person drops a file.
                time.sleep(0.05)
            figures[f"file {name} → attempt started"] = spread(times, 50)
            figures[f"child's last act → result file ({name})"] = spread(whole)
        return figures
    finally:
        stage.end()


def dependent(podium, quick):
    """A parent's result appears until its dependent's child acts."""
    stage = Stage(podium, QUICK_SCRIPT).open()
    figures = {}
    try:
        for child_agent, name in (("anga", "another agent"), ("marie", "the same agent")):
            from_result, from_act = [], []
            for i in range(8 if quick else 30):
                results = stage.results()
                parent, child = f"p-{child_agent}-{i:03}", f"c-{child_agent}-{i:03}"
                stage.drop(child_agent, child, dependencies=[f"marie/{parent}"])
                time.sleep(0.1)
                stage.drop("marie", parent)
                ended = must(results.until(f"{parent}.json", 20), f"the result of {parent}")
                must(results.until(f"{child}.json", 20), f"the result of {child}")
                results.end()
                from_result.append((stage.stamp(child) - ended) * 1e3)
                from_act.append((stage.stamp(child) - stage.stamp(parent, 1)) * 1e3)
            figures[f"parent's result → dependent started, {name}"] = spread(from_result, 100)
            figures[f"parent's last act → dependent started, {name}"] = spread(from_act)
        return figures
    finally:
        stage.end()


def shown(podium, quick):
    """A file, and a result, until they are on the screen; the room holds 1,000 tasks already."""
    stage = thousand(podium)
    screen = None
    try:
        stage.call("resume", "fabien")
        end = time.time() + 120
        while stage.status()["counts"]["done"] < 733:
            if time.time() > end:
                sys.exit("fabien's tasks did not end")
            time.sleep(0.5)
        stage.call("pause", "fabien")
        screen = stage.screen()
        must(screen.until(lambda s: "733 done" in s.text(), 10), "the screen")
        files, results = [], []
        total = 267
        for i in range(8 if quick else 30):
            screen.until(lambda _: False, 0.3)
            task = f"needle-{i:03}"
            before = stage.drop("fabien", task)
            total += 1
            at = must(screen.until(lambda s: f"{total} ready" in s.text(), 10), f"{task} on screen:\n{screen.text()}")
            files.append((at - before) * 1e3)
            screen.until(lambda _: False, 0.3)
            path = os.path.join(stage.folder, "results", "fabien", f"{task}.json")
            before = time.time()
            with open(path, "w") as file:
                json.dump({"task_id": task, "status": "completed", "summary": f"found {task}"}, file)
            total -= 1
            at = must(screen.until(lambda s: f"{734 + i} done" in s.text(), 10), f"the result of {task}:\n{screen.text()}")
            results.append((at - before) * 1e3)
        return {"file dropped → on screen, 1,000 tasks": spread(files, 200),
                "result written → on screen, 1,000 tasks": spread(results, 200)}
    finally:
        if screen:
            screen.end()
        stage.end()


def cpu_seconds(pids):
    """CPU time of all threads, ended ones included, in seconds: the kernel's own clock of each process."""
    return sum(time.clock_gettime(~pid << 3 | 2) for pid in pids)


def ticks(pids):
    """User and system time, in clock ticks."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total


def family(pid):
    """A process and everything below it."""
    found = [pid]
    for one in found:
        for task in os.listdir(f"/proc/{one}/task"):
            with open(f"/proc/{one}/task/{task}/children") as file:
                found += [int(child) for child in file.read().split()]
    return found


def pss_kib(pid):
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return {line.split()[0].rstrip(":"): int(line.split()[1]) for line in file if line.split()[-1] == "kB"}


def idle(podium, quick):
    """Room, three workers and a screen with nothing to do."""
    figures = {}
    for count, name in ((0, "empty"), (1000, "1,000 tasks")):
        stage = thousand(podium) if count else Stage(podium, QUICK_SCRIPT).open()
        screen = None
        try:
            screen = stage.screen()
            must(screen.until(lambda s: all(agent in s.text() for agent in AGENTS), 10), f"the screen shows:\n{screen.text()}")
            pids = stage.pids() + family(screen.child.pid)
            if len(pids) != 7:
                sys.exit(f"expected two of the room, three workers and two of the screen, found {pids}")
            # Long enough for idle thread pools to shrink and allocators to give back.
            screen.until(lambda _: False, 3 if quick else 15)
            seconds = 5 if quick else 30
            bytes_before, before, cpu, began = screen.bytes, ticks(pids), cpu_seconds(pids), time.monotonic()
            end = time.time() + seconds
            while time.time() < end:
                screen.until(lambda _: False, end - time.time())
            lasted = time.monotonic() - began
            share = (cpu_seconds(pids) - cpu) / lasted * 100
            by_ticks = (ticks(pids) - before) / os.sysconf("SC_CLK_TCK") / lasted * 100
            memory = [pss_kib(pid) for pid in pids]
            megabytes = [m["Pss"] * 1024 / 1e6 for m in memory]
            figures[f"idle CPU, {name}"] = single(share, "% of a core", 0.5)
            figures[f"idle CPU by utime+stime, {name}"] = single(by_ticks, "% of a core")
            figures[f"PSS of all five, {name}"] = single(sum(megabytes), "MB", 40)
            figures[f"PSS of all five, {name}"]["each"] = [
                {"role": role, "pss_mb": round(pss, 2), "private_dirty_mb": round(m["Private_Dirty"] * 1024 / 1e6, 2)}
                for role, pss, m in zip(("room", "worker", "worker", "worker", "screen"), megabytes, memory)]
            figures[f"bytes to the terminal per second, {name}"] = single((screen.bytes - bytes_before) / lasted, "B/s")
        finally:
            if screen:
                screen.end()
            stage.end()
    return figures


def three(podium, quick):
    """Three tasks of five seconds on three agents, from the first file to the last result."""
    stage = Stage(podium, "read -r _line; sleep 5; echo done").open()
    try:
        times = []
        for i in range(1 if quick else 5):
            results = stage.results()
            before = min(stage.drop(agent, f"five-{agent}-{i}") for agent in AGENTS)
            ended = max(must(results.until(f"five-{agent}-{i}.json", 20), f"{agent}'s result") for agent in AGENTS)
            results.end()
            times.append(ended - before)
        return {"three 5 s tasks on three agents": spread(times, 5.5, "s")}
    finally:
        stage.end()


WRITER = """import os, sys, time
rate, total = float(sys.argv[1]), int(float(sys.argv[2]) * 1e6)
block = b"".join(b"%07d %s\\n" % (n, b"the quick brown fox jumps over the lazy dog " * 2) for n in range(10000))
sent, began = 0, time.monotonic()
while sent < total:
    part = block[:min(len(block), total - sent)]
    os.write(1, part)
    sent += len(part)
    ahead = sent / 1e6 / rate - (time.monotonic() - began) if rate else 0
    if ahead > 0:
        time.sleep(ahead)
os.write(1, b"the flood ends\\n")
"""


def writer(stage, rate, megabytes):
    """A command that writes so many megabytes of lines, at so many a second or as fast as it can."""
    path = os.path.join(stage.top, "writer.py")
    with open(path, "w") as file:
        file.write(WRITER)
    return [sys.executable, path, str(rate), str(megabytes)]


def high_water(pid):
    """The most memory that a process ever had, in megabytes."""
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) * 1024 / 1e6


def drawing(screen):
    """The process that draws: the child of what was started in the terminal."""
    return family(screen.child.pid)[-1]


def flood(podium, quick):
    """Three agents write 20 MB/s each: keys, bytes to the terminal, memory; then as fast as they can: what is consumed."""
    figures, megabytes = {}, 60 if quick else 240
    for rate, name in ((20, "3 x 20 MB/s"), (0, "as fast as it goes")):
        stage = Stage(podium, "")
        argv = writer(stage, rate, megabytes)
        with open(os.path.join(stage.top, "engine.sh"), "w") as file:
            file.write(" ".join(argv) + "\n")
        began = time.monotonic()
        cats = [subprocess.Popen(f"{' '.join(argv)} | cat > /dev/null", shell=True) for _ in AGENTS]
        for cat in cats:
            cat.wait()
        by_cat = time.monotonic() - began
        stage.open()
        screen = None
        try:
            screen = stage.screen()
            must(screen.until(lambda s: all(agent in s.text() for agent in AGENTS), 10), "the screen")
            screen.send(b"4AAA")
            results = stage.results()
            began, bytes_before = time.monotonic(), screen.bytes
            for agent in AGENTS:
                stage.drop(agent, f"flood-{agent}")
            must(screen.until(lambda s: "lazy dog" in s.text(), 20), f"the flood:\n{screen.text()}")
            times = []
            while rate and len(times) < (20 if quick else 100) and time.monotonic() - began < by_cat * 0.9:
                for pressed, is_open in ((b"?", True), (b"\x1b", False)):
                    screen.until(lambda _: False, 0.03)
                    before = time.time()
                    screen.send(pressed)
                    seen = screen.until(lambda s: ("Everywhere" in s.text()) == is_open, 5)
                    if is_open:
                        times.append((must(seen, f"the help:\n{screen.text()}") - before) * 1e3)
            while not all(f"flood-{agent}.json" in results.names for agent in AGENTS):
                screen.until(lambda _: False, 0.02)
                results.until("nothing", 0.02)
                if time.monotonic() - began > 300:
                    sys.exit("the flood was not consumed in five minutes")
            lasted = time.monotonic() - began
            results.end()
            figures[f"flood {name}: share of what cat > /dev/null takes"] = single(by_cat / lasted, "of cat")
            figures[f"flood {name}: bytes to the terminal per second"] = single((screen.bytes - bytes_before) / lasted / 1e3, "kB/s", 250)
            figures[f"flood {name}: the screen's memory at most"] = single(high_water(drawing(screen)), "MB", 60)
            if times:
                figures[f"flood {name}: key to changed screen"] = spread(times, 50)
        finally:
            if screen:
                screen.end()
            stage.end()
    return figures


def gigabyte(stage, megabytes):
    """Logs of 50 agents in the form of the CLI's stream: words, tool calls, their answers, pieces; five needles."""
    words = "evaluate the juniors before the recital and write down what each of them has learned since the spring term".split()
    lines, seed = [], 12345
    for n in range(4000):
        text = []
        for _ in range(40):
            seed = (seed * 1103515245 + 12345) & 0x7FFFFFFF
            text.append(words[seed % len(words)])
        said = " ".join(text) + ". She said \"count it in\".\n" + " ".join(text[:12])
        ids = {"session_id": f"{n:08x}-aaaa-bbbb-cccc-000000000000", "uuid": f"{n:08x}-dddd-eeee-ffff-000000000000"}
        kind = n % 8
        if kind < 4:
            event = {"type": "stream_event", "event": {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": said[:60]}}, **ids}
        elif kind < 6:
            event = {"type": "assistant", "message": {"id": f"msg_{n}", "role": "assistant", "content": [{"type": "text", "text": said}]}, **ids}
        elif kind == 6:
            event = {"type": "assistant", "message": {"content": [{"type": "tool_use", "id": f"toolu_{n}", "name": "Bash", "input": {"command": f"grep -rn {text[0]} notes/", "description": said[:50]}}]}, **ids}
        else:
            event = {"type": "user", "message": {"role": "user", "content": [{"type": "tool_result", "tool_use_id": f"toolu_{n}", "content": said * 3}]}, **ids}
        lines.append(json.dumps(event) + "\n")
    block = "".join(lines).encode()
    each = megabytes * 1_000_000 // 50
    for agent in range(50):
        folder = os.path.join(stage.folder, "logs", f"agent-{agent:02}")
        os.makedirs(folder)
        path = os.path.join(folder, "task.1.log")
        with open(path, "wb") as file:
            while file.tell() < each:
                file.write(block)
                if agent % 10 == 3 and file.tell() > each // 2 and agent != seed:
                    seed = agent
                    text = f"the needle of agent {agent} lies \"here\""
                    file.write(json.dumps({"type": "assistant", "message": {"content": [{"type": "text", "text": text}]}}).encode() + b"\n")
        os.utime(path, (1_700_000_000 + agent, 1_700_000_000 + agent))


def search(podium, quick):
    """A pattern through 1 GB of logs of 50 agents: by the verb, and on the screen while keys are pressed."""
    megabytes = 100 if quick else 1000
    figures, stage = {}, Stage(podium, QUICK_SCRIPT)
    stage.open()
    screen = None
    try:
        gigabyte(stage, megabytes)
        for pattern, name in (("needle of agent", "words"), ('lies "here"', "words with quotes"), (r"n[e]{2}dle \w+ a\w+t", "classes"),
                              ("session|uuid", "names for machines, in every line")):
            first, whole = [], []
            for _ in range(1 if quick else 5):
                before = time.monotonic()
                run = subprocess.Popen([podium, "logs", "--grep", pattern], cwd=stage.folder, env=stage.env, stdout=subprocess.PIPE)
                if run.stdout.readline():
                    first.append((time.monotonic() - before) * 1e3)
                run.stdout.read()
                _, _, used = os.wait4(run.pid, 0)
                whole.append(time.monotonic() - before)
            if first:
                figures[f"search {megabytes} MB, {name}: first hit"] = spread(first, 200)
            figures[f"search {megabytes} MB, {name}: whole"] = spread(whole, 5, "s")
            figures[f"search {megabytes} MB, {name}: resident at most"] = single(used.ru_maxrss * 1024 / 1e6, "MB", 100)
        screen = stage.screen()
        must(screen.until(lambda s: all(agent in s.text() for agent in AGENTS), 10), "the screen")
        times, found, ended = [], [], []
        for turn in range(2 if quick else 8):
            screen.send(b"S\x15")
            must(screen.until(lambda s: "a regular expression, through" in s.text(), 10), f"the search:\n{screen.text()}")
            for n, letter in enumerate("needle of"):
                screen.until(lambda _: False, 0.02)
                before, typed = time.time(), "/ " + "needle of"[:n + 1]
                screen.send(letter.encode())
                times.append((must(screen.until(lambda s: typed in s.text(), 5), f"{typed}:\n{screen.text()}") - before) * 1e3)
            before = times and time.time()
            screen.send(b" ")
            at = must(screen.until(lambda s: "lies" in s.text(), 20), f"a hit:\n{screen.text()}")
            found.append((at - before) * 1e3)
            at = must(screen.until(lambda s: "files searched" in s.text() and "5 hits" in s.text(), 60), f"the end:\n{screen.text()}")
            ended.append(at - before)
            screen.send(b"\r")
            must(screen.until(lambda s: "Search all logs" not in s.text() and "needle of agent" in s.text(), 20), f"the log at the hit:\n{screen.text()}")
            screen.send(b"\x1b")
            screen.until(lambda _: False, 0.3)
        figures[f"search {megabytes} MB on screen: key to its letter, searching"] = spread(times, 50)
        figures[f"search {megabytes} MB on screen: first hit"] = spread(found, 200)
        figures[f"search {megabytes} MB on screen: whole"] = spread(ended, 5, "s")
        figures[f"search {megabytes} MB on screen: the screen's memory at most"] = single(high_water(drawing(screen)), "MB", 100)
        return figures
    finally:
        if screen:
            screen.end()
        stage.end()


def goal(podium, quick):
    """A goal of three equal tasks, planned by the rehearsal's stand-in: what podium itself says that it gained."""
    stage = Stage(podium, "read -r _line; sleep 5; echo done", '[upstream]\nurl = "rehearsal:"\n[rehearsal]\npace = 0\n').open()
    try:
        gained, ceilings = [], []
        for _ in range(1 if quick else 5):
            words = "Write a dance class plan and fix the bug in the code and write a newsletter for customers"
            ran = json.loads(stage.call("run", words, "--approve", "auto", "--json"))
            agents = {task["agent"] for task in ran["task_states"]}
            if len(ran["task_states"]) != 3 or len(agents) != 3:
                sys.exit(f"the plan is another than it should be: {[t['id'] for t in ran['task_states']]}")
            gained.append(ran["parallel"]["speedup"])
            ceilings.append(ran["parallel"]["ceiling"])
        figures = {"speed-up of three equal tasks on three agents": spread(gained, None, "x"),
                   "the most that it could have been": spread(ceilings, None, "x")}
        figures["speed-up of three equal tasks on three agents"].update(target=2.9, met=min(gained) >= 2.9)
        return figures
    finally:
        stage.end()


SCENARIOS = {"frame": frame, "key": key, "start": start, "dependent": dependent, "shown": shown, "idle": idle, "three": three,
             "flood": flood, "search": search, "goal": goal}


def machine(folder):
    with open("/proc/meminfo") as file:
        memory = int(file.readline().split()[1]) / 1024 / 1024
    with open("/proc/mounts") as file:
        mounts = [line.split() for line in file]
    real = os.path.realpath(folder)
    inside = [m for m in mounts if (real + "/").startswith(m[1].rstrip("/") + "/")]
    return {"cores": os.cpu_count(), "ram_gib": round(memory, 1), "kernel": platform.release().split("-")[0],
            "file_system": max(inside, key=lambda m: len(m[1]))[2] if inside else "?"}


def options(about, scenarios, quick):
    """What every benchmark here may be told; `quick` says what --quick leaves out."""
    arguments = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = os.path.dirname(os.path.abspath(__file__))
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(here, "..", "target"))
    arguments.add_argument("--podium", default=os.path.join(target, "release", "podium"))
    arguments.add_argument("--only", help=f"some of {','.join(scenarios)}")
    arguments.add_argument("--quick", action="store_true", help=quick)
    arguments.add_argument("--json", help="write all figures into this file")
    return arguments


def program(given):
    """The full path of the program that is measured; ends where there is none."""
    podium = os.path.realpath(given.podium)
    if not os.access(podium, os.X_OK):
        sys.exit(f"{given.podium} is not there; build it with `cargo build --release`")
    return podium


def main():
    arguments = options(__doc__, SCENARIOS, "fewer runs, to see that it works")
    given = arguments.parse_args()
    podium = program(given)
    # Ended from outside, everything that was started is ended too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    record = {"date": datetime.date.today().isoformat(), "machine": machine(tempfile.gettempdir()), "figures": {}}
    for name in given.only.split(",") if given.only else SCENARIOS:
        before = os.getloadavg()[0]
        figures = SCENARIOS[name](podium, given.quick)
        for title, figure in figures.items():
            figure["load_before"], figure["load_after"] = round(before, 2), round(os.getloadavg()[0], 2)
            record["figures"][title] = figure
            spreads = f"  p95 {figure['p95']:9.2f}  n {figure['n']:3}" if "p95" in figure else " " * 22
            target = f"  target {figure['target']:6}  {'met' if figure['met'] else 'MISSED'}" if "target" in figure else ""
            print(f"{title:62} {figure['median']:9.2f} {figure['unit']:12}{spreads}{target}  (load {figure['load_before']})",
                  flush=True)
    if given.json:
        with open(given.json, "w") as file:
            json.dump(record, file, indent=1, ensure_ascii=False)
            file.write("\n")


if __name__ == "__main__":
    main()
