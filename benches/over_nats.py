#!/usr/bin/env python3
"""How fast the finished program is over NATS: a room on one machine, workers on others, a server that syncs every write.

    cargo build --release
    PODIUM_TEST_NATS=…/nats-server python3 benches/over_nats.py [--podium PATH] [--only start,through,many] [--quick] [--json FILE]

The machines are network namespaces on this one, which needs root and `ip`; without, nothing is measured and that is said.
What is real: room, deputies, workers, server, wires, files. Only in `many` the thousand workers are one process that says
what a worker says (hello, here, a beat every two seconds); their deputies in the room are real. Linux only, standard library
only.
"""

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import queue_vs_peers  # noqa: E402
import whole  # noqa: E402
from queue_vs_peers import note  # noqa: E402
from whole import Stage, must, options, program, spread  # noqa: E402

ROOM = "10.213.0.1"
PORT, MONITOR = 4222, 8222
# An agent has sixteen slots at most, a room sixty-four attempts at once.
SLOTS, AGENTS = 16, 63
# What workers and rooms of this podium speak (src/attach/far.rs).
PROTOCOL = 2


# ------------------------------------------------------------------------------------------------ machines
class Network:
    """The room's machine and those of the workers, on one bridge; nothing of it is in this machine's own network."""

    def __init__(self, workers):
        self.room = f"podium{os.getpid()}"
        self.workers = [f"{self.room}-{n}" for n in range(workers)]
        within = ["-n", self.room]
        self.ip("netns", "add", self.room)
        self.ip(*within, "link", "set", "lo", "up")
        self.ip(*within, "link", "add", "bridge", "type", "bridge")
        self.ip(*within, "address", "add", f"{ROOM}/24", "dev", "bridge")
        self.ip(*within, "link", "set", "bridge", "up")
        for n, name in enumerate(self.workers):
            self.ip("netns", "add", name)
            self.ip(*within, "link", "add", f"wire{n}", "type", "veth", "peer", "name", "wire", "netns", name)
            self.ip(*within, "link", "set", f"wire{n}", "master", "bridge", "up")
            self.ip("-n", name, "address", "add", f"10.213.0.{n + 2}/24", "dev", "wire")
            self.ip("-n", name, "link", "set", "wire", "up")
            self.ip("-n", name, "link", "set", "lo", "up")

    @staticmethod
    def ip(*words):
        if subprocess.run(["ip", *words], check=False).returncode:
            sys.exit(f"NOTHING MEASURED: ip {' '.join(words)}")

    def end(self):
        for name in [*self.workers, self.room]:
            subprocess.run(["ip", "netns", "delete", name], check=False)


def on(machine, *words):
    return ["ip", "netns", "exec", machine, *words]


