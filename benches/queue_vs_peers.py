#!/usr/bin/env python3
"""How fast the queue is, beside what the machine allows and beside pueue and nq.

    cargo build --release
    python3 benches/queue_vs_peers.py [--podium PATH] [--only submit,through,many,pueue,nq,soak] [--quick] [--json FILE] [--install]

Every figure stands beside the machine's own limit, measured in the same run and in turns with it: bare
write+fsync+rename+fsync of the folder for submissions, bare spawning for trivial tasks. Peers are looked for in PATH and
in ~/.cache/podium/peers/bin; `--install` fetches them there (pueue with cargo, nq with apt-get), outside the sources.
Linux only, standard library only.
"""

import datetime
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import whole  # noqa: E402
from whole import AGENTS, Stage, machine, must, options, program, pss_kib, spread  # noqa: E402

PEERS = os.path.expanduser("~/.cache/podium/peers")
ROWS = []


def note(what, value, unit, limit=None, beside="", fine=None):
    """Keeps one row of the table; `fine` says whether the target is met, `None` where there is none."""
    row = {"what": what, "value": value, "unit": unit, "beside": beside, "limit": limit, "fine": fine,
           "load": round(os.getloadavg()[0], 2)}
    ROWS.append(row)
    mark = "" if fine is None else "  met" if fine else "  MISSED"
    print(f"{what:66} {value:12.2f} {unit:9} {limit or '':12} {beside}{mark}  (load {row['load']})", flush=True)