def end(process):
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Scene:
    """The network, the server, a room whose agents work elsewhere, and the workers."""

    def __init__(self, podium, agents, slots, machines):
        self.network = Network(machines)
        self.podium, self.agents, self.slots = podium, agents, slots
        self.processes = []
        self.stage = Stage(podium, whole.QUICK_SCRIPT)
        self.engine = os.path.join(self.stage.top, "engine.sh")
        self.folder = tempfile.mkdtemp(prefix="podium-bench-nats-")
        conf = os.path.join(self.folder, "server.conf")
        with open(conf, "w") as file:
            file.write(f'listen: {ROOM}:{PORT}\nhttp: 127.0.0.1:{MONITOR}\n'
                       f'jetstream {{ store_dir: "{self.folder}/store", sync_interval: always }}\n')
        self.start(self.network.room, self.folder, os.environ["PODIUM_TEST_NATS"], "-c", conf)
        self.config(self.stage.folder, "room.max_running = 64\n", "elsewhere = true")

    def config(self, folder, more, of_agent):
        with open(os.path.join(folder, "podium.toml"), "w") as file:
            file.write(more + f'[queue]\nurl = "nats://{ROOM}:{PORT}"\nmonitor = ["http://127.0.0.1:{MONITOR}"]\n')
            for agent in self.agents:
                file.write(f"[agents.{agent}]\nslots = {self.slots}\n{of_agent}\n")
            for agent in whole.AGENTS:
                if agent not in self.agents:
                    file.write(f"[agents.{agent}]\nslots = 0\n")

    def start(self, machine, folder, *words):
        log = open(os.path.join(self.folder, "log"), "a")
        self.processes.append(subprocess.Popen(on(machine, *words), cwd=folder, env=self.stage.env, stdin=subprocess.DEVNULL,
                                               stdout=log, stderr=log))

    def room(self):
        self.start(self.network.room, self.stage.folder, self.podium, "serve")
        must(wait(lambda: os.path.exists(os.path.join(self.stage.folder, ".podium", "room.sock")), 60), "the room")

    def workers(self, command):
        """A worker for each slot; each agent's on a machine of its own, in turn."""
        for n, agent in enumerate(self.agents):
            machine = self.network.workers[n % len(self.network.workers)]
            folder = os.path.join(self.folder, f"{machine}-{agent}")
            os.makedirs(folder)
            self.config(folder, "", f'engine = "command"\ncommand = {json.dumps(command)}')
            for slot in range(self.slots):
                self.start(machine, folder, self.podium, "worker", agent, "--slot", str(slot))

    def there(self, count, seconds=120):
        """Waits until so many workers are in the room."""
        def seen():
            slots = [slot for agent in self.stage.status()["agents"] for slot in agent["slots"]]
            return sum(bool(slot.get("far")) for slot in slots) >= count
        must(wait(seen, seconds, 0.5), f"{count} workers in the room:\n{self.log()}")

    def counts(self):
        """The room's counts; nothing where it is too busy to say."""
        told = subprocess.run([self.podium, "status", "--json"], cwd=self.stage.folder, env=self.stage.env, capture_output=True,
                              text=True, check=False)
        return {} if told.returncode else json.loads(told.stdout)["counts"]

    def log(self):
        with open(os.path.join(self.folder, "log")) as file:
            return file.read()[-3000:]

    def end(self):
        subprocess.run([self.podium, "stop"], cwd=self.stage.folder, env=self.stage.env, capture_output=True, timeout=120)
        for process in reversed(self.processes):
            end(process)
        self.stage.end()
        self.network.end()
        shutil.rmtree(self.folder, ignore_errors=True)


def wait(seen, seconds, pause=0.02):
    end = time.time() + seconds
    while time.time() < end:
        if seen():
            return time.time()
        time.sleep(pause)
    return None


# ------------------------------------------------------------------------------------------------ scenarios
def start(podium, quick):
    """A task until the attempt's child acts, on another machine: dropped as a file, and submitted on the room's socket."""
    scene = Scene(podium, ["anga"], 1, 1)
    stage = scene.stage
    try:
        scene.room()
        scene.workers(["bash", "--norc", scene.engine])
        scene.there(1)
        client = queue_vs_peers.Client(stage)
        published = Published(scene.network.room)

        def submitted(task):
            before = time.time()
            client.order("anga", task, f"bench {task}", [])
            client.taken()
            return before

        ways = {"file renamed in": lambda task: stage.drop("anga", task, False), "submitted on the room's socket": submitted}
        for way, give in ways.items():
            times, over, claims = [], [], []
            for i in range(15 if quick else 100):
                results, task = whole.Watch(os.path.join(stage.folder, "results", "anga")), f"{way.split()[0]}-{i:03}"
                before = give(task)
                must(results.until(f"{task}.json", 30), f"the result of {task}:\n{scene.log()}")
                results.end()
                times.append((stage.stamp(task) - before) * 1e3)
                over.append((stage.stamp(task) - published.at[task][0]) * 1e3)
                claims.append((published.at[task][1] - published.at[task][0]) * 1e3)
                # Room, deputy and worker go idle, as they are when a person gives them something.
                time.sleep(0.05)
            act = "child's first act on another machine"
            for what, times in ((f"{way} → {act}", times), (f"{way}: published on the server → {act}", over),
                                (f"{way}: published on the server → claimed there", claims)):
                times = spread(times)
                note(f"{what}, p50", times["median"], "ms", "", f"p95 {times['p95']:.1f}, n = {times['n']}; target < 5",
                     times["median"] < 5)
    finally:
        scene.end()


class Published(threading.Thread):
    """When each task's key was published, handed over first and claimed next: before the server has synced it."""

    def __init__(self, machine):
        super().__init__(daemon=True)
        self.wire, self.at = Wire(machine, "$KV.podium-tasks.>"), {}
        self.start()

    def run(self):
        while True:
            found = self.wire.message(3600)
            if found:
                self.at.setdefault(found[0].split(".")[-1], []).append(time.time())


def through(podium, quick):
    """Trivial tasks through room, deputies and the workers of two machines, from resuming the agents to the last result."""
    count = 1_000 if quick else 10_000
    scene = Scene(podium, ["anga", "marie"], SLOTS, 2)
    stage = scene.stage
    try:
        scene.room()
        scene.workers(["/bin/echo", "ok"])
        scene.there(2 * SLOTS)
        for agent in scene.agents:
            stage.call("pause", agent)
        for i in range(count):
            stage.drop(scene.agents[i % 2], f"t-{i:05}")
        must(wait(lambda: stage.status()["counts"]["ready"] == count, 600, 0.5), "the tasks to be taken in")
        folders = [os.path.join(stage.folder, "results", agent) for agent in scene.agents]
        began = time.perf_counter()
        for agent in scene.agents:
            stage.call("resume", agent)
        done = lambda: sum(name.endswith(".json") for folder in folders for name in os.listdir(folder)) >= count  # noqa: E731
        must(wait(done, 1800, 0.2), f"the results:\n{scene.log()}")
        rate = count / (time.perf_counter() - began)
        counts = stage.status()["counts"]
        note(f"{count:,} trivial tasks through the whole program, {2 * SLOTS} workers on two machines", rate, "tasks/s", "",
             f"ended: {counts['done']} done, {counts['failed']} failed")
    finally:
        scene.end()


class Wire:
    """A connection to the server, inside a machine, that hears one subject."""

    def __init__(self, machine, subject):
        self.heard = b""
        # A socket belongs to the namespace that it was made in, whoever holds it.
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        made = subprocess.run(
            on(machine, sys.executable, "-c",
               "import socket,sys; s=socket.create_connection((sys.argv[1], int(sys.argv[2]))); "
               "socket.send_fds(socket.socket(fileno=int(sys.argv[3])), [b'x'], [s.fileno()])",
               ROOM, str(PORT), str(theirs.fileno())), pass_fds=[theirs.fileno()], check=False)
        if made.returncode:
            sys.exit("the server cannot be reached")
        self.wire = socket.socket(fileno=socket.recv_fds(ours, 1, 1)[1][0])
        self.say(f'CONNECT {{"verbose":false,"headers":true,"name":"bench"}}\r\nSUB {subject} 1\r\nPING\r\n'.encode())

    def say(self, words):
        self.wire.sendall(words)

    def publish(self, subject, message, reply=""):
        self.say(self.publishing(subject, message, reply))

    @staticmethod
    def publishing(subject, message, reply=""):
        # As podium writes it: an arrival is told by how it begins.
        text = json.dumps(message, separators=(",", ":")).encode()
        return f"PUB {subject} {reply} {len(text)}\r\n".encode() + text + b"\r\n"

    def message(self, seconds):
        """The next message, its subject and its bytes; None where none came in time."""
        end = time.time() + seconds
        while True:
            line, found, rest = self.heard.partition(b"\r\n")
            if found and line.startswith((b"MSG", b"HMSG")):
                words = line.split()
                length, headers = int(words[-1]), int(words[-2]) if line.startswith(b"H") else 0
                if len(rest) >= length + 2:
                    self.heard = rest[length + 2:]
                    return words[1].decode(), rest[headers:length]
            elif found:
                self.heard = rest
                if line.startswith(b"PING"):
                    self.say(b"PONG\r\n")
                continue
            if not select.select([self.wire], [], [], max(0.0, end - time.time()))[0]:
                return None
            self.heard += self.wire.recv(65536)