# ------------------------------------------------------------------------------------------------ submit
def durable(folder, aside, name, text):
    """The least that a durable submission can be."""
    path = os.path.join(aside, name)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    os.write(fd, text)
    os.fsync(fd)
    os.close(fd)
    os.rename(path, os.path.join(folder, name))
    fd = os.open(folder, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


class Client:
    """A screen's connection to the room, as far as submitting needs it."""

    def __init__(self, stage):
        self.wire = socket.socket(socket.AF_UNIX)
        self.wire.connect(os.path.join(stage.folder, ".podium", "room.sock"))
        self.lines = self.wire.makefile("r")
        version = stage.call("--version").split()[-1]
        self.say({"hello": "screen", "version": version})
        self.tickets = 0
        while '"tell":"whole"' not in self.lines.readline():
            pass

    def say(self, word):
        self.wire.sendall(json.dumps(word).encode() + b"\n")

    def order(self, agent, task, text, dependencies=("gate",)):
        self.tickets += 1
        spec = {"task": f"{agent}/{task}", "title": task, "description": text, "dependencies": dependencies, "if_failed": "skip",
                "priority": 5, "timeout": None, "max_attempts": None, "model": None, "goal": None, "context": None,
                "extra": {}}
        self.say({"ticket": self.tickets, "order": {"order": "task", "spec": spec, "rename": False}})

    def taken(self):
        while True:
            line = self.lines.readline()
            if line.startswith('{"tell":"answer"'):
                answer = json.loads(line)["it"][1]
                if answer["answer"] != "done":
                    sys.exit(f"a task was not taken: {answer}")
                return

    def submit(self, tasks, text, at_once):
        """Keeps so many on their way until all are taken."""
        for n, (agent, task) in enumerate(tasks):
            if n >= at_once:
                self.taken()
            self.order(agent, task, text)
        for _ in tasks[:at_once]:
            self.taken()


def bare(folder, aside, names, text, at_once):
    """The same without us, by so many threads."""

    def some(part):
        for name in part:
            durable(folder, aside, name, text)

    threads = [threading.Thread(target=some, args=(names[n::at_once],)) for n in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def submit(podium, quick):
    """Durable submissions through a room's socket, in turns with the bare system calls: one after the other, and eight at once."""
    stage = Stage(podium, whole.QUICK_SCRIPT).open()
    try:
        folder, aside = os.path.join(stage.top, "bare"), os.path.join(stage.top, "aside")
        os.makedirs(folder)
        os.makedirs(aside)
        client = Client(stage)
        text = "Look at the collection and say what is in it.\n" * 4
        for at_once, how in ((1, "one after the other"), (8, "eight at once")):
            without, ours = [], []
            for turn in range(4 if quick else 12):
                names = [f"s-{at_once}-{turn}-{i}" for i in range(200)]
                before = time.perf_counter()
                bare(folder, aside, names, text.encode(), at_once)
                without.append(len(names) / (time.perf_counter() - before))
                before = time.perf_counter()
                client.submit([(AGENTS[i % 3], name) for i, name in enumerate(names)], text, at_once)
                ours.append(len(names) / (time.perf_counter() - before))
            without, ours = spread(without)["median"], spread(ours)["median"]
            note(f"durable submissions, {how}", ours, "/s", f"{without:.0f}/s",
                 f"bare; share {ours / without:.2f}, target ≥ 0.7", ours / without >= 0.7)
    finally:
        stage.end()


# ------------------------------------------------------------------------------------------------ trivial tasks
# What one life of a dropped task syncs, files and folders: three for the claim, three for the start, five for the end.
SYNCS = 11


def bare_spawns(count):
    """Three spawners, nothing kept."""
    before = time.perf_counter()
    subprocess.run(["xargs", "-P", "3", "-n", "1", "/bin/echo"], input="\n".join(["ok"] * count), text=True, check=True,
                   stdout=subprocess.DEVNULL)
    return count / (time.perf_counter() - before)


def synced_spawns(count, folder):
    """Three spawners that also make the promises to the disk that the queue makes: so many syncs per task."""
    script = os.path.join(folder, "synced.py")
    with open(script, "w") as file:
        file.write(f"""import os, sys
name, count = sys.argv[1], int(sys.argv[2])
quiet = [(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)]
folder = os.open({folder!r}, os.O_RDONLY)
for i in range(count):
    for k in range({SYNCS} // 2):
        fd = os.open(f"{folder}/{{name}}-{{i}}-{{k}}", os.O_WRONLY | os.O_CREAT, 0o600)
        os.write(fd, b"x" * 200)
        os.fsync(fd)
        os.close(fd)
        os.fsync(folder)
    os.fsync(folder)
    os.waitpid(os.posix_spawn("/bin/echo", ["echo", "ok"], {{}}, file_actions=quiet), 0)
""")
    before = time.perf_counter()
    children = [subprocess.Popen([sys.executable, script, str(n), str(count // 3)]) for n in range(3)]
    for child in children:
        child.wait()
    return count // 3 * 3 / (time.perf_counter() - before)


def trivial(podium):
    """A room whose agents say one word and end."""
    stage = Stage(podium, "")
    with open(os.path.join(stage.folder, "podium.toml"), "w") as file:
        for agent in AGENTS:
            file.write(f'[agents.{agent}]\nengine = "command"\ncommand = ["/bin/echo", "ok"]\n')
    return stage.open()


def through(podium, quick):
    """Trivial tasks through three workers, from the moment the agents may start until the last result."""
    count = 900 if quick else 9_999
    top = tempfile.mkdtemp(prefix="podium-bench-")
    try:
        bare = bare_spawns(count)
        synced = synced_spawns(max(count // 10, 300), top)
    finally:
        shutil.rmtree(top, ignore_errors=True)
    stage = trivial(podium)
    try:
        for agent in AGENTS:
            stage.call("pause", agent)
        for i in range(count):
            stage.drop(AGENTS[i % 3], f"t-{i:05}")
        end = time.time() + 600
        while stage.status()["counts"]["ready"] < count:
            if time.time() > end:
                sys.exit("the tasks were not taken in")
            time.sleep(0.5)
        folders = [os.path.join(stage.folder, "results", agent) for agent in AGENTS]
        before = time.perf_counter()
        for agent in AGENTS:
            stage.call("resume", agent)
        while sum(len(os.listdir(folder)) for folder in folders) - 2 * len(folders) < count:
            if time.time() > end + 1800:
                sys.exit("the tasks did not end")
            time.sleep(0.2)
        ours = count / (time.perf_counter() - before)
    finally:
        stage.end()
    note(f"{count:,} trivial tasks through three workers", ours, "tasks/s", f"{bare:.0f}/s",
         f"bare spawn ×{bare / ours:.1f} (target ≤ 1.5)", bare / ours <= 1.5)
    note("the same, beside bare spawn with the queue's syncs", ours, "tasks/s", f"{synced:.0f}/s", f"×{synced / ours:.1f}")


# ------------------------------------------------------------------------------------------------ very many tasks
USAGE = dict.fromkeys(("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens",
                       "cache_creation_1h_input_tokens"), 0)


def fill(folder, ended, waiting, agents=AGENTS):
    """Files as podium leaves them, attempts and logs included; every 50th task ended badly."""

    def put(path, text=""):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(fd, text.encode())
        os.close(fd)

    def moment(at):
        return datetime.datetime.fromtimestamp(at, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    day = time.strftime("%Y-%m-%d", time.gmtime())
    for agent in agents:
        for name in (".tmp", ".claimed", ".attempts", ".dead", "rejected", f".done/{day}"):
            os.makedirs(os.path.join(folder, "tasks", agent, name))
        os.makedirs(os.path.join(folder, "results", agent, ".tmp"))
        os.makedirs(os.path.join(folder, "logs", agent))
    began = time.time() - ended - 100
    for i in range(ended):
        agent, task, bad = agents[i % len(agents)], f"ended-{i:06}", i % 50 == 7
        start, end = moment(began + i), moment(began + i + 0.5)
        ending = {"kind": "reported", "message": "it was not to be"} if bad else {"kind": "done"}
        state, summary = "failed" if bad else "done", f"Part {i} holds what was expected."
        done = os.path.join(folder, "tasks", agent, ".done", day, f"{task}.json")
        attempt = os.path.join(folder, "tasks", agent, ".attempts", task, "1")
        put(done, json.dumps({"task_id": task, "description": f"Look at part {i} and say what is in it.\nThen write it down."}))
        os.makedirs(attempt)
        os.link(done, f"{attempt}/task.json")
        put(f"{attempt}/lease")
        put(f"{attempt}/err.log")
        put(f"{attempt}/out.log", "ok\n")
        os.link(f"{attempt}/out.log", os.path.join(folder, "logs", agent, f"{task}.1.log"))
        put(f"{attempt}/start.json", json.dumps({"n": 1, "started_at": start, "pid": 1, "boot_id": "", "task_sha256": "0" * 64}))
        outcome = {"task": f"{agent}/{task}", "state": state, "ending": ending, "attempt": 1, "summary": summary, "findings": [],
                   "artifacts": [], "started_at": start, "completed_at": end, "usage": USAGE, "cost": 0,
                   "cost_source": "estimated", "model": None, "session_id": None, "goal": None}
        put(f"{attempt}/exit.json", json.dumps({"ending": ending, "spend": {"usage": USAGE, "cost": 0, "calls": 0},
                                                "ended_at": end, "outcome": outcome}))
        result = os.path.join(folder, "results", agent, f"{task}.json")
        put(result, json.dumps({
            "artifacts": [], "attempts": 1, "completed_at": end, "cost_source": "estimated", "cost_usd": 0.0, "ending": ending,
            "errors": [{"class": "task", "message": "it was not to be"}] if bad else [], "execution_time": 0.5, "findings": [],
            "schema_version": 1, "started_at": start, "state": state, "status": "failed" if bad else "complete",
            "summary": summary, "task_id": task, "usage": USAGE, "worker": agent}))
        os.utime(result, (began + i + 0.5, began + i + 0.5))
    for i in range(waiting):
        put(os.path.join(folder, "tasks", agents[i % len(agents)], f"waits-{i:06}.json"),
            json.dumps({"task_id": f"waits-{i:06}", "dependencies": ["gate"],
                        "description": f"Look at part {i} when the gate is open.\nThen write it down."}))
    return ended - len(range(7, ended, 50))


def forget():
    """Takes from the machine's memory what it knows of files; says whether it could."""
    os.sync()
    try:
        with open("/proc/sys/vm/drop_caches", "w") as file:
            file.write("3")
    except OSError:
        return False
    return True


def many(podium, quick):
    """A room on 100,000 tasks: its start, its memory, one more task, and a rest."""
    ended, waiting = (9_000, 1_000) if quick else (90_000, 10_000)
    stage = Stage(podium, whole.QUICK_SCRIPT)
    room = screen = None
    name = f"{ended + waiting:,} tasks"
    try:
        done = fill(stage.folder, ended, waiting)
        # The first sync of a room must not wait for what this script wrote.
        os.sync()
        turns = ["names and files in memory", "nothing in memory"]
        for turn, how in enumerate(turns):
            if turn and not forget():
                print("SKIPPED: a start with nothing in memory; that needs root", flush=True)
                break
            began = time.time()
            room = subprocess.Popen([podium, "serve"], cwd=stage.folder, env=stage.env, stdout=subprocess.DEVNULL,
                                    stderr=subprocess.DEVNULL)
            control = os.path.join(stage.folder, ".podium", "room.sock")
            while not os.path.exists(control):
                time.sleep(0.002)
            screen = stage.screen()
            # The open work, all agents, and how much there is besides.
            useful = lambda s: f"{waiting} waiting" in s.text() and all(agent in s.text() for agent in AGENTS)  # noqa: E731
            first = must(screen.until(useful, 300), f"a useful frame:\n{screen.text()}") - began
            all_read = must(screen.until(lambda s: f"{done} done" in s.text(), 600), f"all read:\n{screen.text()}") - began
            note(f"room started → first useful frame, {name}, {how}", first, "s", "", "target < 1", first < 1)
            note("… → everything that has ended is read", all_read, "s")
            if turn == 0 and os.geteuid() == 0:
                screen.end()
                stage.call("stop")
                room.wait()
                while os.path.exists(control):
                    time.sleep(0.01)
        again = []
        for _ in range(5):
            other = stage.screen()
            at = must(other.until(lambda s: useful(s) and f"{done} done" in s.text(), 30), "a second screen")
            again.append(at - other.began)
            other.end()
        note(f"`podium` typed → useful frame on this room, {name}", spread(again)["median"], "s")
        screen.until(lambda _: False, 5)
        times = []
        for i in range(10 if quick else 30):
            before = stage.drop(AGENTS[i % 3], f"one-more-{i}", dependencies=["gate"])
            waiting += 1
            at = must(screen.until(lambda s: f"{waiting} waiting" in s.text(), 10), "the dropped file")
            times.append((at - before) * 1e3)
            screen.until(lambda _: False, 0.2)
        times = spread(times)
        note(f"file dropped among {name} → on screen", times["median"], "ms", "", f"p95 {times['p95']:.0f}, target < 50",
             times["median"] < 50)
        pids = stage.room_pids()
        for of, who, target in ((pids, "room", 150), (whole.family(screen.child.pid), "screen", None)):
            rss, pss = (sum(pss_kib(pid)[kind] for pid in of) * 1024 / 1e6 for kind in ("Rss", "Pss"))
            note(f"resident memory of the {who}, {name}", rss, "MB", "",
                 f"PSS {pss:.0f}" + (f", target < {target}" if target else ""), rss < target if target else None)
        seconds = 10 if quick else 120
        screen.until(lambda _: False, 3)
        before = whole.cpu_seconds(pids)
        end = time.time() + seconds
        while time.time() < end:
            screen.until(lambda _: False, end - time.time())
        share = (whole.cpu_seconds(pids) - before) / seconds * 100
        note(f"idle CPU of the room, {name}", share, "%", "", "target ≤ 0.5", share <= 0.5)
    finally:
        if screen:
            screen.end()
        stage.end()
        if room and room.poll() is None:
            room.kill()


# ------------------------------------------------------------------------------------------------ for long
def soak(podium, quick):
    """A room that is fed for an hour: nothing lost, and what it needs when so many have ended."""
    minutes, ahead = (2, 60) if quick else (60, 300)
    stage = trivial(podium)
    try:
        folders = [os.path.join(stage.folder, "results", agent) for agent in AGENTS]
        dropped, began, samples = 0, time.time(), []

        def ended():
            return sum(len([name for name in os.listdir(folder) if name.endswith(".json")]) for folder in folders)

        def sample():
            rss = sum(pss_kib(pid)["Rss"] for pid in stage.room_pids()) * 1024 / 1e6
            samples.append((ended(), rss))
            print(f"  {time.time() - began:5.0f} s: {samples[-1][0]:7,} ended, {rss:6.1f} MB", flush=True)

        every = minutes * 60 / 12
        while time.time() - began < minutes * 60:
            wanted = ended() + ahead
            while dropped < wanted:
                stage.drop(AGENTS[dropped % 3], f"t-{dropped:07}")
                dropped += 1
            if time.time() - began > (len(samples) + 1) * every:
                sample()
            time.sleep(0.2)
        end = time.time() + 120
        while ended() < dropped and time.time() < end:
            time.sleep(0.2)
        sample()
        counts = stage.status()["counts"]
        note(f"{minutes} min: tasks dropped, results lost", dropped - ended(), "tasks", f"{dropped:,}", f"counts {counts}",
             ended() == dropped and counts["done"] == dropped)
        (early, before), (late, after) = samples[len(samples) // 3], samples[-1]
        note("memory of the room for each further 10,000 ended tasks", (after - before) / (late - early) * 1e4, "MB",
             f"{after:.0f} MB", f"at the end, {late:,} ended")
    finally:
        stage.end()


# ------------------------------------------------------------------------------------------------ peers
def find(program):
    return shutil.which(program, path=os.environ.get("PATH", "") + f":{PEERS}/bin")


def install():
    os.makedirs(PEERS, exist_ok=True)
    if not find("pueue"):
        subprocess.run(["cargo", "install", "pueue", "--locked", "--root", PEERS], check=True)
    if not find("nq"):
        subprocess.run(["apt-get", "install", "-y", "--no-install-recommends", "nq"], check=True)


def pueue(_podium, quick):
    """The same with pueue: three at once; every call is a process, as its users make it."""
    client, daemon = find("pueue"), find("pueued")
    if not client or not daemon:
        return print("SKIPPED: pueue is not installed (see --install)", flush=True)
    count = 200 if quick else 1_000
    top = tempfile.mkdtemp(prefix="podium-bench-")
    config = os.path.join(top, "pueue.yml")
    with open(config, "w") as file:
        file.write(f"shared:\n  pueue_directory: {top}/pd\n  use_unix_socket: true\n  runtime_directory: {top}\n"
                   f"  unix_socket_path: {top}/pueue.sock\n  pid_path: {top}/pueue.pid\nclient: {{}}\ndaemon: {{}}\n")
    env = {"PATH": "/usr/bin:/bin", "HOME": top}
    serving = subprocess.Popen([daemon, "-c", config], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def call(*words):
        return subprocess.run([client, "-c", config, *words], env=env, capture_output=True, text=True)

    try:
        end = time.time() + 20
        while call("status").returncode:
            if time.time() > end:
                sys.exit("pueued does not answer")
            time.sleep(0.05)
        call("parallel", "3")
        call("pause")
        before = time.perf_counter()
        for _ in range(count):
            call("add", "--", "/bin/echo ok")
        note(f"pueue {call('--version').stdout.split()[-1]}: add, {count:,} one after the other", count / (time.perf_counter() - before),
             "/s", "", "not synced to disk")
        before = time.perf_counter()
        call("start")
        # Ended tasks are counted in its own state file: asking by `status` would slow it.
        while True:
            state = json.loads(call("status", "--json").stdout)
            if all("Done" in str(task["status"]) for task in state["tasks"].values()):
                break
            time.sleep(0.5)
        note(f"pueue: {count:,} trivial tasks, three at once", count / (time.perf_counter() - before), "tasks/s")
        memory = pss_kib(serving.pid)
        note(f"pueue: resident memory of the daemon, {count:,} tasks", memory["Rss"] * 1024 / 1e6, "MB")
    finally:
        call("shutdown")
        try:
            serving.wait(10)
        except subprocess.TimeoutExpired:
            serving.kill()
        shutil.rmtree(top, ignore_errors=True)


def nq(_podium, quick):
    """The same with nq: a file per job and a lock, one at a time per folder, so three folders."""
    program = find("nq")
    if not program:
        return print("SKIPPED: nq is not installed (see --install)", flush=True)
    count = 200 if quick else 1_000
    top = tempfile.mkdtemp(prefix="podium-bench-")
    gate = os.path.join(top, "gate")
    folders = [os.path.join(top, str(n)) for n in range(3)]
    env = {"PATH": "/usr/bin:/bin", "HOME": top}

    def add(folder, *words):
        subprocess.run([program, "-q", *words], env={**env, "NQDIR": folder}, stdout=subprocess.DEVNULL, check=True)

    try:
        for folder in folders:
            os.makedirs(folder)
            add(folder, "sh", "-c", f"while [ ! -e {gate} ]; do sleep 0.02; done")
        before = time.perf_counter()
        for i in range(count):
            add(folders[i % 3], "/bin/echo", "ok")
        note(f"nq: add, {count:,} one after the other", count / (time.perf_counter() - before), "/s", "", "not synced to disk")
        before = time.perf_counter()
        open(gate, "w").close()
        # `nq -w` waits for everything in its folder.
        waits = [threading.Thread(target=add, args=(folder, "-w")) for folder in folders]
        for wait in waits:
            wait.start()
        for wait in waits:
            wait.join()
        note(f"nq: {count:,} trivial tasks, three folders at once", count / (time.perf_counter() - before), "tasks/s")
    finally:
        shutil.rmtree(top, ignore_errors=True)


SCENARIOS = {"submit": submit, "through": through, "many": many, "pueue": pueue, "nq": nq}
# Only where it is asked for.
LONG = {"soak": soak}


def main():
    arguments = options(__doc__, SCENARIOS | LONG, "a tenth of everything, to see that it works")
    arguments.add_argument("--install", action="store_true", help="fetch the peers first")
    given = arguments.parse_args()
    podium = program(given)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if given.install:
        install()
    about = machine(tempfile.gettempdir())
    print(f"{about['cores']} cores, {about['ram_gib']} GiB, Linux {about['kernel']}, {about['file_system']}, "
          f"load {os.getloadavg()[0]:.2f}, {datetime.date.today()}\n", flush=True)
    for name in given.only.split(",") if given.only else SCENARIOS:
        (SCENARIOS | LONG)[name](podium, given.quick)
    print("\n| What | Value | The machine's limit | |\n|---|---:|---:|---|")
    for row in ROWS:
        mark = {None: "", True: "met", False: "**missed**"}[row["fine"]]
        beside = ", ".join(part for part in (row["beside"], mark) if part)
        print(f"| {row['what']} | {row['value']:.2f} {row['unit']} | {row['limit'] or ''} | {beside} (load {row['load']}) |")
    if given.json:
        with open(given.json, "w") as file:
            json.dump({"date": datetime.date.today().isoformat(), "machine": about, "rows": ROWS}, file, indent=1,
                      ensure_ascii=False)
            file.write("\n")


if __name__ == "__main__":
    main()