class Crowd(threading.Thread):
    """A thousand workers' words over one connection to the server, inside the room's machine."""

    def __init__(self, machine, agents, slots, version):
        super().__init__(daemon=True)
        self.agents, self.slots, self.version = agents, slots, version
        self.inbox, self.there, self.over = "_INBOX.crowd.", [], False
        self.wire = Wire(machine, self.inbox + ">")

    def now(self):
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())

    def beat(self, workers):
        """All in one write: whoever measures has the processor to himself then."""
        beat = {"says": "beat", "it": {"at": self.now(), "load": 42}}
        self.wire.say(b"".join(self.wire.publishing(f"podium.worker.{a}.{w}.says", beat) for a, w in workers))

    def arrive(self):
        """Each takes a deputy that is free. Whoever is there says so meanwhile: the last one comes late."""
        beaten = time.time()
        for agent in self.agents:
            for n in range(self.slots):
                worker = os.urandom(16).hex()
                hello = {"protocol": PROTOCOL, "worker": worker, "version": self.version, "host": f"machine-{n}", "pid": 1000 + n, "at": self.now(),
                         "running": None}
                for attempt in range(200):
                    self.wire.publish(f"podium.room.{agent}.hello", hello, f"{self.inbox}{worker}")
                    answer = self.answer(worker)
                    if answer:
                        break
                    time.sleep(0.2)
                else:
                    sys.exit(f"no deputy of {agent} is free")
                self.wire.publish(f"podium.worker.{agent}.{worker}.says",
                                  {"says": "here", "it": {"deputy": answer["it"], "hello": hello}})
                self.there.append((agent, worker))
                # The deputy must have heard it before the next one asks.
                time.sleep(0.005)
                if time.time() - beaten >= 2:
                    beaten = time.time()
                    self.beat(self.there)

    def answer(self, worker):
        """A free deputy's word to a worker; None where none is."""
        found = self.wire.message(1)
        while found:
            said = json.loads(found[1]) if found[0].endswith(worker) else {}
            if said.get("answer") == "free":
                return said
            found = self.wire.message(0.2)
        return None

    def run(self):
        """Beats, spread over two seconds, until it is over; what is said to them is read and left."""
        while not self.over:
            # A tenth of them at a time.
            for tenth in range(10):
                until = time.time() + 0.2
                self.beat(self.there[tenth::10])
                # Whoever does not read is cut off by the server.
                while self.wire.message(max(0.0, until - time.time())):
                    pass


def many(podium, quick):
    """A screen on a room with 1,008 workers and 100,000 tasks."""
    agents, (ended, waiting) = (8, (9_000, 1_000)) if quick else (AGENTS, (90_000, 10_000))
    agents = [f"agent-{n:02}" for n in range(agents)]
    scene = Scene(podium, agents, SLOTS, 0)
    stage, screen, crowd = scene.stage, None, None
    name = f"{len(agents) * SLOTS:,} workers and {ended + waiting:,} tasks"
    try:
        done = queue_vs_peers.fill(stage.folder, ended, waiting, agents)
        os.sync()
        began = time.time()
        scene.room()
        must(wait(lambda: scene.counts().get("done") == done, 600, 0.5), "the room to have read all")
        print(f"the room is open and has read all after {time.time() - began:.1f} s", flush=True)
        crowd = Crowd(scene.network.room, agents, SLOTS, stage.call("--version").split()[-1])
        crowd.arrive()
        crowd.start()
        scene.there(len(agents) * SLOTS, 300)
        print(f"all workers are there after {time.time() - began:.1f} s", flush=True)
        useful = lambda s: f"{waiting} waiting" in s.text() and f"{done} done" in s.text() and agents[0] in s.text()  # noqa: E731
        frames = []
        for _ in range(5 if quick else 10):
            other = stage.screen()
            frames.append(must(other.until(useful, 60), f"a useful frame:\n{other.text()}") - other.began)
            other.end()
        frames = spread(frames)
        note(f"`podium` typed → useful frame, {name}", frames["median"], "s", "", f"max {frames['max']:.2f}; target < 2",
             frames["max"] < 2)
        screen = stage.screen()
        must(screen.until(useful, 60), "a screen")
        screen.until(lambda _: False, 3)
        keys = {"help": (b"?", lambda s: "Everywhere" in s.text(), b"\x1b", lambda s: "Everywhere" not in s.text())}
        for key, (pressed, seen, back, gone) in keys.items():
            times = []
            for _ in range(20 if quick else 200):
                screen.until(lambda _: False, 0.06)
                before = time.time()
                screen.send(pressed)
                times.append((must(screen.until(seen, 10), f"the {key}:\n{screen.text()}") - before) * 1e3)
                screen.send(back)
                must(screen.until(gone, 10), "the way back")
            times = spread(times)
            note(f"key → {key} on screen, {name}", times["median"], "ms", "",
                 f"p99 {times['p99']:.1f}, max {times['max']:.1f}, n = {times['n']}; target p99 < 50", times["p99"] < 50)
        moves = []
        for i in range(20 if quick else 200):
            screen.until(lambda _: False, 0.06)
            row = selected(screen)
            before = time.time()
            screen.send(b"j" if i % 2 == 0 else b"k")
            moves.append((must(screen.until(lambda s: selected(s) != row, 10), f"a move:\n{screen.text()}") - before) * 1e3)
        moves = spread(moves)
        note(f"key → selection one row further, {name}", moves["median"], "ms", "",
             f"p99 {moves['p99']:.1f}, max {moves['max']:.1f}, n = {moves['n']}; target p99 < 50", moves["p99"] < 50)
        pids = whole.family(stage.status()["pid"])
        before, at = whole.cpu_seconds(pids), time.time()
        screen.until(lambda _: False, 10)
        print(f"room and its {len(pids) - 2} processes: {(whole.cpu_seconds(pids) - before) / (time.time() - at) * 100:.0f} % of a "
              f"core, PSS {sum(whole.pss_kib(pid)['Pss'] for pid in pids) / 1024:.0f} MiB", flush=True)
    finally:
        if crowd:
            crowd.over = True
        if screen:
            screen.end()
        scene.end()


def selected(screen):
    """Where the hand is, in each pane."""
    return [(n, at) for n, line in enumerate(screen.text().split("\n")) for at, letter in enumerate(line) if letter == "▌"]


SCENARIOS = {"start": start, "through": through, "many": many}


def main():
    given = options(__doc__, SCENARIOS, "fewer runs and smaller numbers, to see that it works").parse_args()
    podium = program(given)
    if os.geteuid():
        sys.exit("NOTHING MEASURED: network namespaces need root and `ip` (iproute2)")
    if not os.access(os.environ.get("PODIUM_TEST_NATS", ""), os.X_OK):
        sys.exit("NOTHING MEASURED: PODIUM_TEST_NATS must name a nats-server; ./test prepares one")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for name in given.only.split(",") if given.only else SCENARIOS:
        SCENARIOS[name](podium, given.quick)
    if given.json:
        with open(given.json, "w") as file:
            json.dump({"machine": whole.machine(tempfile.gettempdir()), "figures": queue_vs_peers.ROWS}, file, indent=1)


if __name__ == "__main__":
    main()
